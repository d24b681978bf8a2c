"""Model files: safetensors with everything that rebuilds the networks, and nothing that tells when or where.

from pggan.models import load_model
model = load_model("final.safetensors")
pictures = model.pictures(seeds=range(16))  # (16, r, r, 3) uint8
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError
from datatools.files import atomic_path
from pggan.data import as_bytes
from pggan.networks import Discriminator, Generator, Network
from pggan.presets import NetworkConfig, network_from_json
from pggan.randomness import normals

FORMAT = "pggan-model"
VERSION = 1
METADATA = "pggan"  # one entry: with several, their order in the file would change from run to run
PARTS = ("average", "generator", "discriminator")
BATCH_PIXELS = 1 << 17


@dataclass
class Model:
    """Networks as a training left them: `average` makes the pictures, the other two are for training on.

    `lod` is how far the training had grown: 0 at the full resolution.
    """

    average: Generator
    generator: Generator
    discriminator: Discriminator
    lod: float
    images: int

    @property
    def config(self) -> NetworkConfig:
        return self.average.config

    @property
    def device(self) -> torch.device:
        return next(self.average.parameters()).device

    def to(self, device: torch.device | str) -> "Model":
        """The same model, its networks moved to `device`."""
        for network in (self.average, self.generator, self.discriminator):
            network.to(device)
        return self

    def latents(self, seeds: Iterable[int]) -> Tensor:
        """(n, latent_size): a seed's latents depend on nothing but the seed."""
        return torch.stack([normals(seed, "grid", 0, (self.config.latent_size,)) for seed in seeds])

    def labels(self, label: int | None, seeds: Iterable[int]) -> Tensor | None:
        """(n, classes) one-hot: all of class `label`, or, when it is None, of a class drawn by each seed."""
        classes = self.config.classes
        if not classes:
            if label is not None:
                raise DataError(f"--label {label}: the model was trained without labels")
            return None
        if label is not None and not 0 <= label < classes:
            raise DataError(f"--label {label}: the model has classes 0 to {classes - 1}")
        chosen = [np.random.default_rng([seed, 1]).integers(classes) if label is None else label for seed in seeds]
        return torch.eye(classes)[torch.tensor(chosen)]

    @torch.no_grad()
    def pictures(self, seeds: Iterable[int], *, label: int | None = None, full: bool = False) -> NDArray[np.uint8]:
        """Pictures of the seeds, (n, r, r, 3) uint8 RGB; `full` repeats pixels of an unfinished training's smaller
        pictures up to the full resolution.
        """
        seeds = list(seeds)
        latents, labels = self.latents(seeds), self.labels(label, seeds)
        return render(self.average, latents, labels, self.lod, full=full)


@torch.no_grad()
def render(
    generator: Generator, latents: Tensor, labels: Tensor | None, lod: float, *, full: bool = False
) -> NDArray[np.uint8]:
    """(n, r, r, 3) uint8 RGB of the generator, a few at a time; in float32."""
    device = next(generator.parameters()).device
    resolution = generator.config.resolution >> int(lod)
    step = max(1, BATCH_PIXELS // resolution**2)
    pieces = []
    for start in range(0, len(latents), step):
        some = slice(start, start + step)
        own = None if labels is None else labels[some].to(device)
        pieces.append(as_bytes(generator(latents[some].to(device), own, lod)))
    pictures = np.concatenate(pieces)
    repeats = generator.config.resolution // resolution if full else 1
    return pictures.repeat(repeats, axis=1).repeat(repeats, axis=2)


def save_model(path: Path, parts: dict[str, Network], *, lod: float, images: int) -> None:
    """Write the networks called `PARTS`. The bytes depend on the arguments alone."""
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part in PARTS
        for name, tensor in parts[part].state_dict().items()
    }
    described = {
        "format": FORMAT,
        "version": VERSION,
        "network": asdict(parts["average"].config),
        "lod": lod,
        "images": images,
    }
    with atomic_path(path) as temporary:
        metadata = {METADATA: json.dumps(described, sort_keys=True)}
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """Rebuild the networks of a model file; DataError, in one line, for anything else."""
    path = Path(path)
    described = _described(path)
    try:
        tensors = safetensors.torch.load_file(path)
        config = network_from_json(described["network"])
        networks = {part: _filled(part, config, tensors) for part in PARTS}
        average, generator, discriminator = networks["average"], networks["generator"], networks["discriminator"]
        assert isinstance(average, Generator)
        assert isinstance(generator, Generator)
        assert isinstance(discriminator, Discriminator)
        model = Model(average, generator, discriminator, float(described["lod"]), int(described["images"]))
    except (KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise DataError(f"{path}: the model file is damaged: {' '.join(str(error).split())[:200]}") from error
    return model.to(device)


def _filled(part: str, config: NetworkConfig, tensors: dict[str, Tensor]) -> Network:
    network = Discriminator(config) if part == "discriminator" else Generator(config)
    prefix = f"{part}."
    network.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
    return network.eval().requires_grad_(False)


def _described(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(
            f"{path}: cannot be read as a model file ({error}); give a run's folder, or its final.safetensors"
        ) from error
    described = json.loads(metadata.get(METADATA, "{}"))
    if described.get("format") != FORMAT:
        raise DataError(f"{path}: is not a model file of this program; give a run's folder, or its final.safetensors")
    if described.get("version") != VERSION:
        raise DataError(f"{path}: model file of version {described.get('version')}, this program reads {VERSION}")
    return dict(described)
