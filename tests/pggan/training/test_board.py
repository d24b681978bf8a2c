"""TensorBoard reads what is written, and forgets what a resumed run takes back."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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


def test_failures_reach_the_caller(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    board = Board(tmp_path / "tensorboard", 1)
    with pytest.raises(FileExistsError):
        board.add(8, {"lod": 1.0})
    (tmp_path / "tensorboard").unlink()
    board.add(16, {"lod": 0.0})
    assert read(tmp_path / "tensorboard") == {"lod": [(16, 0.0)]}
