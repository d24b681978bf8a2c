"""How much the trick for convolutions with resampling saves, layer by layer (docs/decisions/convolutions.md).

    python benchmarks/convolution.py [--threads 2]

A layer of the discriminator at 64 x 64 (64 maps to 128) or of the generator (128 to 64), minibatch 16. Each way of
computing it is run forward, backward to its input with that pass recorded, and backward through both, which is what
the gradient penalty asks. The ways take turns in one process; the ratios are of their fastest runs.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pggan.model.convolution import box, convolution

REPEATS = 6
Layer = Callable[[Tensor, Tensor], Tensor]


def padded_sum(weight: Tensor) -> Tensor:
    """The 4 x 4 kernel that a 3 x 3 one and a 2 x 2 box make together."""
    padded = functional.pad(weight, (1, 1, 1, 1))
    return padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]


def transposed(weight: Tensor) -> Tensor:
    return weight.flip(2, 3).transpose(0, 1)


def conv(x: Tensor, weight: Tensor, **geometry: int | bool) -> Tensor:
    """Of `pggan.model.convolution`, so that only the resampling differs."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    return convolution(x, weight, None, **geometry)  # type: ignore[arg-type]


DOWN: dict[str, Layer] = {
    "plain with PyTorch's gradients": lambda x, w: functional.avg_pool2d(functional.conv2d(x, w, padding=1), 2),
    "plain": lambda x, w: functional.avg_pool2d(conv(x, w, padding=1), 2),
    "4 x 4 kernel": lambda x, w: conv(x, padded_sum(w) / 4, stride=2, padding=1),
    "box and stride": lambda x, w: conv(box(x, padding=1), w, stride=2),
}
UP: dict[str, Layer] = {
    "plain with PyTorch's gradients": lambda x, w: functional.conv2d(
        functional.interpolate(x, scale_factor=2), w, padding=1
    ),
    "plain": lambda x, w: conv(functional.interpolate(x, scale_factor=2), w, padding=1),
    "4 x 4 kernel": lambda x, w: conv(x, padded_sum(transposed(w)), stride=2, padding=1, transposed=True),
    "box and stride": lambda x, w: box(conv(x, 4 * transposed(w), stride=2, transposed=True), padding=0),
}


def seconds(layer: Layer, x: Tensor, weight: Tensor) -> float:
    start = time.perf_counter()
    y = layer(x, weight)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    torch.autograd.grad(gradient.square().sum(), (x, weight))
    return time.perf_counter() - start


def check(ways: dict[str, Layer]) -> None:
    """All ways compute the same."""
    x, weight = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    first, *others = (layer(x, weight) for layer in ways.values())
    for other in others:
        torch.testing.assert_close(first, other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, ways, channels, outputs, size in (("down", DOWN, 64, 128, 64), ("up", UP, 128, 64, 32)):
        check(ways)
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(16, channels, size, size).to(dtype, memory_format=torch.channels_last).requires_grad_()
            weight = (torch.randn(outputs, channels, 3, 3) / 24).to(dtype).requires_grad_()
            times = dict.fromkeys(ways, float("inf"))
            for _ in range(REPEATS):
                times = {way: min(times[way], seconds(layer, x, weight)) for way, layer in ways.items()}
            ours = times["box and stride"]
            for way, taken in list(times.items())[:-1]:
                kind = f"{name}_{way.split()[0]}{'_own' if 'gradients' in way else ''}_{str(dtype)[6:]}"
                print(f"ratio convolution_{kind} {taken / ours:.2f}  {way}, {taken * 1e3:.0f} ms over {ours * 1e3:.0f}")


if __name__ == "__main__":
    main()
