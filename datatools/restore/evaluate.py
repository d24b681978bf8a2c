"""Command line: `python -m datatools.restore.evaluate`."""

from datatools.cli import run_command
from datatools.restore.fit.evaluate import main


def script() -> None:
    """Run the console script `celebahq-evaluate-restoration`."""
    run_command(main)


if __name__ == "__main__":
    script()
