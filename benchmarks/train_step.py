"""How much faster a training step is than the same step in its plain formulation.

    python benchmarks/train_step.py [--resolution 64] [--seconds 20]

A step is one discriminator and one generator minibatch, both Adam steps and the generator's EMA. The plain
formulation (tests/support/plain_pggan.py) is float32, NCHW, with resizing and convolutions apart; it too freezes the
network that does not train. All formulations run in turn in one process; the ratios are of their fastest steps, which
other load on the machine disturbs least, with --median of the medians.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import Row, show
from pggan.config.settings import LossConfig, NetworkConfig
from pggan.model.losses import d_step_terms, g_step_terms
from pggan.model.networks import Discriminator, Generator, require_gradients, update_ema
from tests.support import plain_pggan as plain

RESOLUTIONS = (8, 16, 32, 64, 128)
ADAM = {"lr": 1e-3, "betas": (0.0, 0.99), "eps": 1e-8}
LOSS = LossConfig(gradient_norm="native")
Step = Callable[[], Tensor]


def minibatch_of(resolution: int) -> int:
    return 8 if resolution >= 128 else 16


def plain_step(config: NetworkConfig, reals: Tensor) -> Step:
    """The step of tests/support/plain_pggan.py, in float32."""
    resolution, count = config.resolution, len(reals)
    pg, pd = plain.parameters_of(Generator(config)), plain.parameters_of(Discriminator(config))
    ema = {name: value.detach().clone() for name, value in pg.items()}
    g_adam = torch.optim.Adam(pg.values(), **ADAM)
    d_adam = torch.optim.Adam(pd.values(), **ADAM)

    def step() -> Tensor:
        with torch.no_grad():
            fakes = plain.generate(pg, torch.randn(count, config.latent_size), resolution)
        for value in pd.values():
            value.requires_grad_(True)
        d_adam.zero_grad(set_to_none=True)
        loss = plain.d_loss(pd, reals, fakes, torch.rand(count), 1.0)
        loss.backward()
        d_adam.step()
        with torch.no_grad():
            for name, value in ema.items():
                value.lerp_(pg[name], 0.001)
        for value in pd.values():
            value.requires_grad_(False)
        g_adam.zero_grad(set_to_none=True)
        plain.g_loss(pg, pd, torch.randn(count, config.latent_size), resolution).backward()
        g_adam.step()
        return loss.detach()

    return step


def our_step(config: NetworkConfig, reals: Tensor, dtype: torch.dtype | None) -> Step:
    """The step of pggan.model.losses, in float32 or with autocast to `dtype`."""
    count = len(reals)
    generator, discriminator, ema = Generator(config), Discriminator(config), Generator(config)
    g_adam = torch.optim.Adam(generator.parameters(), **ADAM, fused=True)
    d_adam = torch.optim.Adam(discriminator.parameters(), **ADAM, fused=True)

    def autocast() -> torch.autocast | nullcontext[None]:
        return torch.autocast("cpu", dtype) if dtype else nullcontext()

    def step() -> Tensor:
        require_gradients(discriminator, 0.0)
        require_gradients(generator, None)
        d_adam.zero_grad(set_to_none=True)
        with autocast():
            with torch.no_grad():
                fakes = generator(torch.randn(count, config.latent_size))
            terms = d_step_terms(discriminator, reals, fakes, torch.rand(count), config=LOSS, lod=0.0)
        terms.loss.backward()
        d_adam.step()
        update_ema(ema, generator, 0.999)
        require_gradients(generator, 0.0)
        require_gradients(discriminator, None)
        g_adam.zero_grad(set_to_none=True)
        with autocast():
            latents = torch.randn(count, config.latent_size)
            g_step_terms(generator, discriminator, latents, config=LOSS, lod=0.0).loss.backward()
        g_adam.step()
        return terms.statistics["d_loss"]

    return step


def times_of(steps: dict[str, Step], seconds: float) -> dict[str, list[float]]:
    """Times of every step, run in turn for about `seconds` in all."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(2):
            step()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["plain"]) < 3:
        for name, step in steps.items():
            start = time.perf_counter()
            loss = step()
            times[name].append(time.perf_counter() - start)
            assert torch.isfinite(loss), f"{name}: the loss is {loss}"
    return times


def measure(
    resolution: Sequence[str] = (), seconds: float = 30.0, threads: int = 2, median: bool = False, fp32: bool = False
) -> Iterator[Row]:
    """Yield the plain formulation's seconds over ours for each resolution; `fp32`: without bf16."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    middle = statistics.median if median else min
    for size in [int(r) for r in resolution] or RESOLUTIONS:
        config = NetworkConfig(size, fmap_base=2048, fmap_max=128, latent_size=128)
        count = minibatch_of(size)
        reals = torch.rand(count, 3, size, size) * 2 - 1
        steps = {"plain": plain_step(config, reals), "fp32": our_step(config, reals, None)}
        if not fp32:
            steps["bf16"] = our_step(config, reals, torch.bfloat16)
        taken = {name: middle(times) for name, times in times_of(steps, seconds).items()}
        plain = taken.pop("plain")
        for name, ours in taken.items():
            what = f"{count / ours:.2f} images/s over {count / plain:.2f} of the plain step, minibatch {count}"
            yield Row(f"train_step_{size}_{name}", plain / ours, what)


@click.command()
@click.option("--resolution", type=click.Choice([str(r) for r in RESOLUTIONS]), multiple=True, help="Default: all.")
@click.option("--seconds", default=30.0, show_default=True, help="Time for each resolution.")
@click.option("--threads", default=2, show_default=True, help="Threads of PyTorch.")
@click.option("--median", is_flag=True, help="Ratios of medians instead of fastest steps.")
@click.option("--fp32", is_flag=True, help="Leave bf16 out, which is slow on CPUs that emulate it.")
def main(**options: Any) -> None:
    """Prints `ratio train_step_<resolution>_<fp32|bf16>`: plain seconds over ours."""
    show(measure(**options))


if __name__ == "__main__":
    main()
