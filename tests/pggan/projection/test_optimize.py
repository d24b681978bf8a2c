"""Projection: schedule, noise maps and forty steps against numbers computed apart from it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pggan.config.style import StyleConfig
from pggan.metrics.distances import PixelDistance
from pggan.model.files import new_model
from pggan.model.style import StyleGenerator
from pggan.projection.optimize import (
    Projection,
    Start,
    draw_at,
    first_maps,
    rate_at,
    roughness,
    w_noise_at,
    whiten_,
)
from tests.support.paths import GOLDEN
from tests.support.style_oracle import Case, SquaredDifference, assert_equal, numbers
from tests.support.style_runs import SIZES, noisy_style_model

RUN = "projection.run."


def values(name: str) -> Tensor:
    return torch.from_numpy(numbers(GOLDEN / "style_pieces.npz")[name]).double()


def test_schedule() -> None:
    times = (values("projection.steps") / 1000).tolist()
    np.testing.assert_allclose(
        [rate_at(time) for time in times], values("projection.learning_rate"), rtol=1e-9, atol=1e-18
    )
    noise = [w_noise_at(time, 3.5) for time in times]
    np.testing.assert_allclose(noise, values("projection.noise_for_deviation_3.5"), rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5])
def test_noise_maps(number: int) -> None:
    noise = values(f"noise.map.{number}")[None, None].requires_grad_()
    (found,) = roughness([noise])
    assert_equal(found, values("noise.regularizer")[number], 1e-9, "roughness")
    (gradient,) = torch.autograd.grad(found, noise)
    assert_equal(gradient[0, 0], values(f"noise.gradient.{number}"), 1e-9, "gradient")
    noise = noise.detach()
    whiten_([noise])
    assert_equal(noise[0, 0], values(f"noise.normalized.{number}"), 1e-9, "normalized")


def test_forty_steps() -> None:
    generator = Case.growing(GOLDEN, "b").networks()[0].requires_grad_(False)
    maps = [values(f"{RUN}first_map.{number}")[None, None] for number in range(7)]
    start = Start(values(f"{RUN}w_mean"), float(values(f"{RUN}w_deviation")))
    target = (values(f"{RUN}target") + 1) * 127.5
    projection = Projection(generator, 0.0, target, SquaredDifference(), start, maps, steps=40)
    ws, found = [], []
    for draw in values(f"{RUN}draws"):
        found.append(torch.cat(projection.step(draw)))
        ws.append(projection.w.detach()[0].clone())
    distances, totals = torch.stack(found).T
    assert_equal(distances, values(f"{RUN}distances"), 1e-9, "distances")
    assert_equal(totals, values(f"{RUN}totals"), 1e-9, "losses")
    assert_equal(torch.stack(ws), values(f"{RUN}w"), 1e-9, "w")
    for number, noise in enumerate(projection.maps):
        assert_equal(noise[0, 0], values(f"{RUN}last_map.{number}"), 1e-9, f"map {number}")


def test_beginning_is_the_mean_of_mapped_latents() -> None:
    model = noisy_style_model()
    generator = model.ema
    assert isinstance(generator, StyleGenerator)
    start = Start.of(model, generator)
    w = generator.map(torch.from_numpy(np.random.RandomState(123).randn(10_000, 8)).float())
    torch.testing.assert_close(start.mean, w.mean(dim=0))
    assert start.deviation == pytest.approx(float(w.var(dim=0, correction=0).sum().sqrt()), rel=1e-5)


@pytest.mark.parametrize(
    "config",
    [StyleConfig(16, "stylegan", "stylegan", growing=True, **SIZES), StyleConfig(8, classes=2, **SIZES)],
    ids=["growing", "classes"],
)
def test_other_models_are_projected_into(config: StyleConfig) -> None:
    model = new_model(config, lod=0.5 if config.growing else 0.0)
    generator = model.ema
    assert isinstance(generator, StyleGenerator)
    maps, target = first_maps(generator, model.lod, seed=0), torch.full((1, 3, *2 * [config.resolution]), 60.0)
    projection = Projection(generator, model.lod, target, PixelDistance(), Start.of(model, generator), maps, steps=20)
    before = projection.distances()
    for number in range(20):
        projection.step(draw_at(0, number, 8))
    assert projection.pictures().shape == target.shape
    assert (projection.distances() < before).all()


def test_several_pictures_are_projected_each_as_if_alone() -> None:
    model = noisy_style_model()
    generator = model.ema
    assert isinstance(generator, StyleGenerator)
    targets = (generator(model.latents([1, 2, 3])) + 1) * 127.5
    start, maps = Start.of(model, generator), first_maps(generator, 0.0, seed=4)

    def projected(some: Tensor) -> Projection:
        projection = Projection(generator, 0.0, some, PixelDistance(), start, maps, steps=30)
        for number in range(30):
            projection.step(draw_at(4, number, 8))
        return projection

    together, alone = projected(targets), projected(targets[1:2])
    torch.testing.assert_close(together.distances()[1:2], alone.distances(), rtol=0.02, atol=0)
    before = Projection(generator, 0.0, targets, PixelDistance(), start, maps).distances()
    assert (together.distances() < 0.9 * before).all()
    for noise in together.maps:
        torch.testing.assert_close(noise.mean(dim=(1, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
