"""Weight files of the restoration networks: safetensors in half precision, with the settings of the network.

A file holds no code: reading a damaged file, or one of another kind, only gives an error.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from datatools.errors import DataError
from datatools.files import as_data_error, atomic_path, unlike, utf8_path
from datatools.files import check_readable as check_file
from datatools.restore.networks import ArtifactRemover, SuperResolver

Network = ArtifactRemover | SuperResolver
NETWORKS: dict[str, type[Network]] = {"jpeg": ArtifactRemover, "sr": SuperResolver}
"""Network of each task."""

FORMAT = "celebahq-restorer 1"
MAX_BYTES = 64 * 1024**2
RENAMED = {"turns": "self_ensemble"}
"""Settings of networks by the names that files written before have."""
MAX_SETTING = 1024
"""Largest number in a network's settings: more channels or blocks do not fit into MAX_BYTES."""


def save_weights(path: Path, network: Network, task: str, card: Mapping[str, Any]) -> None:
    """Write a network's weights as fp16, with its task, its settings and a model card (anything JSON can hold).

    Raises:
        DataError: the file cannot be written.
    """
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous() for name, value in network.state_dict().items()
    }
    header = {"format": FORMAT, "task": task, "settings": json.dumps(network.settings), "card": json.dumps(dict(card))}
    with as_data_error(path), atomic_path(path) as partial:
        partial.write_bytes(_ordered(save(tensors, header)))


def _ordered(content: bytes) -> bytes:
    """Return the file with a sorted header, so that equal weights give equal bytes: safetensors shuffles it."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at multiples of 8 bytes
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def check_readable(path: Path) -> None:
    """Raise DataError for a path that is not a file, or cannot be read."""
    check_file(path, "weight file", "a weight file (.safetensors, .pth)")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal. Raise DataError if it cannot be read."""
    check_readable(path)
    with as_data_error(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield an open safetensors file and its header. Raise DataError if it is missing, damaged or of another kind."""
    check_readable(path)
    try:
        with utf8_path(path) as readable, safe_open(readable, framework="pt") as file:
            yield file, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged or not a weight file: {unlike(path) or error}") from error


def task_of(path: Path) -> str | None:
    """Return the task of a weight file of this project; None for other files and for names without .safetensors.

    Raises:
        DataError: a .safetensors file that does not exist or cannot be read, a folder of that name, or a file of this
            project that names no task.
    """
    if path.suffix.lower() != ".safetensors":
        return None
    with _open(path) as (_, header):
        if header.get("format") != FORMAT:
            return None
        if "task" not in header:
            raise DataError(f"{path} does not name the task of its weights: the file is damaged")
        return header["task"]


def load_weights(path: Path, task: str) -> tuple[Network, dict[str, Any]]:
    """Return the network of a weight file in evaluation mode, fp32, and its model card.

    Raises:
        DataError: the file is missing, damaged, of another kind, or for another task.
    """
    check_readable(path)
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} is larger than any weight file of this project ({MAX_BYTES >> 20} MiB)")
    with _open(path) as (file, header):
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if header.get("format") != FORMAT:
        raise DataError(f"{path} is not a weight file of these networks (its format is {header.get('format')!r})")
    if header.get("task") != task:
        raise DataError(f"{path} holds weights for the task {header.get('task')!r}, needed is {task!r}")
    try:
        settings = {RENAMED.get(name, name): value for name, value in json.loads(header["settings"]).items()}
        numbers = [n for value in settings.values() for n in (value if isinstance(value, list) else [value])]
        widths = settings["channels"] if isinstance(settings["channels"], list) else [settings["channels"]]
        if not all(0 <= number <= MAX_SETTING for number in numbers) or not all(width >= 1 for width in widths):
            raise ValueError(f"settings {settings} are out of range")
        if not all(value.is_floating_point() for value in tensors.values()):
            raise TypeError("weights are real numbers")
        with torch.device("meta"):  # costs no memory until the weights are known to fit
            network = NETWORKS[task](**settings)
        network.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
        card = json.loads(header["card"])
        if not isinstance(card, dict):
            raise TypeError("the model card is not a JSON object")
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path}: the weights do not fit the network in the file: {str(error).splitlines()[0]}"
        ) from error
    check_finite(path, network)
    return network.eval().requires_grad_(False), card


def check_finite(path: Path, network: nn.Module) -> None:
    """Raise DataError for a network with weights that are not finite."""
    if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
        raise DataError(f"{path} holds values that are not finite: the file is damaged")


def load_remover(path: Path, strength: float) -> ArtifactRemover:
    """Return an artifact remover that makes that share of its change. Raise DataError as `load_weights`."""
    network, _ = load_weights(path, "jpeg")
    assert isinstance(network, ArtifactRemover)
    network.strength = strength
    return network
