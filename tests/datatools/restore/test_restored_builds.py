"""Builds with networks: the bundled ones, and restorers that cannot work."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import luigi.retcodes
import numpy as np
import pytest

from datatools.faces.recipe import make_face, reduce_face
from datatools.pyramid import Pyramid
from datatools.restore import NoRestorer
from datatools.sources.celeba import read_tree
from tests.support.builds import Photo, build, command, make_tree
from tests.support.restore_samples import tiny_file


def test_a_build_with_the_bundled_networks(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    names = ["900001.jpg", "900005.jpg"]  # the second one is padded
    tree, out = make_tree(tmp_path / "CelebA", {name: photos[name] for name in names}), tmp_path / "out"
    options = ("--restore", "bundled-distortion", "--selection", "all", "--order", "source", "--jobs", 2)
    build(tree, out, *options)
    records = read_tree(tree).records
    with Pyramid(out / "celebahq.h5") as made:
        assert made.settings["restore"] == "bundled-distortion"
        assert made.settings["torch"] == version("torch")
        assert made.provenance("file_name").tolist() == names
        for index, record in enumerate(records):
            plain = make_face(record.path.read_bytes(), record.landmarks, NoRestorer()).face
            difference = np.abs(made.image(index).astype(int) - reduce_face(plain, 256)).mean()
            assert 0.02 < difference < 6
    page = (out / "report" / "index.html").read_text()
    assert 'id="restoration"' in page
    assert page.count("Part of face 90000") == 2
    assert "Parts of this report could not be made" not in page


def test_restorers_that_cannot_work_are_told_before_the_build(
    tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, out = tmp_path / "damaged.safetensors", tmp_path / "out"
    damaged.write_bytes(tiny_file(tmp_path, "sr").read_bytes()[:-100])
    sound = str(tiny_file(tmp_path, "jpeg"))
    for options, message in (
        (("--restore", sound, "--device", "nonsense"), "--device nonsense is not available here"),
        (("--restore", "none", "--device", "nonsense"), "--device nonsense is not available here"),
        (("--restore", str(damaged)), "damaged.safetensors is damaged or not a weight file"),
    ):
        with pytest.raises(SystemExit) as stopped:
            luigi.retcodes.run_with_retcodes(command(tiny_tree, out, *options)[1:])
        assert isinstance(stopped.value.code, str), capsys.readouterr()
        assert stopped.value.code.startswith("error: ")
        assert message in stopped.value.code
        assert "\n" not in stopped.value.code
    assert not out.exists()
