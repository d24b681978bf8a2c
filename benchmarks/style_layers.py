"""Which way of computing the layers of StyleGAN2 is the fastest (docs/decisions/style-layers.md).

    python benchmarks/style_layers.py [--threads 2]

Layers of configuration E at 64 and 16 pixels. Each way runs forward, backward to its input with that pass recorded,
and backward through both, which is what path length and R1 ask. The ways take turns in one process; the ratios are of
their fastest runs, by the time that the process used the CPU, since other load on the machine disturbs that least.
"""

import math
import time
from collections.abc import Callable

import click
import torch
from torch import Tensor
from torch.nn import functional

from pggan.model.convolution import convolution, without_weight_gradients
from pggan.model.filters import RESAMPLE, enlarge, smooth

Way = Callable[..., Tensor]
SHAPES = {"64": (2, 64, 64), "16": (8, 128, 16)}
"""Side of the images -> samples, feature maps, side."""


def last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """(O, I, 3, 3), (N, I) -> (N, O)."""
    return torch.rsqrt(style.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8)


def scaled_activations(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    factors = demodulation(weight, style)[:, :, None, None].to(x.dtype)
    return convolution(x * style[:, :, None, None].to(x.dtype), last(weight.to(x.dtype)), None, padding=1) * factors


def kernels(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    """(N, O, I, 3, 3): a kernel for each sample."""
    return (weight[None] * style[:, None, :, None, None] * demodulation(weight, style)[:, :, None, None, None]).to(
        x.dtype
    )


def grouped(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    y = functional.conv2d(
        x.reshape(1, -1, *x.shape[2:]), kernels(x, weight, style).flatten(0, 1), padding=1, groups=len(x)
    )
    return y.view(len(x), -1, *y.shape[2:])


def one_by_one(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    pairs = zip(x.split(1), kernels(x, weight, style), strict=True)
    return torch.cat([convolution(sample, last(kernel), None, padding=1) for sample, kernel in pairs])


def taps(channels: int, dtype: torch.dtype) -> Tensor:
    line = torch.tensor(RESAMPLE, dtype=dtype) / 8
    return torch.outer(line, line).expand(channels, 1, 4, 4).contiguous()


def written_out(x: Tensor) -> Tensor:
    return functional.conv2d(x, taps(x.shape[1], x.dtype), padding=2, groups=x.shape[1])


def slices(x: Tensor) -> Tensor:
    for axis in (2, 3):
        size = x.shape[axis] + 1
        x = functional.pad(x, (0, 0, 2, 2) if axis == 2 else (2, 2))
        a, b, c, d = (x.narrow(axis, start, size) for start in range(4))
        x = (a + d + 3 * (b + c)) / 8
    return x


def enlarged_with_zeros(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    zeros = functional.pad(x.view(n, c, h, 1, w, 1), (0, 1, 0, 0, 0, 1)).view(n, c, 2 * h, 2 * w)
    return functional.conv2d(functional.pad(zeros, (2, 1, 2, 1)), 4 * taps(c, x.dtype), groups=c)


def transposed(x: Tensor) -> Tensor:
    return functional.conv_transpose2d(x, 4 * taps(x.shape[1], x.dtype), stride=2, padding=1, groups=x.shape[1])


def bilinear(x: Tensor) -> Tensor:
    """Bilinear interpolation has these taps; zeros outside come from a border that is cut off again."""
    padded = functional.interpolate(functional.pad(x, (1, 1, 1, 1)), scale_factor=2.0, mode="bilinear")
    return padded[..., 2:-2, 2:-2]


def up_apart(x: Tensor, weight: Tensor) -> Tensor:
    """Enlarge, then convolve; the border differs from that of the fused way."""
    return convolution(enlarge(x), last(weight), None, padding=1)


def up_fused(x: Tensor, weight: Tensor) -> Tensor:
    turned = last(4 * weight.flip(2, 3).transpose(0, 1))
    return smooth(convolution(x, turned, None, stride=2, transposed=True), RESAMPLE, 1)


def down_apart(x: Tensor, weight: Tensor) -> Tensor:
    return convolution(smooth(x, RESAMPLE, 2), last(weight), None)[:, :, ::2, ::2]


def down_fused(x: Tensor, weight: Tensor) -> Tensor:
    return convolution(smooth(x, RESAMPLE, 2), last(weight), None, stride=2)


GROUPS: dict[str, dict[str, Way]] = {
    "modulation": {"scaled": scaled_activations, "grouped": grouped, "one_by_one": one_by_one},
    "filter": {"separable": lambda x: smooth(x, RESAMPLE, 2), "depthwise_4x4": written_out, "slices": slices},
    "enlarging": {
        "repeat_and_filter": enlarge,
        "zeros_and_4x4": enlarged_with_zeros,
        "transposed": transposed,
        "bilinear": bilinear,
    },
    "up_convolution": {"fused": up_fused, "apart": up_apart},
    "down_convolution": {"fused": down_fused, "apart": down_apart},
}
"""What is computed -> ways, ours first."""


def seconds(way: Way, x: Tensor, others: tuple[Tensor, ...]) -> float:
    start = time.process_time()
    y = way(x, *others)
    with without_weight_gradients():
        (gradient,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    torch.autograd.grad(gradient.float().square().sum(), (x, *others), allow_unused=True)
    return time.process_time() - start


@click.command()
@click.option("--threads", default=2, show_default=True, help="Threads of PyTorch.")
@click.option("--repeats", default=30, show_default=True, help="Runs of every way.")
def main(threads: int, repeats: int) -> None:
    """Prints `ratio style_<what>_<way>_<side>_<fp32|bf16>`: that way's seconds over ours."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    for (side, (count, maps, size)), dtype in [(s, d) for s in SHAPES.items() for d in (torch.float32, torch.bfloat16)]:
        name = {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
        weight = (torch.randn(maps, maps, 3, 3) / math.sqrt(9 * maps)).requires_grad_()
        style = torch.rand(count, maps).add_(0.5).requires_grad_()
        for what, ways in GROUPS.items():
            half = size // 2 if what in ("enlarging", "up_convolution") else size
            x = last(torch.randn(count, maps, half, half).to(dtype)).requires_grad_()
            in_type = weight.detach().to(dtype).requires_grad_()
            others = {"modulation": (weight, style), "filter": (), "enlarging": ()}.get(what, (in_type,))
            times = dict.fromkeys(ways, math.inf)
            for _ in range(repeats):
                for way, function in ways.items():
                    times[way] = min(times[way], seconds(function, x, others))
            (first, ours), *rest = times.items()
            print(f"# {what} at {side}, {name}: {first} {1000 * ours:.2f} ms")
            for way, value in rest:
                print(f"ratio style_{what}_{way}_{side}_{name} {value / ours:.2f}  seconds over {first}", flush=True)


if __name__ == "__main__":
    main()
