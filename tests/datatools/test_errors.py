"""`datatools.errors`: a wrong array is one error everywhere; messages on one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import ArrayError, DataError, SettingError, flag, one_line, reason
from datatools.faces.duplicates import perceptual_hash
from datatools.faces.quality import quality_score
from datatools.images import save_png
from datatools.pyramid import build_levels
from datatools.report.sheets import contact_sheet
from datatools.restore.base import check_picture


@pytest.mark.parametrize(
    "take",
    [
        quality_score,
        perceptual_hash,
        lambda face: save_png(Path("never.png"), face),
        build_levels,
        check_picture,
        lambda face: contact_sheet([face], 1, 64),
    ],
)
@pytest.mark.parametrize("face", [np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8)])
def test_wrong_arrays_are_one_error(take: Callable[[np.ndarray], object], face: np.ndarray) -> None:
    with pytest.raises(ArrayError) as raised:
        take(face)
    assert isinstance(raised.value, DataError)  # one line at the terminal
    assert isinstance(raised.value, ValueError)  # what NumPy's users expect
    assert "uint8" in str(raised.value) or str(face.shape) in str(raised.value)


def test_messages_are_one_line() -> None:
    assert one_line(RuntimeError("two\n  lines")) == "two lines"
    assert one_line(RuntimeError()) == "RuntimeError"
    assert one_line(RuntimeError("abcdef"), 3) == "abc"
    assert reason(OSError(28, "No space left on device", "file")) == "No space left on device"
    assert reason(OSError("two\nlines")) == "two lines"


def test_settings_are_named_as_the_command_line_does() -> None:
    assert flag("seed") == "--seed"
    assert flag("fmap_base") == "--fmap-base"
    assert SettingError("fmap_base", "0: must be at least 1").for_command_line == "--fmap-base 0: must be at least 1"
