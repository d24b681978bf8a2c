"""Latents between, near, around and chosen: what moves them moves them as far as it says."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from datatools.errors import DataError
from pggan.config.settings import NetworkConfig
from pggan.media.latents import Loop, best_first, critic_scores, slerp, truncation_of
from pggan.model.files import Model
from pggan.model.networks import Discriminator, Generator
from pggan.rng import seeded


def model_of(**changes: object) -> Model:
    """An untrained model of 16 pixels."""
    config = NetworkConfig(16, fmap_base=64, fmap_max=8, latent_size=32, **changes)  # type: ignore[arg-type]
    with seeded(3, torch.device("cpu")):
        generator, discriminator = Generator(config), Discriminator(config)
    return Model(generator.eval(), generator, discriminator.eval(), lod=0.0, images=0)


def angles(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.acos(torch.cosine_similarity(first.double(), second.double(), dim=-1).clamp(-1, 1))


def test_slerp_goes_at_even_pace_along_the_arc() -> None:
    a, b = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(1))
    b = 3 * b
    way = slerp(a, b, torch.linspace(0, 1, 9)[:, None])
    assert torch.allclose(way[0], a[0], atol=1e-5)
    assert torch.allclose(way[-1], b[0], atol=1e-5)
    steps = angles(way[:-1], way[1:])
    assert torch.allclose(steps, angles(a, b) / 8, atol=1e-4)
    assert torch.allclose(way.norm(dim=1), torch.linspace(a.norm().item(), b.norm().item(), 9), rtol=1e-4)


def test_slerp_between_equal_directions_stays_there() -> None:
    a = torch.randn(1, 16, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(slerp(a, a, 0.3), a, atol=1e-5)
    assert torch.allclose(slerp(a, 2 * a, 0.5), 1.5 * a, atol=1e-5)
    assert torch.isfinite(slerp(a, -a, 0.5)).all()


def test_truncation_takes_its_share_of_the_angle_to_the_centre() -> None:
    model = model_of()
    latents, centre = model.latents(range(1, 9)), model.latents([5])
    pulled = truncation_of(model, 0.7, 5)(latents)
    assert torch.allclose(angles(pulled, centre), 0.7 * angles(latents, centre), atol=1e-3)
    assert torch.allclose(pulled[4], latents[4], atol=1e-4)  # the centre itself
    assert torch.equal(truncation_of(model, 1.0, None)(latents), latents)
    assert torch.allclose(truncation_of(model, 0.0, None)(latents), model.latents([0]).expand(8, -1), atol=1e-4)


def test_truncation_shrinks_latents_that_the_network_does_not_normalize() -> None:
    model = model_of(normalize_latents=False)
    latents = model.latents(range(3))
    assert torch.equal(truncation_of(model, 0.5, None)(latents), 0.5 * latents)
    with pytest.raises(DataError, match="centre 2: this model does not normalize"):
        truncation_of(model, 0.5, 2)


def test_the_loop_is_noise_smoothed_by_a_gaussian_with_wrap_around() -> None:
    frames = 400
    times = np.arange(frames) / frames
    sharper, softer = Loop(2, 16, 7, 0.015), Loop(2, 16, 7, 0.04)
    # smoothing once more adds variances; both come from the same noise and were brought to variance 1
    sigma = np.sqrt(0.04**2 - 0.015**2) * frames
    expected = gaussian_filter1d(sharper.smoothed(times).double().numpy(), sigma, axis=0, mode="wrap", truncate=8)
    found = softer.smoothed(times).double().numpy() * (sharper.weights[0] / softer.weights[0])
    assert np.abs(found - expected).max() < 2e-4


def test_noise_of_the_loop_is_normal_and_as_long_correlated_as_its_gaussian() -> None:
    sigma = 0.02
    values = Loop(1, 4000, 3, sigma).smoothed(np.array([0.0, sigma, 0.5])).double().numpy()[:, 0]
    correlation = np.corrcoef(values)
    # Gaussians of deviation sigma at a distance d overlap by exp(-(d / sigma)^2 / 4); four standard errors
    assert abs(correlation[0, 1] - np.exp(-0.25)) < 0.04
    assert abs(correlation[0, 2]) < 0.065
    assert np.abs(values.std(axis=1) - 1).max() < 0.05


def test_latents_of_the_loop() -> None:
    loop = Loop(3, 32, 0, 0.05)
    times = np.arange(200) / 200
    latents = loop(times)
    assert latents.shape == (200, 3, 32)
    assert latents.dtype == torch.float32
    assert torch.allclose(latents.square().mean(dim=2), torch.ones(200, 3), atol=1e-5)
    assert torch.equal(loop(np.array([0.0])), loop(np.array([1.0])))
    steps = (latents.roll(-1, 0) - latents).norm(dim=2)  # the last one leads back to the start
    assert steps[-1].max() < 2 * steps[:-1].mean()
    assert steps.max() < 4 * steps.mean()
    assert torch.allclose(loop(times[::2]), latents[::2], atol=1e-5)  # half the rate, the same pictures
    assert torch.allclose(Loop(1, 32, 0, 0.05)(times)[:, 0], latents[:, 0], atol=1e-5)  # whatever lies beside it
    assert not torch.allclose(Loop(3, 32, 1, 0.05)(times), latents, atol=0.1)


def test_a_loop_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(DataError, match="GiB of latents: take a smaller grid"):
        Loop(100, 512, 0, 0.00001)


@pytest.mark.parametrize("statistics", ["stddev", "discrimination", "none"])
def test_scores_depend_on_the_picture_alone(statistics: str) -> None:
    model = model_of(d_statistics=statistics)
    pictures = model.pictures(range(9))
    scores = critic_scores(model, pictures)
    assert scores.shape == (9,)
    assert scores.std() > 0
    alone = np.concatenate([critic_scores(model, pictures[n : n + 1]) for n in range(9)])
    assert np.allclose(alone, scores, atol=1e-4 * np.abs(scores).max())
    assert np.allclose(critic_scores(model, pictures[::-1])[::-1], scores, atol=1e-4 * np.abs(scores).max())


def test_scores_rise_with_what_the_critic_takes_for_real() -> None:
    """A generator's step against its loss makes its pictures better for the discriminator."""
    model = model_of(d_statistics="none")
    images = torch.from_numpy(model.pictures([4])).permute(0, 3, 1, 2).float().div(127.5).sub(1).requires_grad_()
    model.discriminator(images)[0].sum().backward()
    assert images.grad is not None
    better = images.detach() + 0.3 * images.grad.sign()
    pictures = torch.cat([images.detach(), better]).add(1).mul(127.5).round().clamp(0, 255).byte()
    first, second = critic_scores(model, pictures.permute(0, 2, 3, 1).contiguous().numpy())
    assert second > first
    lsgan = model_of(d_statistics="none", d_noise=0.2)  # trained towards 0 for reals
    lsgan.discriminator.load_state_dict(model.discriminator.state_dict(), strict=False)
    first, second = critic_scores(lsgan, pictures.permute(0, 2, 3, 1).contiguous().numpy())
    assert second < first


def test_best_first() -> None:
    assert best_first([5, 8, 2, 9], np.array([0.5, 2.0, 0.5, -1.0], np.float32)) == [8, 5, 2, 9]
