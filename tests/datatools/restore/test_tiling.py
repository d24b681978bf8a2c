"""Tiles give the pixels of the whole, for every size, and nothing but pixels leaves a restorer."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from datatools.errors import DataError
from datatools.images import Box
from datatools.restore.base import Picture
from datatools.restore.networks import SuperResolver
from datatools.restore.tiling import GPU_TILING, Tiling, best_precision, restore, restore_parts
from tests.support.restore_samples import tiny_remover, tiny_resolver


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def lively(network: nn.Module) -> nn.Module:
    """Random weights, so large that the result shows what the network does."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=1 / parameter[0].numel() ** 0.5 if parameter.ndim == 4 else 0.1)
    return network


REMOVER = lively(tiny_remover())
RESOLVER = lively(tiny_resolver())
NETWORKS = pytest.mark.parametrize("network", [REMOVER, RESOLVER], ids=["jpeg", "sr"])


def tiles_of(side: int) -> Tiling:
    """One after the other."""
    return Tiling(tile=side, step=1, batch=0)


def far(first: Picture, second: Picture) -> int:
    return int(np.abs(first.astype(int) - second).max())


@NETWORKS
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 8), (17, 2), (33, 30)])
def test_every_size_is_kept(network: SuperResolver, size: tuple[int, int]) -> None:
    picture = noise(*size)
    result = restore(network, picture)
    assert result.shape == (size[0] * network.scale, size[1] * network.scale, 3)
    assert result.dtype == np.uint8
    assert result.std() > 1


def test_the_result_is_the_networks_own() -> None:
    picture = noise(8, 16)
    with torch.no_grad():
        output = REMOVER(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    expected = (output[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert far(restore(REMOVER, picture), expected) == 0


def test_sides_off_the_grid_repeat_the_last_row_and_column() -> None:
    picture = noise(6, 9)
    extended = np.pad(picture, ((0, 2), (0, 7), (0, 0)), mode="edge")
    assert far(restore(REMOVER, picture), restore(REMOVER, extended)[:6, :9]) == 0


@NETWORKS
@pytest.mark.parametrize("tile", [5, 13, 32, 60])
def test_tiles_equal_the_whole(network: SuperResolver, tile: int) -> None:
    picture = noise(70, 61, seed=tile)
    whole = restore(network, picture, tiling=tiles_of(1000))
    assert far(restore(network, picture, tiling=tiles_of(tile)), whole) <= 1


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, Box]:
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return height, width, (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))


@NETWORKS
@settings(max_examples=25, deadline=None)
@given(case=boxes(), tile=st.integers(9, 80), step=st.sampled_from([2, 8, 12, 40]))
@example(case=(40, 1, (0, 0, 1, 40)), tile=9, step=2)
def test_a_part_equals_that_part_of_the_whole(
    network: SuperResolver, case: tuple[int, int, Box], tile: int, step: int
) -> None:
    height, width, box = case
    picture, scale = noise(height, width), network.scale
    left, top, right, bottom = (side * scale for side in box)
    wanted = restore(network, picture, tiling=tiles_of(1000))[top:bottom, left:right]
    assert far(restore(network, picture, inner=box, tiling=tiles_of(tile)), wanted) <= 1
    together = Tiling(tile=tile, step=step, batch=3000)
    assert far(restore(network, picture, inner=box, tiling=together), wanted) <= 1


@NETWORKS
def test_bf16_is_near(network: SuperResolver) -> None:
    picture = noise(24, 40)
    coarse, fine = restore(network, picture, precision="bf16"), restore(network, picture)
    assert 0 < far(coarse, fine) <= 12
    assert np.abs(coarse.astype(int) - fine).mean() < 2


def test_the_network_sees_no_more_than_tile_and_margins() -> None:
    seen: list[tuple[int, int]] = []

    class Watching(nn.Module):
        scale, margin, grid = 2, 5, 4

        def forward(self, pictures: Tensor) -> Tensor:
            seen.append((pictures.shape[2], pictures.shape[3]))
            return pictures.repeat_interleave(2, 2).repeat_interleave(2, 3)

    picture = noise(100, 150)
    assert np.array_equal(restore(Watching(), picture, tiling=tiles_of(32)), picture.repeat(2, 0).repeat(2, 1))
    assert len(seen) == 4 * 5
    # kept at most 32, on either side the margin of 5 up to the next multiple of 4
    assert max(max(size) for size in seen) == 32 + 2 * 8
    assert all(side % 4 == 0 for size in seen for side in size)


class Batches(nn.Module):
    """Enlarges by repeating, and keeps the shapes of what it saw."""

    scale, margin, grid = 2, 5, 4

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen.append(tuple(pictures.shape))
        return pictures.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_tiles_of_several_pictures_are_batches_of_few_sizes() -> None:
    network, tiling = Batches(), Tiling(tile=32, step=16, batch=6 * 48**2)
    # twice the inner part of a large picture, of another size each time, and all of a small one
    parts: list[tuple[Picture, Box]] = [
        (noise(100, 150, seed=1), (10, 9, 71, 68)),
        (noise(90, 95, seed=2), (8, 11, 62, 70)),
        (noise(20, 90, seed=3), (0, 0, 90, 20)),
    ]
    for (picture, (left, top, right, bottom)), result in zip(
        parts, restore_parts(network, parts, tiling=tiling), strict=True
    ):
        assert np.array_equal(result, picture[top:bottom, left:right].repeat(2, 0).repeat(2, 1))
    # a side of 32 and margins of 5 up to the next multiple of 4: windows of 48; the small picture has 20 rows only
    assert network.seen == [(6, 3, 48, 48), (2, 3, 48, 48), (3, 3, 20, 48)]


@NETWORKS
def test_pictures_together_equal_single_ones(network: SuperResolver) -> None:
    parts: list[tuple[Picture, Box]] = [
        (noise(height, width, seed=width), (left, top, width - left, height - top))
        for height, width, left, top in [(70, 61, 7, 9), (70, 61, 0, 0), (5, 90, 3, 1), (1, 1, 0, 0), (64, 64, 20, 2)]
    ]
    singles = [restore(network, picture, inner=inner) for picture, inner in parts]
    for tiling in (GPU_TILING, Tiling(tile=24, step=8, batch=2**14), Tiling(tile=24, step=8, batch=1)):
        for single, result in zip(singles, restore_parts(network, parts, tiling=tiling), strict=True):
            assert far(single, result) <= 1


def test_no_pictures_give_none() -> None:
    assert restore_parts(REMOVER, [], tiling=GPU_TILING) == []


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")]
)
def test_a_batch_that_does_not_fit_is_halved(error: Exception) -> None:
    class Small(Batches):
        def forward(self, pictures: Tensor) -> Tensor:
            if len(pictures) > 2:
                self.seen.append(tuple(pictures.shape))
                raise error
            return super().forward(pictures)

    parts: list[tuple[Picture, Box]] = [(noise(40, 40, seed), (0, 0, 40, 40)) for seed in range(7)]
    network, tiling = Small(), Tiling(tile=40, step=8, batch=2**16)
    expected = restore_parts(Batches(), parts, tiling=tiling)
    for single, result in zip(expected, restore_parts(network, parts, tiling=tiling), strict=True):
        assert np.array_equal(single, result)
    assert [shape[0] for shape in network.seen] == [7, 4, 2, 2, 2, 1]


def test_other_errors_of_a_batch_are_its_own() -> None:
    class Broken(Batches):
        def forward(self, pictures: Tensor) -> Tensor:
            raise RuntimeError(f"CUDA error: an illegal memory access at {pictures.shape}")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        restore(Broken(), noise(6, 14))


def test_the_device_itself_is_asked_for_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    current = [torch.device("cuda", 0)]

    @contextmanager
    def of(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", of)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: current[-1].index == 1)
    assert [best_precision(torch.device("cuda", index)) for index in (0, 1)] == ["fp32", "bf16"]


def test_a_full_device_is_told_in_one_line() -> None:
    class Full(Batches):
        def forward(self, pictures: Tensor) -> Tensor:
            raise torch.OutOfMemoryError(f"tried to allocate\n{pictures.shape}")

    with pytest.raises(DataError, match=r"^cpu has too little free memory for Full on 1 x 16 x 8 pixels[^\n]*$"):
        restore(Full(), noise(6, 14))


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 3), np.int8), "int8"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        ([[[0, 0, 0]]], "list"),
    ],
)
def test_what_is_no_picture_is_refused(picture: Picture, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        restore(REMOVER, picture)


@pytest.mark.parametrize("inner", [(0, 0, 9, 8), (-1, 0, 4, 4), (3, 3, 3, 4), (5, 0, 4, 8)])
def test_a_part_outside_is_refused(inner: Box) -> None:
    with pytest.raises(DataError, match="8 x 8 pixels"):
        restore(REMOVER, noise(8, 8), inner=inner)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(DataError, match="fp16"):
        restore(REMOVER, noise(8, 8), precision="fp16")  # type: ignore[arg-type]


class Spoilt(nn.Module):
    """Gives one bad value, at a corner that is cut away or kept."""

    scale, margin, grid = 1, 0, 1

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, pictures: Tensor) -> Tensor:
        pictures = pictures.clone()
        pictures[0, 1, -1, -1] = self.value
        return pictures


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nothing_that_is_not_finite_leaves(value: float) -> None:
    with pytest.raises(DataError, match="Spoilt gave values that are not finite"):
        restore(Spoilt(value), noise(9, 9))


def test_a_bad_picture_among_good_ones_is_found() -> None:
    class Last(Spoilt):
        def forward(self, pictures: Tensor) -> Tensor:
            pictures = pictures.clone()
            pictures[-1, 1, -1, -1] = self.value
            return pictures

    parts: list[tuple[Picture, Box]] = [(noise(40, 40), (0, 0, 40, 20)), (noise(40, 40), (20, 20, 40, 40))]
    with pytest.raises(DataError, match=r"not finite at \(20, 20\)"):
        restore_parts(Last(float("nan")), parts, tiling=Tiling(tile=20, step=4, batch=10000))


def test_values_beyond_white_and_black_are_clipped() -> None:
    picture = np.full((2, 2, 3), 128, np.uint8)
    assert restore(Spoilt(7.0), picture)[1, 1].tolist() == [128, 255, 128]
    assert restore(Spoilt(-7.0), picture)[1, 1].tolist() == [128, 0, 128]


def test_a_network_of_another_size_is_refused() -> None:
    class Wrong(nn.Identity):
        scale, margin, grid = 2, 0, 1

    with pytest.raises(DataError, match=r"\(1, 3, 8, 8\)"):
        restore(Wrong(), noise(4, 4))
