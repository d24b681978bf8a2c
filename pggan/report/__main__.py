"""Command line: `python -m pggan.report`."""

from pggan.report.page import script

script()
