"""How much of the networks' work a photo needs: measured on the photo, smooth, with four numbers.

docs/decisions/restoration-strength.md has the reasons and the measurements. Does not load torch.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import as_data_error, atomic_path, check_readable
from datatools.images import Box
from datatools.restore.base import Picture, check_part

JPEG_BLOCK = 8
"""Side of the squares in which JPEG compresses, in pixels."""

FADE = 0.75
"""Share of `StrengthRule.largest_side` from which less and less of the enlargement is used."""

FORMAT = "celebahq-strength 1"


@dataclass(frozen=True)
class StrengthRule:
    """Share of the artifact remover's change by the photo's blockiness, share of the enlargement by the face's side.

    Attributes:
        least_removal: share of the remover's change in a photo without visible blocks, 0..1.
        block_width: excess of the blockiness over 1 at which the rest of that share is down to 1 / e.
        enlargement: share of the network's enlargement, compared with Lanczos-3, for small faces, 0..1.
        largest_side: side of a face rectangle, in photo pixels, from which the network does not enlarge.
    """

    least_removal: float = 0.55
    block_width: float = 0.6
    enlargement: float = 0.5
    largest_side: float = 480.0

    def removal_share(self, blocks: float) -> float:
        """Return the share of the remover's change for a photo of that `blockiness`."""
        excess = max(blocks - 1.0, 0.0)
        return 1.0 - (1.0 - self.least_removal) * math.exp(-excess / self.block_width)

    def enlargement_share(self, side: float) -> float:
        """Return the share of the network's enlargement for a face rectangle of that side in photo pixels."""
        faded = min(max((side / self.largest_side - FADE) / (1 - FADE), 0.0), 1.0)
        return self.enlargement * (1.0 - faded * faded * (3.0 - 2.0 * faded))


def blockiness(picture: Picture, box: Box) -> float:
    """Return how much larger differences of neighbours are across JPEG's blocks than within them: about 1 without.

    Args:
        picture: (h, w, 3) RGB of which the corner is the corner of a block.
        box: (left, top, right, bottom) of the part that is measured, in its pixels.

    Raises:
        DataError: as `check_part`.
    """
    check_part(picture, box)
    left, top, right, bottom = box
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    columns = _differences(grey[top:bottom], left, right)
    rows = _differences(grey[:, left:right].T, top, bottom)
    across, within = columns + rows
    return across / within if within > 0 and across > 0 else 1.0


def _differences(grey: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float64]:
    """Return the mean difference of neighbours in a row across blocks and within them; zeros for a part without."""
    means = np.abs(np.diff(grey[:, start:stop], axis=1)).mean(axis=0, dtype=np.float64)
    across = np.arange(start + 1, stop) % JPEG_BLOCK == 0
    if not across.any() or across.all():
        return np.zeros(2)
    return np.array([means[across].mean(), means[~across].mean()])


def check_strength(strength: float) -> float:
    """Return the strength of --restore-strength. Raise DataError for one that is negative or not finite."""
    if not (math.isfinite(strength) and strength >= 0):
        raise DataError(f"--restore-strength {strength}: a number from 0 up is needed; 1 is the usual strength")
    return float(strength)


def is_rule_file(name: str) -> bool:
    """Return whether a restorer's name is that of a file with a rule."""
    return Path(name).suffix.lower() == ".json"


def save_rule(path: Path, rule: StrengthRule, card: dict[str, object]) -> None:
    """Write a rule as JSON, with a description of where it comes from. Raise DataError if it cannot be written."""
    content = {"format": FORMAT, "rule": asdict(rule), "card": card}
    with as_data_error(path), atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load_rule(path: Path) -> StrengthRule:
    """Return the rule of a file that `save_rule` wrote. Raise DataError for any other file."""
    check_readable(path, "strength file", "a strength file (.json)")
    try:
        with as_data_error(path, "read"):
            content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError("it does not hold the strength of a restoration")
        values = {item.name: float(content["rule"][item.name]) for item in fields(StrengthRule)}
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged or no strength file ({error}); write one with fit --pairs") from error
    shares = (values["least_removal"], values["enlargement"])
    sizes = (values["block_width"], values["largest_side"])
    if not all(0 <= share <= 1 for share in shares) or not all(0 < size < math.inf for size in sizes):
        raise DataError(f"{path}: the rule's numbers are out of range: {values}")
    return StrengthRule(**values)
