"""Enlarged pictures reduce to what they were made of."""

import numpy as np
import pytest
import torch
from PIL import Image

from datatools.restore.consistency import REACH, enlarge_bicubic, keep_small_picture, reduce_bicubic
from datatools.restore.fit.metrics import psnr_rgb
from datatools.restore.networks import SuperResolver
from datatools.restore.tiling import restore


@pytest.mark.parametrize("width", [44, 4])
def test_the_filter_is_that_of_training(width: int) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (64, width, 3), dtype=np.uint8)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float().contiguous()
    ours = reduce_bicubic(tensor, 4)[0].permute(1, 2, 0).numpy()
    channels = [Image.fromarray(picture[..., c].astype(np.float32)) for c in range(3)]
    theirs = np.stack([np.asarray(c.resize((width // 4, 16), Image.Resampling.BICUBIC)) for c in channels], axis=2)
    assert np.abs(ours - theirs).max() < 0.01


def test_what_shifts_colours_and_sharpens_is_taken_back() -> None:
    torch.manual_seed(0)
    small = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 96, 80), 3, 1, 1)
    plain = enlarge_bicubic(small, 4)
    wrong = plain + torch.tensor([0.01, -0.02, 0.005])[None, :, None, None] + 0.3 * (plain - plain.mean())
    before = (reduce_bicubic(wrong, 4) - small).square().mean()
    errors = [(reduce_bicubic(keep_small_picture(wrong, small, 4, n), 4) - small).square().mean() for n in (0, 1, 3)]
    assert errors[0] == before
    assert errors[1] < before / 10
    assert errors[2] < errors[1] / 4
    shift = (reduce_bicubic(keep_small_picture(wrong, small, 4), 4) - small).mean(dim=(0, 2, 3))
    assert shift.abs().max() < 0.1 / 255


def test_a_faint_octave_keeps_its_amplitude() -> None:
    """Soft pictures have little in their finest octave, which a network that sharpens lifts by 40 %."""

    def blurred(pictures: torch.Tensor, side: int) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pictures, side, 1, side // 2)

    small = blurred(blurred(torch.from_numpy(np.random.default_rng(5).random((1, 3, 48, 48), np.float32)), 3), 3)
    plain = enlarge_bicubic(small, 4)
    sharpened = plain + 1.4 * (plain - blurred(plain, 9))
    ratios = []
    for enlarged in (sharpened, keep_small_picture(sharpened, small, 4)):
        reduced = reduce_bicubic(enlarged, 4)
        ratios.append(float((reduced - blurred(reduced, 3)).std() / (small - blurred(small, 3)).std()))
    assert ratios[0] > 1.35
    assert ratios[1] == pytest.approx(1, abs=0.015)


def test_far_pixels_do_not_count() -> None:
    torch.manual_seed(1)
    enlarged, small = torch.rand(1, 3, 240, 240), torch.rand(1, 3, 60, 60)
    whole = keep_small_picture(enlarged, small, 4)
    cut = keep_small_picture(enlarged[..., 40:200, 40:200], small[..., 10:50, 10:50], 4)
    inner = slice(4 * REACH, 160 - 4 * REACH)
    outer = slice(40 + 4 * REACH, 200 - 4 * REACH)
    assert torch.allclose(cut[..., inner, inner], whole[..., outer, outer], atol=1e-5)
    assert not torch.allclose(cut[..., :4, :4], whole[..., 40:44, 40:44], atol=1e-3)


def test_an_untrained_network_returns_its_input() -> None:
    torch.manual_seed(2)
    network = SuperResolver(channels=8, blocks=2)
    rng = np.random.default_rng(4)
    coarse = Image.fromarray(rng.integers(40, 216, (12, 10, 3), dtype=np.uint8))
    small = np.array(coarse.resize((60, 72), Image.Resampling.BICUBIC))
    with torch.no_grad():
        network.exit.bias += 0.02  # of all colours: 5 levels
    enlarged = restore(network, small)
    again = np.array(Image.fromarray(enlarged).resize((60, 72), Image.Resampling.BICUBIC))
    assert psnr_rgb(again, small) > 50
    assert np.abs(again.mean(axis=(0, 1)) - small.mean(axis=(0, 1))).max() < 0.1
