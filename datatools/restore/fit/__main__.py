"""Command line: `python -m datatools.restore.fit`."""

from datatools.cli import run_command
from datatools.restore.fit.train import main

run_command(main)
