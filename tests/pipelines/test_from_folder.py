"""BuildFromFolder: any tree of photos becomes a pyramid; corrections, several faces, other landmarks, resume."""

import csv
import io
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from datatools.errors import DataError, flag
from datatools.images import decode_rgb
from datatools.pyramid import Pyramid, verify
from datatools.sources.own_pictures import decode_own
from pipelines.folder_layout import FolderLayout, FolderOptions
from pipelines.from_folder import BuildFromFolder
from pipelines.options import BuildOptions
from tests.pipelines.test_options import documented_rows, shown
from tests.support.builds import BASE, HANGS, Photo, digest, environment
from tests.support.profiles import DISPLAY_P3, rgb_profile
from tests.support.stuck import kill_when

FACELESS = "sub/ümlaut größe/3.JPG"
"""A photo in which MTCNN finds no face."""

LAST = "wide.png"
"""The last photo in the order of names."""


def command(photos: Path, out: Path, *options: object) -> list[str]:
    luigi = str(Path(sys.executable).with_name("luigi"))
    folders = ("--photos", str(photos), "--output-dir", str(out), "--landmarks", "mtcnn")
    return [luigi, "--module", "pipelines", "BuildFromFolder", *folders, *BASE, *map(str, options)]


def run(photos: Path, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(photos, out, *options), cwd="/", env=environment(), capture_output=True, text=True, timeout=HANGS
    )


def build(photos: Path, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """`run` that has to succeed."""
    done = run(photos, out, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def save(path: Path, data: bytes, turn: Image.Transpose | None = None, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(data))
    (image.transpose(turn) if turn is not None else image).save(path, **options)


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.fixture(scope="module")
def folder(photos: Mapping[str, Photo], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of the same name in two folders, one that is turned, formats, a broken one, one without a face."""
    root, data = tmp_path_factory.mktemp("photos"), [photo.data for photo in photos.values()]
    for name, content in {"sub/1.jpg": data[0], "1.jpg": data[2], FACELESS: data[5]}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    save(root / "phone/IMG 1.JPG", data[3], Image.Transpose.ROTATE_90, exif=orientation(6), quality=95)
    save(root / "wide.png", data[4], icc_profile=rgb_profile("Display P3", DISPLAY_P3, 2.2))
    (root / "broken #1, new.jpg").write_bytes(data[1][:3000])
    (root / "notes.txt").write_text("no photo")
    return root


@pytest.fixture(scope="module")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "out"
    done = build(folder, out)
    assert "4 faces of 6 photos, landmarks from mtcnn; 2 photos without a face to use" in done.stdout
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def column(path: Path, name: str) -> dict[str, object]:
    pyramid = Pyramid(path)
    names = zip(pyramid.provenance("file_name").tolist(), pyramid.provenance("face").tolist(), strict=True)
    return dict(zip(names, pyramid.provenance(name).tolist(), strict=True))


def test_every_usable_face_is_in_the_file(built: Path) -> None:
    assert verify(built / "faces.h5") == []
    assert column(built / "faces.h5", "orientation") == {
        ("1.jpg", 0): 1,
        ("phone/IMG 1.JPG", 0): 6,
        ("sub/1.jpg", 0): 1,
        ("wide.png", 0): 1,
    }


def test_unusable_photos_are_listed_with_the_reason(built: Path) -> None:
    assert {(row["file_name"], row["kind"]) for row in table(built / "rejected.csv")} == {
        ("broken #1, new.jpg", "damaged-photo"),
        (FACELESS, "no-face"),
    }
    assert "mtcnn found no face; to use the photo, add" in (built / "rejected.csv").read_text(encoding="utf-8")


def test_the_table_of_landmarks_has_every_photo(built: Path) -> None:
    rows = table(built / "landmarks.csv")
    assert {row["file"] for row in rows} == {row["file_name"] for row in table(built / "ranking.csv")}
    assert {row["source"] for row in rows} == {"mtcnn"}


def test_turned_and_wide_gamut_photos_give_the_faces_of_upright_srgb_pictures(
    built: Path, folder: Path, tmp_path: Path
) -> None:
    with Image.open(folder / "phone/IMG 1.JPG") as stored:
        stored.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "a.png")
    srgb = decode_own((folder / "wide.png").read_bytes())
    Image.fromarray(srgb).save(tmp_path / "b.png")
    same = {"a.png": "phone/IMG 1.JPG", "b.png": "wide.png"}
    landmarks = column(built / "faces.h5", "landmarks")
    lines = [(built / "landmarks.csv").read_text(encoding="utf-8").split(",score")[0]]
    lines += [",".join(map(str, [name, *np.ravel(landmarks[own, 0])])) for name, own in same.items()]
    (tmp_path / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    build(tmp_path, tmp_path / "out", "--landmarks", tmp_path / "points.csv")
    plain, read = Pyramid(tmp_path / "out/faces.h5"), Pyramid(built / "faces.h5")
    for index, name in enumerate(plain.provenance("file_name").tolist()):
        other = read.provenance("file_name").tolist().index(same[name])
        assert np.array_equal(plain.image(index), read.image(other)), name
    assert np.abs(srgb.astype(int) - decode_rgb((folder / "wide.png").read_bytes())).max() > 10
    assert plain.settings["landmarks"] == "points.csv"
    assert not (tmp_path / "out/landmarks.csv").exists()


def test_the_file_says_where_landmarks_come_from(built: Path) -> None:
    settings = Pyramid(built / "faces.h5").settings
    assert settings["source"] == "own photos"
    assert settings["landmarks"] == "mtcnn"
    assert len(str(settings["landmarks_digest"])) == 16
    assert (settings["all_faces"], settings["min_face"]) == (0, 0)


def test_the_report_shows_strips_and_times(built: Path) -> None:
    page = (built / "report/index.html").read_text(encoding="utf-8")
    assert "find faces" in page
    assert "phone/IMG 1.JPG" in page
    assert "Farthest over the photo" in page or "Smallest rectangle" in page


def test_the_same_command_again_does_nothing(built: Path, folder: Path) -> None:
    before = digest(built / "faces.h5")
    done = build(folder, built)
    assert "already built" in done.stdout
    assert digest(built / "faces.h5") == before


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """The finished build, to be changed."""
    subprocess.run(["cp", "-a", str(built), str(tmp_path / "out")], check=True)
    return tmp_path / "out"


def test_corrected_landmarks_are_used_without_looking_again(copy: Path, folder: Path) -> None:
    rows = (copy / "landmarks.csv").read_text(encoding="utf-8").splitlines()
    name, left_eye_x, rest = rows[1].split(",", 2)
    assert name == "1.jpg"
    rows[1] = f"{name},{float(left_eye_x) + 2:g},{rest}"
    (copy / "landmarks.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    done = build(folder, copy)
    assert "find faces in" not in done.stdout
    assert "FindShard" not in done.stderr
    landmarks = column(copy / "faces.h5", "landmarks")["1.jpg", 0]
    assert np.asarray(landmarks)[0, 0] == pytest.approx(float(left_eye_x) + 2)
    assert Pyramid(copy / "faces.h5").settings["landmarks"] == "mtcnn, corrected by hand"


def test_only_a_new_photo_is_looked_at(copy: Path, folder: Path, photos: Mapping[str, Photo], tmp_path: Path) -> None:
    more = tmp_path / "photos"
    subprocess.run(["cp", "-a", str(folder), str(more)], check=True)
    (more / "0 new.jpg").write_bytes(photos["900005.jpg"].data)
    done = build(more, copy)
    assert "1 photo to find faces in, by mtcnn" in done.stdout
    assert ("0 new.jpg", 0) in column(copy / "faces.h5", "rank")
    assert len(Pyramid(copy / "faces.h5")) == 5


def test_all_faces_attributes_exclusions_and_small_faces(copy: Path, folder: Path, tmp_path: Path) -> None:
    rows = (copy / "landmarks.csv").read_text(encoding="utf-8").splitlines()
    second = rows[1].replace(",0,", ",1,", 1) if ",0," in rows[1] else ""
    assert second
    (copy / "landmarks.csv").write_text("\n".join([*rows, second]) + "\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text("file_name,Smiling,identity\n1.jpg,1,7\nwide.png,0,\n", encoding="utf-8")
    (tmp_path / "exclude.txt").write_text("sub/1.jpg\n", encoding="utf-8")
    options = ("--attributes", tmp_path / "a.csv", "--exclude", tmp_path / "exclude.txt", "--min-face", 20)
    build(folder, copy, "--all-faces", *options)
    assert column(copy / "faces.h5", "identity") == {
        ("1.jpg", 0): 7,
        ("1.jpg", 1): 7,
        ("phone/IMG 1.JPG", 0): -1,
        ("wide.png", 0): -1,
    }
    assert column(copy / "faces.h5", "attributes")["wide.png", 0] == [-1]
    assert "1.jpg (face 1)" in [row["file_name"] for row in table(copy / "ranking.csv")]
    excluded = [row["file_name"] for row in table(copy / "rejected.csv") if row["kind"] == "excluded"]
    assert excluded == ["sub/1.jpg"]
    choose = (copy / "report" / "choose" / "faces.js").read_text(encoding="ascii")
    assert '"1.jpg (face 0)","1.jpg (face 1)"' in choose or '"1.jpg (face 1)","1.jpg (face 0)"' in choose
    assert '"excluded":["sub/1.jpg"]' in choose
    assert Pyramid(copy / "faces.h5").settings["min_face"] == 20


def test_killed_while_finding_faces_it_resumes_with_the_same_bytes(built: Path, folder: Path, tmp_path: Path) -> None:
    def first_photo_is_finished() -> bool:
        return any(path.stat().st_size for path in (tmp_path / "work").glob("landmarks/.*.unfinished"))

    words = command(folder, tmp_path)[1:]
    kill_when(first_photo_is_finished, "pipelines.find_faces:read_photo", LAST, ["luigi", *words])
    assert not (tmp_path / "landmarks.csv").exists()
    build(folder, tmp_path, "--workers", 2)
    assert (tmp_path / "landmarks.csv").read_bytes() == (built / "landmarks.csv").read_bytes()
    assert digest(tmp_path / "faces.h5") == digest(built / "faces.h5")


def test_a_dry_run_writes_nothing(folder: Path, built: Path, tmp_path: Path) -> None:
    done = build(folder, tmp_path / "out", "--dry-run")
    assert "6 photos to find faces in, by mtcnn" in done.stdout
    assert "find faces    6 in " in done.stdout
    assert "run without --dry-run" in done.stdout
    assert not (tmp_path / "out").exists()
    assert "4 candidates" in build(folder, built, "--dry-run").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--photos", "/nowhere"), "error: /nowhere: cannot be read as a folder"),
        (("--landmarks", "magic"), "error: unknown source of landmarks 'magic'"),
        (("--min-face", "-1"), "error: --min-face -1: at least 0 is needed"),
        (("--selection", "official"), "error: --selection official: one of all, score is needed"),
        (("--attributes", "/nowhere.csv"), "error: /nowhere.csv"),
    ],
)
def test_mistakes_end_in_one_line(folder: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    done = run(folder, tmp_path / "out", *options)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_table_that_was_damaged_by_hand_ends_in_one_line(copy: Path, folder: Path) -> None:
    with (copy / "landmarks.csv").open("a", encoding="utf-8") as stream:
        stream.write("1.jpg,abc\n")
    done = run(folder, copy)
    assert done.returncode != 0
    assert "error: " in done.stderr
    assert "landmarks.csv, line" in done.stderr
    assert "Traceback" not in done.stderr


def test_too_few_faces_for_the_count(copy: Path, folder: Path) -> None:
    done = run(folder, copy, "--selection", "score", "--count", 9)
    assert done.returncode != 0
    assert "only 4 faces; 4 faces of 6 photos, landmarks from mtcnn" in done.stderr
    assert "--count 4" in done.stderr


def test_the_best_are_chosen_on_request(copy: Path, folder: Path) -> None:
    build(folder, copy, "--selection", "score", "--count", 2)
    chosen = [row["file_name"] for row in table(copy / "ranking.csv") if row["chosen"] == "1"]
    assert len(chosen) == len(Pyramid(copy / "faces.h5")) == 2


def test_files_of_celeba_builds_have_no_optional_columns(finished_build: Path) -> None:
    with h5py.File(finished_build / "celebahq.h5") as file:
        assert not {"orientation", "face"} & set(file["provenance"])


def test_the_docs_have_every_option() -> None:
    rows = documented_rows("| option of BuildFromFolder | default |")
    own = {item.name: item for item in fields(FolderOptions) if item.metadata["help"]}
    shared = {item.name for item in fields(BuildOptions)} - {"selection", "order", "exclude"}
    assert set(rows) == {flag(name) for name in own if name not in shared}
    for name in set(own) - shared:
        assert rows[flag(name)][1] == shown(own[name].default), name


def test_the_command_line_has_the_options_of_folders() -> None:
    names = set(BuildFromFolder.get_param_names(include_significant=True))
    assert {"photos", "landmarks", "all_faces", "min_face", "attributes", "restore", "dry_run"} < names
    assert "celeba_dir" not in names


def test_how_photos_are_read_is_part_of_the_names_of_finished_work(
    folder: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = FolderLayout(photos=folder, output_dir=built, landmarks="mtcnn", resolution=256, restore="none")
    assert layout.search is not None
    assert layout.search.is_done
    before = layout.score_path(0).name
    monkeypatch.setattr("pipelines.folder_layout.OWN_VERSION", 99)
    assert replace(layout).score_path(0).name != before
    with pytest.raises(DataError, match="unknown source of landmarks"):
        _ = replace(layout, landmarks="magic").search
