"""datatools.download.check: what a folder has of CelebA, and the aligned images in place of the photos."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datatools.download import check
from datatools.download.catalogue import RemoteFile
from datatools.download.check import check_celeba
from datatools.errors import DataError
from tests.datatools.download.test_archives import make_parts
from tests.faults.trees import write_tree


def jpeg(width: int, height: int, seed: int = 0) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


WILD = {f"{number:06}.jpg": jpeg(200 + number, 240) for number in (1, 2, 4)}
ALIGNED = {f"{number:06}.jpg": jpeg(178, 218, number) for number in range(1, 20)}


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_a_tree_that_can_be_built(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "CelebA", WILD)
    found = check_celeba(root)
    assert found.complete
    assert found.lines[0] == (
        f"have       3 of 202,599 photos in {root}/Img/img_celeba; the first that is missing is 000003.jpg"
    )
    assert any("list_landmarks_celeba.txt (needed), not the published file: it has the MD5" in x for x in found.lines)
    assert found.lines[-1] == f"complete   luigi --module pipelines BuildCelebAHQ --celeba-dir {root}"
    assert not any("align" in line for line in found.lines)


def test_a_published_annotation_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path, WILD)
    digest = hashlib.md5((root / "Anno/list_landmarks_celeba.txt").read_bytes()).hexdigest()
    monkeypatch.setattr(check, "USES", {RemoteFile(check.LANDMARKS.path, "", None, f"md5:{digest}"): "needed"})
    line = f"have       {root}/Anno/list_landmarks_celeba.txt (needed), as published"
    assert line in check_celeba(root).lines


def aligned_folder(root: Path) -> None:
    write(root / "Img/img_align_celeba", ALIGNED)


def aligned_in_the_photos_place(root: Path) -> None:
    write(root / "Img/img_celeba", ALIGNED)
    write(root / "Anno", {"list_landmarks_celeba.txt": b"0\n"})


def aligned_archive(root: Path) -> None:
    write(root, {"img_align_celeba.zip": b"PK", "list_landmarks_align_celeba.txt": b"0\n"})


def kaggle(root: Path) -> None:
    write(root / "img_align_celeba/img_align_celeba", ALIGNED)
    write(root, {"list_attr_celeba.csv": b"a", "list_landmarks_align_celeba.csv": b"a"})


@pytest.mark.parametrize("make", [aligned_folder, aligned_in_the_photos_place, aligned_archive, kaggle])
def test_the_aligned_images_are_said_first(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    found = check_celeba(tmp_path)
    assert not found.complete
    assert found.lines[0].startswith("wrong      the aligned images are here in place of the photos in the wild: ")
    assert "missing    the photos in the wild (Img/img_celeba)" in found.lines
    assert found.lines[-1].startswith("incomplete without photos in the wild")
    assert found.lines[-1].endswith(f"python -m datatools.download celeba --out {tmp_path}")


def test_tables_of_other_copies_are_named(tmp_path: Path) -> None:
    kaggle(tmp_path)
    lines = check_celeba(tmp_path).lines
    assert any(
        line.startswith("missing    Anno/list_attr_celeba.txt") and f"{tmp_path}/list_attr_celeba.csv" in line
        for line in lines
    )


def test_aligned_images_beside_the_photos_are_only_noted(tmp_path: Path) -> None:
    write_tree(tmp_path, WILD)
    aligned_folder(tmp_path)
    found = check_celeba(tmp_path)
    assert found.complete
    assert found.lines[0].startswith("aligned    ")
    assert "BuildCelebAHQ does not use the aligned images" in found.lines[0]


def test_an_empty_folder_says_how_to_get_it(tmp_path: Path) -> None:
    found = check_celeba(tmp_path)
    assert not found.complete
    assert found.lines[0] == "missing    the photos in the wild (Img/img_celeba)"
    assert found.lines[-1].startswith("incomplete without photos in the wild and list_landmarks_celeba.txt: python -m")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        check_celeba(tmp_path / "none")


def test_parts_of_the_archive_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "Img" / "img_celeba.7z"
    folder.parent.mkdir()
    made = make_parts(folder)
    parts = []
    for made_part in made:
        name = made_part.name.replace("photos", "img_celeba")
        digest = hashlib.sha1(made_part.read_bytes()).hexdigest()
        parts.append(RemoteFile(f"Img/img_celeba.7z/{name}", "", None, f"sha1:{digest}"))
        made_part.rename(folder / name)
    monkeypatch.setattr(check, "WILD_PARTS", tuple(parts))
    count = len(parts)
    whole = f"have       {count} of {count} parts of the archive (img_celeba.7z.001 to 0{count:02}); not unpacked yet"
    assert whole in check_celeba(tmp_path, checksums=True).lines
    second = folder / parts[1].name
    data = second.read_bytes()
    second.write_bytes(data[:-1])
    assert any(line.startswith(f"broken     {second}: has ") for line in check_celeba(tmp_path).lines)
    second.write_bytes(bytes(1) + data[1:])
    assert whole in check_celeba(tmp_path).lines
    broken = [line for line in check_celeba(tmp_path, checksums=True).lines if line.startswith("broken")]
    assert len(broken) == 1
    assert broken[0].startswith(f"broken     {second}: has the SHA1 ")
    second.unlink()
    assert f"missing    {second.name}" in check_celeba(tmp_path).lines
