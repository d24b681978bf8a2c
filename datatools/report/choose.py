"""The page of all faces, choose.html: people mark those that the next build is to leave out, and save the list.

The faces are on small sheets in the file's order. The page shows a part of a sheet for each face, in any order, and a
browser loads the sheets of the faces that it shows. Names and scores are in a script, since a page that is opened from
disk may load scripts and pictures, but read no file.
"""

import hashlib
import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datatools.files import atomic_path
from datatools.images import save_jpeg
from datatools.parallel import map_in_threads
from datatools.report.parts import Faces
from datatools.report.sheets import fit_picture
from datatools.report.summary import GENERATOR, BuildSummary, DuplicateFiles
from datatools.webpage import render

PAGE = "choose.html"
SHEET = 4
"""Rows and columns of a sheet: few, so that faces from many sheets can be shown together."""
TILE = 128
"""Side of a face on a sheet, in pixels."""
QUALITY = 85
THREADS = 8
"""They mostly wait until the disk has what they wrote."""


def write_choose_page(faces: Faces, summary: BuildSummary, folder: Path) -> str | None:
    """Write the page, its data and its sheets into `folder`; return its name, None where there are no faces.

    Memory: a few sheets, and 100 bytes or so for each face.
    """
    if not faces.names:
        return None
    (folder / "choose").mkdir()

    def write_sheet(number: int) -> None:
        images = faces.images(SHEET * SHEET * number, SHEET * SHEET * (number + 1), TILE)
        save_jpeg(folder / "choose" / f"{number:05}.jpg", _sheet(images), quality=QUALITY)

    deque(map_in_threads(write_sheet, range(-(-len(faces.names) // SHEET**2)), THREADS), maxlen=0)
    names = [summary.list_names.get(name, name) for name in faces.names]
    data = {
        "key": hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16],
        "names": names,
        "scores": [round(score, 4) if np.isfinite(score) else None for score in faces.scores.tolist()],
        "groups": duplicate_groups(summary.duplicates, faces.names).tolist(),
        "excluded": summary.excluded,
    }
    with atomic_path(folder / "choose" / "faces.js") as path:
        path.write_text(f"const data = {json.dumps(data, separators=(',', ':'))};\n", encoding="ascii")
    content = {
        "generator": GENERATOR,
        "title": "Choose faces",
        "heading": "Choose faces",
        "sections": {},
        "notes": [],
        "count": len(names),
        "excluded": len(summary.excluded),
        "grouped": any(data["groups"]),
        "sheet": SHEET,
    }
    with atomic_path(folder / PAGE) as path:
        path.write_bytes(render("datatools.report", content, {}, template=PAGE))
    return PAGE


def duplicate_groups(pairs: Sequence[DuplicateFiles], names: Sequence[str]) -> NDArray[np.int64]:
    """Return (n,) the number of each face's group, from 1; 0 for a face that looks like no other of `names`.

    Faces that are joined by a chain of pairs are of one group.
    """
    places = {name: place for place, name in enumerate(names)}
    edges = [(places[pair.first], places[pair.second]) for pair in pairs if {pair.first, pair.second} <= places.keys()]
    first, second = np.array(edges, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges)), (first, second)), shape=(len(names), len(names)))
    _, labels = connected_components(graph, directed=False)
    grouped = np.bincount(labels)[labels] > 1
    groups = np.zeros(len(names), np.int64)
    groups[grouped] = np.unique(labels[grouped], return_inverse=True)[1] + 1
    return groups


def _sheet(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Lay out up to SHEET * SHEET faces (r, r, 3) without gaps, row by row, on white."""
    sheet = np.full((SHEET * TILE, SHEET * TILE, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = place // SHEET * TILE, place % SHEET * TILE
        sheet[top : top + TILE, left : left + TILE] = fit_picture(image, TILE, TILE)
    return sheet
