"""The progressive GAN as one would write it down: NCHW, resizing and convolution apart, one pass for every batch.

An independent formulation for tests and benchmarks. It shares the parameters (by name) of pggan.model.networks, in the
paper's final settings (equalized rate, pixel norm, stddev, no labels), and nothing else.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

Parameters = dict[str, Tensor]


def parameters_of(network: nn.Module) -> Parameters:
    """Own copies of a network's parameters, in the usual memory format."""
    return {name: value.detach().contiguous().clone().requires_grad_() for name, value in network.named_parameters()}


def scaled(p: Parameters, name: str, gain: float = math.sqrt(2)) -> Tensor:
    weight = p[f"levels.{name}.weight"]
    return weight * (gain / math.sqrt(weight[0].numel()))


def conv(p: Parameters, name: str, x: Tensor, gain: float = math.sqrt(2)) -> Tensor:
    weight = scaled(p, name, gain)
    return functional.conv2d(x, weight, p[f"levels.{name}.bias"], padding=weight.shape[-1] // 2)


def act(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


def norm(x: Tensor) -> Tensor:
    return x / torch.sqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def up(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def down(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 2)


def generate(p: Parameters, latents: Tensor, resolution: int, alpha: float = 1.0) -> Tensor:
    """(N, latents) -> (N, 3, resolution, resolution)."""
    x = norm(latents) @ scaled(p, "4.dense", math.sqrt(2) / 4).T
    x = x.view(len(x), -1, 4, 4) + p["levels.4.dense.bias"].view(1, -1, 1, 1)
    x = norm(act(conv(p, "4.conv", norm(act(x)))))
    below = x
    size = 4
    while size < resolution:
        size, below = size * 2, x
        x = norm(act(conv(p, f"{size}.conv0", up(x))))
        x = norm(act(conv(p, f"{size}.conv1", x)))
    images = conv(p, f"{size}.to_rgb", x, 1.0)
    if alpha < 1:
        images = alpha * images + (1 - alpha) * up(conv(p, f"{size // 2}.to_rgb", below, 1.0))
    return images


def judge(p: Parameters, images: Tensor, alpha: float = 1.0, group: int = 4) -> Tensor:
    """(N, 3, r, r) -> scores (N,)."""
    size = first = images.shape[-1]
    x = act(conv(p, f"{size}.from_rgb", images))
    while size > 4:
        x = act(conv(p, f"{size}.conv0", x))
        weight, bias = scaled(p, f"{size}.conv1"), p[f"levels.{size}.conv1.bias"]
        x = act(down(functional.conv2d(x, weight, padding=1)) + bias.view(1, -1, 1, 1))
        size //= 2
        if size * 2 == first and alpha < 1:
            x = alpha * x + (1 - alpha) * act(conv(p, f"{size}.from_rgb", down(images)))
    n, c, h, w = x.shape
    group = min(group, n)
    y = x.view(group, n // group, c, h, w)
    y = ((y - y.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    x = torch.cat([x, y.repeat(group).view(n, 1, 1, 1).expand(n, 1, h, w)], dim=1)
    x = act(conv(p, "4.conv", x)).flatten(1)
    x = act(x @ scaled(p, "4.dense0").T + p["levels.4.dense0.bias"])
    return (x @ scaled(p, "4.dense1", 1.0).T + p["levels.4.dense1.bias"])[:, 0]


def d_loss(
    p: Parameters, reals: Tensor, fakes: Tensor, mixing: Tensor, scale: float, alpha: float = 1.0, group: int = 4
) -> Tensor:
    """WGAN-GP with drift; `scale` goes from the native gradient norm to the one of the penalty."""
    real, fake = judge(p, reals, alpha, group), judge(p, fakes, alpha, group)
    mixed = (reals + (fakes - reals) * mixing.view(-1, 1, 1, 1)).requires_grad_()
    (gradient,) = torch.autograd.grad(judge(p, mixed, alpha, group).sum(), mixed, create_graph=True)
    norms = gradient.square().sum(dim=(1, 2, 3)).sqrt() * scale
    return fake.mean() - real.mean() + 10 * (norms - 1).square().mean() + 0.001 * real.square().mean()


def g_loss(pg: Parameters, pd: Parameters, latents: Tensor, resolution: int, alpha: float = 1.0) -> Tensor:
    """WGAN: minus the mean score of fakes."""
    return -judge(pd, generate(pg, latents, resolution, alpha), alpha).mean()
