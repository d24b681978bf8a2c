"""Train a restoration network from photos: the work behind `python -m datatools.restore.fit`.

Every step draws its pictures from a generator seeded by (seed, step), so that a run that was killed resumes exactly.
"""

import copy
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from datatools.errors import DataError, one_line
from datatools.files import as_data_error, atomic_path
from datatools.restore.base import Picture
from datatools.restore.devices import to_device
from datatools.restore.fit.dataset import Photos, training_pair
from datatools.restore.fit.distillation import TeacherTargets
from datatools.restore.fit.faces import REDUCED, FaceValidation, PublishedFaces, warp_part
from datatools.restore.fit.initial import initial_network
from datatools.restore.fit.losses import PerceptualLoss, balanced_error, charbonnier
from datatools.restore.fit.optimizer import MuonAndAdam
from datatools.restore.fit.settings import FitSettings
from datatools.restore.fit.validation import Validation
from datatools.restore.networks import SuperResolver
from datatools.restore.weights import NETWORKS, Network, load_remover, save_weights

EMA_DECAY = 0.999
"""Decay per step of the exponential moving average of the weights, which is validated and saved."""
WARM_UP = 200
"""Steps over which the learning rate rises."""
STATE_PARTS = {"settings", "step", "seconds", "curve", "photos", "network", "ema", "optimizer"}
CHANGEABLE = {"steps", "self_ensemble", "texture_strength"}
"""Settings that may change when a run resumes: its length, and how the saved network uses its weights."""


class Fit:
    """One training run: networks, optimizers and the number of steps done."""

    def __init__(
        self,
        settings: FitSettings,
        photos: Photos | PublishedFaces,
        validation: Validation | FaceValidation,
        device: torch.device,
        teacher_targets: TeacherTargets | None = None,
    ) -> None:
        """Start a run on photos, which are degraded, or on published faces.

        `teacher_targets` are those of the teacher that the settings name.
        """
        self.settings, self.photos, self.validation, self.device = settings, photos, validation, device
        self.teacher_targets = teacher_targets
        torch.manual_seed(settings.seed)
        self.network = initial_network(settings).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.remover: nn.Module | None = None
        if settings.degrade_with is not None:
            self.remover = load_remover(Path(settings.degrade_with), settings.degrade_strength).to(device)
        self.optimizer = MuonAndAdam(self.network, settings.learning_rate)
        self.perceptual = PerceptualLoss(settings, device) if settings.variant == "perceptual" else None
        self.step = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []

    def _parts(self) -> dict[str, Any]:
        """Return what has a state of its own, by its name in the file."""
        parts = {"network": self.network, "ema": self.ema, "optimizer": self.optimizer}
        if self.perceptual is not None:
            parts |= {"critic": self.perceptual.critic, "critic_optimizer": self.perceptual.critic_optimizer}
        return parts

    def state(self) -> dict[str, Any]:
        """Return everything that resuming needs."""
        return {
            "settings": asdict(self.settings),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            # none may move between training and validation
            "photos": [self.photos.digest(), self.validation.digest],
        } | {name: part.state_dict() for name, part in self._parts().items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from `state`.

        Raises:
            DataError: the state was made with other settings (except those in CHANGEABLE) or other photos, or does not
                fit these networks.
        """
        try:
            started = asdict(FitSettings(self.settings.task)) | state["settings"]  # a later setting had its default
            for name, value in asdict(self.settings).items():
                if name not in CHANGEABLE and started[name] != value:
                    raise DataError(
                        f"the run to resume has {name} {started[name]!r}, the options say {value!r}; "
                        "give the same options, another --out, or delete its .state file"
                    )
            if state["photos"] != [self.photos.digest(), self.validation.digest]:
                raise DataError(
                    "the run to resume has other photos; give the same --photos, --exclude and --validation, "
                    "another --out, or delete its .state file"
                )
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.curve = [dict(row) for row in state["curve"]]
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(
                f"the run's saved state does not fit its networks ({one_line(error, 200)}); "
                "delete its .state file to start again"
            ) from error

    def learning_rate(self) -> float:
        """Return the learning rate of the next step: up over WARM_UP steps, then down to zero along half a cosine."""
        s = self.settings
        return s.learning_rate * min(1.0, (self.step + 1) / WARM_UP) * (1 + math.cos(math.pi * self.step / s.steps)) / 2

    def minibatch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, ground truth and the teacher's targets (without teacher: the ground truth) of a step."""
        rng = self.generator()
        triples = [self.example(rng) for _ in range(self.settings.minibatch)]
        inputs, truth, targets = (np.stack(pictures) for pictures in zip(*triples, strict=True))
        clean = self.as_tensor(truth)
        return self.cleaned(self.as_tensor(inputs)), clean, self.as_tensor(targets) if self.teacher_targets else clean

    def generator(self) -> np.random.Generator:
        """Return the random numbers of the next step."""
        return np.random.default_rng([self.settings.seed, self.step])

    def cleaned(self, inputs: Tensor) -> Tensor:
        """Return the inputs after the artifact remover of the settings, if they name one."""
        if self.remover is None:
            return inputs
        with torch.no_grad(), self.autocast():
            return self.remover(inputs).clamp(0, 1)

    def example(self, rng: np.random.Generator) -> tuple[Picture, Picture, Picture]:
        """Return input, ground truth, and the teacher's target or, for kernels other than bicubic, the ground truth."""
        if self.teacher_targets is not None and rng.random() < self.settings.bicubic:
            example = self.teacher_targets.part(self.settings.patch, rng)
            return example.small, example.clean, example.target
        settings = self.settings if self.teacher_targets is None else replace(self.settings, bicubic=0.0)
        assert isinstance(self.photos, Photos)
        given, clean = training_pair(self.photos, settings, rng)
        return given, clean, clean

    def as_tensor(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Convert (n, h, w, 3) uint8 to (n, 3, h, w) float32, 0..1, channels last."""
        return to_device(torch.from_numpy(pictures), self.device).permute(0, 3, 1, 2).float() / 255

    def autocast(self) -> torch.autocast:
        """Return the context in which networks are computed."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def one_step(self) -> float:
        """Train on one minibatch; return the network's loss. After a DataError the networks cannot be used."""
        start = time.perf_counter()
        self.optimizer.set_rate(self.learning_rate())
        loss = self.face_loss(self.photos) if isinstance(self.photos, PublishedFaces) else self.photo_loss()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
            averages = self.ema.state_dict()
            for name, parameter in self.network.state_dict().items():
                averages[name].lerp_(parameter, 1 - decay)
        value = float(loss.detach())  # the step's one wait for the device
        if not math.isfinite(value):
            raise DataError(
                f"the loss is not finite at step {self.step}; lower --learning-rate, or use --precision fp32"
            )
        self.step += 1
        self.seconds += time.perf_counter() - start
        return value

    def photo_loss(self) -> Tensor:
        """Return the loss of a minibatch of degraded photos."""
        inputs, truth, targets = self.minibatch()
        seed = self.settings.seed * 1_000_003 + self.step
        torch.manual_seed(seed)  # for the network's own noise
        with self.autocast():
            outputs = self.network(inputs).float()
        if self.settings.task == "jpeg":
            return balanced_error(outputs, truth, inputs)
        if self.perceptual is not None:
            return self.perceptual(outputs, truth, seed, self.autocast())
        loss = charbonnier(outputs, truth).mean()
        if self.teacher_targets is not None:
            loss = self.settings.ground_truth_weight * loss + charbonnier(outputs, targets).mean()
        return loss

    def face_loss(self, faces: PublishedFaces) -> Tensor:
        """Return the loss of a minibatch of published faces, as they are and reduced: the sizes that are compared."""
        parts = faces.parts(self.settings.minibatch, self.generator())
        inputs = self.cleaned(self.as_tensor(np.stack([part.given for part in parts])))
        with self.autocast():
            outputs = self.network(inputs).float()
        losses = []
        for output, part in zip(outputs, parts, strict=True):
            face, target = warp_part(output[None], part), self.as_tensor(part.target[None])
            small, small_target = (functional.avg_pool2d(picture, REDUCED) for picture in (face, target))
            losses.append(charbonnier(face, target) + charbonnier(small, small_target))
        return torch.cat(losses).mean()

    def validate(self) -> dict[str, float]:
        """Return scores of the EMA weights on the validation pictures, and of the baseline (JPEG or bicubic)."""
        cleaned = isinstance(self.validation, FaceValidation)  # the other kind degrades its pictures less
        with torch.no_grad(), self.autocast():
            return self.validation.measure(
                lambda p: self.ema(self.cleaned(p) if cleaned else p).float(), self.as_tensor
            )

    def ema_network(self) -> Network:
        """Return the network with the EMA weights, which is saved."""
        network = NETWORKS[self.settings.task](
            **(self.network.settings | {"self_ensemble": self.settings.self_ensemble})
        )
        network.load_state_dict(self.ema.state_dict())
        if isinstance(network, SuperResolver) and network.texture is not None:
            network.texture.scale_by(self.settings.texture_strength)
        return network


def load_state(path: Path) -> dict[str, Any] | None:
    """Return the state of an earlier run, or None. Raise DataError for a damaged file or another version's."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise DataError(f"{path} cannot be read ({one_line(error, 200)}); delete it to start again") from error
    if not isinstance(state, dict) or not state.keys() >= STATE_PARTS:
        raise DataError(f"{path} is not the state of a run of this version; delete it to start again")
    return state


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state whole or not at all. Raise DataError if it cannot be written."""
    content = io.BytesIO()  # torch.save to a file does not report why it failed
    torch.save(state, content)
    with as_data_error(path), atomic_path(path) as partial:
        partial.write_bytes(content.getbuffer())


def run(
    fit: Fit, out: Path, *, every: int, card: dict[str, Any], progress: Callable[[], object]
) -> Iterator[dict[str, float]]:
    """Train to the end; yield a row of the curve every `every` steps, after state and weights are on disk.

    A finished run writes its weights again and yields its last row: it may have been killed before it wrote them, the
    file may have been deleted, or settings in CHANGEABLE have changed.
    """

    def save() -> None:
        save_weights(out, fit.ema_network(), fit.settings.task, card | {"steps": fit.step})

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
    """Return the path of the state of the run that writes `out`."""
    return out.with_name(out.name + ".state")
