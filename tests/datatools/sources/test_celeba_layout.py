"""`datatools.sources.celeba_layout`: people's copies of CelebA are found where they lie; what is not there is named."""

import shutil
from pathlib import Path

import pytest

from datatools.errors import DataError
from datatools.sources.celeba import read_tree
from datatools.sources.celeba_layout import PhotoNames, find_layout
from tests.faults.trees import write_tree

NAMES = [f"{number:06d}.jpg" for number in range(1, 7)]
PHOTOS = dict.fromkeys(NAMES, b"never opened")


def rename(tree: Path, old: str, new: str) -> None:
    """Move a file or folder; in two steps, for file systems that do not tell upper case from lower."""
    (tree / old).rename(tree / "moving")
    (tree / new).parent.mkdir(parents=True, exist_ok=True)
    (tree / "moving").rename(tree / new)


@pytest.mark.parametrize(
    "shape",
    [
        ("Img/img_celeba.7z", "Anno", "Eval"),  # the Drive, unpacked where the parts lie
        ("img_celeba", "Anno", "Eval"),
        ("Img/img_celeba", "Anno", "Eval"),
        ("Img/img_celeba.7z/img_celeba", "Anno", "Eval"),
        ("IMG", "ANNO", "EVAL"),
        ("img", "anno", "eval"),
        ("Img", "Img", "Img"),
        ("Img", "Img/img_celeba", "Img/img_celeba"),
        ("data", "", ""),
    ],
    ids=lambda shape: " ".join(shape),
)
def test_where_people_have_the_parts(shape: tuple[str, str, str], tmp_path: Path) -> None:
    tree = read_tree(write_tree(tmp_path, PHOTOS, shape=shape))
    assert [rejection for rejection in tree.rejections if not rejection.file_name.endswith(".txt")] == []
    assert [record.file_name for record in tree.records] == NAMES
    assert tree.image_dir == tmp_path / shape[0] / "img_celeba"
    assert all(r.attributes and r.identity is not None and r.split is not None for r in tree.records)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Img/img_celeba", "IMG/IMG_CELEBA"),
        ("Img/img_celeba", "Img/img_celeba.7z"),
        ("Img/img_celeba", "data"),
        ("Img/img_celeba", "images"),
        ("Anno/list_landmarks_celeba.txt", "ANNO/LIST_LANDMARKS_CELEBA.TXT"),
        ("Anno/list_landmarks_celeba.txt", "Anno/list_landmarks_celeba (1).txt"),
    ],
)
def test_other_names(old: str, new: str, tmp_path: Path) -> None:
    rename(write_tree(tmp_path, PHOTOS), old, new)
    tree = read_tree(tmp_path)
    assert [record.file_name for record in tree.records] == NAMES
    assert tree.rejections == ()


def test_the_plain_name_comes_before_a_second_download(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    (tmp_path / "Anno" / "list_landmarks_celeba (1).txt").write_text("cut off")
    assert find_layout(tmp_path).landmarks == tmp_path / "Anno" / "list_landmarks_celeba.txt"


@pytest.mark.parametrize("start", ["CelebA/Img", "CelebA/Img/img_celeba", "CelebA/Anno", "CelebA", "."])
def test_a_folder_too_low_or_too_high(start: str, tmp_path: Path) -> None:
    write_tree(tmp_path / "CelebA", PHOTOS)
    tree = read_tree(tmp_path / start)
    assert [record.file_name for record in tree.records] == NAMES
    assert tree.rejections == ()


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "CelebA", PHOTOS)
    monkeypatch.chdir(tmp_path / "CelebA" / "Img")
    assert len(read_tree(Path(".")).records) == len(NAMES)


def test_several_trees_are_not_guessed_among(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tree(tmp_path / name, PHOTOS)
    with pytest.raises(DataError, match=r"holds several CelebA trees \(one, two\); name one of them with --celeba-dir"):
        read_tree(tmp_path)


def test_the_folder_with_most_photos_of_the_rows_is_used(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    (tmp_path / "img_celeba").mkdir()
    shutil.copy(tmp_path / "Img" / "img_celeba" / NAMES[0], tmp_path / "img_celeba")
    (tmp_path / "figure.png").write_bytes(b"")
    assert read_tree(tmp_path).image_dir == tmp_path / "Img" / "img_celeba"


@pytest.mark.parametrize("place", ["Img", "", "Img/img_celeba.7z", "Img/img_celeba"])
@pytest.mark.parametrize("name", ["img_celeba.7z.001", "img_celeba.7z"])
def test_archives_that_wait_to_be_unpacked(place: str, name: str, tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    shutil.rmtree(tmp_path / "Img")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / name).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_tree(tmp_path)
    assert f"{tmp_path / place / name} waits to be unpacked" in str(caught.value)


@pytest.mark.parametrize("part", ["Img/img_align_celeba", "Anno/list_landmarks_align_celeba.csv"])
def test_parts_of_the_aligned_set_are_named(part: str, tmp_path: Path) -> None:
    path = tmp_path / part
    path.mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        read_tree(tmp_path)
    assert f"; {path} belongs to the aligned images; " in str(caught.value)


def test_a_folder_without_pictures_says_what_it_has(tmp_path: Path) -> None:
    write_tree(tmp_path, {"000001.cr2": b""})
    with pytest.raises(DataError, match=r"no photos in .*img_celeba \(but 000001\.cr2\)"):
        read_tree(tmp_path)


@pytest.mark.parametrize("folder", ["Img/img_celeba_wild", "Img/img_celeba/0", "in_the_wild"])
def test_pictures_in_a_folder_of_another_name_are_named(folder: str, tmp_path: Path) -> None:
    tree = write_tree(tmp_path, PHOTOS)
    for name in NAMES:
        rename(tree, f"Img/img_celeba/{name}", f"{folder}/{name}")
    with pytest.raises(DataError, match=f"though {tree / folder} holds 000001.jpg; if those are the photos, move them"):
        find_layout(tree)


@pytest.mark.parametrize("name", ["list_landmarks_celeba.csv", "list_landmarks_celeba.txt.gz"])
def test_landmarks_in_another_form_are_named(name: str, tmp_path: Path) -> None:
    rename(write_tree(tmp_path, PHOTOS), "Anno/list_landmarks_celeba.txt", f"Anno/{name}")
    with pytest.raises(DataError, match=f"found no landmarks .*though {tmp_path / 'Anno' / name} is there"):
        find_layout(tmp_path)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {})
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read everything
    with pytest.raises(DataError, match=r"cannot list .*img_celeba: permission denied"):
        read_tree(tmp_path)


def convert(tree: Path, ending: str, names: list[str]) -> None:
    for name in names:
        path = tree / "Img" / "img_celeba" / name
        path.rename(path.with_suffix(ending))


@pytest.mark.parametrize("ending", [".JPG", ".Jpg", ".jpeg", ".png", ".PNG", ".webp"])
def test_photos_with_another_ending(ending: str, tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    convert(tmp_path, ending, NAMES)
    tree = read_tree(tmp_path)
    assert tree.rejections == ()
    assert [record.file_name for record in tree.records] == NAMES
    assert [record.path.name for record in tree.records] == [name.replace(".jpg", ending) for name in NAMES]
    assert [record.celebahq_index for record in tree.records] == [-1, -1, -1, 5212, -1, -1]
    assert len(tree.converted) == (0 if ending.lower() == ".jpg" else len(NAMES))
    assert tree.missing == tree.unannotated == ()


def test_a_mixed_folder(tmp_path: Path) -> None:
    """The very name comes first, the same name in another case before another ending; what is ambiguous is not used."""
    write_tree(tmp_path, PHOTOS)
    folder = tmp_path / "Img" / "img_celeba"
    (folder / "000001.png").write_bytes(b"")
    convert(tmp_path, ".JPG", ["000002.jpg"])
    (folder / "000002.png").write_bytes(b"")
    convert(tmp_path, ".png", ["000003.jpg"])
    (folder / "000003.webp").write_bytes(b"")
    tree = read_tree(tmp_path)
    used = {record.file_name: record.path.name for record in tree.records}
    assert used == {name: name for name in NAMES if name != "000003.jpg"} | {"000002.jpg": "000002.JPG"}
    assert tree.missing == ("000003.jpg",)
    assert tree.unannotated == ("000001.png", "000002.png", "000003.png", "000003.webp")


def test_no_file_is_used_twice() -> None:
    names = PhotoNames({"a.png", "b.jpg"}, ["a.jpg", "A.jpg", "b.jpg", "b.png"])
    assert [names.find(name) for name in ("a.jpg", "A.jpg", "b.jpg", "b.png", "c.jpg")] == [
        "a.png",
        None,
        "b.jpg",
        None,
        None,
    ]


def test_what_is_missing_is_counted_with_an_example(tmp_path: Path) -> None:
    write_tree(tmp_path, PHOTOS)
    assert read_tree(tmp_path).describe_missing() == ""
    for name in NAMES[1:]:
        (tmp_path / "Img" / "img_celeba" / name).unlink()
    (tmp_path / "Img" / "img_celeba" / "face-2.jpg").write_bytes(b"")
    tree = read_tree(tmp_path)
    assert len(tree.records) == 1
    assert tree.describe_missing() == (
        "5 of 6 rows name files that are not there, such as 000002.jpg; the folder has face-2.jpg, which no row names: "
        f"check that {tmp_path / 'Img' / 'img_celeba'} is the right folder and the archive is unpacked whole "
        "(7z x img_celeba.7z.001)"
    )
