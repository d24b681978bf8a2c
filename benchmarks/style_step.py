"""How much faster a training step of StyleGAN2's configuration E is than in its plain formulation.

    python benchmarks/style_step.py [--resolution 64] [--seconds 120]

A step is what a minibatch of 16 takes on average: the steps of both networks, a fourth of a path-length step (8
samples), a sixteenth of an R1 step, each with its Adam, and the generator's EMA. The plain formulation
(tests/support/plain_style.py) is float32, with a kernel for each sample, filters written out and nothing fused; it
too freezes the network that does not train. All run in turn in one process, as does the progressive GAN with the same
feature maps. Ratios are of the fastest run of every part, which other load on the machine disturbs least.
"""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.train_step import our_step as progressive_step
from datatools.text import counted
from pggan.config.level import Level
from pggan.config.settings import NetworkConfig
from pggan.config.style import CONFIGURATIONS, StyleConfig
from pggan.model.layers import shared_weights
from pggan.model.networks import require_gradients, update_ema
from pggan.model.style import StyleGenerator, mix_styles
from pggan.model.style_discriminator import StyleDiscriminator
from pggan.model.style_losses import (
    lazy_adam,
    logistic_d_loss,
    logistic_g_loss,
    path_lengths,
    path_noise,
    path_penalties,
    r1_penalties,
)
from tests.support import plain_style as plain
from tests.support.plain_pggan import parameters_of

MINIBATCH = 16
LOSS = CONFIGURATIONS["e"][1]
SHARES = {"g": 1.0, "d": 1.0, "path": 1 / LOSS.path_interval, "r1": 1 / LOSS.r1_interval}
"""How often a minibatch runs each part."""
Parts = dict[str, Callable[[], Tensor]]


def adam(parameters: list[Tensor], interval: int, fused: bool) -> torch.optim.Adam:
    rate, betas = lazy_adam(0.002, (0.0, 0.99), interval)
    return torch.optim.Adam(parameters, lr=rate, betas=betas, eps=1e-8, fused=fused)


def train(optimizer: torch.optim.Adam, loss: Tensor) -> Tensor:
    """Step with the loss, whose graph exists."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def plain_parts(config: StyleConfig, reals: Tensor) -> Parts:
    """The parts of a step of tests/support/plain_style.py, in float32."""
    network = StyleGenerator(config)
    sides, size = network.noise_sides(), config.latent_size
    pg, pd = parameters_of(network), parameters_of(StyleDiscriminator(config))
    ema = {name: value.detach().clone() for name, value in pg.items()}
    g_adam = adam(list(pg.values()), LOSS.path_interval, False)
    d_adam = adam(list(pd.values()), LOSS.r1_interval, False)
    mean = torch.zeros(())

    def fakes(count: int) -> tuple[Tensor, Tensor]:
        w, second = (plain.mapped(pg, torch.randn(count, size))[:, None].expand(-1, len(sides) + 1, -1) for _ in "12")
        ws = mix_styles(w, second, 4)
        return plain.generate(pg, ws, [torch.randn(count, 1, side, side) for side in sides]), ws

    def training(parameters: plain.Parameters, active: bool) -> None:
        for value in parameters.values():
            value.requires_grad_(active)

    def g() -> Tensor:
        training(pd, False)
        loss = train(g_adam, logistic_g_loss(plain.judge(pd, fakes(MINIBATCH)[0])))
        training(pd, True)
        with torch.no_grad():
            for name, value in ema.items():
                value.lerp_(pg[name], 0.001)
        return loss

    def d() -> Tensor:
        with torch.no_grad():
            images, _ = fakes(MINIBATCH)
        return train(d_adam, logistic_d_loss(plain.judge(pd, reals), plain.judge(pd, images)))

    def path() -> Tensor:
        images, ws = fakes(MINIBATCH // 2)
        lengths = plain.path_lengths(images, ws, path_noise(images.shape))
        penalties, _ = path_penalties(lengths, mean, LOSS.path_decay)
        return train(g_adam, LOSS.path_weight * LOSS.path_interval * penalties.mean())

    def r1() -> Tensor:
        return train(d_adam, LOSS.r1_gamma / 2 * LOSS.r1_interval * plain.r1(pd, reals).mean())

    return {"g": g, "d": d, "path": path, "r1": r1}


def our_parts(config: StyleConfig, reals: Tensor, dtype: torch.dtype | None) -> Parts:
    """The parts of a step of pggan.model, in float32 or with autocast to `dtype`."""
    generator, discriminator, ema = StyleGenerator(config), StyleDiscriminator(config), StyleGenerator(config)
    g_adam = adam(list(generator.parameters()), LOSS.path_interval, True)
    d_adam = adam(list(discriminator.parameters()), LOSS.r1_interval, True)
    mean = torch.zeros(())

    def autocast() -> torch.autocast | nullcontext[None]:
        return torch.autocast("cpu", dtype) if dtype else nullcontext()

    def fakes(count: int) -> tuple[Tensor, Tensor]:
        w, second = (generator.broadcast(generator.map(torch.randn(count, config.latent_size))) for _ in "12")
        generator.track(w[:, 0])
        ws = mix_styles(w, second, 4)
        return generator.synthesize(ws), ws

    def g() -> Tensor:
        require_gradients(discriminator, None)
        require_gradients(generator, 0.0)
        with autocast():
            loss = logistic_g_loss(discriminator(fakes(MINIBATCH)[0])[0])
        loss = train(g_adam, loss)
        update_ema(ema, generator, 0.999)
        return loss

    def d() -> Tensor:
        require_gradients(discriminator, 0.0)
        with autocast():
            with torch.no_grad():
                images, _ = fakes(MINIBATCH)
            real, fake = discriminator(torch.cat([reals, images]), batches=2)[0].chunk(2)
        return train(d_adam, logistic_d_loss(real, fake))

    def path() -> Tensor:
        require_gradients(generator, 0.0)
        with autocast():
            images, ws = fakes(MINIBATCH // 2)
        lengths = path_lengths(images, ws, path_noise(images.shape))
        penalties, _ = path_penalties(lengths, mean, LOSS.path_decay)
        return train(g_adam, LOSS.path_weight * LOSS.path_interval * penalties.mean())

    def r1() -> Tensor:
        require_gradients(discriminator, 0.0)
        images = reals.clone().requires_grad_()
        with autocast(), shared_weights(discriminator):
            scores, _ = discriminator(images)
        penalties = r1_penalties(scores, images, Level(config.resolution))
        return train(d_adam, LOSS.r1_gamma / 2 * LOSS.r1_interval * penalties.mean())

    return {"g": g, "d": d, "path": path, "r1": r1}


def measure(formulations: dict[str, Parts], seconds: float, clock: Callable[[], float]) -> dict[str, dict[str, float]]:
    """Fastest time of every part by `clock`, run in turn for about `seconds` in all."""
    times = {name: dict.fromkeys(parts, float("inf")) for name, parts in formulations.items()}
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < 3:
        for name, parts in formulations.items():
            for part, run in parts.items():
                start = clock()
                loss = run()
                times[name][part] = min(times[name][part], clock() - start)
                assert torch.isfinite(loss), f"{name}, {part}: the loss is {loss}"
        rounds += 1
    return times


@click.command()
@click.option("--resolution", default=64, show_default=True, help="Side of the images in pixels.")
@click.option("--fmap-base", default=2048, show_default=True, help="Feature maps at 4 pixels, halved by every level.")
@click.option("--fmap-max", default=128, show_default=True, help="Limit of the feature maps.")
@click.option("--seconds", default=120.0, show_default=True, help="Time in all.")
@click.option("--threads", default=2, show_default=True, help="Threads of PyTorch.")
@click.option("--cpu-time", is_flag=True, help="Time of this process on the CPU: other load disturbs it less.")
def main(
    resolution: int,
    fmap_base: int,
    fmap_max: int,
    seconds: float,
    threads: int,
    cpu_time: bool,
) -> None:
    """Prints `ratio style_step_<resolution>_<fp32|bf16>`: plain seconds over ours, and images per second."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = replace(CONFIGURATIONS["e"][0], resolution=resolution, latent_size=fmap_max)
    config = replace(network, fmap_base=fmap_base, fmap_max=fmap_max)
    progressive = NetworkConfig(resolution, fmap_base=fmap_base, fmap_max=fmap_max, latent_size=fmap_max)
    reals = torch.rand(MINIBATCH, 3, resolution, resolution) * 2 - 1
    formulations: dict[str, Parts] = {"plain": plain_parts(config, reals)}
    for name, dtype in (("fp32", None), ("bf16", torch.bfloat16)):
        formulations[name] = our_parts(config, reals, dtype)
        formulations[f"progressive {name}"] = {"d": progressive_step(progressive, reals, dtype)}
    times = measure(formulations, seconds, time.process_time if cpu_time else time.perf_counter)
    seconds_of = {name: sum(SHARES[part] * time for part, time in parts.items()) for name, parts in times.items()}
    print(f"# {resolution} x {resolution}, minibatch {MINIBATCH}, {counted(threads, 'thread')}")
    for name, parts in times.items():
        each = ", ".join(f"{part} {1000 * value:.0f}" for part, value in parts.items())
        print(f"# {name}: {MINIBATCH / seconds_of[name]:.2f} images per second; milliseconds {each}")
    for name in ("fp32", "bf16"):
        ratio = seconds_of["plain"] / seconds_of[name]
        print(f"ratio style_step_{resolution}_{name} {ratio:.2f}  plain seconds over ours")
        ratio = seconds_of[f"progressive {name}"] / seconds_of[name]
        print(
            f"ratio style_against_progressive_{resolution}_{name} {ratio:.2f}  seconds of the progressive GAN over ours"
        )


if __name__ == "__main__":
    main()
