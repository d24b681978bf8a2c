"""The style-based networks and their losses against numbers computed apart from them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pggan.config.level import Level
from pggan.model.style import mix_styles
from pggan.model.style_losses import (
    lazy_adam,
    logistic_d_loss,
    logistic_g_loss,
    path_lengths,
    path_penalties,
    r1_penalties,
)
from tests.support import style_oracle as oracle
from tests.support.paths import GOLDEN
from tests.support.style_oracle import Case, assert_equal, assert_gradients

GAMMA, PATH_WEIGHT, PATH_DECAY = 10.0, 2.0, 0.01
STORED_AS_FLOAT32 = 1e-7
EPSILON_ELSEWHERE = 1e-6
"""In style_32.npz the demodulation's 1e-8 is added to the sum of the unscaled weights."""


@pytest.fixture
def folder(sample_data: Path) -> Path:
    path = sample_data.parent / "oracles" / "style"
    if not path.is_dir():
        pytest.skip(f"the reference arrays are not next to the sample photos ({path})")
    return path


@pytest.mark.parametrize("prefix", oracle.GOLDEN_PAIRS)
def test_pair_meets_the_golden_numbers(prefix: str) -> None:
    check_pair(Case.pair(GOLDEN, prefix))


@pytest.mark.parametrize("prefix", oracle.PAIRS)
def test_pair_meets_all_numbers(prefix: str, folder: Path) -> None:
    check_pair(Case.pair(folder, prefix))


@pytest.mark.parametrize("lod", oracle.GOLDEN_LODS)
@pytest.mark.parametrize("prefix", oracle.GROWING)
def test_growing_networks_meet_the_golden_numbers(prefix: str, lod: float) -> None:
    check_level(Case.growing(GOLDEN, prefix), lod)


@pytest.mark.parametrize("lod", oracle.LODS)
@pytest.mark.parametrize("prefix", oracle.GROWING)
def test_growing_networks_meet_all_numbers(prefix: str, lod: float, folder: Path) -> None:
    check_level(Case.growing(folder, prefix), lod)


@pytest.mark.parametrize("prefix", oracle.GROWING)
def test_styles_of_growing_networks_meet_the_golden_numbers(prefix: str) -> None:
    check_styles(Case.growing(GOLDEN, prefix), place=3, tolerance=STORED_AS_FLOAT32)


@pytest.mark.parametrize("prefix", oracle.GROWING)
def test_styles_of_growing_networks_meet_all_numbers(prefix: str, folder: Path) -> None:
    check_styles(Case.growing(folder, prefix), place=3, tolerance=STORED_AS_FLOAT32)


def check_pair(case: Case) -> None:
    generator, discriminator = case.networks()
    check_styles(case, place=4, tolerance=EPSILON_ELSEWHERE)
    latents = case.tensor("latents")
    fakes = generator(latents, noise="fixed")
    assert_equal(fakes, case.tensor("pictures"), EPSILON_ELSEWHERE, "pictures")
    fake_scores, logits = discriminator(fakes)
    assert logits.shape == (8, 0)
    assert_equal(fake_scores, case.tensor("fake_scores")[:, 0], EPSILON_ELSEWHERE, "fake scores")
    loss = logistic_g_loss(fake_scores)
    assert_equal(loss, case.tensor("g_loss"), EPSILON_ELSEWHERE, "generator's loss")
    loss.backward()
    assert_gradients(generator, case.gradient_norms(generator, "g_grad_norm"), EPSILON_ELSEWHERE)

    discriminator.zero_grad()
    reals = case.reals()
    real_scores, _ = discriminator(reals)
    assert_equal(real_scores, case.tensor("real_scores")[:, 0], 1e-9, "real scores")
    loss = logistic_d_loss(real_scores, discriminator(fakes.detach())[0])
    assert_equal(loss, case.tensor("d_loss"), EPSILON_ELSEWHERE, "discriminator's loss")
    loss.backward()
    assert_gradients(discriminator, case.gradient_norms(discriminator, "d_grad_norm"), EPSILON_ELSEWHERE)

    penalties = r1_penalties(discriminator(reals)[0], reals, Level(32))
    assert_equal(penalties, case.tensor("r1"), 1e-9, "R1")
    (GAMMA / 2 * penalties.mean()).backward()
    assert_gradients(discriminator, case.gradient_norms(discriminator, "r1_grad_norm_gamma10"), 1e-8)

    ws = generator.broadcast(generator.map(latents[:4]))
    lengths = path_lengths(generator.synthesize(ws, noise="fixed"), ws, case.tensor("path_noise") / 32)
    assert_equal(lengths, case.tensor("path_lengths"), EPSILON_ELSEWHERE, "path lengths")
    (PATH_WEIGHT * path_penalties(lengths, torch.zeros(()), PATH_DECAY)[0].mean()).backward()
    assert_gradients(generator, case.gradient_norms(generator, "path_grad_norm_first_step"), EPSILON_ELSEWHERE)


def check_styles(case: Case, *, place: int, tolerance: float) -> None:
    """Mapping, noise, truncation and mixing at full size."""
    generator, _ = case.networks()
    latents = case.tensor("latents")
    w = generator.map(latents)
    assert_equal(w, case.tensor("w"), 1e-9, "w")
    ws = generator.broadcast(w)
    pictures = {
        "without_noise": generator(latents, noise="none"),
        "truncated_0.7": generator(latents, noise="fixed", psi=0.7),
        f"mixed_from_{place}": generator.synthesize(mix_styles(ws, ws.flip(0), place), noise="fixed"),
    }
    if case.config.growing:
        pictures["truncated_0.7_first_4"] = generator(latents, noise="fixed", psi=0.7, cutoff=4)
    if case.prefix == "a":
        with torch.no_grad():  # the code turns the kernels where it fuses enlarging and convolution
            for r in (8, 16, 32):
                weight = generator.level(r).conv0.weight
                weight.copy_(weight.flip(2, 3))
        pictures["fused_from_8"] = generator(latents, noise="fixed")
    for name, found in pictures.items():
        assert_equal(found, case.tensor(f"pictures_{name}"), tolerance, name)


def check_level(case: Case, lod: float) -> None:
    generator, discriminator = case.networks()
    level, start = Level(32, lod), f"lod{lod:.2f}."
    fakes = generator(case.tensor("latents"), None, lod, noise="fixed")
    assert_equal(fakes, case.tensor(f"{start}pictures"), STORED_AS_FLOAT32, "pictures")
    reals = case.reals(level.resolution, level.below)
    if level.below:
        assert_equal(reals, case.tensor(f"{start}reals_faded"), STORED_AS_FLOAT32, "reals")
    scores = {"fake": discriminator(fakes, lod)[0], "real": discriminator(reals, lod)[0]}
    for kind, found in scores.items():
        assert_equal(found, case.tensor(f"{start}{kind}_scores")[:, 0], 1e-9, f"{kind} scores")

    loss = logistic_g_loss(scores["fake"])
    assert_equal(loss, case.tensor(f"{start}g_loss"), 1e-9, "generator's loss")
    loss.backward()
    used = {name for name, parameter in generator.named_parameters() if parameter.grad is not None}
    assert used == {name for name, _ in generator.named_parameters() if generator.uses(name, level)}
    assert_gradients(generator, case.gradient_norms(generator, "g_grad_norm", lod), 1e-8)

    discriminator.zero_grad(set_to_none=True)
    loss = logistic_d_loss(discriminator(reals, lod)[0], discriminator(fakes.detach(), lod)[0])
    assert_equal(loss, case.tensor(f"{start}d_loss"), 1e-9, "discriminator's loss")
    loss.backward()
    assert_gradients(discriminator, case.gradient_norms(discriminator, "d_grad_norm", lod), 1e-8)

    native = r1_penalties(discriminator(reals, lod)[0], reals, Level(level.resolution))
    assert_equal(native, case.tensor(f"{start}r1_native"), 1e-9, "R1 by native reals")
    penalties = r1_penalties(discriminator(reals, lod)[0], reals, level)
    assert_equal(penalties, case.tensor(f"{start}r1_full"), 1e-9, "R1")
    (GAMMA / 2 * penalties.mean()).backward()
    assert_gradients(discriminator, case.gradient_norms(discriminator, "r1_grad_norm_gamma10", lod), 1e-8)

    if case.prefix == "b":
        side, times = level.resolution, 32 // level.resolution
        direction = case.tensor("path_noise").view(4, 3, side, times, side, times).sum(dim=(3, 5)) / 32
        ws = generator.broadcast(generator.map(case.tensor("latents")[:4]))
        lengths = path_lengths(generator.synthesize(ws, lod, "fixed"), ws, direction)
        assert_equal(lengths, case.tensor(f"{start}path_lengths"), 1e-9, "path lengths")
        (PATH_WEIGHT * path_penalties(lengths, torch.zeros(()), PATH_DECAY)[0].mean()).backward()
        assert_gradients(generator, case.gradient_norms(generator, "path_grad_norm_first_step", lod), 1e-8)


def test_running_mean_of_path_lengths() -> None:
    values = oracle.numbers(GOLDEN / "style_pieces.npz")
    mean = torch.zeros((), dtype=torch.float64)
    for lengths, wanted, penalty in zip(
        torch.from_numpy(values["path.lengths"]), values["path.means"], values["path.penalties"], strict=True
    ):
        penalties, mean = path_penalties(lengths, mean, PATH_DECAY)
        np.testing.assert_allclose(mean, wanted, rtol=1e-12)
        np.testing.assert_allclose(PATH_WEIGHT * penalties.mean(), penalty, rtol=1e-12)


def test_lazy_terms_rescale_adam() -> None:
    values = oracle.numbers(GOLDEN / "style_pieces.npz")
    found = [lazy_adam(0.002, (0.0, 0.99), int(interval)) for interval in values["lazy.interval"]]
    np.testing.assert_allclose([rate for rate, _ in found], values["lazy.rate_for_0.002"], rtol=1e-12)
    np.testing.assert_allclose([betas[1] for _, betas in found], values["lazy.beta2_for_0.99"], rtol=1e-12)
    assert {betas[0] for _, betas in found} == {0.0}
