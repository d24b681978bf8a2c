"""Films: smooth, without an end, whole or not at all, with or without an encoder."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import partial_path
from datatools.images import read_rgb, save_png
from pggan.media.grids import snapshot_name
from pggan.media.video import (
    Walk,
    captioned,
    even,
    find_encoder,
    progress_frames,
    schedule_of,
    snapshots,
    timelapse,
    walk_frames,
    write_film,
)
from pggan.model.files import Model
from tests.pggan.media.test_latents import model_of

ENCODER = find_encoder()
needs_encoder = pytest.mark.skipif(ENCODER is None, reason="no imageio-ffmpeg and no ffmpeg")

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def model() -> Model:
    torch.set_num_threads(1)
    return model_of()


def ramps(count: int = 6, height: int = 32, width: int = 48) -> list[Frame]:
    """Soft colours that differ from frame to frame."""
    rows, columns = np.mgrid[:height, :width]
    return [
        np.stack([60 + 3 * rows, 50 + 2 * columns, np.full_like(rows, 40 + 20 * number)], axis=2).astype(np.uint8)
        for number in range(count)
    ]


def broken(frames: list[Frame]) -> Iterator[Frame]:
    yield from frames
    raise KeyboardInterrupt


def script(folder: Path, body: str) -> str:
    """A program in place of ffmpeg; the film's file is its last argument, behind file:."""
    path = folder / "encoder"
    path.write_text(f'#!/bin/sh\nfor last; do :; done\nout="${{last#file:}}"\n{body}\n')
    path.chmod(0o755)
    return str(path)


def test_a_walk_is_smooth_and_leads_back_to_its_start(model: Model) -> None:
    walk = Walk(seconds=4, fps=30, smooth_seconds=0.5, grid=(3, 2), seed=4, zoom=2)
    frames = np.stack(list(walk_frames(model, walk)))
    assert frames.shape == (120, 64, 96, 3)
    assert np.array_equal(frames[:, ::2, ::2], frames[:, 1::2, 1::2])
    small = frames[:, ::2, ::2].astype(np.float64)
    steps = np.abs(np.roll(small, -1, axis=0) - small).mean(axis=(1, 2, 3))
    far = np.abs(np.roll(small, 40, axis=0) - small).mean()
    assert steps[-1] < 2 * np.median(steps)
    assert steps.max() < 3 * np.median(steps)
    assert steps.min() > 0
    assert far > 5 * steps.mean()


def test_a_walk_is_a_function_of_model_seed_and_options(model: Model) -> None:
    walk = Walk(seconds=1, fps=20, smooth_seconds=0.2, grid=(2, 1), seed=1, zoom=1)
    first, again = (np.stack(list(walk_frames(model, walk))) for _ in range(2))
    assert np.array_equal(first, again)
    faster = np.stack(list(walk_frames(model, Walk(1, 40, 0.2, (2, 1), 1, 1))))
    assert np.abs(faster[::2].astype(int) - first).max() <= 1
    single = np.stack(list(walk_frames(model, Walk(1, 20, 0.2, (1, 1), 1, 1))))
    assert np.abs(first[:, :, :16].astype(int) - single).max() <= 1
    other = np.stack(list(walk_frames(model, Walk(1, 20, 0.2, (2, 1), 2, 1))))
    assert np.abs(other.astype(int) - first).mean() > 2


def test_labels_stay_for_the_whole_film() -> None:
    model = model_of(classes=2)
    walk = Walk(seconds=1, fps=4, smooth_seconds=0.2, grid=(2, 2), zoom=1)
    by_class = [np.stack(list(walk_frames(model, walk, label=label))) for label in (0, 1)]
    assert not np.array_equal(*by_class)
    drawn = np.stack(list(walk_frames(model, walk)))
    labels = model.labels(None, range(4))
    assert labels is not None
    for cell, label in enumerate(labels.argmax(dim=1).tolist()):
        part = np.s_[:, 16 * (cell // 2) : 16 * (cell // 2) + 16, 16 * (cell % 2) : 16 * (cell % 2) + 16]
        assert np.array_equal(drawn[part], by_class[label][part])
    with pytest.raises(DataError, match="label 2"):
        walk_frames(model, walk, label=2)


def test_frames_are_made_when_they_are_asked_for(model: Model) -> None:
    frames = walk_frames(model, Walk(seconds=36000, fps=240, smooth_seconds=30, zoom=1))
    assert next(frames).shape == (16, 16, 3)


def test_latents_can_be_changed_on_their_way(model: Model) -> None:
    walk = Walk(seconds=1, fps=5, smooth_seconds=0.2, zoom=1)
    frames = list(walk_frames(model, walk, change=lambda latents: model.latents([3]).expand_as(latents)))
    assert all(np.abs(frame.astype(int) - model.pictures([3])[0]).max() <= 1 for frame in frames)


def test_enlargement() -> None:
    assert Walk(grid=(4, 2)).enlargement(32) == 8
    assert Walk(grid=(4, 2)).enlargement(1024) == 1
    assert Walk(grid=(20, 2)).enlargement(32) == 3
    assert Walk(grid=(4, 2), zoom=3).enlargement(32) == 3
    with pytest.raises(DataError, match="9216 x 1024 pixels"):
        Walk(grid=(9, 1)).enlargement(1024)
    assert Walk(seconds=2).stands_still
    assert not Walk(seconds=3).stands_still


def run_folder(folder: Path, sizes: tuple[tuple[int, int], ...] = ((40, 64),) * 3) -> Path:
    """A run folder with snapshots of 0, 5 and 10 kimg, each of one grey."""
    folder.mkdir()
    for place, (height, width) in enumerate(sizes):
        save_png(folder / f"fakes{5 * place:06d}.png", np.full((height, width, 3), 50 * (place + 1), np.uint8))
    save_png(folder / "reals.png", np.zeros((40, 64, 3), np.uint8))
    return folder


def test_progress_shows_every_snapshot_under_its_kimg(tmp_path: Path) -> None:
    frames = list(progress_frames(timelapse(run_folder(tmp_path / "run"), seconds=4, fps=10)))
    assert len(frames) == 40
    assert {frame.shape for frame in frames} == {(64, 64, 3)}
    pictures = [int(frame[-1, -1, 0]) for frame in frames]
    assert sorted(set(pictures)) == [50, 100, 150]
    assert pictures == sorted(pictures)
    assert pictures[-10:] == [150] * 10
    captions = {frame[:24].tobytes() for frame in frames}
    assert len(captions) == 3


def test_captions_can_be_read() -> None:
    picture = np.full((960, 640, 3), 77, np.uint8)
    frame = captioned(picture, "145 kimg")
    assert frame.shape == (1000, 640, 3)
    assert np.array_equal(frame[40:], picture)
    lit = frame[:40].max(axis=2) > 128
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    assert rows[-1] - rows[0] > 15  # pixels from the top of the letters to their foot
    assert columns[0] > 0
    assert 80 < columns[-1] < 320
    assert not np.array_equal(captioned(picture, "146 kimg"), frame)


def test_snapshots_are_found_by_their_number(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    save_png(run / "fakes1000000.png", np.zeros((40, 64, 3), np.uint8))
    (run / "fakes.png").write_bytes(b"")
    assert [kimg for kimg, _ in snapshots(run)] == [0, 5, 10, 1_000_000]
    for absent in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match=r"is not a run folder with pictures such as fakes000000.png"):
            snapshots(absent)


@given(st.lists(st.integers(0, 10**8), unique=True))
def test_names_of_snapshots_are_distinct_and_in_order(images: list[int]) -> None:
    names = [snapshot_name(count) for count in sorted(images)]
    assert names == sorted(set(names))


def test_snapshots_between_whole_kimg_are_found(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    for images in (512, 5016, 10999):
        save_png(run / snapshot_name(images), np.zeros((40, 64, 3), np.uint8))
    found = snapshots(run)
    assert [kimg for kimg, _ in found] == [0, 0.512, 5, 5.016, 10, 10.999]
    assert [path.name for _, path in found] == sorted(path.name for path in run.glob("fakes*.png"))
    assert sum(one.frames for one in timelapse(run, 4, 10)) == 40


def test_schedule_of_snapshots() -> None:
    shown = schedule_of([0, 10, 20, 40], 100, 25)
    assert len(shown) == 100
    assert shown == sorted(shown)
    assert shown[75:] == [3] * 25
    # 5 kimg, half way to the second, are an eighth of all: reached after (1/8)^(2/3) = 1/4 of the moving frames
    assert shown.index(1) in (18, 19)
    assert schedule_of([7], 5, 1) == [0] * 5
    assert schedule_of([0, 9], 1, 0) == [0]


def test_a_damaged_snapshot_is_named(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    (run / "fakes000005.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"fakes000005.png: not a picture of a known format.*remove it"):
        list(progress_frames(timelapse(run, 2, 10)))


def test_pngs_where_nothing_encodes(tmp_path: Path) -> None:
    frames = ramps()
    folder = write_film(tmp_path / "new" / "film.mp4", iter(frames), 30, None)
    assert folder == tmp_path / "new" / "film-frames"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"frame00000{number}.png" for number in range(6)]
    assert all(np.array_equal(read_rgb(folder / name), frame) for name, frame in zip(names, frames, strict=True))
    write_film(tmp_path / "new" / "film.mp4", iter(frames[:2]), 30, None)
    assert len(list(folder.iterdir())) == 2  # nothing of the longer film is left
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="has other files"):
        write_film(tmp_path / "new" / "film.mp4", iter(frames), 30, None)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("encodes", [False, True])
def test_an_interrupted_film_leaves_the_old_one(tmp_path: Path, encodes: bool) -> None:
    encoder = script(tmp_path, 'cat > "$out"') if encodes else None
    film = tmp_path / "films" / "film.mp4"
    written = write_film(film, iter(ramps(3)), 30, encoder)
    before = written.read_bytes() if encodes else sorted(path.name for path in written.iterdir())
    with pytest.raises(KeyboardInterrupt):
        write_film(film, broken(ramps(5)), 30, encoder)
    assert (written.read_bytes() if encodes else sorted(path.name for path in written.iterdir())) == before
    assert [path.name for path in film.parent.iterdir()] == [written.name]


def test_frames_go_to_the_encoder_one_by_one(tmp_path: Path) -> None:
    frames = ramps(4, 31, 47)
    encoder = script(tmp_path, 'echo "$@" > "$0.arguments"; cat > "$out"')
    film = write_film(tmp_path / "film.mp4", iter(frames), 24, encoder)
    raw = np.frombuffer(film.read_bytes(), np.uint8).reshape(4, 32, 48, 3)
    assert np.array_equal(raw[:, :31, :47], frames)
    assert np.array_equal(raw[:, 31], raw[:, 30])
    assert np.array_equal(raw[:, :, 47], raw[:, :, 46])
    arguments = (tmp_path / "encoder.arguments").read_text().split()
    assert arguments[arguments.index("-video_size") + 1] == "48x32"
    assert arguments[arguments.index("-framerate") + 1] == "24"
    assert arguments[-1] == f"file:{partial_path(film)}"
    assert even(raw[0]).shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 'Unknown encoder libx264' >&2; exit 8", "failed: Unknown encoder libx264"),
        ('cat > "$out"; echo "No space left" >&2; exit 1', "failed: No space left"),
        ("exit 0", "failed: exit code 0"),
        ('cat > "$out"; exit 3', "failed: exit code 3"),
    ],
)
def test_an_encoder_that_fails_leaves_nothing(tmp_path: Path, body: str, message: str) -> None:
    many = ramps(60, 64, 256)  # more than a pipe holds
    with pytest.raises(DataError, match=message):
        write_film(tmp_path / "films" / "film.mp4", iter(many), 30, script(tmp_path, body))
    assert list((tmp_path / "films").iterdir()) == []


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent cannot be started: No such file"):
        write_film(tmp_path / "film.mp4", iter(ramps()), 30, str(tmp_path / "absent"))
    (tmp_path / "file").write_text("")
    for encoder in (None, script(tmp_path, 'cat > "$out"')):
        with pytest.raises(DataError, match=r"film.mp4: cannot be written"):
            write_film(tmp_path / "file" / "film.mp4", iter(ramps()), 30, encoder)


def test_frames_of_different_sizes_are_no_film(tmp_path: Path) -> None:
    frames = iter(ramps() + ramps(1, 10, 20))
    with pytest.raises(DataError, match="a frame has 20 x 10 pixels, those before it 48 x 32"):
        write_film(tmp_path / "film.mp4", frames, 30, script(tmp_path, 'cat > "$out"'))
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_the_encoder_of_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.import_module", _no_module)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_encoder() is None
    os.rename(script(tmp_path, "exit 0"), tmp_path / "ffmpeg")
    assert find_encoder() == str(tmp_path / "ffmpeg")


def _no_module(name: str) -> object:
    raise ImportError(name)


@needs_encoder
def test_an_encoded_film_shows_the_frames(tmp_path: Path) -> None:
    assert ENCODER is not None
    frames = ramps(6, 64, 97)
    film = write_film(tmp_path / "film.mp4", iter(frames), 30, ENCODER)
    command = [ENCODER, "-loglevel", "error", "-i", str(film), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True).stdout
    shown = np.frombuffer(decoded, np.uint8).reshape(6, 64, 98, 3)[:, :, :97]
    assert np.abs(shown.astype(int) - frames).mean() < 3
    assert np.abs((shown.astype(int) - frames).mean(axis=(0, 1, 2))).max() < 2.5  # no tint
    message = subprocess.run([ENCODER, "-i", str(film)], capture_output=True, text=True).stderr
    assert "yuv420p(tv, bt709" in message
    assert "98x64" in message
    assert "30 fps" in message
    again = write_film(tmp_path / "again.mp4", iter(frames), 30, ENCODER)
    assert again.read_bytes() == film.read_bytes()
