"""Luigi tasks that build the pyramid file: `luigi --module pipelines BuildCelebAHQ --help`.

Importing this package gives Luigi defaults that hold from any folder: Luigi reads luigi.cfg from the current folder
alone. Where Luigi's command line imports it, a console that fails no longer ends a build, and signals end it in order.
"""

from datatools.console import protect_console
from pipelines.interruption import end_on_signals, is_luigi_command

if is_luigi_command():
    protect_console()
    end_on_signals()  # before the libraries, which take seconds to load

from pipelines.luigi_setup import apply_luigi_defaults

apply_luigi_defaults()

# The defaults have to be there before tasks are declared.
from pipelines.datasets import BuildCelebA128, BuildCIFAR10, BuildLSUN  # noqa: E402
from pipelines.from_folder import BuildFromFolder  # noqa: E402
from pipelines.tasks import BuildCelebAHQ  # noqa: E402

__all__ = ["BuildCIFAR10", "BuildCelebA128", "BuildCelebAHQ", "BuildFromFolder", "BuildLSUN"]
