"""Model files: safetensors with everything that rebuilds the networks; no date, path or machine."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError, SettingError, one_line
from datatools.files import atomic_path, check_readable, unlike, utf8_path
from pggan.config.level import Level
from pggan.config.settings import AnyNetworkConfig, network_to_json
from pggan.config.stored import network_from_json
from pggan.model.families import AnyDiscriminator, AnyGenerator, new_discriminator, new_generator
from pggan.model.networks import Network
from pggan.model.style import StyleGenerator, seeded_noise
from pggan.pixels import to_bytes
from pggan.precision import full_products
from pggan.rng import normals

FORMAT = "pggan-model"
VERSION = 1
CHECKSUM = "sha256"  # of heading and tensors, an entry of the heading
METADATA = "pggan"  # one entry: with several, their order in the file would change from run to run
FINAL, BEST, CHECKPOINTS = "final.safetensors", "best.safetensors", "checkpoints"  # in a run folder
REMEDY = f"a run's folder, or its {FINAL}"
MAX_RESOLUTION = 1024  # of pyramids, and so of networks
MAX_IMAGES = 10**15  # more than anybody will ever show to a network
BATCH_PIXELS, DEVICE_PIXELS = 1 << 17, 1 << 22  # that a generator makes at a time, on a CPU and on other devices


@dataclass
class NetworkSet:
    """The networks of a run: `ema` makes the pictures; the other two are needed to continue training.

    `averages`: further EMAs of the generator by their half-life in kimg.
    """

    ema: AnyGenerator
    generator: AnyGenerator
    discriminator: AnyDiscriminator
    averages: dict[float, AnyGenerator] = field(default_factory=dict, kw_only=True)

    @property
    def stored(self) -> dict[str, Network]:
        """Return the networks by their names in model files and checkpoints."""
        return {
            "average": self.ema,
            "generator": self.generator,
            "discriminator": self.discriminator,
            # a tensor's name in a file is the network's, up to the first dot, and its own
            **{f"average@{kimg:g}".replace(".", "_"): network for kimg, network in self.averages.items()},
        }

    def load(self, states: Mapping[str, Any]) -> None:
        """Take the weights from state dictionaries by the names of `stored`; raises what PyTorch raises.

        Further EMAs that are not there begin as `ema`.
        """
        for name, network in self.stored.items():
            network.load_state_dict(states["average" if name.startswith("average@") and name not in states else name])


@dataclass
class Model(NetworkSet):
    """Networks after `images` reals. `lod`: how far they had grown; 0 is the full resolution.

    `untrained`: those of `stored` whose weights are random, because the file that the model is of lacks them.
    """

    lod: float
    images: int
    untrained: tuple[str, ...] = ()

    @property
    def config(self) -> AnyNetworkConfig:
        return self.ema.config

    @property
    def level(self) -> Level:
        """Return how far the networks had grown."""
        return Level(self.config.resolution, self.lod)

    @property
    def device(self) -> torch.device:
        return next(self.ema.parameters()).device

    def to(self, device: torch.device | str) -> "Model":
        """Move the networks to `device` and return the model."""
        for network in self.stored.values():
            network.to(device)
        return self

    def with_ema(self, kimg: float | None) -> "Model":
        """Return the model that makes pictures with the EMA of that half-life, None: with the run's own.

        DataError for one that was not kept, which names those that were.
        """
        if kimg is None:
            return self
        if kimg not in self.averages:
            kept = ", ".join(f"{kimg:g}" for kimg in self.averages)
            there = f"it has EMAs of {kept} kimg" if kept else "it has its own EMA alone"
            raise SettingError("ema_kimg", f"{kimg:g}: the model was not trained with it; {there}")
        return replace(self, ema=self.averages[kimg])

    def latents(self, seeds: Iterable[int]) -> Tensor:
        """Return (n, latent_size); a seed's latents depend only on the seed."""
        return torch.stack([normals(seed, "grid", 0, (self.config.latent_size,)) for seed in seeds])

    def labels(self, label: int | None, seeds: Iterable[int]) -> Tensor | None:
        """Return (n, classes) one-hot: all of class `label`, or, when it is None, of a class drawn by each seed."""
        classes = self.config.classes
        if not classes:
            if label is not None:
                raise SettingError("label", f"{label}: the model was trained without labels")
            return None
        if label is not None and not 0 <= label < classes:
            raise SettingError("label", f"{label}: the model has classes 0 to {classes - 1}")
        chosen = [np.random.default_rng([seed, 1]).integers(classes) if label is None else label for seed in seeds]
        return torch.eye(classes)[torch.tensor(chosen)]

    @torch.no_grad()
    def pictures(self, seeds: Iterable[int], *, label: int | None = None, full: bool = False) -> NDArray[np.uint8]:
        """Return pictures of the seeds, (n, r, r, 3) uint8 RGB.

        `full`: repeat pixels of networks that have not grown to the full resolution up to it.
        """
        seeds = list(seeds)
        latents, labels = self.latents(seeds), self.labels(label, seeds)
        return render(self.ema, latents, labels, self.lod, full=full)


def pictures_at_once(device: torch.device, resolution: int) -> int:
    """Return how many pictures of that side a network makes or judges at a time, so that they fit into its memory."""
    return max(1, (BATCH_PIXELS if device.type == "cpu" else DEVICE_PIXELS) // resolution**2)


@torch.no_grad()
def render(
    generator: AnyGenerator,
    latents: Tensor,
    labels: Tensor | None,
    lod: float,
    *,
    full: bool = False,
    noise_seeds: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Return (n, r, r, 3) uint8 RGB of the generator, made a few at a time in float32.

    `noise_seeds`: of each picture's noise maps, for a style-based generator; None: those of its `look`.
    """
    device = next(generator.parameters()).device

    def make(some: slice) -> Tensor:
        own = None if labels is None else labels[some].to(device)
        given = latents[some].to(device)
        if noise_seeds is not None and isinstance(generator, StyleGenerator):
            noise, _ = seeded_noise(generator.noise_sides(lod), noise_seeds[some], device)
            return generator(given, own, lod, noise=noise)
        made: Tensor = generator(given, own, lod)
        return made

    level = Level(generator.config.resolution, lod)
    pictures = _in_parts(make, len(latents), level.resolution, device)
    repeats = level.full // level.resolution if full else 1
    return pictures.repeat(repeats, axis=1).repeat(repeats, axis=2)


@torch.no_grad()
def render_styles(generator: StyleGenerator, ws: Tensor, lod: float) -> NDArray[np.uint8]:
    """Return (n, r, r, 3) uint8 RGB of ws (n, places, W), truncated and with the noise of the generator's `look`."""
    device, look = generator.w_average.device, generator.look

    def make(some: slice) -> Tensor:
        return generator.synthesize(generator.truncate(ws[some].to(device), look.psi, look.cutoff), lod)

    return _in_parts(make, len(ws), Level(generator.config.resolution, lod).resolution, device)


@full_products()
def _in_parts(make: Callable[[slice], Tensor], count: int, resolution: int, device: torch.device) -> NDArray[np.uint8]:
    """Return (count, r, r, 3) uint8 of what `make` makes of so many at a time."""
    step = pictures_at_once(device, resolution)
    return np.concatenate([to_bytes(make(slice(start, start + step))) for start in range(0, count, step)])


def save_model(
    path: Path,
    networks: NetworkSet,
    *,
    lod: float,
    images: int,
    untrained: tuple[str, ...] = (),
    compact: bool = False,
) -> None:
    """Write the networks except the `untrained` ones. The bytes depend on the arguments alone.

    compact: in float16, and without the generator as trained, for which the EMA stands when the file is read.
    """
    left_out = (*untrained, "generator") if compact else untrained
    tensors = {
        f"{stored}.{name}": (tensor.half() if compact and tensor.is_floating_point() else tensor).cpu().contiguous()
        for stored, network in networks.stored.items()
        for name, tensor in network.state_dict().items()
        if stored not in left_out
    }
    network = network_to_json(networks.ema.config)
    described = {"format": FORMAT, "version": VERSION, "network": network, "lod": lod, "images": images}
    if networks.averages:
        described["ema_kimg"] = list(networks.averages)
    if untrained:
        described["untrained"] = untrained
    if compact:
        described["compact"] = True
    described[CHECKSUM] = _checksum(described, tensors)
    with atomic_path(path) as temporary:
        metadata = {METADATA: json.dumps(described, sort_keys=True)}
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))


def read_model(path: Path) -> Model:
    """Return the model of a file, on the CPU.

    Raises DataError, in one line, for anything else. Memory is allocated only after the file's tensors have been
    compared with its heading.
    """
    if not path.exists():
        raise DataError(f"{path}: neither a model file nor a run folder: it does not exist")
    check_readable(path, "model file", REMEDY)
    try:
        with utf8_path(path) as name:
            with safetensors.safe_open(name, framework="pt") as file:
                metadata = file.metadata() or {}
            tensors = safetensors.torch.load_file(name) if METADATA in metadata else {}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        reason = unlike(path) or one_line(error, 200)
        raise DataError(f"{path}: cannot be read as a model file ({reason}); give {REMEDY}") from error
    if METADATA not in metadata:
        raise DataError(f"{path}: is not a model file of this program; give {REMEDY}")
    try:
        heading = _json(metadata[METADATA])
        if heading.get("format") == FORMAT and heading.get("version") != VERSION:
            raise DataError(f"{path}: model file of version {heading.get('version')}, this program reads {VERSION}")
        described = _heading(heading)
        _check_tensors(described, tensors)
        if heading.pop(CHECKSUM, None) not in (None, _checksum(heading, tensors)):  # none in files of older versions
            raise ValueError("its values are not those that were written (checksum)")
        states: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            stored, _, own = key.partition(".")
            states.setdefault(stored, {})[own] = tensor
        if described.compact:
            states["generator"] = states["average"]
        lod, images = described.lod, described.images
        model = filled_model(described.network, states, lod=lod, images=images, ema_kimg=described.ema_kimg)
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise DataError(f"{path}: the model file is damaged: {one_line(error, 200)}") from error
    return model


def _checksum(described: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of a heading without its checksum, and of all tensors."""
    found = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode() + tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _json(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its heading is not JSON ({one_line(error, 200)})") from error
    if not isinstance(values, dict):
        raise TypeError(f"its heading is not a JSON object but {str(values)[:40]}")
    return values


@dataclass(frozen=True)
class _Heading:
    """What a file says of its networks; see `Model` and `save_model`."""

    network: AnyNetworkConfig
    lod: float
    images: int
    untrained: list[str]
    ema_kimg: list[float]
    compact: bool


def _heading(values: dict[str, Any]) -> _Heading:
    """Return what the values say; ValueError says what is wrong with them."""
    if values.get("format") != FORMAT:
        raise ValueError(f"its heading names the format {str(values.get('format'))[:40]!r} instead of {FORMAT!r}")
    missing = {"network", "lod", "images"} - values.keys()
    if missing:
        raise ValueError(f"its heading lacks {', '.join(sorted(missing))}")
    try:
        config = network_from_json(values["network"])
    except DataError as error:
        raise ValueError(f"its heading has {error}") from error
    lod, images = values["lod"], values["images"]
    if config.resolution > MAX_RESOLUTION:
        raise ValueError(f"its heading has networks of {config.resolution} pixels, the most is {MAX_RESOLUTION}")
    if type(lod) not in (int, float) or not 0 <= lod <= len(config.levels) - 1:
        raise ValueError(f"its heading has the lod {lod!r}, which must be 0 to {len(config.levels) - 1}")
    if type(images) is not int or not 0 <= images <= MAX_IMAGES:
        raise ValueError(f"its heading has {str(images)[:40]} images seen")
    untrained = values.get("untrained", [])
    if untrained not in ([], ["discriminator"]):
        raise ValueError(f"its heading leaves out {str(untrained)[:40]}; only the discriminator may be missing")
    ema_kimg = values.get("ema_kimg", [])
    if not isinstance(ema_kimg, list) or not all(type(kimg) in (int, float) and kimg > 0 for kimg in ema_kimg):
        raise ValueError(f"its heading has EMAs of {str(ema_kimg)[:40]} kimg")
    compact = values.get("compact", False)
    if not isinstance(compact, bool):
        raise ValueError(f"its heading has {str(compact)[:40]!r} for compact, which is true or false")
    return _Heading(config, float(lod), images, untrained, ema_kimg, compact)


def _check_tensors(heading: _Heading, tensors: dict[str, Tensor]) -> None:
    """Raise ValueError unless the tensors are finite, and those of the networks that the heading describes."""
    left_out = [*heading.untrained, *["generator"][: heading.compact]]
    with torch.device("meta"):  # networks of any size cost nothing before the tensors are seen to fit
        expected = {
            f"{stored}.{name}": tensor
            for stored, network in new_model(heading.network, ema_kimg=heading.ema_kimg).stored.items()
            for name, tensor in network.state_dict().items()
            if stored not in left_out
        }
    if heading.compact:
        expected = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in expected.items()}
    for words, names in (("lacks", expected.keys() - tensors.keys()), ("also has", tensors.keys() - expected.keys())):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ValueError(f"it {words} {', '.join(sorted(names)[:3])}{more}")
    for name, tensor in sorted(tensors.items()):
        right = expected[name]
        if (tensor.shape, tensor.dtype) != (right.shape, right.dtype):
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} {tensor.dtype} instead of {tuple(right.shape)} {right.dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite")


def filled_model(
    config: AnyNetworkConfig,
    states: Mapping[str, Mapping[str, Tensor]],
    *,
    lod: float,
    images: int,
    ema_kimg: Sequence[float] = (),
) -> Model:
    """Return networks with the weights of `states`, by the names of `stored`; others are random and `untrained`."""
    model = new_model(config, lod, images, ema_kimg)
    for stored, state in states.items():
        model.stored[stored].load_state_dict(state)
    model.untrained = tuple(stored for stored in model.stored if stored not in states)
    return model


def new_model(config: AnyNetworkConfig, lod: float = 0.0, images: int = 0, ema_kimg: Sequence[float] = ()) -> Model:
    """Return networks with random weights, ready to make pictures."""
    ema, generator, *others = (new_generator(config) for _ in range(2 + len(ema_kimg)))
    averages = dict(zip(ema_kimg, others, strict=True))
    model = Model(ema, generator, new_discriminator(config), lod, images, averages=averages)
    for network in model.stored.values():
        network.eval().requires_grad_(False)
    return model
