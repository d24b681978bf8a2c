"""TensorBoard reads what is written, and forgets what a resumed run takes back."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datatools.images import decode_rgb
from pggan.training.board import Board


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_points_come_back_and_later_ones_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    board = Board(folder, 1)
    for step in (8, 16, 24):
        board.add(step, {"loss/d_loss": step / 2, "lod": 1})
    assert read(folder) == {"loss/d_loss": [(8, 4.0), (16, 8.0), (24, 12.0)], "lod": [(8, 1.0), (16, 1.0), (24, 1.0)]}
    Board(folder, 17).add(20, {"loss/d_loss": 5.0})
    assert read(folder)["loss/d_loss"] == [(8, 4.0), (16, 8.0), (20, 5.0)]
    assert len(list(folder.iterdir())) == 2


def test_pictures_come_back(tmp_path: Path) -> None:
    picture = np.full((6, 8, 3), (200, 100, 50), np.uint8)
    Board(tmp_path, 1).add_picture(8, "fakes", picture)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (found,) = events.Images("fakes")
    assert (found.step, found.width, found.height) == (8, 8, 6)
    assert np.abs(decode_rgb(found.encoded_image_string).astype(int) - picture).max() <= 3


def test_failures_reach_the_caller(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    board = Board(tmp_path / "tensorboard", 1)
    with pytest.raises(FileExistsError):
        board.add(8, {"lod": 1.0})
    (tmp_path / "tensorboard").unlink()
    board.add(16, {"lod": 0.0})
    assert read(tmp_path / "tensorboard") == {"lod": [(16, 0.0)]}
