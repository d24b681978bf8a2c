"""Luigi tasks that build the pyramid file: `luigi --module pipelines BuildCelebAHQ --help`.

Importing this package gives Luigi defaults that hold from any folder: Luigi reads luigi.cfg from the current folder
alone. Where Luigi's command line imports it, a console that fails no longer ends a build.
"""

from datatools.console import protect_console
from pipelines.luigi_defaults import apply_luigi_defaults, started_by_luigi

if started_by_luigi():
    protect_console()
apply_luigi_defaults()

from pipelines.tasks import BuildCelebAHQ  # noqa: E402 - the defaults have to be there before tasks are declared

__all__ = ["BuildCelebAHQ"]
