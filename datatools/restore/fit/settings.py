"""Settings of a training run of the restoration networks."""

from dataclasses import dataclass, field
from typing import Any

from datatools.restore.fit.degrade import SCALE, SHIFTS, TRIM


@dataclass(frozen=True)
class FitSettings:
    """Everything that determines the trained weights.

    Attributes:
        task: "jpeg" or "sr".
        variant: "distortion" (least error) or "perceptual" (texture; super-resolution only, needs `init_from`).
        steps: of the optimizer; the learning rate falls to zero over them (half a cosine).
        minibatch: pictures per step.
        patch: side of the network's input in training, in pixels.
        learning_rate: highest learning rate of Adam.
        network: arguments of the network that differ from those of `init_from` or the defaults; residual blocks that
            `init_from` lacks start as identities (super-resolution).
        bicubic: share of the training pictures reduced by the bicubic kernel of the usual test sets.
        pixel_weight: weight of the error of every pixel (perceptual; the reduced pictures' error has the weight 1).
        texture_weight: weight of the sliced Wasserstein distance between patches (perceptual).
        adversarial_weight: weight of the critic's score (perceptual).
        texture_strength: share of the texture that the finished network adds (perceptual); not used during training.
        self_ensemble: orientations that the finished network averages over; not used during training.
        init_from: weight file to start from; the perceptual variant keeps its weights and trains the `Texture` layers.
        degrade_with: weight file of an artifact remover for the inputs, as in the build (super-resolution).
        degrade_strength: share of that remover's change that is made, in training and in the build.
        teacher: weight file of a 4x network whose results are targets besides the photos (distortion).
        ground_truth_weight: weight of the error to the photos, if the error to the teacher's results has the weight 1.
    """

    task: str = "sr"
    variant: str = "distortion"
    steps: int = 10_000
    minibatch: int = 8
    patch: int = 48
    learning_rate: float = 1e-3
    seed: int = 0
    precision: str = "bf16"
    network: dict[str, Any] = field(default_factory=dict)
    bicubic: float = 0.85
    pixel_weight: float = 0.5
    texture_weight: float = 0.2
    adversarial_weight: float = 0.01
    texture_strength: float = 1.0
    self_ensemble: int = 1
    init_from: str | None = None
    degrade_with: str | None = None
    degrade_strength: float = 1.0
    teacher: str | None = None
    ground_truth_weight: float = 1.0

    def side(self) -> int:
        """Return the side of the part of a photo that one training pair is made of."""
        return self.patch * SCALE + 2 * TRIM if self.task == "sr" else self.patch + SHIFTS
