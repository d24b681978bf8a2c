"""datatools.sources.celebahq_names: which pictures are CelebA-HQ's, and what CelebA says of them."""

from pathlib import Path

import pytest

from datatools.errors import DataError
from datatools.sources.celebahq_names import MAPPING, celebahq_pictures
from datatools.sources.published import published_files

PHOTOS = published_files()


def write_mapping(path: Path, rows: dict[int, str]) -> Path:
    lines = [f"{index}\t\t{int(photo[:6]) - 1}\t\t{photo}" for index, photo in rows.items()]
    path.write_text("idx\t\torig_idx\torig_file\n" + "\n".join(lines) + "\n")
    return path


def write_annotations(folder: Path) -> Path:
    folder.mkdir()
    (folder / "list_attr_celeba.txt").write_text(f"2\nSmiling Young\n{PHOTOS[0]}  1 -1\n{PHOTOS[7]} -1  1\n")
    (folder / "identity_CelebA.txt").write_text(f"{PHOTOS[0]} 77\nodd line\n")
    return folder


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_the_mapping_shows_that_numbers_are_indices(tmp_path: Path, place: str) -> None:
    root = tmp_path / "CelebA-HQ-img"
    root.mkdir()
    assert celebahq_pictures(root, ["0.jpg", "7.jpg"]) is None
    write_mapping((root if place == "inside" else tmp_path) / MAPPING, {0: PHOTOS[0], 7: PHOTOS[7]})
    found = celebahq_pictures(root, ["0.jpg", "00007.png", "30000.jpg", "000001.jpg", "x.jpg", "sub/29999.jpg"])
    assert found is not None
    indices = {name: picture.celebahq_index for name, picture in found.pictures.items()}
    assert indices == {"0.jpg": 0, "00007.png": 7, "sub/29999.jpg": 29999}
    assert found.pictures["00007.png"].photo == PHOTOS[7]
    assert MAPPING in found.reason
    assert celebahq_pictures(root, ["0.jpg"], wanted=False) is None
    assert celebahq_pictures(root, ["face.jpg"]) is None


@pytest.mark.parametrize("digits", [1, 5])
def test_all_the_names_show_it_too(tmp_path: Path, digits: int) -> None:
    names = [f"{index:0{digits}}.jpg" for index in range(30_000)]
    found = celebahq_pictures(tmp_path, names)
    assert found is not None
    assert len(found.pictures) == 30_000
    assert celebahq_pictures(tmp_path, names[:-1]) is None
    assert celebahq_pictures(tmp_path, [*names, "30000.jpg"]) is None


def test_annotations_are_those_of_the_photo(tmp_path: Path) -> None:
    anno = write_annotations(tmp_path / "Anno")
    for folder in (anno, tmp_path):
        found = celebahq_pictures(tmp_path / "pictures", ["00000.png", "00007.png", "00008.png"], celeba_dir=folder)
        assert found is not None
        assert found.attribute_names == ("Smiling", "Young")
        facts = [(one.attributes, one.identity, one.split) for one in found.pictures.values()]
        assert facts == [((1, -1), 77, None), ((-1, 1), None, None), (None, None, None)]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no picture has the name of one of CelebA-HQ's.*called a\.png"):
        celebahq_pictures(tmp_path, ["a.png"], wanted=True)
    with pytest.raises(DataError, match=r"holds none of list_attr_celeba\.txt"):
        celebahq_pictures(tmp_path, ["00001.png"], celeba_dir=tmp_path)
    with pytest.raises(DataError, match="leave out --no-celebahq"):
        celebahq_pictures(tmp_path, ["00001.png"], wanted=False, celeba_dir=tmp_path)
    mapping = write_mapping(tmp_path / MAPPING, {0: PHOTOS[1]})
    with pytest.raises(DataError, match=f"line 2: names {PHOTOS[1]} for index 0, the published set has {PHOTOS[0]}"):
        celebahq_pictures(tmp_path, ["0.jpg"])
    for text, message in (("idx\n1 2\n", "line 2: expected index, row and file name"), ("idx\n", "holds no rows")):
        mapping.write_text(text)
        with pytest.raises(DataError, match=message):
            celebahq_pictures(tmp_path, ["0.jpg"])
