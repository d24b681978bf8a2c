"""datatools.sources.celeba_aligned: the paper's crop of the aligned images, with their annotations."""

from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.sources.celeba_aligned import AlignedCelebA
from datatools.sources.pictures import SourcePicture, Unusable
from datatools.sources.published import celebahq_index_by_file
from tests.support.datasets import ATTRIBUTES, encoded, make_aligned, noise


def test_the_crop_is_the_papers(tmp_path: Path) -> None:
    source = AlignedCelebA(make_aligned(tmp_path))
    assert (source.count, source.resolution, source.classes) == (6, 128, ())
    found = [entry for entry in source.entries(0, 100) if isinstance(entry, SourcePicture)]
    assert len(found) == 6
    for seed, each in enumerate(found):
        whole = noise(seed, 218, 178)
        assert np.array_equal(each.pixels, whole[121 - 64 : 121 + 64, 89 - 64 : 89 + 64])
        assert each.quad.tolist() == [[25, 57], [25, 185], [153, 185], [153, 57]]
        assert each.file_name == f"{seed + 1:06}.png"
    assert [entry.file_name for entry in source.entries(4, 5)] == ["000005.png"]


def test_annotations_belong_to_their_pictures(tmp_path: Path) -> None:
    source = AlignedCelebA(make_aligned(tmp_path))
    assert source.attribute_names == ATTRIBUTES
    found = [entry for entry in source.entries(0, 6) if isinstance(entry, SourcePicture)]
    assert [each.attributes for each in found] == [(-1, -1), (1, -1), (-1, -1), (1, -1), (-1, -1), None]
    assert [each.identity for each in found] == [0, 7, 14, 21, 28, 35]
    assert [each.split for each in found] == [0, 1, 2, 0, 1, 2]
    assert [each.celebahq_index for each in found] == [
        celebahq_index_by_file().get(f"{number:06}.jpg", -1) for number in range(1, 7)
    ]


def test_annotations_are_optional_and_count_for_the_digest(tmp_path: Path) -> None:
    root = make_aligned(tmp_path)
    before = AlignedCelebA(root).digest
    assert AlignedCelebA(root).digest == before
    (root / "Anno" / "list_attr_celeba.txt").unlink()
    without = AlignedCelebA(root)
    assert without.digest != before
    assert without.attribute_names == ()
    assert all(entry.attributes is None for entry in without.entries(0, 6) if isinstance(entry, SourcePicture))


@pytest.mark.parametrize("place", ["Img/img_align_celeba", "img_align_celeba/img_align_celeba", "img_align_celeba"])
def test_folders_of_other_copies(place: str, tmp_path: Path) -> None:
    root = make_aligned(tmp_path / "CelebA", kind="jpg")
    if place != "Img/img_align_celeba":
        (root / place).parent.mkdir(exist_ok=True)
        (root / "Img" / "img_align_celeba").rename(root / place)
    source = AlignedCelebA(root)
    assert source.count == 6
    assert source.settings["folder"] == "img_align_celeba"


def test_the_lossless_images_come_first(tmp_path: Path) -> None:
    make_aligned(tmp_path)
    (tmp_path / "Img" / "img_align_celeba").mkdir()
    (tmp_path / "Img" / "img_align_celeba" / "000001.jpg").write_bytes(encoded(noise(0, 218, 178), "JPEG"))
    assert AlignedCelebA(tmp_path).settings["folder"] == "img_align_celeba_png"


def test_pictures_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    root = make_aligned(tmp_path)
    folder = root / "Img" / "img_align_celeba_png"
    (folder / "000002.png").write_bytes(b"no picture")
    (folder / "000003.png").write_bytes(encoded(noise(3, 100, 100)))
    found = list(AlignedCelebA(root).entries(0, 6))
    bad = {entry.file_name: entry.reason for entry in found if isinstance(entry, Unusable)}
    assert set(bad) == {"000002.png", "000003.png"}
    assert bad["000003.png"] == "has 100 x 100 pixels, not 178 x 218"


def test_photos_in_the_wild_are_not_taken_for_them(tmp_path: Path) -> None:
    wild = tmp_path / "Img" / "img_celeba"
    wild.mkdir(parents=True)
    (wild / "000001.jpg").write_bytes(encoded(noise(0, 300, 200), "JPEG"))
    with pytest.raises(
        DataError, match=r"holds no aligned images .*; .*img_celeba has the photos in the wild.*get them"
    ):
        AlignedCelebA(tmp_path)
    with pytest.raises(DataError, match="holds no aligned images"):
        AlignedCelebA(tmp_path / "nowhere")
