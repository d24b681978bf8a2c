"""StyleGAN2's configuration E as one would write it down: a kernel for each sample, filters written out, nothing fused.

An independent formulation for tests and benchmarks. It shares the parameters (by name) of pggan.model.style and
pggan.model.style_discriminator and nothing else.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

Parameters = dict[str, Tensor]


def scaled(p: Parameters, name: str) -> Tensor:
    weight = p[f"{name}.weight"]
    return weight / math.sqrt(weight[0].numel())


def act(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2) * math.sqrt(2)


def fir(x: Tensor, before: int, after: int, gain: float = 1.0) -> Tensor:
    """Filter with [1 3 3 1] / 8 on both axes, zeros around."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    kernel = (gain * torch.outer(line, line)).expand(x.shape[1], 1, 4, 4)
    return functional.conv2d(functional.pad(x, (before, after, before, after)), kernel, groups=x.shape[1])


def between(x: Tensor) -> Tensor:
    """Zeros after every pixel and row."""
    n, c, h, w = x.shape
    return functional.pad(x.view(n, c, h, 1, w, 1), (0, 1, 0, 0, 0, 1)).view(n, c, 2 * h, 2 * w)


def up(x: Tensor) -> Tensor:
    return fir(between(x), 2, 1, 4.0)


def down(x: Tensor) -> Tensor:
    return fir(x, 1, 1)[:, :, ::2, ::2]


def modulated(p: Parameters, name: str, x: Tensor, w: Tensor, padding: int, demodulate: bool = True) -> Tensor:
    """Convolution with a kernel for each sample."""
    n, _, height, width = x.shape
    style = w @ scaled(p, f"{name}.affine").T + p[f"{name}.affine.bias"]
    weight = scaled(p, name)[None] * style[:, None, :, None, None]  # (N, O, I, k, k)
    if demodulate:
        weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    y = functional.conv2d(x.reshape(1, -1, height, width), weight.flatten(0, 1), padding=padding, groups=n)
    return y.view(n, -1, *y.shape[2:])


def styled(p: Parameters, name: str, x: Tensor, w: Tensor, noise: Tensor, padding: int = 1) -> Tensor:
    x = modulated(p, name, x, w, padding) + p[f"{name}.noise_strength"] * noise
    return act(x + p[f"{name}.bias"].view(1, -1, 1, 1))


def rgb(p: Parameters, name: str, x: Tensor, w: Tensor) -> Tensor:
    return modulated(p, name, x, w, 0, demodulate=False) + p[f"{name}.bias"].view(1, -1, 1, 1)


def mapped(p: Parameters, z: Tensor, layers: int = 8) -> Tensor:
    """(N, latents) -> w (N, latents)."""
    w = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
    for i in range(layers):
        w = act(w @ (0.01 * scaled(p, f"mapping.{i}")).T + 0.01 * p[f"mapping.{i}.bias"])
    return w


def generate(p: Parameters, ws: Tensor, noise: Sequence[Tensor]) -> Tensor:
    """Ws (N, places, W) and a noise map (N or 1, 1, r, r) for each layer -> (N, 3, R, R)."""
    x = p["levels.4.const"].expand(len(ws), -1, -1, -1)
    x = styled(p, "levels.4.conv1", x, ws[:, 0], noise[0])
    image = rgb(p, "levels.4.to_rgb", x, ws[:, 1])
    for i in range(1, len(noise), 2):
        name = f"levels.{noise[i].shape[-1]}"
        x = styled(p, f"{name}.conv0", fir(between(x), 3, 2, 4.0), ws[:, i], noise[i], padding=0)
        x = styled(p, f"{name}.conv1", x, ws[:, i + 1], noise[i + 1])
        image = up(image) + rgb(p, f"{name}.to_rgb", x, ws[:, i + 2])
    return image


def judge(p: Parameters, images: Tensor, group: int = 4) -> Tensor:
    """(N, 3, r, r) -> scores (N,)."""

    def layer(name: str, x: Tensor) -> Tensor:
        weight = scaled(p, name)
        return act(functional.conv2d(x, weight, p[f"{name}.bias"], padding=weight.shape[-1] // 2))

    size = images.shape[-1]
    x = layer(f"levels.{size}.from_rgb", images)
    while size > 4:
        name = f"levels.{size}"
        y = functional.conv2d(fir(layer(f"{name}.conv0", x), 2, 2), scaled(p, f"{name}.conv1"), stride=2)
        y = act(y + p[f"{name}.conv1.bias"].view(1, -1, 1, 1))
        x = (functional.conv2d(down(x), scaled(p, f"{name}.skip")) + y) / math.sqrt(2)
        size //= 2
    n, c, h, w = x.shape
    y = x.view(min(group, n), -1, c, h, w)
    y = ((y - y.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    x = torch.cat([x, y.repeat(min(group, n)).view(n, 1, 1, 1).expand(n, 1, h, w)], dim=1)
    x = layer("levels.4.conv", x).flatten(1)
    x = act(x @ scaled(p, "levels.4.dense").T + p["levels.4.dense.bias"])
    return (x @ scaled(p, "levels.4.out").T + p["levels.4.out.bias"])[:, 0]


def r1(p: Parameters, reals: Tensor) -> Tensor:
    """Squared norms of the scores' gradients (N,)."""
    reals = reals.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(judge(p, reals).sum(), reals, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, direction: Tensor) -> Tensor:
    """Lengths (N,) for a direction (N, 3, r, r)."""
    (gradient,) = torch.autograd.grad((images * direction).sum(), ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()
