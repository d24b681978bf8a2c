"""Style-based networks: the plain formulation's numbers, parameter counts, noise, truncation, mixing, growth."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pggan.config.level import Level
from pggan.config.style import CONFIGURATIONS, StyleConfig, table2_pair
from pggan.model.networks import down2, require_gradients, up2, update_ema, used_parameters
from pggan.model.style import StyleGenerator, mix_styles, mixing_place
from pggan.model.style_discriminator import StyleDiscriminator
from tests.support import plain_style as plain
from tests.support.plain_pggan import parameters_of

SMALL = StyleConfig(16, fmap_base=64, fmap_max=16, latent_size=16)
GROWING = replace(SMALL, g_architecture="orig", d_architecture="orig", growing=True)
ORIGINAL = replace(GROWING, g_architecture="stylegan", d_architecture="stylegan")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def doubles(config: StyleConfig) -> tuple[StyleGenerator, StyleDiscriminator]:
    """Both networks in float64; biases and noise strengths not as they start: a missing or scaled one shows."""
    pair = StyleGenerator(config).double(), StyleDiscriminator(config).double()
    for network in pair:
        for name, parameter in network.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return pair


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_networks_equal_the_plain_formulation() -> None:
    generator, discriminator = doubles(SMALL)
    pg, pd = parameters_of(generator), parameters_of(discriminator)
    latents = noise(8, 16)
    torch.testing.assert_close(generator.map(latents), plain.mapped(pg, latents), rtol=1e-12, atol=1e-12)
    ws = noise(8, 6, 16)
    maps = [noise(8, 1, side, side) for side in generator.noise_sides()]
    images = generator.synthesize(ws, noise=maps)
    torch.testing.assert_close(images, plain.generate(pg, ws, maps), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(discriminator(images)[0], plain.judge(pd, images), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("config", "generator", "discriminator"),
    [
        (CONFIGURATIONS["a"][0], 26_219_627, 23_087_249),
        (CONFIGURATIONS["b"][0], 24_900_764, 23_087_249),
        (CONFIGURATIONS["d"][0], 24_900_764, 23_087_249),
        (CONFIGURATIONS["e"][0], 24_900_764, 24_038_161),
        (CONFIGURATIONS["f"][0], 30_370_060, 29_012_513),
        (table2_pair("orig", "orig")[0], 23_596_292, 23_077_137),
        (table2_pair("resnet", "skip")[0], 24_557_316, 23_087_249),
    ],
)
def test_parameter_counts(config: StyleConfig, generator: int, discriminator: int) -> None:
    """As many as the networks of the authors' code at 1024 pixels."""
    with torch.device("meta"):
        pair: tuple[nn.Module, ...] = StyleGenerator(config), StyleDiscriminator(config)
    assert [sum(p.numel() for p in network.parameters()) for network in pair] == [generator, discriminator]


@pytest.mark.parametrize("config", [SMALL, GROWING, ORIGINAL])
def test_pictures_start_with_ordinary_contrast(config: StyleConfig) -> None:
    """Layers keep the scale of what they get, so that a wrong gain shows as a power of the number of layers."""
    large = replace(config, resolution=64, fmap_max=64, fmap_base=1024, latent_size=64)
    with torch.no_grad():
        images = StyleGenerator(large)(torch.randn(16, 64))
        scores, _ = StyleDiscriminator(large)(torch.randn(16, 3, 64, 64))
    assert 0.3 < images.std() < 5
    assert 0.01 < scores.std() < 5


# --- noise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, ORIGINAL])
def test_noise_is_fresh_fixed_given_or_none(config: StyleConfig) -> None:
    generator, _ = doubles(config)
    ws = generator.broadcast(noise(1, 16)).expand(2, -1, -1)
    with torch.no_grad():
        fresh = generator.synthesize(ws)
        assert not torch.allclose(fresh[0], fresh[1])  # one map per sample
        fixed = generator.synthesize(ws, noise="fixed")
        assert torch.equal(fixed[0], fixed[1])
        stored = [buffer[None, None] for name, buffer in generator.named_buffers() if name.endswith(".noise")]
        assert [len(map_[0, 0]) for map_ in stored] == generator.noise_sides()
        assert torch.equal(generator.synthesize(ws, noise=stored), fixed)
        zeros = [torch.zeros_like(map_) for map_ in stored]
        torch.testing.assert_close(generator.synthesize(ws, noise="none"), generator.synthesize(ws, noise=zeros))


def test_noise_has_no_effect_before_training() -> None:
    generator = StyleGenerator(SMALL)
    latents = torch.randn(2, 16)
    assert torch.equal(generator(latents, noise="fresh"), generator(latents, noise="fixed"))


def test_lower_levels_need_fewer_noise_maps() -> None:
    assert StyleGenerator(GROWING).noise_sides(1.5) == [4, 8, 8]
    assert StyleGenerator(ORIGINAL).noise_sides(1.5) == [4, 4, 8, 8]


# --- styles -------------------------------------------------------------------------------------------------------


def test_truncation_pulls_styles_towards_their_average() -> None:
    generator, _ = doubles(SMALL)
    generator.w_average.copy_(noise(16))
    ws = noise(2, 6, 16)
    assert generator.truncate(ws, 1.0) is ws
    torch.testing.assert_close(generator.truncate(ws, 0.0), generator.w_average.expand_as(ws))
    half = generator.truncate(ws, 0.5, 2)
    torch.testing.assert_close(half[:, :2], (ws[:, :2] + generator.w_average) / 2)
    assert torch.equal(half[:, 2:], ws[:, 2:])


def test_average_of_w_moves_by_a_part_of_each_batch() -> None:
    generator, _ = doubles(SMALL)
    w = noise(8, 16)
    generator.track(w)
    generator.track(w)
    torch.testing.assert_close(generator.w_average, w.mean(dim=0) * (1 - 0.995**2))


def test_average_and_noise_maps_are_copied_to_the_ema() -> None:
    generator, ema = StyleGenerator(SMALL), StyleGenerator(SMALL)
    generator.track(torch.randn(8, 16))
    update_ema(ema, generator, 0.999)
    for name, buffer in ema.named_buffers():
        assert torch.equal(buffer, generator.get_buffer(name)), name


@pytest.mark.parametrize("config", [SMALL, GROWING, ORIGINAL])
def test_each_place_changes_its_own_level_and_those_above(config: StyleConfig) -> None:
    """The last place of a level below the top is toRGB's there, and the next level's first layer's."""
    generator, _ = doubles(config)
    ws = noise(1, 6, 16)
    used = [generator.synthesize(mix_styles(ws, ws + 1.0, place), noise="fixed") for place in range(7)]
    for before, after in itertools.pairwise(used):
        assert not torch.allclose(before, after)
    lower = mix_styles(ws, noise(1, 6, 16), 4)
    if config.growing:
        torch.testing.assert_close(
            generator.synthesize(ws, 1.0, noise="fixed"), generator.synthesize(lower, 1.0, noise="fixed")
        )


def test_mixing_places_are_uniform_among_those_in_use() -> None:
    rng = np.random.default_rng(3)
    drawn = [mixing_place(rng, 0.9, 6) for _ in range(2000)]
    places = [place for place in drawn if place is not None]
    assert abs(len(places) / 2000 - 0.9) < 0.03
    counts = np.bincount(places, minlength=7) / len(places)
    assert counts[[0, 6]].tolist() == [0, 0]
    assert abs(counts[1:6] - 0.2).max() < 0.04


# --- growth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GROWING, ORIGINAL])
@pytest.mark.parametrize("resolution", [8, 16])
def test_growth_is_continuous(config: StyleConfig, resolution: int) -> None:
    generator, discriminator = doubles(config)
    ws, reals = noise(8, 6, 16), noise(8, 3, resolution, resolution)
    below = generator.at_level(ws, resolution // 2, 1.0, "fixed")
    torch.testing.assert_close(generator.at_level(ws, resolution, 0.0, "fixed"), up2(below))
    torch.testing.assert_close(
        discriminator.at_level(reals, resolution, 0.0), discriminator.at_level(down2(reals), resolution // 2, 1.0)
    )


def test_only_parameters_in_use_take_gradients() -> None:
    generator = StyleGenerator(GROWING)
    require_gradients(generator, 1.5)
    wanted = {name for name, parameter in generator.named_parameters() if parameter.requires_grad}
    assert wanted == {name for name, _ in used_parameters(generator, 1.5)}
    assert {name.split(".")[1] for name in wanted if name.startswith("levels.")} == {"4", "8"}
    skip = StyleGenerator(SMALL)
    assert all(skip.uses(name, Level(16)) for name, _ in skip.named_parameters())


def test_networks_that_do_not_grow_work_at_full_size_only() -> None:
    generator, discriminator = StyleGenerator(SMALL), StyleDiscriminator(SMALL)
    with pytest.raises(ValueError, match=r"lod 1\.0: must be 0 for a network that does not grow"):
        generator(torch.randn(2, 16), None, 1.0)
    with pytest.raises(ValueError, match=r"lod 1\.0: must be 0 for a network that does not grow"):
        discriminator(torch.randn(2, 3, 8, 8), 1.0)
    with pytest.raises(ValueError, match=r"expected \(1 N, 3, 16, 16\)"):
        discriminator(torch.randn(2, 3, 8, 8))


def test_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="the network has 0 classes"):
        StyleGenerator(SMALL)(torch.randn(2, 16), torch.eye(2))


# --- types and batches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, GROWING, ORIGINAL])
def test_bfloat16_is_close_to_float32(config: StyleConfig) -> None:
    generator, discriminator = StyleGenerator(config), StyleDiscriminator(config)
    latents = torch.randn(4, 16)
    with torch.no_grad():
        images = generator(latents, noise="fixed")
        scores, _ = discriminator(images)
        with torch.autocast("cpu", torch.bfloat16):
            half_images = generator(latents, noise="fixed")
            half_scores, _ = discriminator(images)
    assert half_images.dtype == half_scores.dtype == torch.float32
    assert not torch.equal(half_images, images)
    assert not torch.equal(half_scores, scores)
    torch.testing.assert_close(half_images, images, atol=0.1 * images.abs().max().item(), rtol=0)
    torch.testing.assert_close(half_scores, scores, atol=0.05, rtol=0.05)


def test_batches_in_one_pass_know_nothing_of_each_other() -> None:
    _, discriminator = doubles(SMALL)
    images = noise(8, 3, 16, 16)
    together, _ = discriminator(images, batches=2)
    torch.testing.assert_close(together, torch.cat([discriminator(part)[0] for part in images.chunk(2)]))
