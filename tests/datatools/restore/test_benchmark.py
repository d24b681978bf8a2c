"""benchmarks/restoration.py tells mistakes in one line, before it begins to measure."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import restoration
from datatools.restore.base import Picture


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(restoration.main, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code != 0
    assert result.output.count("\n") == 1, result.output
    return result.output


def test_published_images_of_other_photos(tiny_tree: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        line = refused("pairs", "--celeba-dir", tiny_tree, "--published-dir", folder)
        assert "has its published image in" in line


def test_unknown_photos(tiny_tree: Path, tmp_path: Path) -> None:
    line = refused("texture", "--celeba-dir", tiny_tree, "--photos", "900001.jpg,nobody.jpg,else.jpg")
    assert f"{tiny_tree} has no photo nobody.jpg, else.jpg" in line
    assert "Error: " in refused("texture", "--celeba-dir", tmp_path, "--photos", "900001.jpg")


def test_unknown_restorers(tiny_tree: Path) -> None:
    asked = ("texture", "--celeba-dir", tiny_tree, "--photos", "900001.jpg", "--restorers", "lanczos,magic")
    for arguments in (asked, ("speed", "--restorers", "none,magic")):
        assert "unknown restorer 'magic'; known: " in refused(*arguments)


@pytest.fixture
def faces() -> list[Picture]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2)]


def test_the_true_faces_distance_to_themselves_is_a_floor_above_zero(faces: list[Picture]) -> None:
    """Their places are drawn anew; with the same ones nothing would be known about chance."""
    levels = [restoration.laplacian(face, 1)[0] for face in faces]
    sets = [restoration.descriptors(levels, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    same, first, other = (restoration.normalized(patches) for patches in sets)
    assert restoration.sliced_distance(same, first) == 0
    assert 0 < restoration.sliced_distance(first, other) < 100
