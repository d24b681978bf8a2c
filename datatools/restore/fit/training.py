"""Trains a restoration network from photos: the work behind `python -m datatools.restore.fit`.

Every step draws its pictures from a generator seeded by (seed, step), so that a run that was killed goes on as if
nothing had happened.
"""

import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from datatools.errors import DataError
from datatools.files import as_data_error, atomic_path
from datatools.restore.base import Picture
from datatools.restore.fit.dataset import Photos
from datatools.restore.fit.degrade import (
    SCALE,
    SHIFTS,
    compress,
    draw_reduction,
    jpeg_pair,
    reduce_picture,
)
from datatools.restore.fit.distillation import Lessons
from datatools.restore.fit.losses import (
    balanced_error,
    charbonnier,
    critic_loss,
    generator_loss,
    laplacian_levels,
    sliced_distance,
)
from datatools.restore.fit.optimizer import MuonAndAdam
from datatools.restore.networks import Critic, ResidualBlock, SuperResolver
from datatools.restore.weights import NETWORKS, Network, load_remover, load_weights, save_weights

VALIDATION_SIDE = 256
VALIDATION_QUALITIES = (10, 25, 50, 75)
AVERAGE_DECAY = 0.999
"""Decay per step of the weights' average, which is what is validated and kept."""
WARM_UP = 200
"""Steps over which the learning rate rises."""
STATE_PARTS = {"settings", "step", "seconds", "curve", "network", "average", "optimizer"}
CHANGEABLE = {"steps", "turns", "strength"}
"""Settings that may change when a run goes on: how long it is, and what is made of its weights in the end."""
TEXTURE_CHANNELS = 24
"""Channels of the layers that make texture."""
TRIM = 16
"""Pixels of the large picture cut from every side after a reduction, whose kernel reached beyond the part's edges."""


@dataclass(frozen=True)
class FitSettings:
    """What decides about the weights.

    Attributes:
        task: "jpeg" or "sr".
        variant: "distortion" (least error) or "perceptual" (texture; super-resolution only, needs `init`).
        steps: of the optimizer; the learning rate falls to zero over them (half a cosine).
        batch: pictures per step.
        patch: side of the network's input in training, in pixels.
        rate: highest learning rate of Adam.
        network: arguments of the network, where they are not those of `init` or the defaults; residual blocks that
            `init` lacks begin by changing nothing (super-resolution).
        bicubic: part of the training pictures reduced by the bicubic kernel of the usual test sets.
        pixels: weight of the error of every pixel (perceptual; the reduced pictures' error has the weight 1).
        texture: weight of the sliced Wasserstein distance between patches (perceptual).
        adversarial: weight of the critic's opinion (perceptual).
        strength: share of the learned texture that the finished network adds (perceptual); of no account in training.
        turns: orientations that the finished network averages over; of no account in training.
        init: weight file to begin from; the perceptual variant keeps its weights and trains the layers of `Texture`.
        after: weight file of an artifact remover that the inputs go through first (super-resolution), as in the build.
        after_strength: share of that remover's change that is made, in training and by the build.
        teacher: name or weight file of a 4x network whose results are aimed at beside the true pictures (distortion).
        truth: weight of the true pictures' error, where the one of the teacher's pictures has the weight 1.
    """

    task: str = "sr"
    variant: str = "distortion"
    steps: int = 10_000
    batch: int = 8
    patch: int = 48
    rate: float = 1e-3
    seed: int = 0
    precision: str = "bf16"
    network: dict[str, Any] = field(default_factory=dict)
    bicubic: float = 0.85
    pixels: float = 0.5
    texture: float = 0.2
    adversarial: float = 0.01
    strength: float = 1.0
    turns: int = 1
    init: str | None = None
    after: str | None = None
    after_strength: float = 1.0
    teacher: str | None = None
    truth: float = 1.0

    def side(self) -> int:
        """Side of the part of a photo that one training pair is made of."""
        return self.patch * SCALE + 2 * TRIM if self.task == "sr" else self.patch + SHIFTS


def training_pair(photos: Photos, settings: FitSettings, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """(input, target) of one training example: (p, p, 3) and (p * scale, p * scale, 3) uint8."""
    if settings.task == "jpeg":
        # room for pictures that are reduced between two compressions; photos without that much are used as they are
        room = min(settings.side() * 2, photos.least)
        return jpeg_pair(photos.part(room, rng), settings.patch, rng)
    clean = photos.part(settings.side(), rng)
    small = reduce_picture(clean, draw_reduction(rng, bicubic=settings.bicubic))
    if settings.variant == "perceptual" and rng.random() < 0.7:
        small = compress(small, int(rng.integers(60, 96)), subsampling=("4:4:4", "4:2:0")[int(rng.integers(2))])
    cut = TRIM // SCALE
    return (
        np.ascontiguousarray(small[cut:-cut, cut:-cut]),
        np.ascontiguousarray(clean[TRIM:-TRIM, TRIM:-TRIM]),
    )


def initial_network(settings: FitSettings) -> Network:
    """The network before the first step. Raises DataError for a weight file that does not fit."""
    if settings.init is None:
        return NETWORKS[settings.task](**settings.network)
    begun, _ = load_weights(Path(settings.init), settings.task)
    chosen = begun.settings | {"turns": 1} | settings.network
    if settings.variant == "perceptual" and not chosen["texture"]:
        chosen["texture"] = TEXTURE_CHANNELS
    network = NETWORKS[settings.task](**chosen)
    kept = begun.state_dict()
    if isinstance(network, SuperResolver) and isinstance(begun, SuperResolver):
        kept = _deepen(network, begun, settings.init)
    try:
        network.load_state_dict(network.state_dict() | kept)
    except RuntimeError as error:
        raise DataError(f"{settings.init} does not fit the network asked for: {str(error).splitlines()[0]}") from error
    if settings.variant == "perceptual":
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("texture."))
    return network


def _deepen(network: SuperResolver, begun: SuperResolver, init: str) -> dict[str, Tensor]:
    """The weights of `begun` under the names that they have in `network`, which has as many residual blocks or more.

    New blocks lie evenly between the old ones and begin by changing nothing. Raises DataError where there are fewer.
    """
    places, blocks = len(network.body), len(begun.body)
    if places < blocks:
        raise DataError(f"{init} has {blocks} residual blocks, so --blocks {places} would leave some out")
    for block in network.body:
        assert isinstance(block, ResidualBlock)
        nn.init.zeros_(block.second.weight)
    kept = {name: value for name, value in begun.state_dict().items() if not name.startswith("body.")}
    for number, block in enumerate(begun.body):
        place = (number + 1) * places // blocks - 1
        kept |= {f"body.{place}.{name}": value for name, value in block.state_dict().items()}
    return kept


class Fit:
    """One training run: networks, optimizers and how far it is."""

    def __init__(
        self,
        settings: FitSettings,
        photos: Photos,
        validation: "Validation",
        device: torch.device,
        lessons: Lessons | None = None,
    ) -> None:
        """`lessons`: of the photos, by the teacher that the settings name."""
        self.settings, self.photos, self.validation, self.device = settings, photos, validation, device
        self.lessons = lessons
        torch.manual_seed(settings.seed)
        network = initial_network(settings)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.remover: nn.Module | None = None
        if settings.after is not None:
            self.remover = load_remover(Path(settings.after), settings.after_strength).to(device)
        self.optimizer = MuonAndAdam(self.network, settings.rate)
        self.critic: Critic | None = None
        if settings.variant == "perceptual":
            self.critic = Critic().to(device)
            self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), 2e-4, betas=(0.5, 0.99))
        self.step = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []

    def state(self) -> dict[str, Any]:
        """Everything that going on needs."""
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            "photos": self._photos(),
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        if self.critic is not None:
            state |= {"critic": self.critic.state_dict(), "critic_optimizer": self.critic_optimizer.state_dict()}
        return state

    def _photos(self) -> list[str]:
        """Which photos are trained on and measured on: what was trained on must not be measured on later."""
        return [self.photos.digest(), self.validation.digest]

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            DataError: it was made with other settings, but for those in CHANGEABLE, or other photos, or does not fit
                these networks.
        """
        try:
            self._load_state(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"the run's saved state does not fit its networks ({reason}); delete its .state file to begin again"
            ) from error

    def _load_state(self, state: dict[str, Any]) -> None:
        begun = asdict(FitSettings()) | state["settings"]  # settings that came later had their defaults then
        for name, value in asdict(self.settings).items():
            if name not in CHANGEABLE and begun[name] != value:
                raise DataError(
                    f"the run that is to go on has {name} {begun[name]!r}, asked for is {value!r}; "
                    "give the same options, another --out, or delete its .state file"
                )
        if state.get("photos", self._photos()) != self._photos():  # earlier states do not say
            raise DataError(
                "the run that is to go on has other photos; give the same --photos, --exclude and --validation, "
                "another --out, or delete its .state file"
            )
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.curve = [dict(row) for row in state["curve"]]
        self.network.load_state_dict(state["average"])  # seen to fit, and brought to the device
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])

    def rate(self) -> float:
        """Learning rate of the next step: up over WARM_UP steps, then down to zero along half a cosine."""
        s = self.settings
        return s.rate * min(1.0, (self.step + 1) / WARM_UP) * (1 + math.cos(math.pi * self.step / s.steps)) / 2

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, targets, and what the teacher makes of the inputs (the targets, where there is none) of a step."""
        rng = np.random.default_rng([self.settings.seed, self.step])
        triples = [self.example(rng) for _ in range(self.settings.batch)]
        inputs, targets, taught = (self.as_tensor(np.stack(pictures)) for pictures in zip(*triples, strict=True))
        if self.remover is not None:
            with torch.no_grad(), self.autocast():
                inputs = self.remover(inputs).clamp(0, 1)
        return inputs, targets, taught

    def example(self, rng: np.random.Generator) -> tuple[Picture, Picture, Picture]:
        """Input, target, and what the teacher makes of the input or, for other kernels than his, the target."""
        if self.lessons is not None and rng.random() < self.settings.bicubic:
            lesson = self.lessons.part(self.settings.patch, rng)
            return lesson.small, lesson.clean, lesson.taught
        settings = self.settings if self.lessons is None else replace(self.settings, bicubic=0.0)
        given, clean = training_pair(self.photos, settings, rng)
        return given, clean, clean

    def as_tensor(self, pictures: NDArray[np.uint8]) -> Tensor:
        """(n, h, w, 3) uint8 -> (n, 3, h, w) float32, 0..1, channels last."""
        return torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float() / 255

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def one_step(self) -> float:
        """Train on one batch; returns the network's loss."""
        start = time.perf_counter()
        inputs, targets, taught = self.batch()
        self.optimizer.set_rate(self.rate())
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)  # for the network's own noise
        with self.autocast():
            outputs = self.network(inputs).float()
        if self.settings.task == "jpeg":
            loss = balanced_error(outputs, targets, inputs)
        elif self.critic is None:
            loss = charbonnier(outputs, targets).mean()
            if self.lessons is not None:
                loss = self.settings.truth * loss + charbonnier(outputs, taught).mean()
        else:
            loss = self._photographic(outputs, targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(f"the loss is not finite at step {self.step}; lower --rate, or use --precision fp32")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
            for name, parameter in self.network.state_dict().items():
                self.average[name].lerp_(parameter, 1 - decay)
        self.step += 1
        self.seconds += time.perf_counter() - start
        return value

    def _photographic(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Pixels, texture and critic: what asks for a photograph's look. Trains the critic on the way."""
        assert self.critic is not None
        # What the small picture tells stays; texture is free to differ from the true one pixel by pixel.
        small, small_targets = (functional.avg_pool2d(p, SCALE) for p in (outputs, targets))
        loss = charbonnier(small, small_targets).mean() + self.settings.pixels * charbonnier(outputs, targets).mean()
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        loss = loss + self.settings.texture * sliced_distance(outputs, targets, generator)
        with self.autocast():
            real, fake = self.critic(targets), self.critic(outputs.detach())
            critic = critic_loss(real.float(), fake.float())
        self.critic_optimizer.zero_grad(set_to_none=True)
        critic.backward()
        self.critic_optimizer.step()
        self.critic.requires_grad_(False)
        with self.autocast():
            real, fake = self.critic(targets), self.critic(outputs)
        self.critic.requires_grad_(True)
        return loss + self.settings.adversarial * generator_loss(real.float().detach(), fake.float())

    def validate(self) -> dict[str, float]:
        """PSNR of the averaged weights on the validation pictures, and of leaving them alone or bicubic enlargement."""
        kept = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        self.network.eval()
        try:
            with torch.no_grad(), self.autocast():
                return self.validation.measure(lambda p: self.network(p).float(), self.as_tensor)
        finally:
            self.network.load_state_dict(kept)
            self.network.train()

    def averaged_network(self) -> Network:
        """The network that is kept."""
        network = NETWORKS[self.settings.task](**(self.network.settings | {"turns": self.settings.turns}))
        network.load_state_dict(self.average)
        if isinstance(network, SuperResolver) and network.texture is not None:
            network.texture.scale_by(self.settings.strength)
        return network


class Validation:
    """Fixed pairs from photos that are not trained on: the middle of each, reduced or compressed."""

    def __init__(self, task: str, photos: Photos) -> None:
        self.task = task
        self.digest = photos.digest()
        self.pairs: list[tuple[Picture, Picture]] = []
        for number, photo in enumerate(photos.photos):
            clean = _middle(photo.half if photo.half is not None else photo.pixels)
            if task == "sr":
                self.pairs.append((reduce_picture(clean), clean))
            else:
                self.pairs.append((compress(clean, VALIDATION_QUALITIES[number % len(VALIDATION_QUALITIES)]), clean))

    def measure(
        self, restore: Callable[[Tensor], Tensor], as_tensor: Callable[[NDArray[np.uint8]], Tensor]
    ) -> dict[str, float]:
        """Means over the pictures: "psnr" and "baseline" in dB, RGB; "contrast", the standard deviation of the finest
        Laplacian level over the true picture's.
        """
        ours, plain, contrast = [], [], []
        for given, clean in self.pairs:
            inputs, target = as_tensor(given[None]), as_tensor(clean[None])
            baseline = inputs
            if self.task == "sr":
                baseline = functional.interpolate(inputs, scale_factor=SCALE, mode="bicubic", antialias=True).clamp(
                    0, 1
                )
            output = (restore(inputs).clamp(0, 1) * 255).round() / 255
            ours.append(-10 * math.log10(float((output - target).square().mean()) + 1e-10))
            plain.append(-10 * math.log10(float((baseline - target).square().mean()) + 1e-10))
            fine, true = (float(laplacian_levels(p, 1)[0].std()) for p in (output, target))
            contrast.append(fine / max(true, 1e-6))
        return {"psnr": float(np.mean(ours)), "baseline": float(np.mean(plain)), "contrast": float(np.mean(contrast))}


def _middle(picture: Picture) -> Picture:
    height, width = (min(size, VALIDATION_SIDE) // 8 * 8 for size in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def load_state(path: Path) -> dict[str, Any] | None:
    """The state of an earlier run, or None. Raises DataError for a damaged file."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} cannot be read ({reason}); delete it to begin again") from error
    if not isinstance(state, dict) or not state.keys() >= STATE_PARTS:
        raise DataError(f"{path} is no state of a training; delete it to begin again")
    return state


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write whole or not at all. Raises DataError where that cannot be."""
    content = io.BytesIO()  # torch's own writing to a file does not say why it failed
    torch.save(state, content)
    with as_data_error(path), atomic_path(path) as partial:
        partial.write_bytes(content.getbuffer())


def run(
    fit: Fit, out: Path, *, every: int, card: dict[str, Any], progress: Callable[[], object]
) -> Iterator[dict[str, float]]:
    """Train to the end; yields a row of the curve every so many steps, after state and weights are safe on disk.

    A run that is at its end writes the weights again, and yields its last row: it may have been killed before it could,
    the file deleted since, or what is made of the weights changed.
    """

    def save() -> None:
        save_weights(out, fit.averaged_network(), fit.settings.task, card | {"steps": fit.step})

    if fit.step >= fit.settings.steps:
        save()
        yield from fit.curve[-1:]
    losses: list[float] = []
    while fit.step < fit.settings.steps:
        losses.append(fit.one_step())
        progress()
        if fit.step % every == 0 or fit.step == fit.settings.steps:
            row = {"step": fit.step, "loss": float(np.mean(losses)), "seconds": round(fit.seconds, 1)} | fit.validate()
            losses.clear()
            fit.curve.append(row)
            save_state(state_path(out), fit.state())
            save()
            yield row


def state_path(out: Path) -> Path:
    """Where the state of the run that writes `out` lies."""
    return out.with_name(out.name + ".state")
