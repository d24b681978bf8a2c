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
from datatools.faces.recipe import make_face
from datatools.images import ImageError, read_rgb
from datatools.restore import get_restorer
from datatools.sample import ATTRIBUTES, FRAMINGS, framing_matrix, main, portraits, write_sample
from datatools.sources.celeba import CelebATree, read_tree


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
    assert [(entry.file_name, entry.stage) for entry in tree.rejections] == [("900022.jpg", "photo")]
    unreadable = []
    for record in tree.records:
        try:
            read_rgb(record.path)
        except ImageError:
            unreadable.append(record.file_name)
    assert unreadable == ["900021.jpg"]
    assert len(tree.records) == len(FRAMINGS) + 1 == 21


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
    assert sum(frame.padded for frame in frames) == 6
    lowest = np.array([frame.quad.min(axis=0) for frame in frames])
    beyond = np.array([frame.quad.max(axis=0) - frame.photo_size for frame in frames])
    sides = np.array([lowest[:, 0] < 0, lowest[:, 1] < 0, beyond[:, 0] > 0, beyond[:, 1] > 0])
    assert sides.any(axis=1).all()  # cut at the left, the top, the right, the bottom
    enlargements = {frame.enlarge for frame in frames}
    assert {2, 4, 8, 16, 32} <= enlargements


def test_landmarks_follow_the_face_through_every_framing(tree: CelebATree) -> None:
    """Seen at one size and upright, the eyes and mouth of all framings are at the same place."""
    for framing, record in zip(FRAMINGS, tree.records, strict=False):
        if framing.scale < 0.5 or framing.blur:
            continue  # too little detail left to compare
        portrait = portraits()[framing.who]
        portrait = portrait.mirrored() if framing.mirrored else portrait
        reference = portrait.pixels.astype(np.float32).mean(axis=2)
        left, top = (portrait.landmarks.min(axis=0) - 15).astype(int)
        right, bottom = (portrait.landmarks.max(axis=0) + 15).astype(int)
        photo = read_rgb(record.path).astype(np.float32).mean(axis=2)
        # Fitted to the landmarks as written, so that the file is tested and not the map that made it.
        fitted, _ = cv2.estimateAffinePartial2D(portrait.landmarks, record.landmarks, method=cv2.LMEDS)
        np.testing.assert_allclose(fitted, framing_matrix(portrait, framing), atol=0.05)
        back = cv2.warpAffine(
            cv2.GaussianBlur(photo, (0, 0), max(framing.scale / 3, 0.3)),
            fitted,
            reference.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        middle = reference[top:bottom, left:right]
        found = cv2.matchTemplate(back[top - 10 : bottom + 10, left - 10 : right + 10], middle, cv2.TM_CCOEFF_NORMED)
        assert np.unravel_index(found.argmax(), found.shape) == (10, 10), framing.what
        assert found.max() > 0.95, framing.what


def test_mirrored_landmarks_keep_their_names() -> None:
    """The left eye is left of the right one, and the mouth lies below both, in every portrait."""
    for portrait in portraits().values():
        mirrored = portrait.mirrored()
        for points in (portrait.landmarks, mirrored.landmarks):
            assert points[0, 0] < points[1, 0]
            assert points[3, 0] < points[4, 0]
            assert points[:2, 1].max() < points[3:, 1].min()
        np.testing.assert_allclose(mirrored.mirrored().landmarks, portrait.landmarks)
        np.testing.assert_array_equal(mirrored.mirrored().pixels, portrait.pixels)


def test_same_bytes_every_time_and_over_an_older_one(root: Path) -> None:
    before = digests(root)
    assert len(before) == 21 + 4
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
    assert "900008.jpg  astronaut, cut by the left border" in result.stdout
    assert result.stdout.splitlines()[-1] == f"20 photos and 2 bad entries in {root}"


def test_command_line_reports_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, [str(tmp_path / "file" / "below")])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output


def test_few_photos_count_as_duplicates(tree: CelebATree) -> None:
    """The demo's report would have little else to show."""
    restorer = get_restorer("none")
    faces = [make_face(record.path.read_bytes(), record.landmarks, restorer).face for record in tree.records[:-1]]
    pairs = find_duplicates(np.stack([perceptual_hash(face) for face in faces]))
    assert len(pairs) < 0.2 * 20 * 19 / 2
