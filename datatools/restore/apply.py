"""Runs a restoration network over a picture of any size, in tiles that give the same pixels as the whole would.

Seams are exact rather than blended: every tile sees `margin` pixels more than it keeps, and begins at a multiple of
`grid`. The zeros with which convolutions pad act at the true edges of the picture alone, as in training.
"""

import contextlib
from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datatools.errors import DataError
from datatools.images import Box

Picture = NDArray[np.uint8]
Precision = Literal["fp32", "bf16"]

TILE = 256
"""Largest side of what a tile keeps, in pixels of the input. More is hardly faster, and takes memory by its square."""


class PictureNetwork(Protocol):
    """What a network says about itself beside being a `torch.nn.Module`.

    It maps (n, 3, h, w) floats, 0..1, h and w multiples of `grid`, to (n, 3, h * scale, w * scale) floats, which may
    leave 0..1. An output pixel depends on no input pixel further than `margin` away.
    """

    @property
    def scale(self) -> int: ...

    @property
    def margin(self) -> int: ...

    @property
    def grid(self) -> int: ...


def restore(
    network: nn.Module,
    picture: Picture,
    *,
    inner: Box | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    tile: int = TILE,
) -> Picture:
    """Restore a picture, or the part of it that is wanted.

    Args:
        network: as `PictureNetwork` describes; moved to `device` and into evaluation mode.
        picture: (h, w, 3) uint8 RGB, from 1 x 1 up. Sides that are no multiples of the network's grid are extended by
            their last row or column for the network, and cut again.
        inner: (left, top, right, bottom) of the wanted part in pixels of `picture`; None: all of it. The network sees
            as much around it as it needs, where the picture has it.
        precision: "bf16" computes the convolutions in bfloat16. Tiles equal the whole within 1 of 255 with "fp32".
        tile: largest side of a tile in pixels of `picture`, without its margin.

    Returns:
        ((bottom - top) * scale, (right - left) * scale, 3) uint8 RGB.

    Raises:
        DataError: what is no such picture, a part outside of it, or a network whose values are not finite.
    """
    check_picture(picture)
    height, width = picture.shape[:2]
    left, top, right, bottom = inner or (0, 0, width, height)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise DataError(f"the part {inner} does not lie within the picture of {width} x {height} pixels")
    if precision not in ("fp32", "bf16"):
        raise DataError(f"precision {precision!r} is unknown; known: fp32, bf16")
    scale, margin, grid = network_shape(network)
    result = np.empty(((bottom - top) * scale, (right - left) * scale, 3), np.uint8)
    network = network.to(device).eval()
    with torch.inference_mode(), _arithmetic(torch.device(device), precision):
        for y, y_end in _tiles(top, bottom, tile, grid):
            for x, x_end in _tiles(left, right, tile, grid):
                window = _window(picture, (x, y, x_end, y_end), margin, grid)
                output = _run(network, picture, window, torch.device(device))
                x0, y0 = max(x, left), max(y, top)
                part = output[
                    (y0 - window[1]) * scale : (y_end - window[1]) * scale,
                    (x0 - window[0]) * scale : (x_end - window[0]) * scale,
                ]
                result[(y0 - top) * scale : (y_end - top) * scale, (x0 - left) * scale : (x_end - left) * scale] = (
                    part.cpu().numpy()
                )
    return result


def best_precision(device: torch.device) -> Precision:
    """ "bf16" where the device computes with it, which is about twice as fast as "fp32"; "fp32" elsewhere."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # without instructions of its own a CPU converts to fp32 and back, which is slower than fp32
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    native = device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in checks)
    return "bf16" if native else "fp32"


def check_picture(picture: Picture) -> None:
    """Raises DataError for anything but an (h, w, 3) uint8 array with at least one pixel."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        kind = picture.dtype if isinstance(picture, np.ndarray) else type(picture).__name__
        raise DataError(f"a picture to restore has to be an array of uint8, 0..255, not {kind}")
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise DataError(f"a picture to restore has the shape (height, width, 3), not {picture.shape}")


def network_shape(network: nn.Module) -> tuple[int, int, int]:
    """(scale, margin, grid) of a network, see `PictureNetwork`."""
    return tuple(int(getattr(network, name)) for name in ("scale", "margin", "grid"))  # type: ignore[return-value]


def _tiles(start: int, stop: int, tile: int, grid: int) -> Iterator[tuple[int, int]]:
    """Begin and end of tiles of about one size; each begins at a multiple of `grid`, the first at or before `start`."""
    first = start // grid * grid
    count = -(-(stop - first) // max(tile, grid))
    side = -(-(stop - first) // count)
    side = -(-side // grid) * grid
    for begin in range(first, stop, side):
        yield begin, min(begin + side, stop)


def _window(picture: Picture, kept: Box, margin: int, grid: int) -> Box:
    """What the network sees for a tile: sides at multiples of `grid`, within the picture extended to such multiples."""
    height, width = picture.shape[:2]
    left, top = (max(low - margin, 0) // grid * grid for low in kept[:2])
    right, bottom = (
        -(-min(high + margin, size) // grid) * grid for high, size in ((kept[2], width), (kept[3], height))
    )
    return left, top, right, bottom


def _run(network: nn.Module, picture: Picture, window: Box, device: torch.device) -> Tensor:
    """(h * scale, w * scale, 3) uint8: the network's output for a window."""
    left, top, right, bottom = window
    part = picture[top:bottom, left:right]  # a slice ends where the picture does
    part = np.pad(part, ((0, bottom - top - part.shape[0]), (0, right - left - part.shape[1]), (0, 0)), mode="edge")
    inputs = torch.from_numpy(part).to(device).permute(2, 0, 1)[None]  # (1, 3, h, w), channels last in memory
    output: Tensor = network(inputs.float() / 255)
    scale = network_shape(network)[0]
    wanted = (1, 3, (bottom - top) * scale, (right - left) * scale)
    if output.shape != wanted:
        raise DataError(f"the network made {tuple(output.shape)} of {tuple(inputs.shape)}, not {wanted}")
    output = output[0].float()
    if not bool(torch.isfinite(output).all()):
        raise DataError(
            f"{type(network).__name__} gave values that are not finite at ({left}, {top}) of the picture; "
            "its weights are damaged, or bf16 is too coarse for them"
        )
    return output.mul_(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)


@contextlib.contextmanager
def _arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """bfloat16 convolutions, or true fp32 ones: CUDA would else round their inputs to 10 bits."""
    with contextlib.ExitStack() as stack:
        if precision == "bf16":
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
        elif device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
        yield
