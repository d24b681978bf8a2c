"""Command line: `python -m pggan.report`."""

from pggan.report.page import main

main(prog_name="python -m pggan.report")
