"""`python -m datatools.landmarks` on folders of photos, with files of landmarks and a stand-in for the detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from datatools.images import ORIENTATION, read_rgb, save_jpeg, save_png
from datatools.landmarks import Face, Photo
from datatools.landmarks import __main__ as command
from datatools.landmarks.base import face_of_points
from datatools.landmarks.find import Options, Work, find_all, list_photos
from datatools.landmarks.table import read_table, write_table
from datatools.sample import portraits
from datatools.sources.celeba import read_tree

ADMIRAL = portraits()["admiral"]
TRUE = ADMIRAL.landmarks
SHIFTED = TRUE + np.array([40, 0])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command.main, [str(argument) for argument in arguments])


@dataclass(frozen=True)
class FixedFaces:
    """A detector that finds the admiral's face and half of it beside, in photos that are not black."""

    name: str = "fixed"
    digest: str = ""
    reads_pixels: bool = True
    batch_size: int = 1

    def find(self, photos: Sequence[Photo], /) -> list[list[Face]]:
        faces = [face_of_points(TRUE * 0.5 + (350, 10), 0.9), face_of_points(TRUE + 1, 0.99)]
        return [faces if photo.pixels is not None and photo.pixels.any() else [] for photo in photos]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos in subfolders, with blanks and umlauts; one is black, one is a text."""
    folder = tmp_path / "photos"
    (folder / "Grüße 2024").mkdir(parents=True)
    save_jpeg(folder / "a.JPG", ADMIRAL.pixels)
    save_png(folder / "Grüße 2024" / "1 b.png", ADMIRAL.pixels)
    save_png(folder / "black.png", np.zeros((90, 80, 3), np.uint8))
    (folder / "broken.jpg").write_text("no picture", encoding="utf-8")
    (folder / "notes.txt").write_text("no photo", encoding="utf-8")
    return folder


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mtcnn be the stand-in."""
    real = command.get_landmark_source

    def source(name: str, *arguments: object, **options: object) -> object:
        return FixedFaces() if name == "mtcnn" else real(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "get_landmark_source", source)
    monkeypatch.setattr(command, "get_detector", source)


@pytest.mark.usefixtures("detector")
def test_faces_of_a_folder_are_written_and_drawn(photos: Path, tmp_path: Path) -> None:
    out, look = tmp_path / "faces.csv", tmp_path / "look"
    done = run(photos, "--landmarks", "mtcnn", "--out", out, "--draw", look, "--workers", 1)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        f"landmarks of 4 photos in {photos} by fixed",
        "2 photos with a face",
        "1 photo without, such as black.png",
        "1 photo not used, such as broken.jpg: not a picture of a known format: it begins with the text 'no picture'",
        f"{out}: 2 faces",
    ]
    found = read_table(out)
    assert {name: len(faces) for name, faces in found.items()} == {"Grüße 2024/1 b.png": 1, "a.JPG": 1, "black.png": 0}
    np.testing.assert_allclose(found["a.JPG"][0].points, TRUE + 1, atol=0.006)
    drawn = read_rgb(look / "Grüße 2024" / "1 b.png.jpg")
    assert drawn.shape == ADMIRAL.pixels.shape
    x, y = np.round(TRUE[0] + 1).astype(int)
    red, green, blue = drawn[y, x].astype(int)
    assert red > 180 > 140 > max(green, blue)
    assert (look / "black.png.jpg").is_file()


@pytest.mark.usefixtures("detector")
def test_all_faces_and_the_least_size(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces.csv"
    sizes = [face.size for face in FixedFaces().find([Photo("a", ADMIRAL.pixels)])[0]]
    for options, count in ((["--all-faces"], 2), (["--all-faces", "--min-face", min(sizes) + 1], 1)):
        assert run(photos, "--landmarks", "mtcnn", "--out", out, "--workers", 1, *options).exit_code == 0
        assert len(read_table(out)["a.JPG"]) == count
    done = run(photos, "--landmarks", "mtcnn", "--out", out, "--workers", 1, "--min-face", max(sizes) + 1)
    assert (done.exit_code, "no faces in" in done.output) == (1, True)


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize(
    ("action", "kept"),
    [("report", SHIFTED), ("reject", None), ("repair", TRUE + 1)],
    ids=["report", "reject", "repair"],
)
def test_a_wrong_row_is_reported_rejected_or_repaired(
    photos: Path, tmp_path: Path, action: str, kept: np.ndarray | None
) -> None:
    rows = {
        "a.JPG": [face_of_points(SHIFTED)],
        "Grüße 2024/1 b.png": [face_of_points(TRUE)],
        "black.png": [face_of_points(TRUE)],
    }
    table, out = tmp_path / "rows.csv", tmp_path / "checked.csv"
    rows["black.png"] = [face_of_points(TRUE / 5)]
    write_table(table, rows, dict.fromkeys(rows, "hand"))
    done = run(
        photos, "--landmarks", table, "--check-landmarks", action, "--check-with", "mtcnn", "--out", out, "--workers", 1
    )
    assert done.exit_code == 0, done.output
    assert "a.JPG: the points are 0." in done.output
    assert "1 wrong row of landmarks" in done.output
    assert "1 row not checked: the detector found no face" in done.output
    found = read_table(out)
    np.testing.assert_allclose(found["Grüße 2024/1 b.png"][0].points, TRUE, atol=0.006)
    np.testing.assert_allclose(found["black.png"][0].points, TRUE / 5, atol=0.006)
    if kept is None:
        assert found["a.JPG"] == []
    else:
        np.testing.assert_allclose(found["a.JPG"][0].points, kept, atol=0.006)
    sources = {line.split(",")[0]: line.split(",")[-1] for line in out.read_text(encoding="utf-8").splitlines()}
    assert sources["a.JPG"] == ("fixed" if action == "repair" else "rows.csv")
    assert sources["black.png"] == "rows.csv"


def test_mtcnn_finds_the_portraits_in_two_processes(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces.csv"
    done = run(photos, "--landmarks", "mtcnn", "--out", out, "--workers", 2)
    assert done.exit_code == 0, done.output
    for name in ("a.JPG", "Grüße 2024/1 b.png"):
        (face,) = read_table(out)[name]
        assert np.hypot(*(face.points - TRUE).T).max() < 0.15 * face.eye_distance


def test_photos_of_batches_give_the_same(photos: Path) -> None:
    folder = list_photos(photos)
    one = list(find_all(Work(folder, FixedFaces(), Options(all_faces=True)), 1))
    several = list(find_all(Work(folder, FixedFaces(batch_size=3), Options(all_faces=True)), 2))
    assert [(result.name, len(result.faces), result.error) for result in one] == [
        (result.name, len(result.faces), result.error) for result in several
    ]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A CelebA tree of one photo."""
    photos, annotations = tmp_path / "tree" / "Img" / "img_celeba", tmp_path / "tree" / "Anno"
    photos.mkdir(parents=True)
    annotations.mkdir()
    save_jpeg(photos / "000001.jpg", ADMIRAL.pixels)
    columns = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    row = "000001.jpg " + " ".join(f"{value:.0f}" for value in TRUE.ravel())
    (annotations / "list_landmarks_celeba.txt").write_text(f"1\n{columns}\n{row}\n", encoding="utf-8")
    return tmp_path / "tree"


def test_photos_are_turned_upright_but_those_of_celeba_are_not(photos: Path, tree: Path) -> None:
    for folder, own in ((photos, True), (tree, False)):
        listed = list_photos(folder)
        name = listed.names[0]
        turned = Image.fromarray(ADMIRAL.pixels)
        exif = turned.getexif()
        exif[ORIENTATION] = 6
        turned.save(listed.folder / name, exif=exif, format="PNG")
        height, width = ADMIRAL.pixels.shape[:2]
        assert listed.own is own
        assert listed.view(name).size == ((height, width) if own else (width, height))
    assert (listed.folder, listed.names) == (tree / "Img" / "img_celeba", ("000001.jpg",))


def test_a_celeba_tree_is_checked_by_its_name_alone(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "checked.csv"
    done = run(tree, "--check-landmarks", "report", "--check-with", "mtcnn", "--out", out, "--workers", 1)
    assert done.exit_code == 0, done.output
    assert "by annotations, checked by mtcnn" in done.output
    assert "wrong" not in done.output
    assert list(read_table(out)) == ["000001.jpg"]


def test_a_repaired_file_takes_the_place_of_the_annotations(tree: Path) -> None:
    annotations = tree / "Anno" / "list_landmarks_celeba.txt"
    good = read_tree(tree).records[0].landmarks
    rows = annotations.read_text(encoding="utf-8").replace(f"{TRUE[0, 0]:.0f}", f"{TRUE[0, 0] + 80:.0f}")
    annotations.write_text(rows, encoding="utf-8")
    (tree / "Img" / "img_celeba" / "000001.jpg").rename(tree / "Img" / "img_celeba" / "000001.png")
    check = ("--check-landmarks", "repair", "--check-with", "mtcnn", "--workers", 1)
    done = run(tree, *check, "--out", annotations)
    assert done.exit_code == 0, done.output
    assert "000001.png: the points are 0." in done.output
    (record,) = read_tree(tree).records
    assert record.file_name == "000001.jpg"
    assert np.hypot(*(record.landmarks - good).T).max() < 0.1 * np.hypot(*(good[1] - good[0]))


@pytest.mark.usefixtures("detector")
def test_names_with_blanks_do_not_fit_celebas_format(photos: Path, tmp_path: Path) -> None:
    done = run(photos, "--landmarks", "mtcnn", "--out", tmp_path / "faces.txt", "--workers", 1)
    assert done.exit_code == 1
    assert "no blanks and folders in names; write a .csv file instead" in done.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to do: add --out FILE.csv, --draw DIR or --check-landmarks report"),
        (["--landmarks", "mtcnn", "--check-landmarks", "report"], "mtcnn finds faces itself"),
        (["--landmarks", "none.csv", "--draw", "look"], "none.csv: cannot be read"),
        (["--landmarks", "mtcnn", "--out", "no/such/folder/faces.csv"], "No such file or directory"),
        (["--min-face", "nan", "--draw", "look"], "nan is not a finite number"),
    ],
)
def test_mistakes_are_reported_in_one_line(photos: Path, arguments: list[str], message: str) -> None:
    done = run(photos, *arguments)
    assert done.exit_code in (1, 2)
    assert message in done.output.splitlines()[-1]


def test_a_folder_without_photos_is_reported(tmp_path: Path) -> None:
    done = run(tmp_path, "--out", tmp_path / "faces.csv")
    assert done.exit_code == 1
    assert done.output.splitlines() == [f"Error: {tmp_path} has no pictures: name the folder that has the photos"]
