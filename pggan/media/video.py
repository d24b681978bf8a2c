"""Films: a walk through the latents that returns to its start, and the time-lapse of a run.

Frames are made, written and forgotten one after the other. They go to ffmpeg, which the package imageio-ffmpeg brings
along (`pip install 'celebahq[video]'`) or the system has. Without it each becomes a PNG file; commands then make few:
`STILL_FPS` a second, or one of each snapshot.
"""

import importlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from datatools.errors import DataError, reason
from datatools.files import as_data_error, atomic_path, partial_path
from datatools.images import ImageError, read_rgb, save_png
from pggan.media.grids import tile
from pggan.media.latents import Change, Loop
from pggan.media.styles import StyleLoop, style_generator
from pggan.model.files import Model, pictures_at_once, render, render_styles

Frame = NDArray[np.uint8]  # (H, W, 3) RGB
Space = Literal["z", "w"]

LARGEST = 8192  # pixels on a side: what players of H.264 show at most
ENLARGED = (1920, 512)  # pixels across and lines that films of small pictures are enlarged to, at most
WARP = 1.5  # as in the authors' films: the beginning of a run, when pictures change most, is shown at length
STANDSTILL = 2.0  # seconds that the last snapshot stays, but at most a quarter of the film
STILL_FPS = 1  # pictures of a second of film where nothing encodes it
THREADS = 4  # the encoder's bytes depend on it, so that it does not follow the machine
PICTURE = "frame{:06d}.png"
_PICTURE = re.compile(r"frame\d{6,}\.png")
_SNAPSHOT = re.compile(r"fakes(\d+)(?:_(\d{3}))?\.png")


def frame_count(seconds: float, fps: int) -> int:
    """Return the number of frames of a film of that length."""
    return max(1, round(seconds * fps))


@dataclass(frozen=True)
class Walk:
    """An interpolation film: every picture of a grid changes smoothly, and the last frame leads on to the first.

    `smooth_seconds`: the Gaussian's standard deviation. `grid`: (columns, rows). `zoom`: every pixel is repeated so
    often on either axis; None: as often as the film stays within 1920 x 512, or once.
    """

    seconds: float = 60.0
    fps: int = 60
    smooth_seconds: float = 0.75
    grid: tuple[int, int] = (1, 1)
    seed: int = 0
    zoom: int | None = None

    @property
    def frames(self) -> int:
        return frame_count(self.seconds, self.fps)

    @property
    def cells(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def keys(self) -> int:
        """Return the number of latents whose w a film through w passes: they are as far apart as smoothed noise needs
        to become another one, four deviations of the Gaussian.
        """
        return max(2, round(self.seconds / (4 * self.smooth_seconds)))

    @property
    def stands_still(self) -> bool:
        """Return whether smoothing takes nearly everything: the slowest wave has less than a tenth of its strength."""
        return self.smooth_seconds > 0.34 * self.seconds

    def enlargement(self, resolution: int) -> int:
        """Return how often pixels are repeated at that resolution; DataError for frames that are too large."""
        fits = (limit // (count * resolution) for limit, count in zip(ENLARGED, self.grid, strict=True))
        zoom = self.zoom or max(1, min(fits))
        width, height = (count * resolution * zoom for count in self.grid)
        if max(width, height) > LARGEST:
            raise DataError(
                f"frames of {width} x {height} pixels: players show at most {LARGEST} on a side; "
                "give a smaller grid or zoom"
            )
        return zoom


def walk_frames(
    model: Model, walk: Walk, *, label: int | None = None, change: Change | None = None, space: Space = "z"
) -> Iterator[Frame]:
    """Yield frames of an interpolation film; a function of the model and the arguments.

    The paper's films in the same way: latents of all frames drawn, smoothed over time with a Gaussian with wrap-around,
    and normalized (section 6.3 and its video). Labels stay as they are for the whole film: all of class `label`, or the
    picture number n of the grid has the class that the seed walk.seed + n draws.

    Args:
        change: is applied to latents (n, latent_size) before the generator.
        space: "w": the film goes through w instead, from the w of one latent vector to that of another (`StyleLoop`).

    Raises DataError, before the first frame, for frames that are too large, and for "w" of a progressive GAN.
    """
    resolution = model.level.resolution
    zoom = walk.enlargement(resolution)
    labels = model.labels(label, range(walk.seed, walk.seed + walk.cells))
    pictures_at = _in_w(model, walk, labels) if space == "w" else _in_z(model, walk, labels, change)
    at_once = max(1, pictures_at_once(model.device, resolution) // walk.cells)

    def frames() -> Iterator[Frame]:
        for start in range(0, walk.frames, at_once):
            numbers = np.arange(start, min(start + at_once, walk.frames))
            pictures = pictures_at(numbers / walk.frames)
            for cells in pictures.reshape(len(numbers), walk.cells, *pictures.shape[1:]):
                yield enlarged(tile(cells, walk.grid[0]), zoom)

    return frames()


PicturesAt = Callable[[NDArray[np.float64]], NDArray[np.uint8]]
"""Pictures (n cells, r, r, 3) at times 0..1."""


def _in_z(model: Model, walk: Walk, labels: Tensor | None, change: Change | None) -> PicturesAt:
    loop = Loop(walk.cells, model.config.latent_size, walk.seed, walk.smooth_seconds / walk.seconds)

    def at(times: NDArray[np.float64]) -> NDArray[np.uint8]:
        latents = loop(times).flatten(0, 1)  # (frames cells, latent_size)
        own = None if labels is None else labels.repeat(len(times), 1)
        return render(model.ema, latents if change is None else change(latents), own, model.lod)

    return at


def _in_w(model: Model, walk: Walk, labels: Tensor | None) -> PicturesAt:
    generator = style_generator(model, "space", "w")
    loop = StyleLoop(generator, walk.cells, walk.seed, walk.keys, labels)
    return lambda times: render_styles(generator, generator.broadcast(loop(times).flatten(0, 1)), model.lod)


def enlarged(picture: Frame, zoom: int) -> Frame:
    """Repeat every pixel on both axes."""
    return picture.repeat(zoom, axis=0).repeat(zoom, axis=1)


def snapshots(run: Path) -> list[tuple[float, Path]]:
    """Return (kimg, file) of the grids of fakes in a run folder, by rising kimg; see `grid.snapshot_name`."""
    matches = [(_SNAPSHOT.fullmatch(path.name), path) for path in run.iterdir()] if run.is_dir() else []
    files = sorted((int(match[1] + (match[2] or "000")) / 1000, path) for match, path in matches if match)
    if not files:
        raise DataError(f"{run}: is not a run folder with pictures such as fakes000000.png")
    return files


def schedule_of(kimg: list[float], frames: int, standing: int) -> list[int]:
    """Return which snapshot each frame shows: the nearest to the last one's kimg times (frame / moving frames)^1.5.

    Args:
        kimg: of the snapshots, rising.
        standing: so many frames at the end show the last one.
    """
    moving = max(frames - standing, 1)
    shown = []
    for frame in range(frames):
        at = kimg[0] + (kimg[-1] - kimg[0]) * min(frame / moving, 1.0) ** WARP
        after = min(bisect_left(kimg, at), len(kimg) - 1)
        before = max(after - 1, 0)
        shown.append(before if at - kimg[before] < kimg[after] - at else after)
    return shown


@dataclass(frozen=True)
class Shown:
    """A snapshot in a time-lapse, and for how many frames it is shown."""

    kimg: float
    path: Path
    frames: int


def timelapse(run: Path, seconds: float = 20.0, fps: int = 30) -> list[Shown]:
    """Return what a film of a run folder shows, in order. Raises DataError where there are no snapshots."""
    files = snapshots(run)
    frames = frame_count(seconds, fps)
    places = schedule_of([kimg for kimg, _ in files], frames, round(min(STANDSTILL, seconds / 4) * fps))
    return [Shown(*files[place], sum(1 for _ in group)) for place, group in itertools.groupby(places)]


def progress_frames(shown: Iterable[Shown]) -> Iterator[Frame]:
    """Yield frames of a run's snapshots, each under a line with its kimg, without blending.

    Raises DataError for a snapshot that cannot be read.
    """
    for one in shown:
        try:
            frame = captioned(read_rgb(one.path), f"{one.kimg:.10g} kimg")
        except ImageError as error:
            raise DataError(f"{one.path}: {error}; remove it to make the film without it") from error
        yield from itertools.repeat(frame, one.frames)


def captioned(picture: Frame, text: str) -> Frame:
    """Put the picture under a black line with white text, which is about a 24th as high, 24 pixels at least."""
    height, width = picture.shape[:2]
    line = Image.new("RGB", (width, max(24, height // 24)))
    font = ImageFont.load_default(line.height * 0.7)
    ImageDraw.Draw(line).text((line.height * 0.3, line.height / 2), text, "white", font, anchor="lm")
    return np.concatenate([np.asarray(line), picture])


def find_encoder() -> str | None:
    """Return the path of ffmpeg, imageio-ffmpeg's before the system's; None where there is neither."""
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return shutil.which("ffmpeg")


def frames_folder(path: Path) -> Path:
    """Return the folder for a film's PNG files when nothing can encode it."""
    return path.with_name(f"{path.stem}-frames")


def write_film(path: Path, frames: Iterable[Frame], fps: int, encoder: str | None) -> Path:
    """Write frames of one size as an H.264 film, or without an encoder as PNG files; whole or not at all.

    The bytes are a function of frames, rate and the encoder's version.

    Args:
        path: of the film, .mp4.
        encoder: as `find_encoder` gives it.

    Returns the file, or the folder of frame000000.png and so on next to it. Raises DataError for an encoder that fails,
    and for files that cannot be written.
    """
    with as_data_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if encoder is not None:
            _encode(path, frames, fps, encoder)
            return path
        folder = frames_folder(path)
        _write_pictures(folder, frames)
        return folder


def _encode(path: Path, frames: Iterable[Frame], fps: int, encoder: str) -> None:
    rest = iter(frames)
    first = even(next(rest))
    command = [encoder, *_arguments(first.shape[1], first.shape[0], fps)]
    # imageio-ffmpeg's own writer does not tell whether ffmpeg succeeded: a full disk would leave half a film behind.
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [*command, f"file:{temporary}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,  # Ctrl-C is for us
            )
        except OSError as error:
            raise DataError(f"the encoder {encoder} cannot be started: {reason(error)}") from error
        assert process.stdin is not None
        whole = False
        try:
            with process.stdin as pipe:
                for frame in itertools.chain([first], map(even, rest)):
                    if frame.shape != first.shape:
                        raise DataError(f"a frame has {_size(frame)} pixels, those before it {_size(first)}")
                    pipe.write(np.ascontiguousarray(frame).data)
            whole = True
        except BrokenPipeError:
            pass  # the program has ended, and said why
        except BaseException:
            process.kill()
            process.wait()
            raise
        status = process.wait()
        if status or not whole:
            complaints.seek(0)
            lines = complaints.read().decode(errors="replace").splitlines()  # the first has the cause
            message = next((line.strip() for line in lines if line.strip()), f"exit code {status}")
            raise DataError(f"{path}: the encoder {encoder} failed: {message[:300]}")


def _arguments(width: int, height: int, fps: int) -> list[str]:
    """Return ffmpeg's arguments: raw RGB in, H.264 out that every player shows (4:2:0), the same on every machine."""
    scaling = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int+bitexact"
    colours = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    return [
        *("-y", "-loglevel", "error", "-nostdin"),
        *("-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", str(fps)),
        *("-i", "pipe:0", "-vf", f"{scaling},format=yuv420p,{colours}"),
        *("-c:v", "libx264", "-crf", "16", "-threads", str(THREADS)),
        *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
        *("-movflags", "+faststart", "-f", "mp4"),
    ]


def even(frame: Frame) -> Frame:
    """Repeat the last row or column where their number is odd, since two pixels share a colour."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else frame


def _size(frame: Frame) -> str:
    return f"{frame.shape[1]} x {frame.shape[0]}"


def _write_pictures(folder: Path, frames: Iterable[Frame]) -> None:
    if folder.exists() and not all(_PICTURE.fullmatch(path.name) for path in folder.iterdir()):
        raise DataError(f"{folder}: the pictures would go there, but it has other files; remove it or rename the film")
    partial = partial_path(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for number, frame in enumerate(frames):
            save_png(partial / PICTURE.format(number), frame)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
