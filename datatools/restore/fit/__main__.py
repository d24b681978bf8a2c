"""Command line: `python -m datatools.restore.fit`: of a network, or with --pairs of the strength of a restoration."""

import sys

from datatools.cli import run_command
from datatools.restore.fit import pairs, train

run_command(pairs.main if any(word.partition("=")[0] == "--pairs" for word in sys.argv[1:]) else train.main)
