"""Command line: `python -m datatools.restore.fit`: of a network (--task), or of the strength of a restoration."""

import sys

from datatools.cli import run_command
from datatools.restore.fit import pairs, train


def script() -> None:
    """Run the console script `celebahq-fit-restoration`."""
    options = {word.partition("=")[0] for word in sys.argv[1:]}
    run_command(pairs.main if "--pairs" in options and "--task" not in options else train.main)


if __name__ == "__main__":
    script()
