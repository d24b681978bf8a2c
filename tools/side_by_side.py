"""Grids of several training runs in one picture, five to a row.

python tools/side_by_side.py docs/images/table1.png --side 32 e=runs/e/fakes000060_032.png real=runs/e/reals.png
"""

import argparse
from pathlib import Path

from training_figures import excerpt, in_rows

from datatools.images import save_png

ACROSS = 6
"""Pictures of each grid that are shown, in either direction."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("grids", nargs="+", metavar="CAPTION=FILE")
    parser.add_argument("--side", type=int, required=True, help="of a picture in the grids, in pixels")
    arguments = parser.parse_args()
    pairs = (grid.split("=", 1) for grid in arguments.grids)
    parts = [excerpt(Path(file), arguments.side, caption, ACROSS) for caption, file in pairs]
    save_png(arguments.out, in_rows(parts, 5))


if __name__ == "__main__":
    main()
