"""Command line: `python -m datatools.restore.fit`."""

from datatools.restore.fit.train import main

main(prog_name="python -m datatools.restore.fit")
