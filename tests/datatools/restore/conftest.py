"""Restorers made of small networks."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from datatools.restore import Step
from datatools.restore.networks import SuperResolver
from datatools.restore.restorers import NetworkRestorer
from datatools.restore.weights import Network, save_weights
from tests.support.restore_samples import tiny_network


def lively_chain(folder: Path, networks: Mapping[str, Network]) -> NetworkRestorer:
    """A chain with random weights so large that far pixels matter."""
    steps = []
    for task, network in networks.items():
        for name, parameter in network.named_parameters():
            if name.endswith("weight"):
                gain = 0.3 if "exit" in name else 1.4
                torch.nn.init.normal_(parameter, std=gain / parameter[0].numel() ** 0.5)
        save_weights(folder / f"{task}.safetensors", network, task, {})
        steps.append(Step(task, str(folder / f"{task}.safetensors"), f"{folder.name} {task}"))
    return NetworkRestorer("tiny", tuple(steps), "auto", "cpu", "fp32", 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> NetworkRestorer:
    """An artifact remover and a super-resolver."""
    networks = {task: tiny_network(task) for task in ("jpeg", "sr")}
    return lively_chain(tmp_path_factory.mktemp("weights"), networks)


@pytest.fixture(scope="module")
def grainy(tmp_path_factory: pytest.TempPathFactory) -> NetworkRestorer:
    """The same with a super-resolver whose noise lies fixed on the photo's pixels, and shows."""
    torch.manual_seed(5)
    networks = {"jpeg": tiny_network("jpeg"), "sr": SuperResolver(channels=4, blocks=1, texture=3)}
    return lively_chain(tmp_path_factory.mktemp("grain"), networks)
