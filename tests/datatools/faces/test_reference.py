"""The slow reference is itself held against numbers that were made apart from it (tests/golden/crop_index.csv)."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datatools.faces.reference import reference_face
from datatools.sources.celeba import read_tree
from tests.support.paths import GOLDEN


@pytest.mark.parametrize("file_name", ["000004.jpg", "000711.jpg", "008519.jpg"])
def test_reference_meets_the_exact_pictures(sample_data: Path, file_name: str) -> None:
    oracles = sample_data.parent / "oracles" / "crop"
    if not oracles.is_dir():
        pytest.skip(f"no exact pictures beside the sample photos ({oracles})")
    record = next(r for r in read_tree(sample_data / "celeba_sample").records if r.file_name == file_name)
    result = reference_face(record.path.read_bytes(), record.landmarks)
    with (GOLDEN / "crop_index.csv").open() as stream:
        row = next(row for row in csv.DictReader(stream) if row["file_name"] == file_name)
    assert (result.shrink, result.enlarge, result.border) == tuple(int(row[k]) for k in ("shrink", "enlarge", "border"))
    assert result.padded == bool(int(row["padded"]))
    reduced = np.rint(result.face.reshape(256, 4, 256, 4, 3).mean(axis=(1, 3), dtype=np.float64))
    exact = np.asarray(Image.open(oracles / f"{record.path.stem}_lanczos.png"))
    assert np.array_equal(reduced, exact)
