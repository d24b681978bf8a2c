"""How much of the networks' work a photo needs: smooth, with three numbers.

docs/results/restoration.md has the measurements that they come from. Does not load torch.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2

from datatools.errors import DataError
from datatools.files import as_data_error, atomic_path, check_readable
from datatools.restore.base import Picture

FADE = 0.75
"""Share of `StrengthRule.largest_side` from which less and less of the enlargement is used."""

FORMAT = "celebahq-strength 1"


@dataclass(frozen=True)
class StrengthRule:
    """Share of the artifact remover's change by the size of that change, share of the enlargement by the face's side.

    Attributes:
        change_limit: root mean square of the change, in levels, that is approached where the remover changes much.
        enlargement: share of the network's enlargement, compared with Lanczos-3, for small faces, 0..1.
        largest_side: side of a face rectangle, in photo pixels, from which the network does not enlarge.
    """

    change_limit: float = 2.0
    enlargement: float = 0.5
    largest_side: float = 480.0

    def removal_share(self, change: float) -> float:
        """Return the share of the remover's change for a photo that it changes by that `mean_change`."""
        return 1.0 / math.hypot(1.0, change / self.change_limit)

    def enlargement_share(self, side: float) -> float:
        """Return the share of the network's enlargement for a face rectangle of that side in photo pixels."""
        faded = min(max((side / self.largest_side - FADE) / (1 - FADE), 0.0), 1.0)
        return self.enlargement * (1.0 - faded * faded * (3.0 - 2.0 * faded))


def mean_change(picture: Picture, restored: Picture) -> float:
    """Return the root mean square difference of two pictures of one shape, in levels."""
    return float(cv2.norm(picture, restored, cv2.NORM_L2)) / math.sqrt(picture.size)


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
    sizes = (values["change_limit"], values["largest_side"])
    if not 0 <= values["enlargement"] <= 1 or not all(0 < size < math.inf for size in sizes):
        raise DataError(f"{path}: the rule's numbers are out of range: {values}")
    return StrengthRule(**values)
