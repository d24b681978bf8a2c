"""Losses: the oracle's numbers, means, the penalty's norm, and gradients that add up over parts and devices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pggan.config.level import Level
from pggan.config.settings import AugmentConfig, LossConfig, NetworkConfig
from pggan.model.augment.augmentation import Augmentation, draw
from pggan.model.losses import (
    LossTerms,
    combine,
    d_step_terms,
    fade,
    g_step_terms,
    gradient_norms,
    gradient_scale,
    overfitting,
    statistic_names,
)
from pggan.model.networks import Discriminator, Generator, require_gradients
from pggan.training.microbatches import Part, partition
from tests.support import pggan_oracle as oracle
from tests.support import plain_pggan as plain

SMALL = NetworkConfig(16, fmap_base=64, fmap_max=16, latent_size=16)
LSGAN = LossConfig(kind="lsgan")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(6)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def oracle_terms(name: str, lod: float, config: LossConfig, discriminator: Discriminator) -> LossTerms:
    return d_step_terms(
        discriminator,
        oracle.expected(name, lod, "reals_faded"),
        oracle.expected(name, lod, "fakes"),
        oracle.tensor(f"{name}.mixing"),
        config=config,
        lod=lod,
        labels=None if config.kind == "lsgan" else oracle.labels(name),
    )


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("config", [LossConfig(), LSGAN])
def test_statistics_have_the_names_that_devices_agree_on(config: LossConfig, classes: int) -> None:
    shape = replace(SMALL, classes=classes)
    generator, discriminator = Generator(shape), Discriminator(shape)
    labels = torch.eye(classes)[[0, 1, 1, 0]] if classes else None
    reals, fakes = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16)
    d_terms = d_step_terms(discriminator, reals, fakes, torch.rand(4), config=config, lod=0.0, labels=labels)
    g_terms = g_step_terms(generator, discriminator, torch.rand(4, 16), config=config, lod=0.0, labels=labels)
    assert sorted(d_terms.statistics) == statistic_names("d", config, labels=bool(classes))
    assert sorted(g_terms.statistics) == statistic_names("g", config, labels=bool(classes))


def test_overfitting_compares_each_real_with_a_fake() -> None:
    reals, fakes = torch.tensor([3.0, 1.0, 5.0, 2.0]), torch.tensor([1.0, 4.0, 0.0, 2.0])
    assert overfitting(reals, fakes, LossConfig()).item() == 0.25
    assert overfitting(100 * reals - 7, 100 * fakes - 7, LossConfig()).item() == 0.25
    assert overfitting(reals, fakes, LSGAN).item() == -0.25
    assert overfitting(reals, reals, LSGAN).item() == 0
    assert overfitting(fakes + 9, fakes, LossConfig()).item() == 1


def drawn(kind: str, sets: int, strength: float = 0.9) -> Augmentation:
    rng, config = np.random.default_rng(2), AugmentConfig(kind)  # type: ignore[arg-type]
    return draw(config, strength, rng, sets=sets, count=4, resolution=16, device=torch.device("cpu"))


@pytest.mark.parametrize("kind", ["ada", "diffaugment"])
def test_augmentation_is_a_part_of_the_discriminator(kind: str) -> None:
    """Reals, fakes and mixed pictures meet one function; the penalty's gradient is by the picture before it."""
    generator, discriminator = Generator(SMALL).double(), Discriminator(SMALL).double()
    reals, fakes, mixing, config = noise(4, 3, 16, 16), noise(4, 3, 16, 16), torch.rand(4), LossConfig()
    augmentation = drawn(kind, 3)
    terms = d_step_terms(discriminator, reals, fakes, mixing, config=config, lod=0.0, augmentation=augmentation)
    real_scores, fake_scores = (discriminator(augmentation(x, (i,)))[0] for i, x in enumerate((reals, fakes)))
    mixed = torch.lerp(reals, fakes, mixing.double().view(-1, 1, 1, 1)).requires_grad_()
    mixed_scores = discriminator(augmentation(mixed, (2,)))[0]
    (gradient,) = torch.autograd.grad(mixed_scores.sum(), mixed)
    expected = {
        "real_score": real_scores.mean(),
        "fake_score": fake_scores.mean(),
        "mixed_score": mixed_scores.mean(),
        "gradient_norm": gradient.flatten(1).norm(dim=1).mean(),
        "r_t": torch.sign(real_scores - fake_scores).mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms.statistics[name], value.detach(), msg=name)
    assert sorted(terms.statistics) == statistic_names("d", config, labels=False, augmented=True)
    terms.loss.backward()  # through the penalty's gradient
    latents, augmentation = noise(4, 16), drawn(kind, 1)
    loss = g_step_terms(generator, discriminator, latents, config=config, lod=0.0, augmentation=augmentation).loss
    torch.testing.assert_close(loss, -discriminator(augmentation(generator(latents), (0,)))[0].mean())


@pytest.mark.parametrize(("name", "lod"), oracle.CASES)
def test_reals_are_faded(name: str, lod: float) -> None:
    oracle.assert_equal(fade(oracle.reals(name, lod), Level(32, lod).below), oracle.expected(name, lod, "reals_faded"))


@pytest.mark.parametrize("kind", ["full", "native"])
@pytest.mark.parametrize(("name", "lod"), oracle.CASES)
def test_discriminator_loss_norms_and_gradients_meet_the_oracle(name: str, lod: float, kind: str) -> None:
    _, discriminator = oracle.networks(name)
    config = LossConfig(gradient_norm=kind)  # type: ignore[arg-type]
    terms = oracle_terms(name, lod, config, discriminator)
    oracle.assert_equal(terms.loss, oracle.expected(name, lod, f"d_loss_{kind}"), "loss")
    norms = oracle.expected(name, lod, f"gradient_norms_{kind}")
    oracle.assert_equal(terms.statistics["gradient_norm"], norms.mean(), "mean norm")
    reals, fakes = oracle.expected(name, lod, "reals_faded"), oracle.expected(name, lod, "fakes")
    mixed = torch.lerp(reals, fakes, oracle.tensor(f"{name}.mixing").view(-1, 1, 1, 1)).requires_grad_()
    found = gradient_norms(discriminator(mixed, lod)[0], mixed) * gradient_scale(config, Level(32, lod))
    oracle.assert_equal(found, norms, "norms")
    terms.loss.backward()
    check_gradient_norms(discriminator, name, lod, f"d_grad_norm_{kind}.d")


@pytest.mark.parametrize(("name", "lod"), oracle.CASES)
def test_generator_loss_and_gradients_meet_the_oracle(name: str, lod: float) -> None:
    generator, discriminator = oracle.networks(name)
    latents, labels = oracle.tensor(f"{name}.latents"), oracle.labels(name)
    require_gradients(discriminator, None)
    terms = g_step_terms(generator, discriminator, latents, config=LossConfig(), lod=lod, labels=labels)
    oracle.assert_equal(terms.loss, oracle.expected(name, lod, "g_loss"))
    terms.loss.backward()
    check_gradient_norms(generator, name, lod, "g_grad_norm.g")
    assert all(parameter.grad is None for parameter in discriminator.parameters())


def check_gradient_norms(network: torch.nn.Module, name: str, lod: float, what: str) -> None:
    for key, parameter in network.named_parameters():
        wanted = oracle.expected(name, lod, f"{what}.{key.removeprefix('levels.')}")
        found = torch.zeros((), dtype=torch.float64) if parameter.grad is None else parameter.grad.norm()
        oracle.assert_equal(found, wanted, key)


@pytest.mark.parametrize(("name", "lod"), oracle.CASES)
def test_least_squares_losses_meet_the_oracle(name: str, lod: float) -> None:
    """The adversarial part alone, as the oracle has it."""
    generator, discriminator = oracle.networks(name)
    terms = oracle_terms(name, lod, LSGAN, discriminator)
    oracle.assert_equal(terms.loss, oracle.expected(name, lod, "lsgan_d_loss"))
    scores, _ = discriminator(generator(oracle.tensor(f"{name}.latents"), oracle.labels(name), lod), lod)
    oracle.assert_equal(scores.square().mean(), oracle.expected(name, lod, "lsgan_g_loss"))
    if name == "plain":
        latents = oracle.tensor("plain.latents")
        g_terms = g_step_terms(generator, discriminator, latents, config=LSGAN, lod=lod)
        oracle.assert_equal(g_terms.loss, oracle.expected(name, lod, "lsgan_g_loss"))


def test_losses_are_means_not_sums() -> None:
    """Every sample twice is the same loss."""
    config = replace(SMALL, d_statistics="none")
    discriminator, generator = Discriminator(config).double(), Generator(config).double()
    reals, fakes, mixing, latents = noise(4, 3, 16, 16), noise(4, 3, 16, 16), torch.rand(4), noise(4, 16)
    for loss in (LossConfig(), LSGAN):
        once = d_step_terms(discriminator, reals, fakes, mixing, config=loss, lod=0.0).loss
        twice = d_step_terms(
            discriminator, *(torch.cat([x, x]) for x in (reals, fakes, mixing)), config=loss, lod=0.0
        ).loss
        torch.testing.assert_close(once, twice)
        g_once = g_step_terms(generator, discriminator, latents, config=loss, lod=0.0).loss
        g_twice = g_step_terms(generator, discriminator, torch.cat([latents, latents]), config=loss, lod=0.0).loss
        torch.testing.assert_close(g_once, g_twice)


@pytest.mark.parametrize("lod", [2.0, 1.5, 1.0, 0.25])
def test_penalty_takes_the_norm_of_the_full_size_image(lod: float) -> None:
    """By differentiating with respect to images that are really repeated up to full resolution."""
    discriminator = Discriminator(SMALL).double()
    size = 16 >> int(lod)
    images = noise(8, 3, size, size)
    factor = 2 ** int(lod)
    full = images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3).requires_grad_()
    scores, _ = discriminator(torch.nn.functional.avg_pool2d(full, factor), lod)
    (gradient,) = torch.autograd.grad(scores.sum(), full)
    expected = gradient.flatten(1).norm(dim=1)
    images.requires_grad_()
    found = gradient_norms(discriminator(images, lod)[0], images)
    torch.testing.assert_close(found * gradient_scale(LossConfig(), Level(16, lod)), expected)
    assert gradient_scale(LossConfig(gradient_norm="native"), Level(16, lod)) == 1.0
    assert gradient_scale(LossConfig(), Level(1024, 8.0)) == 1 / 256


def test_penalty_target_scales_as_published() -> None:
    discriminator = Discriminator(SMALL).double()
    batch = noise(4, 3, 16, 16), noise(4, 3, 16, 16), torch.rand(4)
    statistics = d_step_terms(discriminator, *batch, config=LossConfig(gradient_target=750.0), lod=0.0).statistics
    mixed = torch.lerp(batch[0], batch[1], batch[2].double().view(-1, 1, 1, 1)).requires_grad_()
    norms = gradient_norms(discriminator(mixed)[0], mixed)
    torch.testing.assert_close(statistics["gradient_penalty"], (10 * ((norms - 750) / 750).square().mean()).detach())


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_gradients_equal_those_of_the_plain_formulation(alpha: float) -> None:
    generator, discriminator = Generator(SMALL).double(), Discriminator(SMALL).double()
    pg, pd = plain.parameters_of(generator), plain.parameters_of(discriminator)
    lod = 0.0 if alpha == 1 else 1.0 - alpha
    reals, fakes, mixing, latents = noise(8, 3, 16, 16), noise(8, 3, 16, 16), torch.rand(8).double(), noise(8, 16)
    d_step_terms(discriminator, reals, fakes, mixing, config=LossConfig(), lod=lod).loss.backward()
    plain.d_loss(pd, reals, fakes, mixing, 1.0, alpha).backward()
    require_gradients(discriminator, None)
    g_step_terms(generator, discriminator, latents, config=LossConfig(), lod=lod).loss.backward()
    g_loss = plain.g_loss(pg, {name: value.detach() for name, value in pd.items()}, latents, 16, alpha)
    g_loss.backward()
    for network, parameters in ((generator, pg), (discriminator, pd)):
        for name, parameter in network.named_parameters():
            expected = parameters[name].grad
            assert (parameter.grad is None) == (expected is None), name
            if parameter.grad is not None and expected is not None:
                torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-10, msg=name)


def test_labels_add_cross_entropies() -> None:
    config = replace(SMALL, classes=3)
    generator, discriminator = Generator(config).double(), Discriminator(config).double()
    labels = torch.eye(3).double()[[0, 1, 2, 0]]
    reals, fakes, mixing = noise(4, 3, 16, 16), noise(4, 3, 16, 16), torch.rand(4)
    batch = {"config": LossConfig(), "lod": 0.0}
    without = d_step_terms(discriminator, reals, fakes, mixing, **batch).loss
    terms = d_step_terms(discriminator, reals, fakes, mixing, **batch, labels=labels)
    entropy = torch.nn.functional.cross_entropy
    real, fake = entropy(discriminator(reals)[1], labels), entropy(discriminator(fakes)[1], labels)
    torch.testing.assert_close(terms.loss, without + real + fake)
    latents = noise(4, 16)
    g_terms = g_step_terms(generator, discriminator, latents, config=LossConfig(), lod=0.0, labels=labels)
    scores, logits = discriminator(generator(latents, labels))
    torch.testing.assert_close(g_terms.loss, -scores.mean() + entropy(logits, labels))
    torch.testing.assert_close(g_terms.statistics["label_loss"], entropy(logits, labels).detach())


# --- parts and devices --------------------------------------------------------------------------------------------


def gradients(parts: list[Part], group: int | None, config: NetworkConfig = SMALL) -> tuple[dict[str, Tensor], Tensor]:
    """Summed gradients of both networks over parts of a minibatch of 12, and the discriminator's loss."""
    torch.manual_seed(7)
    generator, discriminator = Generator(config).double(), Discriminator(config).double()
    reals, mixing, latents, fresh = noise(12, 3, 16, 16), torch.rand(12), noise(12, 16), noise(12, 16)
    statistics = []
    for part in parts:
        at = list(part.indices)
        require_gradients(discriminator, 0.25)
        fakes = generator(latents[at], None, 0.25).detach()
        batch = fade(reals[at], 0.25), fakes, mixing[at]
        terms = d_step_terms(discriminator, *batch, config=LossConfig(), lod=0.25, group=group)
        (terms.loss * part.weight).backward()
        require_gradients(discriminator, None)
        g_terms = g_step_terms(generator, discriminator, fresh[at], config=LossConfig(), lod=0.25, group=group)
        (g_terms.loss * part.weight).backward()
        statistics.append(terms.statistics)
    found = {
        f"{kind}.{name}": parameter.grad
        for kind, network in (("g", generator), ("d", discriminator))
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    return found, combine(statistics, [part.weight for part in parts])["d_loss"]


@pytest.mark.parametrize(("max_batch", "ranks"), [(4, 1), (8, 1), (None, 2), (4, 2), (None, 3), (5, 3)])
def test_parts_and_devices_give_the_gradients_of_the_whole(max_batch: int | None, ranks: int) -> None:
    whole, loss = gradients([Part(tuple(range(12)), 1.0)], None)
    division = partition(SMALL, 12, max_batch=max_batch, ranks=ranks)
    assert division.exact
    parts = [part for rank in division.by_rank for part in rank]
    assert len(parts) > 1
    found, parted_loss = gradients(parts, division.group)
    assert found.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-11, msg=name)
    torch.testing.assert_close(parted_loss, loss)


def test_contiguous_parts_would_not() -> None:
    whole, _ = gradients([Part(tuple(range(12)), 1.0)], None)
    found, _ = gradients([Part(tuple(range(first, first + 4)), 1 / 3) for first in (0, 4, 8)], 4)
    assert any(not torch.allclose(found[name], gradient, rtol=1e-4) for name, gradient in whole.items())


# --- precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_scale", [1.0, 1024.0])
def test_the_inner_gradient_may_be_scaled(loss_scale: float) -> None:
    discriminator = Discriminator(SMALL).double()
    batch = noise(4, 3, 16, 16), noise(4, 3, 16, 16), torch.rand(4)
    plain_loss = d_step_terms(discriminator, *batch, config=LossConfig(), lod=0.0).loss
    scaled = d_step_terms(discriminator, *batch, config=LossConfig(), lod=0.0, loss_scale=loss_scale).loss
    torch.testing.assert_close(scaled, plain_loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_losses_and_gradients_stay_near_float32(dtype: torch.dtype) -> None:
    discriminator, generator = Discriminator(SMALL), Generator(SMALL)
    reals, mixing = torch.rand(8, 3, 16, 16) * 2 - 1, torch.rand(8)
    fakes = generator(torch.randn(8, 16)).detach()
    scale = 128.0 if dtype == torch.float16 else 1.0
    found = []
    for kind in (torch.float32, dtype):
        discriminator.zero_grad()
        with torch.autocast("cpu", kind, enabled=kind != torch.float32):
            terms = d_step_terms(discriminator, reals, fakes, mixing, config=LossConfig(), lod=0.0, loss_scale=scale)
        terms.loss.backward()
        assert terms.loss.dtype == torch.float32
        gradient = torch.cat([p.grad.flatten() for p in discriminator.parameters() if p.grad is not None])
        found.append((terms.loss.detach(), gradient))
    assert found[1][0].item() == pytest.approx(found[0][0].item(), rel=0.03)
    assert (found[1][1] - found[0][1]).norm() < 0.06 * found[0][1].norm()


def test_a_vanishing_gradient_has_a_finite_penalty() -> None:
    discriminator = Discriminator(SMALL)
    for parameter in discriminator.parameters():
        parameter.data.zero_()
    images = torch.rand(4, 3, 16, 16)
    d_step_terms(discriminator, images, images, torch.rand(4), config=LossConfig(), lod=0.0).loss.backward()
    for parameter in discriminator.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
