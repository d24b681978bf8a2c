"""What each level adds to a picture is measured as the deviation of its toRGB's pixels."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pggan.config.settings import NetworkConfig
from pggan.media import contributions
from pggan.media.contributions import CLOCK, SAMPLES, rgb_deviations
from pggan.model.files import new_model
from pggan.model.filters import enlarge
from pggan.model.style import StyleGenerator
from pggan.rng import normals
from tests.support.style_runs import noisy_style_model


def test_deviations_are_those_of_the_parts_of_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = noisy_style_model(16).ema
    assert isinstance(generator, StyleGenerator)
    found = rgb_deviations(generator, 3)
    latents = normals(3, "grid", CLOCK, (SAMPLES, generator.config.latent_size))
    parts: list[Tensor] = []
    for r in (4, 8, 16):  # pictures with the toRGB of one level alone
        alone = StyleGenerator(generator.config).eval()
        alone.load_state_dict(generator.state_dict())
        for other in (4, 8, 16):
            if other != r:
                to_rgb = alone.level(other).to_rgb
                torch.nn.init.zeros_(to_rgb.weight)
                torch.nn.init.zeros_(to_rgb.bias)
        with torch.no_grad():
            parts.append(alone(latents, noise="fixed"))
    assert found["16"] == pytest.approx(float(parts[2].double().std(correction=0)), rel=1e-5)
    assert list(found) == ["4", "8", "16"]
    with torch.no_grad():
        ws = generator.broadcast(generator.map(latents))
        first = generator.level(4)
        x = first(first.start(SAMPLES, torch.float32), ws, lambda layer: layer.noise[None, None])
        lowest = first.rgb(x, ws)
    assert found["4"] == pytest.approx(float(lowest.double().std(correction=0)), rel=1e-5)
    torch.testing.assert_close(enlarge(enlarge(lowest)), parts[0], atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(contributions, "BATCH_PIXELS", 7 * 16**2)
    assert rgb_deviations(generator, 3) == pytest.approx(found, rel=1e-6)
    assert rgb_deviations(generator, 4) != pytest.approx(found, rel=1e-3)


def test_nothing_is_left_on_the_generator_and_no_random_number_is_drawn() -> None:
    generator = noisy_style_model(8).ema
    before = torch.get_rng_state()
    first = rgb_deviations(generator, 0)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(module._forward_hooks for module in generator.modules())
    assert rgb_deviations(generator, 0) == first


def test_other_generators_have_no_such_parts() -> None:
    assert rgb_deviations(new_model(NetworkConfig(8, fmap_base=16, fmap_max=4, latent_size=4)).ema, 0) == {}
    config = noisy_style_model(8).config
    assert rgb_deviations(new_model(replace(config, g_architecture="resnet")).ema, 0) == {}  # type: ignore[type-var]
