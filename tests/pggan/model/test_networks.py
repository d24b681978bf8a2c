"""Generator and discriminator: the oracle's numbers, growth without a jump, and each mistake that ports have made."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pggan.config.presets import PRESETS
from pggan.config.settings import NetworkConfig
from pggan.model.layers import PIXEL_NORM_EPS, PixelNorm, ScaledConv, minibatch_stddev, pixel_norm
from pggan.model.networks import (
    Discriminator,
    Generator,
    down2,
    require_gradients,
    up2,
    update_ema,
    used_parameters,
)
from tests.support import pggan_oracle as oracle
from tests.support import plain_pggan as plain

SMALL = NetworkConfig(16, fmap_base=64, fmap_max=16, latent_size=16)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def doubles(config: NetworkConfig) -> tuple[Generator, Discriminator]:
    """Both networks in float64, biases not zero: a bias that is scaled or missing shows."""
    pair = Generator(config).double(), Discriminator(config).double()
    for network in pair:
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.data.normal_(0, 0.3)
    return pair


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# --- the oracle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "lod"), oracle.CASES)
def test_networks_meet_the_oracle(name: str, lod: float) -> None:
    generator, discriminator = oracle.networks(name)
    fakes = generator(oracle.tensor(f"{name}.latents"), oracle.labels(name), lod)
    oracle.assert_equal(fakes, oracle.expected(name, lod, "fakes"), "fakes")
    for kind, images in (("fake", fakes), ("real", oracle.expected(name, lod, "reals_faded"))):
        scores, logits = discriminator(images, lod)
        oracle.assert_equal(scores, oracle.expected(name, lod, f"{kind}_scores")[:, 0], f"{kind} scores")
        if name == "labels":
            oracle.assert_equal(logits, oracle.expected(name, lod, f"{kind}_logits"), f"{kind} logits")


@pytest.mark.parametrize("case", oracle.parameter_counts())
def test_parameter_counts(case: str) -> None:
    wanted = oracle.parameter_counts()[case]
    config = NetworkConfig(**wanted["settings"])
    assert {str(r): config.fmaps(r) for r in config.levels} == wanted["feature_maps"]
    with torch.device("meta"):
        pair = {"generator": Generator(config), "discriminator": Discriminator(config)}
    for kind, network in pair.items():
        assert sum(p.numel() for p in network.parameters()) == wanted[kind]
        counts = {r: sum(p.numel() for p in network.level(int(r)).parameters()) for r in wanted["feature_maps"]}
        assert counts == wanted[f"{kind}_by_level"]


@pytest.mark.parametrize(("resolution", "alpha"), [(4, 1.0), (8, 1.0), (8, 0.3), (16, 1.0), (16, 0.3)])
def test_networks_equal_the_plain_formulation(resolution: int, alpha: float) -> None:
    generator, discriminator = doubles(SMALL)
    latents = noise(8, 16)
    images = generator.at_level(latents, None, resolution, alpha)
    torch.testing.assert_close(
        images, plain.generate(plain.parameters_of(generator), latents, resolution, alpha), rtol=1e-11, atol=1e-12
    )
    scores, _ = discriminator.at_level(images, resolution, alpha)
    expected = plain.judge(plain.parameters_of(discriminator), images, alpha)
    torch.testing.assert_close(scores, expected, rtol=1e-11, atol=1e-12)


# --- growth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, g_tanh=True), replace(SMALL, down_step="unfused")])
@pytest.mark.parametrize("resolution", [8, 16])
def test_growth_is_continuous(config: NetworkConfig, resolution: int) -> None:
    generator, discriminator = doubles(config)
    latents, reals = noise(8, 16), noise(8, 3, resolution, resolution)
    before = generator.at_level(latents, None, resolution // 2, 1.0)
    torch.testing.assert_close(generator.at_level(latents, None, resolution, 0.0), up2(before))
    new, old = (
        discriminator.at_level(reals, resolution, 0.0),
        discriminator.at_level(down2(reals), resolution // 2, 1.0),
    )
    torch.testing.assert_close(new[0], old[0])


def test_generator_and_discriminator_fade_at_every_level() -> None:
    generator, discriminator = doubles(SMALL)
    latents = noise(8, 16)
    for resolution in (8, 16):
        images = [generator.at_level(latents, None, resolution, alpha) for alpha in (0.0, 0.25, 1.0)]
        torch.testing.assert_close(images[1], 0.75 * images[0] + 0.25 * images[2])
        assert not torch.allclose(images[0], images[2])
        scores = [discriminator.at_level(images[2], resolution, alpha)[0] for alpha in (0.0, 0.5, 1.0)]
        assert not torch.allclose(scores[0], scores[2])
        assert not torch.allclose(scores[0], scores[1])


# --- mistakes that other ports shipped ----------------------------------------------------------------------------


def test_gains_are_one_for_to_rgb_and_last_dense_and_a_quarter_for_first_dense() -> None:
    generator, discriminator = Generator(SMALL), Discriminator(SMALL)
    first, second = generator.level(4), discriminator.level(4)
    root = math.sqrt(2)
    assert first.dense.scale == pytest.approx(root / 4 / math.sqrt(16))
    for resolution in SMALL.levels:
        maps = SMALL.fmaps(resolution)
        assert generator.level(resolution).to_rgb.scale == pytest.approx(1 / math.sqrt(maps))
        assert discriminator.level(resolution).from_rgb.scale == pytest.approx(root / math.sqrt(3))
    assert first.conv.scale == pytest.approx(root / math.sqrt(16 * 9))
    assert generator.level(16).conv0.scale == pytest.approx(root / math.sqrt(16 * 9))
    assert second.conv.scale == pytest.approx(root / math.sqrt(17 * 9))
    assert second.dense0.scale == pytest.approx(root / math.sqrt(16 * 16))
    assert second.dense1.scale == pytest.approx(1 / math.sqrt(16))


def test_weights_start_at_unit_variance_and_biases_at_zero() -> None:
    for network in (Generator(PRESETS["faces-32"].network), Discriminator(PRESETS["faces-32"].network)):
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif parameter.numel() > 10_000:
                assert parameter.std().item() == pytest.approx(1.0, abs=0.02), name


@pytest.mark.parametrize("resample", [None, "up", "down"])
def test_biases_are_not_scaled(resample: str | None) -> None:
    layer = ScaledConv(4, 6, 3, weights="equalized", resample=resample).double()  # type: ignore[arg-type]
    assert layer.bias is not None
    layer.bias.data.normal_()
    out = layer(torch.zeros(2, 4, 8, 8, dtype=torch.float64))
    torch.testing.assert_close(out, layer.bias.detach().view(1, -1, 1, 1).expand_as(out))


def test_pixel_norm_follows_every_activation_the_first_included() -> None:
    generator, _ = doubles(SMALL)
    outputs: list[Tensor] = []
    for level in SMALL.levels:
        for norm in (generator.level(level).norm0, generator.level(level).norm1):
            assert norm is not None
            norm.register_forward_hook(lambda _module, inputs, output: outputs.extend((inputs[0], output)))
    generator(noise(4, 16))
    assert len(outputs) == 2 * 2 * len(SMALL.levels)
    for before, after in zip(outputs[::2], outputs[1::2], strict=True):
        torch.testing.assert_close(after.square().mean(dim=1), torch.ones_like(after[:, 0]), rtol=1e-6, atol=1e-6)
        # before it comes the activation: of its results more are small and negative than of a convolution's
        assert (before < 0).any()
        assert before[before < 0].abs().mean() < 0.5 * before[before > 0].mean()


def test_latents_are_normalized_with_their_labels() -> None:
    config = replace(SMALL, classes=3)
    latents, labels = noise(4, 16), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]
    before = Generator(config).double()._inputs(latents, labels)
    torch.testing.assert_close(before, pixel_norm(torch.cat([latents, labels], dim=1)))
    after = Generator(replace(config, label_join="after")).double()._inputs(latents, labels)
    torch.testing.assert_close(after, torch.cat([pixel_norm(latents), labels], dim=1))
    raw = Generator(replace(config, normalize_latents=False)).double()._inputs(latents, labels)
    torch.testing.assert_close(raw, torch.cat([latents, labels], dim=1))


def test_labels_must_be_there() -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(2, 3\)"):
        Generator(replace(SMALL, classes=3))(torch.randn(2, 16))


def stddev_by_hand(x: Tensor, members: list[list[int]]) -> list[float]:
    """The added map's value for each group: biased deviation of each activation over the group, then the mean."""
    values = []
    for group in members:
        deviations = (x[group].var(dim=0, correction=0) + 1e-8).sqrt()
        values.append(deviations.mean().item())
    return values


def test_stddev_is_biased_per_activation_over_strided_groups() -> None:
    x = noise(8, 5, 4, 4) * torch.arange(1, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    found = minibatch_stddev(x, 4)
    assert found.shape == (8, 6, 4, 4)
    torch.testing.assert_close(found[:, :5], x)
    even, odd = stddev_by_hand(x, [[0, 2, 4, 6], [1, 3, 5, 7]])
    for sample in range(8):
        expected = torch.full((4, 4), odd if sample % 2 else even, dtype=torch.float64)
        torch.testing.assert_close(found[sample, 5], expected)
    contiguous = stddev_by_hand(x, [[0, 1, 2, 3]])[0]
    assert abs(contiguous - even) > 0.1


def test_stddev_sees_activations_not_images() -> None:
    _, discriminator = doubles(SMALL)
    seen: list[Tensor] = []
    discriminator.level(4).conv.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    discriminator(noise(4, 3, 16, 16))
    assert seen[0].shape == (4, SMALL.fmaps(4) + 1, 4, 4)


@pytest.mark.parametrize(
    ("samples", "limit", "group"), [(8, 4, 4), (6, 4, 3), (7, 4, 1), (14, 16, 14), (3, 4, 3), (12, 0, 12)]
)
def test_minibatches_that_groups_do_not_divide(samples: int, limit: int, group: int) -> None:
    config = replace(SMALL, stddev_group=limit)
    discriminator = Discriminator(config).double()
    images = noise(samples, 3, 16, 16)
    found, _ = discriminator(images)
    torch.testing.assert_close(found, discriminator(images, group=group)[0])


def test_batches_of_one_pass_know_nothing_of_each_other() -> None:
    for statistics in ("stddev", "discrimination"):
        discriminator = Discriminator(replace(SMALL, d_statistics=statistics)).double()  # type: ignore[arg-type]
        reals, fakes = noise(8, 3, 16, 16), noise(8, 3, 16, 16)
        together, _ = discriminator(torch.cat([reals, fakes]), batches=2)
        apart = torch.cat([discriminator(reals)[0], discriminator(fakes)[0]])
        torch.testing.assert_close(together, apart)
        assert not torch.allclose(discriminator(torch.cat([reals, fakes]))[0], apart)


def test_images_of_the_wrong_level_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected .*3, 8, 8"):
        Discriminator(SMALL)(torch.zeros(4, 3, 16, 16), 1.0)


# --- variants -----------------------------------------------------------------------------------------------------


def test_unfused_down_step_averages_after_the_activation() -> None:
    fused, unfused = Discriminator(SMALL).double(), Discriminator(replace(SMALL, down_step="unfused")).double()
    unfused.load_state_dict(fused.state_dict())
    x = noise(2, SMALL.fmaps(16), 16, 16)
    level, none = unfused.level(16), torch.zeros((), dtype=torch.float64)
    inner = torch.nn.functional.leaky_relu(level.conv0(x), 0.2)
    expected = down2(torch.nn.functional.leaky_relu(level.conv1(inner), 0.2))
    torch.testing.assert_close(level.shrink(x, none), expected)
    expected = torch.nn.functional.leaky_relu(down2(level.conv1(inner)), 0.2)
    torch.testing.assert_close(fused.level(16).shrink(x, none), expected)


@pytest.mark.parametrize("row", [name for name in PRESETS if name.startswith("table1")])
def test_every_row_of_table_1_computes_and_differentiates(row: str) -> None:
    config = replace(PRESETS[row].network, resolution=16, fmap_base=64, fmap_max=16)
    generator, discriminator = Generator(config), Discriminator(config)
    if discriminator.needs_initial_images:
        discriminator.initialise(torch.rand(40, 3, 16, 16) * 2 - 1, 0.0)
    assert not discriminator.needs_initial_images
    images = generator(torch.randn(8, config.latent_size))
    scores, logits = discriminator(images)
    assert images.shape == (8, 3, 16, 16)
    assert scores.shape == (8,)
    assert logits.shape == (8, 0)
    scores.sum().backward()
    for network in (generator, discriminator):
        used = dict(used_parameters(network, 0.0))
        for name, parameter in network.named_parameters():
            assert (parameter.grad is not None) == (name in used), name
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    assert not config.g_tanh or images.abs().max() <= 1


def test_he_initialisation_starts_as_the_equalized_rate_does() -> None:
    config = replace(SMALL, fmap_base=1024, fmap_max=128)
    he, equalized = Discriminator(replace(config, weights="he")), Discriminator(config)
    for ours, other in zip(he.level(8).children(), equalized.level(8).children(), strict=True):
        if isinstance(ours, ScaledConv) and isinstance(other, ScaledConv):
            assert ours.scale == 1.0
            assert ours.weight.std().item() == pytest.approx(other.scale, rel=0.1)


def test_batch_norm_normalizes_before_the_activation() -> None:
    config = replace(SMALL, g_norm="batch", g_activation="relu")
    generator = Generator(config)
    seen: list[Tensor] = []
    norm = generator.level(8).norm0
    assert norm is not None
    norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach().clone()))
    generator(torch.randn(64, 16))
    mean, deviation = seen[0].mean(dim=(0, 2, 3)), seen[0].std(dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
    torch.testing.assert_close(deviation, torch.ones_like(deviation), atol=0.02, rtol=0)


def test_layer_norm_takes_each_sample_by_itself() -> None:
    config = replace(SMALL, d_norm="layer", d_statistics="none")
    discriminator = Discriminator(config).double()
    norm = discriminator.level(16).norm0
    assert norm is not None
    assert norm.gain.shape == ()
    out = norm(noise(3, SMALL.fmaps(16), 8, 8) * 5 + 2)
    torch.testing.assert_close(out.mean(dim=(1, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(out.square().mean(dim=(1, 2, 3)), torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)


def test_minibatch_discrimination_starts_from_data() -> None:
    discriminator = Discriminator(replace(SMALL, d_statistics="discrimination")).double()
    assert discriminator.needs_initial_images
    reals = noise(60, 3, 16, 16)
    discriminator.initialise(reals, 0.0)
    layer = discriminator.level(4).discrimination
    features = discriminator.features(reals, 16, 1.0)
    smallest = layer._distances(features[None]).amin(dim=2).mean(dim=(0, 1)) / 2
    torch.testing.assert_close(smallest, torch.ones_like(smallest))
    added = layer(features)[:, features.shape[1] :].mean(dim=0)
    torch.testing.assert_close(added, torch.zeros_like(added), atol=1e-12, rtol=0)
    assert layer.theta.shape == (16, 100, 5)
    again = Discriminator(discriminator.config).double()
    again.load_state_dict(discriminator.state_dict())
    assert not again.needs_initial_images


def test_lsgan_noise_is_adaptive_multiplicative_and_part_of_the_state() -> None:
    discriminator = Discriminator(replace(SMALL, d_noise=0.2)).double()
    images = noise(4, 3, 16, 16)
    quiet, _ = discriminator(images)
    torch.testing.assert_close(quiet, discriminator(images)[0])
    average = 0.0
    for mean in (2.0, 1.0, 0.9, -3.0, *[1.0] * 20):
        discriminator.update_noise(torch.tensor(mean))
        average = 0.9 * average + 0.1 * min(max(mean, 0.0), 1.0)
        assert discriminator.noise_strength.item() == pytest.approx(0.2 * max(average - 0.5, 0) ** 2)
    assert discriminator.noise_strength.item() > 0.01
    assert not torch.allclose(discriminator(images)[0], discriminator(images)[0])
    assert {"noise_average", "noise_strength"} <= set(discriminator.state_dict())
    noisy = discriminator.level(16)._noisy(torch.ones(200, 16, 2, 2, dtype=torch.float64), discriminator.noise_strength)
    assert torch.equal(noisy[:, :, 0, 0], noisy[:, :, 1, 1])
    assert noisy.std().item() == pytest.approx(discriminator.noise_strength.item() * 4, rel=0.1)
    discriminator.eval()
    torch.testing.assert_close(discriminator(images)[0], discriminator(images)[0])


# --- training's helpers -------------------------------------------------------------------------------------------


def test_only_working_parameters_take_gradients() -> None:
    generator, discriminator = Generator(SMALL), Discriminator(SMALL)
    for lod in (2.0, 1.5, 1.0, 0.25, 0.0):
        require_gradients(generator, lod)
        require_gradients(discriminator, lod)
        discriminator(generator(torch.randn(4, 16), None, lod), lod)[0].sum().backward()
        for network in (generator, discriminator):
            used = {name for name, _ in used_parameters(network, lod)}
            assert {name for name, p in network.named_parameters() if p.grad is not None} == used
            network.zero_grad(set_to_none=True)
    require_gradients(generator, None)
    assert not any(p.requires_grad for p in generator.parameters())


@pytest.mark.parametrize(("lod", "frozen", "trained"), [(0.0, 1, {4, 8}), (0.5, 2, {4}), (1.0, 1, {4, 8})])
def test_the_largest_levels_can_be_frozen(lod: float, frozen: int, trained: set[int]) -> None:
    discriminator = Discriminator(SMALL)
    assert {int(name.split(".")[1]) for name, _ in used_parameters(discriminator, lod, frozen)} == trained
    require_gradients(discriminator, lod, frozen)
    assert {int(n.split(".")[1]) for n, p in discriminator.named_parameters() if p.requires_grad} == trained


def test_ema_continues_through_growth() -> None:
    generator, ema = Generator(SMALL), Generator(SMALL)
    start = {name: value.clone() for name, value in ema.state_dict().items()}
    for _ in range(2):
        update_ema(ema, generator, 0.9)
    for name, value in generator.state_dict().items():
        expected = value + 0.81 * (start[name] - value)
        torch.testing.assert_close(ema.state_dict()[name], expected, msg=name)


@pytest.mark.parametrize("lod", [0.0, 0.5])
def test_bfloat16_stays_near_float32(lod: float) -> None:
    generator, discriminator = Generator(SMALL), Discriminator(SMALL)
    latents = torch.randn(8, 16)
    images = generator(latents, None, lod)
    scores, _ = discriminator(images, lod)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = generator(latents, None, lod)
        coarse_scores, _ = discriminator(images, lod)
    assert coarse.dtype == coarse_scores.dtype == torch.float32
    assert not torch.equal(images, coarse)
    assert (coarse - images).norm() < 0.02 * images.norm()
    assert (coarse_scores - scores).norm() < 0.05 * scores.norm()


@pytest.mark.parametrize("eps", [PIXEL_NORM_EPS, 0.3])
def test_pixel_norm_has_gradients_of_every_order(eps: float) -> None:
    x = noise(2, 3, 2, 2).requires_grad_()
    torch.testing.assert_close(pixel_norm(x, eps), x / (x.square().mean(dim=1, keepdim=True) + eps).sqrt())
    assert torch.autograd.gradcheck(lambda y: pixel_norm(y, eps), x)
    assert torch.autograd.gradgradcheck(lambda y: pixel_norm(y, eps), x)


def test_pixel_norms_of_other_projects() -> None:
    x = noise(2, 3, 2, 2) * 1e-4
    square = x.square().mean(dim=1, keepdim=True)
    torch.testing.assert_close(PixelNorm("fp16")(x), x / (square + 1e-4).sqrt())
    torch.testing.assert_close(PixelNorm("mmgeneration")(x), x / (square.sqrt() + 1e-5))
    torch.testing.assert_close(PixelNorm("mmgeneration", latents=True)(x), x / (square.sqrt() + 1e-6))


def test_a_first_bias_for_every_position() -> None:
    generator = Generator(replace(SMALL, resolution=4, g_first_bias="position", g_norm="none")).double()
    first = generator.level(4)
    assert first.dense.bias is not None
    first.dense.weight.data.zero_()
    first.dense.bias.data = noise(first.dense.bias.numel())
    inputs: list[Tensor] = []
    first.conv.register_forward_hook(lambda _module, arguments, _output: inputs.append(arguments[0]))
    generator(noise(1, 16))
    torch.testing.assert_close(inputs[0][0], functional.leaky_relu(first.dense.bias.view(-1, 4, 4), 0.2))


def test_feature_maps_that_no_formula_gives() -> None:
    config = replace(SMALL, fmap_by_level=((2, 3), (8, 5)))
    assert [config.fmaps(resolution) for resolution in config.levels] == [16, 5, 8]
    assert config.fmaps_of_stage(0) == 3
