"""Inspect, verify, compare and convert pyramid files, and take pictures out of them."""

import click

from datatools.cli import OneLineGroup, run_command
from datatools.h5tool.contents import compare, inspect, verify_command
from datatools.h5tool.convert import convert_command
from datatools.h5tool.export import export_command
from datatools.h5tool.from_folder import from_folder
from datatools.h5tool.pictures import display, extract
from datatools.h5tool.subset import subset_command

EXAMPLES = """
\b
Examples:
  python -m datatools.h5tool inspect celebahq.h5
  python -m datatools.h5tool verify celebahq.h5
  python -m datatools.h5tool compare mine.h5 theirs.h5
  python -m datatools.h5tool extract celebahq.h5 pictures --level 256 --indices 0-99,500
  python -m datatools.h5tool display celebahq.h5 sheet.png --count 48 --level 128
  python -m datatools.h5tool from-folder pictures mine.h5 --resolution 128
  python -m datatools.h5tool subset celebahq.h5 smiling.h5 --attribute Smiling --split train --count 10000
  python -m datatools.h5tool export celebahq.h5 faces.zip --to stylegan-zip --level 256 --labels Smiling
  python -m datatools.h5tool convert celebahq-2017.h5 celebahq.h5
"""


@click.group(cls=OneLineGroup, help=__doc__, epilog=EXAMPLES)
def main() -> None:
    pass


for command in (
    from_folder,
    inspect,
    verify_command,
    compare,
    extract,
    display,
    subset_command,
    export_command,
    convert_command,
):
    main.add_command(command)


def script() -> None:
    """Run the console script `celebahq-h5`."""
    run_command(main)


if __name__ == "__main__":
    script()
