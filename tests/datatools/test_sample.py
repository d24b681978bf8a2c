"""datatools.sample: the demo's tree is complete, true, the same every time, and shows how rejects look."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from datatools.errors import DataError
from datatools.faces.duplicates import find_duplicates, perceptual_hash
from datatools.faces.geometry import face_frame
from datatools.images import ImageError, read_rgb
from datatools.sample import ATTRIBUTES, FRAMINGS, PORTRAITS, _astronaut, framing_matrix, main, write_sample
from datatools.sample_portraits import Portrait, render
from datatools.sources.celeba import CelebATree, read_tree

pytest.importorskip("skimage", reason="scikit-image is not installed: the sample is made with its astronaut")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "celeba"
    write_sample(folder)
    return folder


@pytest.fixture(scope="module")
def tree(root: Path) -> CelebATree:
    return read_tree(root)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_tree_is_complete_but_for_the_two_bad_entries(tree: CelebATree) -> None:
    assert [(entry.file_name, entry.stage) for entry in tree.rejections] == [("900026.jpg", "photo")]
    unreadable = []
    for record in tree.records:
        try:
            read_rgb(record.path)
        except ImageError:
            unreadable.append(record.file_name)
    assert unreadable == ["900025.jpg"]
    assert len(tree.records) == len(FRAMINGS) + len(PORTRAITS) + 1 == 25


def test_annotations_cover_all_photos(tree: CelebATree) -> None:
    photos = tree.records[:-1]
    assert tree.attribute_names == ATTRIBUTES
    assert len(ATTRIBUTES) == 40
    assert all(record.attributes is not None and record.identity is not None for record in photos)
    assert {record.split for record in photos} == {0, 1, 2}
    smiling = ATTRIBUTES.index("Smiling")
    assert {record.attributes[smiling] for record in photos if record.attributes} == {1, -1}


def test_no_photo_is_taken_for_a_published_one(tree: CelebATree) -> None:
    assert {record.celebahq_index for record in tree.records} == {-1}


def test_framings_meet_every_branch_of_the_recipe(tree: CelebATree) -> None:
    frames = []
    for record in tree.records[:-1]:
        height, width = read_rgb(record.path).shape[:2]
        frames.append(face_frame(record.landmarks, width, height))
    assert sum(frame.padded for frame in frames) == 4
    lowest = np.array([frame.quad.min(axis=0) for frame in frames])
    beyond = np.array([frame.quad.max(axis=0) - frame.photo_size for frame in frames])
    sides = np.array([lowest[:, 0] < 0, lowest[:, 1] < 0, beyond[:, 0] > 0, beyond[:, 1] > 0])
    assert sides.any(axis=1).all()  # cut at the left, the top, the right, the bottom
    enlargements = {frame.enlarge for frame in frames}
    assert {2, 4, 8, 16, 32} <= enlargements


def test_landmarks_follow_the_face_through_every_framing(tree: CelebATree) -> None:
    """Seen at one size and upright, the eyes and mouth of all framings are at the same place."""
    reference = _astronaut().astype(np.float32).mean(axis=2)
    middle = reference[85:155, 185:262]
    for framing, record in zip(FRAMINGS, tree.records, strict=False):
        if framing.scale < 0.5 or framing.blur:
            continue  # too little detail left to compare
        photo = read_rgb(record.path).astype(np.float32).mean(axis=2)
        # Fitted to the landmarks as written, so that the file is tested and not the map that made it.
        source = np.array([(203.0, 100.6), (246.3, 103.3), (224.5, 127.6), (202.7, 139.3), (244.0, 140.7)])
        fitted, _ = cv2.estimateAffinePartial2D(source, record.landmarks, method=cv2.LMEDS)
        np.testing.assert_allclose(fitted, framing_matrix(framing), atol=0.05)
        back = cv2.warpAffine(
            cv2.GaussianBlur(photo, (0, 0), max(framing.scale / 3, 0.3)),
            fitted,
            reference.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        found = cv2.matchTemplate(back[75:165, 175:272], middle, cv2.TM_CCOEFF_NORMED)
        assert np.unravel_index(found.argmax(), found.shape) == (10, 10), framing.what
        assert found.max() > 0.95, framing.what


def test_same_bytes_every_time_and_over_an_older_one(root: Path) -> None:
    before = digests(root)
    assert len(before) == 25 + 4
    (root / "Img/img_celeba/900003.jpg").write_bytes(b"damaged")
    write_sample(root)
    assert digests(root) == before


def test_other_photos_are_left_alone(tmp_path: Path) -> None:
    image_dir = tmp_path / "Img/img_celeba"
    image_dir.mkdir(parents=True)
    (image_dir / "000001.jpg").write_bytes(b"a real one")
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert result.exit_code == 1
    assert "holds other photos (000001.jpg)" in result.stderr
    assert not (tmp_path / "Anno").exists()
    with pytest.raises(DataError, match="new or empty folder"):
        write_sample(tmp_path)


def test_command_line_tells_what_it_made(root: Path) -> None:
    result = CliRunner().invoke(main, [str(root)])
    assert result.exit_code == 0
    assert "900010.jpg  astronaut, cut by the left border" in result.stdout
    assert result.stdout.splitlines()[-1] == f"24 photos and 2 bad entries in {root}"


def test_command_line_reports_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, [str(tmp_path / "file" / "below")])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output


def test_portraits_are_different_people_with_eyes_where_they_are_said_to_be() -> None:
    portraits = [Portrait(seed, (320, 400), 95, (160, 190), roll=roll) for seed, roll in ((1, 0), (2, 20))]
    for portrait in portraits:
        picture = render(portrait)
        assert picture.shape == (400, 320, 3)
        assert picture.dtype == np.uint8
        for x, y in portrait.landmarks[:2]:
            pupil = picture[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
            assert pupil.mean() < 80
        assert np.abs(np.diff(picture.astype(int), axis=0)).mean() > 2  # fine detail, not flat areas
    pictures = np.stack([perceptual_hash(render(portrait)[:300, :300]) for portrait in (*portraits, portraits[0])])
    assert [(pair.first, pair.second) for pair in find_duplicates(pictures)] == [(0, 2)]
