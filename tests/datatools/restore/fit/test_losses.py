"""Losses of the restoration networks."""

import pytest
import torch

from datatools.restore.fit import losses


def test_balanced_errors_weigh_bad_pictures_by_the_root() -> None:
    target = torch.zeros(1, 3, 8, 8)
    given = torch.full_like(target, 0.1)
    worse = torch.full_like(target, 0.4)
    same = losses.balanced_error(given, target, given)
    assert float(losses.balanced_error(worse, target, worse) / same) == pytest.approx(2, rel=0.02)
    assert float(losses.balanced_error(target, target, target)) < 0.05  # left alone, and rightly so
    assert float(losses.balanced_error(given, target, target)) > 5 * float(same)  # spoiled


def _grain(seed: int, *, weave: bool) -> torch.Tensor:
    """Band-passed noise on grey, with power in all directions or near the axes alone."""
    noise = torch.fft.fft2(torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(seed)))
    frequency = torch.fft.fftfreq(128).abs()
    fy, fx = frequency[:, None], frequency[None, :]
    radius = torch.hypot(fy, fx)
    kept = (radius > 0.15) & (radius < 0.45)
    if weave:
        kept &= torch.minimum(fy, fx) < 0.3 * torch.maximum(fy, fx)
    grain = torch.fft.ifft2(noise * kept).real
    return 0.5 + 0.05 * grain / grain.std()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_weave_is_no_grain(seed: int) -> None:
    """The ratio is about 3; along directions that are random in every value it is 1.4, and networks learn a weave."""
    target = _grain(10 + seed, weave=False)
    even, woven = (
        float(losses.sliced_distance(_grain(seed, weave=weave), target, torch.Generator().manual_seed(seed)))
        for weave in (False, True)
    )
    assert woven > 2 * even
