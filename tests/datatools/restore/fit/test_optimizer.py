"""Muon for inner kernels, Adam for the rest: every weight moves once, and going on is exact."""

import copy

import pytest
import torch
from torch import nn

from datatools.restore.fit.optimizer import KERNEL_RATE, MuonAndAdam
from datatools.restore.networks import SuperResolver


def network(texture: int = 0) -> SuperResolver:
    torch.manual_seed(0)
    return SuperResolver(channels=8, blocks=2, texture=texture).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def one_step(net: nn.Module, optimizer: MuonAndAdam, seed: int = 1) -> None:
    x = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    net.eval()(x).square().mean().backward()
    optimizer.step()


def test_every_parameter_belongs_to_one_of_the_two() -> None:
    net = network()
    optimizer = MuonAndAdam(net, 1e-3)
    kernels = {id(p) for p in optimizer.kernels}
    rest = {id(p) for group in optimizer.adam.param_groups for p in group["params"]}
    assert kernels | rest == {id(p) for p in net.parameters()}
    assert not kernels & rest
    assert kernels == {id(p) for n, p in net.named_parameters() if n.startswith(("body", "after")) and p.ndim == 4}


def test_steps_change_the_network_in_place_and_have_the_rate_as_spectral_norm() -> None:
    net = network()
    optimizer = MuonAndAdam(net, 1e-3)
    before = {name: value.clone() for name, value in net.named_parameters()}
    one_step(net, optimizer)
    for name, value in net.named_parameters():
        change = (value - before[name]).detach()
        assert change.abs().max() > 0, name
        if any(value is kernel for kernel in optimizer.kernels):
            norm = float(torch.linalg.matrix_norm(change.permute(0, 2, 3, 1).flatten(1), 2))
            assert norm == pytest.approx(1e-3 * KERNEL_RATE, rel=0.35)  # Newton-Schulz is a rough orthogonalization


def test_the_rate_can_be_set_to_zero() -> None:
    net = network()
    optimizer = MuonAndAdam(net, 1e-3)
    optimizer.set_rate(0.0)
    before = copy.deepcopy(net.state_dict())
    one_step(net, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_needs_no_gradient_stays() -> None:
    net = network(texture=4)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("texture."))
    optimizer = MuonAndAdam(net, 1e-3)
    assert optimizer.muon is None
    before = copy.deepcopy(net.state_dict())
    one_step(net, optimizer)
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name]) != name.startswith("texture."), name


def test_goes_on_from_its_state() -> None:
    straight, stopped = network(), network()
    first = MuonAndAdam(straight, 1e-3)
    second = MuonAndAdam(stopped, 1e-3)
    for seed in (1, 2):
        one_step(straight, first, seed)
        one_step(stopped, second, seed)
    state = copy.deepcopy(second.state_dict())
    third = MuonAndAdam(stopped, 1e-3)
    third.load_state_dict(state)
    one_step(straight, first, 3)
    one_step(stopped, third, 3)
    assert all(torch.equal(value, stopped.state_dict()[name]) for name, value in straight.state_dict().items())


def test_kernels_in_another_format_are_refused() -> None:
    with pytest.raises(ValueError, match="channels-last"):
        MuonAndAdam(SuperResolver(channels=8, blocks=1), 1e-3)
