"""Command line: `python -m datatools.restore.evaluate`."""

from datatools.cli import run_command
from datatools.restore.fit.evaluate import main

if __name__ == "__main__":
    run_command(main)
