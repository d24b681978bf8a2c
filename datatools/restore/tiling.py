"""Run a restoration network over pictures of any size, in tiles that give the same pixels as the whole picture.

Seams are exact rather than blended: a tile is computed from a window that is `margin` pixels larger, and begins at a
multiple of `grid`. Convolutions pad with zeros only at the true edges of the picture, as in training.

A GPU takes tiles of several pictures at once if their windows are equally large.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datatools.errors import DataError, out_of_memory
from datatools.images import Box
from datatools.restore.base import Picture, check_part, check_picture
from datatools.restore.networks import PictureNetwork

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Tiling:
    """How pictures become tiles, and tiles batches. Numbers are pixels of the network's input.

    Attributes:
        tile: largest side of a tile, without its margin.
        step: 1: windows are as small as possible. Larger: sides of tiles are multiples of it, and all tiles of one size
            have windows of one size, which form a batch; windows are smaller only if the picture is.
        batch: largest number of pixels of a batch, margins included.
    """

    tile: int
    step: int
    batch: int


def cpu_tiling(scale: int) -> Tiling:
    """Return the tiling for a CPU, one tile at a time, and a network that enlarges by `scale`.

    Larger tiles save margins, but need memory in proportion to their area, most of it if pictures are enlarged. 480 is
    about what a face needs that is small enough to be enlarged.
    """
    return Tiling(tile=768 if scale == 1 else 480, step=1, batch=0)


GPU_TILING = Tiling(tile=512, step=128, batch=2**19)
"""Half a million pixels keep a large GPU busy, and fit into a small one with a network as large as Real-ESRGAN."""


def restore(
    network: PictureNetwork,
    picture: Picture,
    *,
    inner: Box | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    tiling: Tiling | None = None,
) -> Picture:
    """Restore a picture, or the part `inner` of it; see `restore_parts`."""
    check_picture(picture)
    part = inner or (0, 0, picture.shape[1], picture.shape[0])
    return restore_parts(network, [(picture, part)], device=device, precision=precision, tiling=tiling)[0]


def restore_parts(
    network: PictureNetwork,
    parts: Sequence[tuple[Picture, Box]],
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    tiling: Tiling | None = None,
) -> list[Picture]:
    """Restore the wanted parts of pictures.

    Args:
        network: moved to `device` and into evaluation mode.
        parts: pictures, (h, w, 3) uint8 RGB, from 1 x 1 up, and (left, top, right, bottom) of what is wanted of each,
            in its pixels. The network uses the pixels around it as far as the picture has them. Sides that are not
            multiples of the network's grid are extended by their last row or column for the network, and cut again.
        precision: "bf16" computes the convolutions in bfloat16. With "fp32", tiles equal the whole within 1 of 255, and
            pictures in a batch equal single ones as closely.

    Returns:
        ((bottom - top) * scale, (right - left) * scale, 3) uint8 RGB for every part.

    Raises:
        DataError: an input that is not an (h, w, 3) uint8 array, a part outside of it, a network whose values are not
            finite, a device without enough memory.
    """
    if precision not in ("fp32", "bf16"):
        raise DataError(f"precision {precision!r} is unknown; known: fp32, bf16")
    for picture, inner in parts:
        check_part(picture, inner)
    scale = network.scale
    tiling = tiling or cpu_tiling(scale)
    results = [
        np.empty(((bottom - top) * scale, (right - left) * scale, 3), np.uint8)
        for _, (left, top, right, bottom) in parts
    ]
    tiles = [
        tile
        for index, (picture, inner) in enumerate(parts)
        for tile in _tiles(index, picture, inner, tiling, network.margin, network.grid)
    ]
    where = torch.device(device)
    network = network.to(where).eval()
    with torch.inference_mode(), _arithmetic(where, precision):
        for batch in _batches(tiles, tiling.batch):
            outputs = _run_in_pieces(network, [(parts[tile.picture][0], tile.window) for tile in batch], where)
            for tile, output in zip(batch, outputs, strict=True):
                _place(output, tile, results[tile.picture], parts[tile.picture][1], scale)
    return results


def best_precision(device: torch.device) -> Precision:
    """Return "bf16" for a device that has instructions for it, which is about twice as fast, else "fp32"."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # of several ones it asks the current one
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # without instructions of its own a CPU converts to fp32 and back, which is slower than fp32
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    native = device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in checks)
    return "bf16" if native else "fp32"


@dataclass(frozen=True)
class _Tile:
    """A tile of a picture.

    Attributes:
        picture: index of the picture that it belongs to.
        kept: (left, top, right, bottom) of the pixels that it restores.
        window: the same of the network's input; its sides are multiples of the grid.
    """

    picture: int
    kept: Box
    window: Box

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height of the window."""
        return self.window[2] - self.window[0], self.window[3] - self.window[1]


def _tiles(index: int, picture: Picture, inner: Box, tiling: Tiling, margin: int, grid: int) -> Iterator[_Tile]:
    height, width = picture.shape[:2]
    left, top, right, bottom = inner
    rows = list(_intervals(top, bottom, height, tiling, margin, grid))
    columns = list(_intervals(left, right, width, tiling, margin, grid))
    for (y, y_end), (y_window, y_window_end) in rows:
        for (x, x_end), (x_window, x_window_end) in columns:
            yield _Tile(index, (x, y, x_end, y_end), (x_window, y_window, x_window_end, y_window_end))


def _intervals(
    start: int, stop: int, size: int, tiling: Tiling, margin: int, grid: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the tiles along one side of a picture, of about one length, and their windows.

    A tile begins at a multiple of `grid`, the first one at or before `start`.
    """
    first = start // grid * grid
    count = -(-(stop - first) // max(tiling.tile, grid))
    side = _up(-(-(stop - first) // count), math.lcm(tiling.step, grid))
    end_of_picture = _up(size, grid)
    for begin in range(first, stop, side):
        end = min(begin + side, stop)
        window, window_end = max(begin - margin, 0) // grid * grid, _up(min(end + margin, size), grid)
        if tiling.step > 1:
            length = side + 2 * _up(margin, grid)
            if end + margin <= size:
                window_end = window + length  # may lie beyond the picture, out of reach of the kept pixels
            else:
                window, window_end = max(end_of_picture - length, 0), end_of_picture
        yield (begin, end), (window, window_end)


def _up(number: int, unit: int) -> int:
    """Return the next multiple of `unit`."""
    return -(-number // unit) * unit


def _batches(tiles: Sequence[_Tile], pixels: int) -> Iterator[list[_Tile]]:
    """Yield groups of tiles with windows of one size, of at most that many pixels or of one tile."""
    by_size: dict[tuple[int, int], list[_Tile]] = {}
    for tile in tiles:
        by_size.setdefault(tile.size, []).append(tile)
    for (width, height), group in by_size.items():
        count = max(pixels // (width * height), 1)
        for start in range(0, len(group), count):
            yield group[start : start + count]


def _cut(picture: Picture, window: Box) -> Picture:
    """Return a window of a picture; beyond the picture, the last row and column are repeated."""
    left, top, right, bottom = window
    part = picture[top:bottom, left:right]  # a slice ends where the picture does
    return np.pad(part, ((0, bottom - top - part.shape[0]), (0, right - left - part.shape[1]), (0, 0)), mode="edge")


def _run_in_pieces(
    network: PictureNetwork, windows: Sequence[tuple[Picture, Box]], device: torch.device
) -> Iterator[Picture]:
    """Yield the output for each of the windows; where memory runs out, of fewer at a time."""
    done, count = 0, len(windows)
    while done < len(windows):
        outputs: Picture | None = None
        try:
            outputs = _run(network, windows[done : done + count], device)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if count == 1:
                left, top, right, bottom = windows[0][1]
                raise DataError(
                    f"{device} has too little free memory for {type(network).__name__} on 1 x "
                    f"{right - left} x {bottom - top} pixels; end other programs on it, or give --device cpu"
                ) from error
        if outputs is None:  # the error, and what it held, is gone
            count = -(-count // 2)
            if device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        yield from outputs
        done += count


def _run(network: PictureNetwork, windows: Sequence[tuple[Picture, Box]], device: torch.device) -> Picture:
    """Return the network's output for windows of one size, (n, h * scale, w * scale, 3) uint8."""
    stacked = np.stack([_cut(picture, window) for picture, window in windows])
    inputs = torch.from_numpy(stacked).to(device).permute(0, 3, 1, 2)  # (n, 3, h, w), channels last in memory
    output: Tensor = network(inputs.float() / 255)
    wanted = (len(windows), 3, inputs.shape[2] * network.scale, inputs.shape[3] * network.scale)
    if output.shape != wanted:
        raise DataError(f"the network's output for {tuple(inputs.shape)} is {tuple(output.shape)}, not {wanted}")
    output = output.float()
    finite = output.isfinite().flatten(1).all(dim=1).tolist()
    if not all(finite):
        left, top = windows[finite.index(False)][1][:2]
        raise DataError(
            f"{type(network).__name__} gave values that are not finite at ({left}, {top}) of the picture; "
            "its weights are damaged, or bf16 is too coarse for them"
        )
    rounded = output.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
    return np.asarray(rounded.permute(0, 2, 3, 1).cpu().numpy())


def _place(output: Picture, tile: _Tile, result: Picture, inner: Box, scale: int) -> None:
    """Copy the wanted pixels of a tile from the network's output for its window into the result."""
    x, y = max(tile.kept[0], inner[0]), max(tile.kept[1], inner[1])
    x_end, y_end = tile.kept[2:]

    def part(origin_x: int, origin_y: int) -> tuple[slice, slice]:
        rows = slice((y - origin_y) * scale, (y_end - origin_y) * scale)
        return rows, slice((x - origin_x) * scale, (x_end - origin_x) * scale)

    result[part(*inner[:2])] = output[part(*tile.window[:2])]


@contextlib.contextmanager
def _arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Set bfloat16 or true fp32 convolutions (CUDA's default rounds to 10 bits), the same in every run."""
    with contextlib.ExitStack() as stack:
        if precision == "bf16":
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
        yield
