"""Low-pass filters and resampling: equal to filters written out, with gradients of every order."""

import pytest
import torch
from torch import Tensor

from pggan.model.convolution import without_weight_gradients
from pggan.model.filters import BLUR, BOX, RESAMPLE, Taps, enlarge, reduce, smooth
from pggan.model.layers import ScaledConv
from tests.support import plain_style as plain


def noise(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
    ).requires_grad_()


@pytest.mark.parametrize(("taps", "padding"), [(BOX, 0), (BLUR, 1), (RESAMPLE, 1), (RESAMPLE, 2)])
def test_smooth_and_its_gradients(taps: Taps, padding: int) -> None:
    x, bias = noise(1, 2, 4, 3), noise(2)
    line = torch.tensor(taps, dtype=torch.float64) / sum(taps)
    kernel = torch.outer(line, line).expand(2, 1, len(taps), len(taps))
    expected = torch.nn.functional.conv2d(x, kernel, bias, padding=padding, groups=2)
    torch.testing.assert_close(smooth(x, taps, padding, bias), expected)
    assert torch.autograd.gradcheck(lambda x, bias: smooth(x, taps, padding, bias), (x, bias))
    assert torch.autograd.gradgradcheck(lambda x, bias: smooth(x, taps, padding, bias), (x, bias))


def test_a_bias_gets_no_gradient_where_none_are_wanted() -> None:
    x, bias = noise(1, 2, 4, 4), noise(2)
    with without_weight_gradients():
        smooth(x, RESAMPLE, 1, bias).sum().backward()
    assert x.grad is not None
    assert bias.grad is None


def test_resampling_and_its_gradients() -> None:
    x = noise(1, 2, 2, 4)
    torch.testing.assert_close(enlarge(x), plain.up(x))
    torch.testing.assert_close(reduce(x), plain.down(x))
    for function in (enlarge, reduce):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_images_stay_flat_but_for_the_border(dtype: torch.dtype) -> None:
    x = torch.ones(1, 2, 8, 8, dtype=dtype)
    for y in (enlarge(x), reduce(x), smooth(x, BLUR, 1)):
        assert y.dtype == dtype
        torch.testing.assert_close(y[..., 1:-1, 1:-1], torch.ones_like(y[..., 1:-1, 1:-1]))
        assert y[0, 0, 0, 0] < 1


def test_fused_convolutions_equal_resampling_and_convolving() -> None:
    x = noise(2, 3, 6, 6)
    for resample in ("up", "down"):
        layer = ScaledConv(3, 4, 3, weights="equalized", resample=resample, taps=RESAMPLE).double()  # type: ignore[arg-type]
        assert layer.bias is not None
        layer.bias.data.normal_()
        if resample == "up":
            filtered, stride = plain.fir(plain.between(x), 3, 2, 4.0), 1
        else:
            filtered, stride = plain.fir(x, 2, 2), 2
        expected = torch.nn.functional.conv2d(filtered, layer.weight * layer.scale, layer.bias, stride=stride)
        torch.testing.assert_close(layer(x), expected)
