"""Luigi tasks that build the pyramid file: `luigi --module pipelines BuildCelebAHQ --help`.

Importing this package gives Luigi defaults that hold from any folder: Luigi reads luigi.cfg from the current folder
alone.
"""

from pipelines.luigi_defaults import apply_luigi_defaults

apply_luigi_defaults()

from pipelines.tasks import BuildCelebAHQ  # noqa: E402 - the defaults have to be there before tasks are declared

__all__ = ["BuildCelebAHQ"]
