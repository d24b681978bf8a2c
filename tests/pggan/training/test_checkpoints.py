"""A checkpoint is whole or is none, and only good ones are trusted."""

from pathlib import Path

import pytest
import torch

from pggan.training.checkpoints import (
    checkpoint_at,
    checkpoints,
    load_checkpoint,
    newest_good,
    remove_after,
    save_checkpoint,
)
from tests.support.pggan_runs import assert_equal_values


def values(images: int) -> dict:
    return {"images": images, "weights": {"a": torch.full((3, 4), float(images))}, "stage": [1, 2], "tick": {"n": 0.5}}


def test_round_trip(tmp_path: Path) -> None:
    saved = save_checkpoint(tmp_path / "new", values(12), keep=3)
    loaded = load_checkpoint(saved)
    assert loaded.pop("version") == 1
    assert_equal_values(loaded, values(12))
    assert torch.load(saved.path, weights_only=True)["images"] == 12  # a plain torch file


def test_newest_are_kept_and_leftovers_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-000000000001.pt").write_bytes(b"killed before its mark was written")
    (tmp_path / ".checkpoint-000000000002.pt.partial").write_bytes(b"killed while it was written")
    (tmp_path / "checkpoint-notes.txt").write_text("somebody's own")
    for images in (10, 20, 30, 40):
        save_checkpoint(tmp_path, values(images), keep=2)
    assert [checkpoint.images for checkpoint in checkpoints(tmp_path)] == [40, 30]
    assert len(list(tmp_path.iterdir())) == 5
    assert (tmp_path / "checkpoint-notes.txt").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone", "mark"])
def test_damage_is_found_and_the_one_before_taken(tmp_path: Path, damage: str) -> None:
    for images in (10, 20):
        newest = save_checkpoint(tmp_path, values(images), keep=2)
    data = newest.path.read_bytes()
    if damage == "cut":
        newest.path.write_bytes(data[:-7])
    elif damage == "flipped":
        newest.path.write_bytes(data[:900] + bytes([data[900] ^ 4]) + data[901:])
    elif damage == "empty":
        newest.path.write_bytes(b"")
    elif damage == "gone":
        newest.path.unlink()
    else:
        newest.mark.write_text("{")
    with pytest.raises(ValueError, match=r".+"):
        load_checkpoint(newest)
    warnings: list[str] = []
    found = newest_good(tmp_path, warnings.append)
    assert found is not None
    assert found["images"] == 10
    assert len(warnings) == 1
    assert newest.path.name in warnings[0]


def test_nothing_good(tmp_path: Path) -> None:
    assert newest_good(tmp_path / "absent", print) is None
    save_checkpoint(tmp_path, values(10), keep=1).path.write_bytes(b"x")
    assert newest_good(tmp_path, lambda _: None) is None


def test_future_is_removed(tmp_path: Path) -> None:
    for images in (10, 20, 30):
        save_checkpoint(tmp_path, values(images), keep=9)
    remove_after(tmp_path, 20)
    assert [checkpoint.images for checkpoint in checkpoints(tmp_path)] == [20, 10]
    assert not checkpoint_at(tmp_path, 30).path.exists()


def test_saving_again_replaces(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, values(10), keep=2)
    again = save_checkpoint(tmp_path, {**values(10), "stage": [5, 5]}, keep=2)
    assert load_checkpoint(again)["stage"] == [5, 5]
