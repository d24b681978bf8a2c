"""The recipe: against the exact procedure, the exact pictures and the published images."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datatools.faces.geometry import FrameError, face_frame
from datatools.faces.recipe import decode_scale, make_face, reduce_face
from datatools.faces.reference import reference_face
from datatools.faces.resample import FINAL_FILTERS, FinalFilter
from datatools.images import Box, ImageError, image_size
from datatools.restore import Crop, RestorePlan, get_restorer
from datatools.restore.base import cut
from datatools.sources.celeba import read_tree
from datatools.sources.records import FaceRecord
from tests.support.paths import GOLDEN

NONE = get_restorer("none")


def landmarks_for(x: float, y: float, eye_distance: float, angle: float = 0.0) -> NDArray[np.float64]:
    """A plausible upright face about (x, y), turned by `angle` radians."""
    shape = np.array([[-0.5, -0.4], [0.5, -0.4], [0.0, 0.1], [-0.4, 0.6], [0.4, 0.6]]) * eye_distance
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(shape @ turn.T + [x, y])


def photo_array(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours with shapes of every size and some noise: what photos ask of a resampler."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.zeros((height, width, 3))
    for period in (7, 19, 53, 151, 431):
        phase = rng.uniform(0, 6.28, 3)
        direction = rng.normal(size=2)
        direction /= np.hypot(*direction)
        wave = (x * direction[0] + y * direction[1])[:, :, None] / period * 6.28 + phase
        picture += np.sin(wave) * rng.uniform(10, 25, 3)
    return np.clip(picture + 120 + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def jpeg_photo(width: int, height: int, seed: int = 0, quality: int = 92) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(photo_array(width, height, seed)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def box(face: NDArray[np.uint8], resolution: int) -> NDArray[np.float64]:
    factor = face.shape[0] // resolution
    return face.reshape(resolution, factor, resolution, factor, 3).mean(axis=(1, 3), dtype=np.float64)


@pytest.mark.parametrize("final_filter", FINAL_FILTERS)
@pytest.mark.parametrize(
    ("x", "y", "eyes", "angle", "width", "height", "padded"),
    [
        (300, 300, 30, 0.3, 600, 600, False),  # enlarged 16x
        (300, 300, 75, -0.2, 600, 600, False),  # 4x
        (550, 520, 200, 0.1, 1100, 1100, False),  # 2x
        (800, 800, 330, 0.0, 1600, 1600, False),  # larger than the face
        (90, 80, 60, 0.2, 400, 300, True),
        (330, 240, 75, -0.3, 400, 300, True),
        (300, 250, 280, 0.1, 700, 600, True),
    ],
)
def test_near_the_exact_procedure(
    x: float, y: float, eyes: float, angle: float, width: int, height: int, padded: bool, final_filter: FinalFilter
) -> None:
    data = jpeg_photo(width, height)
    landmarks = landmarks_for(x, y, eyes, angle)
    exact = reference_face(data, landmarks, final_filter)
    result = make_face(data, landmarks, NONE, final_filter=final_filter)
    assert result.frame.padded == exact.padded == padded
    assert psnr(box(result.face, 256), box(exact.face, 256)) >= (46 if padded else 50)
    assert abs(result.face.mean() - exact.face.mean()) < 0.25


def test_huge_faces_are_decoded_small() -> None:
    small = Image.fromarray(photo_array(1100, 1050))
    stream = io.BytesIO()
    small.resize((4400, 4200), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=92)
    data = stream.getvalue()
    landmarks = landmarks_for(2200, 2100, 1030)
    result = make_face(data, landmarks, NONE)
    assert result.frame.shrink == 2
    assert decode_scale(result.frame) == 2
    assert psnr(box(result.face, 256), box(reference_face(data, landmarks).face, 256)) >= 46


@pytest.fixture(scope="module")
def records(sample_data: Path) -> dict[str, FaceRecord]:
    return {record.file_name: record for record in read_tree(sample_data / "celeba_sample").records}


@pytest.mark.parametrize("final_filter", FINAL_FILTERS)
def test_near_the_exact_pictures(sample_data: Path, records: dict[str, FaceRecord], final_filter: FinalFilter) -> None:
    pictures = sorted((sample_data.parent / "oracles" / "crop").glob(f"*_{final_filter}.png"))
    if not pictures:
        pytest.skip("no exact pictures beside the sample photos")
    values: dict[bool, list[float]] = {False: [], True: []}
    for picture in pictures:
        record = records[f"{picture.stem.split('_')[0]}.jpg"]
        result = make_face(record.path.read_bytes(), record.landmarks, NONE, final_filter=final_filter)
        exact = np.asarray(Image.open(picture))
        values[result.frame.padded].append(psnr(np.rint(box(result.face, 256)), exact))
    assert np.mean(values[False]) >= 55
    assert np.mean(values[True]) >= 55
    assert min(values[False]) >= 52
    assert min(values[True]) >= 51


def test_near_the_published_images(sample_data: Path, records: dict[str, FaceRecord]) -> None:
    with (GOLDEN / "published_pairs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5
    for row in rows:
        record = records[row["file_name"]]
        published_file = sample_data / "celebahq_published" / f"{row['celebahq_index']}.jpg"
        published = np.asarray(Image.open(published_file).convert("RGB"))
        result = make_face(record.path.read_bytes(), record.landmarks, NONE)
        # Photos far larger than the sample's: the exact procedure's own values, less 0.2 dB.
        for resolution in (64, 128, 256):
            reached = psnr(box(result.face, resolution), box(published, resolution))
            assert reached >= float(row[f"psnr_{resolution}"]) - 0.2, (row["file_name"], resolution)


def test_deterministic_and_threads_do_not_matter() -> None:
    data = jpeg_photo(400, 300)
    landmarks = landmarks_for(90, 80, 60, 0.2)
    threads = cv2.getNumThreads()
    try:
        faces = []
        for count in (1, 2):
            cv2.setNumThreads(count)
            faces.append(make_face(data, landmarks, NONE).face)
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(faces[0], faces[1])


def test_bad_input_says_why() -> None:
    data = jpeg_photo(200, 150)
    with pytest.raises(FrameError, match="inside"):
        make_face(data, landmarks_for(2000, 2000, 30), NONE)
    with pytest.raises(ImageError):
        make_face(data[: len(data) // 2], landmarks_for(100, 75, 20), NONE)


@pytest.mark.parametrize(("width", "height"), [(40, 36), (61, 200), (300, 33)])
def test_small_and_narrow_photos(width: int, height: int) -> None:
    result = make_face(jpeg_photo(width, height), landmarks_for(width / 2, height / 2, 10), NONE)
    assert result.face.shape == (1024, 1024, 3)
    assert result.face.std() > 1


def test_only_the_needed_part_is_decoded() -> None:
    class Spy:
        name, digest, batch_size = "spy", "", 1
        seen: tuple[int, ...] = ()
        inner: Box = (0, 0, 0, 0)

        def plan(self, _side: float, /) -> RestorePlan:
            return RestorePlan(margin=7, grid=4)

        def run(self, crops: Sequence[Crop], /) -> list[NDArray[np.uint8]]:
            ((_, picture, self.inner),) = crops
            self.seen = picture.shape
            return [cut(picture, self.inner)]

    data = jpeg_photo(1600, 1200)
    spy = Spy()
    result = make_face(data, landmarks_for(800, 600, 40), spy)
    frame = face_frame(landmarks_for(800, 600, 40), *image_size(data))
    assert not result.frame.padded
    assert frame.side <= spy.seen[0] <= frame.side + 2 * (7 + 4) + 2 + 3  # margins, whole pixels, the grid
    left, top, right, bottom = spy.inner
    assert 7 <= min(left, top) <= max(left, top) <= 7 + 3
    assert (right, bottom) == (spy.seen[1] - 7, spy.seen[0] - 7)
    np.testing.assert_array_equal(result.face, make_face(data, landmarks_for(800, 600, 40), NONE).face)


@pytest.mark.parametrize("resolution", [256, 512, 1024])
def test_reduce_face_is_the_rounded_mean(resolution: int) -> None:
    face = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    np.testing.assert_array_equal(reduce_face(face, resolution), np.rint(box(face, resolution)))
