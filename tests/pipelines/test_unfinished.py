"""`pipelines.unfinished`: what is taken from an interrupted shard, and what is not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.unfinished import UnfinishedShard, read_face, unfinished_path

SIDE = 4
PHOTOS = tuple(f"{number}.jpg" for number in range(5))


def face_of(number: int) -> NDArray[np.uint8]:
    return np.full((SIDE, SIDE, 3), 10 + number, np.uint8)


def opened(folder: Path, photos: Sequence[str] = PHOTOS, *, faces: bool = True, group: int = 1) -> UnfinishedShard:
    path = folder / "shard.rgb" if faces else None
    return UnfinishedShard(folder / "shard.npz", path, photos, resolution=SIDE, group=group)


def save(folder: Path, count: int, *, faces: bool = True) -> None:
    """Save the first results of a shard; photo 1 gives no face."""
    with opened(folder, faces=faces) as shard:
        for number in range(len(shard.rows), count):
            shard.append(face_of(number) if number != 1 and faces else None, score=number / 3)


def numbers(shard: UnfinishedShard) -> list[float]:
    return [row["score"] for row in shard.rows]


def test_results_come_back_in_every_digit(tmp_path: Path) -> None:
    save(tmp_path, 2)
    save(tmp_path, 4)
    with opened(tmp_path) as shard:
        assert numbers(shard) == [0, 1 / 3, 2 / 3, 1]
        for number in (0, 2, 3):
            np.testing.assert_array_equal(shard.face(number), face_of(number))


def test_a_finished_shard_keeps_its_faces_alone(tmp_path: Path) -> None:
    save(tmp_path, 5)
    with opened(tmp_path) as shard:
        shard.keep_faces()
    shard.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["shard.rgb"]
    np.testing.assert_array_equal(read_face(tmp_path / "shard.rgb", 4, SIDE), face_of(4))


def test_faces_without_the_shards_own_file_are_used_again(tmp_path: Path) -> None:
    save(tmp_path, 5)
    with opened(tmp_path) as shard:
        shard.keep_faces()
    with opened(tmp_path) as again:
        assert len(again.rows) == 5
    assert not (tmp_path / "shard.rgb").exists()


@pytest.mark.parametrize(("cut", "left"), [(1, 3), (30, 3), (0, 4)])
def test_a_line_that_is_not_whole_is_dropped(cut: int, left: int, tmp_path: Path) -> None:
    save(tmp_path, 4)
    lines = unfinished_path(tmp_path / "shard.npz")
    lines.write_bytes(lines.read_bytes()[: lines.stat().st_size - cut])
    with opened(tmp_path) as shard:
        assert len(shard.rows) == left
    save(tmp_path, 5)
    with opened(tmp_path) as shard:
        assert numbers(shard) == [number / 3 for number in range(5)]


def test_a_face_that_did_not_reach_the_disk_is_made_again(tmp_path: Path) -> None:
    """As after a power cut: the line is there, the face is not, or a hole."""
    save(tmp_path, 4)
    faces = unfinished_path(tmp_path / "shard.rgb")
    content = faces.read_bytes()
    faces.write_bytes(content[:-1])
    with opened(tmp_path) as shard:
        assert len(shard.rows) == 3
    size = SIDE * SIDE * 3
    faces.write_bytes(bytes(size) + content[size:])
    with opened(tmp_path) as shard:
        assert shard.rows == []


def test_other_photos_are_not_taken_for_these(tmp_path: Path) -> None:
    save(tmp_path, 4)
    with opened(tmp_path, [*PHOTOS[:2], "other.jpg", *PHOTOS[3:]]) as shard:
        assert len(shard.rows) == 2


def test_results_of_photos_that_changed_are_not_used(tmp_path: Path) -> None:
    save(tmp_path, 4)
    path = tmp_path / "shard.npz"
    shard = UnfinishedShard(
        path, tmp_path / "shard.rgb", PHOTOS, resolution=SIDE, current=lambda index, row: index < 2 or row["score"] < 0
    )
    with shard:
        assert numbers(shard) == [0, 1 / 3]


def test_results_without_faces_do_not_stand_for_faces(tmp_path: Path) -> None:
    save(tmp_path, 4, faces=False)
    with opened(tmp_path, faces=False) as shard:
        assert len(shard.rows) == 4
    with opened(tmp_path) as shard:
        assert shard.rows == []


@pytest.mark.parametrize(("group", "kept"), [(1, 3), (2, 2), (3, 3), (4, 0)])
def test_only_whole_groups_are_kept(group: int, kept: int, tmp_path: Path) -> None:
    save(tmp_path, 3)
    with opened(tmp_path, group=group) as shard:
        assert len(shard.rows) == kept


def test_a_last_group_may_be_smaller(tmp_path: Path) -> None:
    save(tmp_path, 5)
    with opened(tmp_path, group=4) as shard:
        assert len(shard.rows) == 5


def test_seconds_add_up(tmp_path: Path) -> None:
    save(tmp_path, 1)
    line = unfinished_path(tmp_path / "shard.npz")
    line.write_text(line.read_text().replace('"seconds": 0', '"seconds": 100'))
    save(tmp_path, 2)
    with opened(tmp_path) as shard:
        assert 100 <= shard.seconds < 200
