"""Convolutions, box filter and leaky ReLU: equal to PyTorch's own, with gradients of every order."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pggan.model.convolution import box, convolution, leaky_relu_, without_weight_gradients
from pggan.model.layers import ScaledConv, shared_weights
from pggan.model.networks import down2, up2


def noise(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
    ).requires_grad_()


GEOMETRIES = [(3, 1, 1, False, 4), (1, 1, 0, False, 4), (3, 2, 0, False, 5), (3, 2, 0, True, 2), (3, 1, 1, True, 4)]


@pytest.mark.parametrize(("kernel", "stride", "padding", "transposed", "size"), GEOMETRIES)
def test_convolution_and_its_gradients(kernel: int, stride: int, padding: int, transposed: bool, size: int) -> None:
    x, weight, bias = noise(2, 2, size, size), noise(3, 2, kernel, kernel), noise(3)
    if transposed:
        weight = noise(2, 3, kernel, kernel)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convolution(x, weight, bias, stride=stride, padding=padding, transposed=transposed)

    reference = functional.conv_transpose2d if transposed else functional.conv2d
    torch.testing.assert_close(run(x, weight, bias), reference(x, weight, bias, stride=stride, padding=padding))
    assert torch.autograd.gradcheck(run, (x, weight, bias))
    assert torch.autograd.gradgradcheck(run, (x, weight, bias))


@pytest.mark.parametrize("padding", [0, 1])
def test_box_filter(padding: int) -> None:
    x, bias = noise(2, 3, 4, 4), noise(3)
    expected = functional.avg_pool2d(x, 2, stride=1, padding=padding) + bias.view(1, -1, 1, 1)
    torch.testing.assert_close(box(x, padding, bias), expected)
    single = box(x.detach().float(), padding, bias.detach().float())  # another implementation
    torch.testing.assert_close(single, expected.detach().float())
    assert torch.autograd.gradcheck(lambda x, bias: box(x, padding, bias), (x, bias))
    assert torch.autograd.gradgradcheck(lambda x, bias: box(x, padding, bias), (x, bias))


@pytest.mark.parametrize("slope", [0.2, 0.0])
def test_leaky_relu(slope: float) -> None:
    x = noise(3, 2, 4, 4)
    torch.testing.assert_close(leaky_relu_(x * 1, slope), functional.leaky_relu(x, slope))
    assert torch.autograd.gradcheck(lambda x: leaky_relu_(x * 1, slope), x)
    assert torch.autograd.gradgradcheck(lambda x: leaky_relu_(x * 1, slope), x)


def test_resampling_convolutions_equal_resizing_and_convolving() -> None:
    x = noise(2, 3, 6, 6)
    for resample in ("up", "down"):
        layer = ScaledConv(3, 4, 3, weights="equalized", resample=resample).double()  # type: ignore[arg-type]
        assert layer.bias is not None
        layer.bias.data.normal_()
        weight = layer.weight * layer.scale
        if resample == "up":
            expected = functional.conv2d(up2(x), weight, layer.bias, padding=1)
        else:
            expected = down2(functional.conv2d(x, weight, layer.bias, padding=1))
        torch.testing.assert_close(layer(x), expected)


def test_weight_gradients_can_be_left_out() -> None:
    x, weight, bias = noise(2, 3, 4, 4), noise(3, 3, 3, 3), noise(3)
    with without_weight_gradients():
        box(convolution(x, weight, bias, padding=1), 1, bias).sum().backward()
    assert x.grad is not None
    assert weight.grad is None
    assert bias.grad is None
    convolution(x, weight, bias, padding=1).sum().backward()
    assert weight.grad is not None
    assert bias.grad is not None


def test_shared_weights_give_the_same_gradients() -> None:
    x = noise(2, 3, 6, 6)
    layer = ScaledConv(3, 4, 3, weights="equalized", resample="up").double()
    (layer(x).sum() + layer(2 * x).square().sum()).backward()
    expected = layer.weight.grad
    assert expected is not None
    layer.weight.grad = None
    with shared_weights(layer):
        first = layer.effective_weight(torch.float64)
        loss = layer(x).sum() + layer(2 * x).square().sum()
        assert layer.effective_weight(torch.float64) is first
    loss.backward()
    torch.testing.assert_close(layer.weight.grad, expected)
    assert layer.effective_weight(torch.float64) is not first
