"""How strong a restoration is: the rule, what it measures, and what `--restore-strength` makes of it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datatools.errors import DataError
from datatools.restore import NoRestorer, get_restorer
from datatools.restore.base import Picture
from datatools.restore.enlarge import enlarge_lanczos
from datatools.restore.restorers import NetworkRestorer, enlarge_part, mix
from datatools.restore.strength import StrengthRule, check_strength, load_rule, mean_change, save_rule
from tests.support.restore_samples import restore_part

RULE = StrengthRule()


def smooth_picture(height: int = 96, width: int = 120) -> Picture:
    """A picture without detail."""
    coarse = np.random.default_rng(6).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def test_the_size_of_a_change() -> None:
    picture = smooth_picture()
    changed = picture.copy()
    changed[10:20, 30:50] ^= 1
    assert mean_change(picture[10:20, 30:50], changed[10:20, 30:50]) == pytest.approx(1)
    assert mean_change(picture[10:20, 20:60], changed[10:20, 20:60]) == pytest.approx(0.5**0.5)
    assert mean_change(picture, picture) == 0


def test_shares_lie_between_nothing_and_everything_and_do_not_jump() -> None:
    changes, sides = np.linspace(0, 20, 20001), np.linspace(60, 1200, 11401)
    removal = np.array([RULE.removal_share(value) for value in changes])
    enlargement = np.array([RULE.enlargement_share(value) for value in sides])
    assert removal[0] == 1
    assert (removal * changes).max() < RULE.change_limit
    assert (np.diff(removal * changes) > 0).all()
    assert enlargement[0] == RULE.enlargement
    assert enlargement[-1] == 0
    assert (np.diff(removal) <= 0).all()
    assert (np.diff(enlargement) <= 0).all()
    assert np.abs(np.diff(removal)).max() < 0.001
    assert np.abs(np.diff(enlargement)).max() < 0.001
    assert RULE.enlargement_share(RULE.largest_side) == 0
    assert RULE.enlargement_share(RULE.largest_side - 1) > 0


def test_the_strength_scales_what_networks_change(tiny: NetworkRestorer) -> None:
    picture = smooth_picture(48, 64)
    remover = replace(tiny, steps=tiny.steps[:1])
    box = (4, 5, 60, 41)
    plain = picture[5:41, 4:60].astype(int)
    whole = restore_part(remover, 300, picture, box).astype(int)
    half = restore_part(replace(remover, strength=0.5), 300, picture, box)
    assert np.abs(half - (whole + plain) / 2).max() <= 0.5
    assert np.array_equal(restore_part(replace(remover, strength=3.0), 300, picture, box), whole)
    ruled = restore_part(replace(remover, rule=RULE), 300, picture, box)
    share = RULE.removal_share(float(np.sqrt(np.square(whole - plain).mean())))
    assert share < 0.9
    assert np.abs(ruled - (plain + share * (whole - plain))).max() <= 0.5 + 1e-6


def test_the_enlargement_is_mixed_with_lanczos(tiny: NetworkRestorer) -> None:
    picture = smooth_picture(48, 64)
    resolver = replace(tiny, steps=tiny.steps[1:])
    ruled = replace(resolver, rule=RULE)
    whole = restore_part(resolver, 300, picture, (4, 5, 60, 41)).astype(int)
    plain = enlarge_lanczos(picture, 4)[20:164, 16:240].astype(int)
    for side in (100, 400, 440):
        share = RULE.enlargement_share(side)
        mixed = restore_part(ruled, side, picture, (4, 5, 60, 41))
        assert np.abs(mixed - (plain + share * (whole - plain))).max() <= 0.5 + 1e-6
    assert ruled.plan(480).steps == ()
    assert ruled.plan(480).scale == 1
    assert replace(ruled, super_resolution="always").plan(900).enlargement_share == RULE.enlargement
    assert replace(ruled, super_resolution="never").plan(100).steps == ()


def test_parts_are_enlarged_as_within_the_picture() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    whole = enlarge_lanczos(picture, 4)
    for left, top, right, bottom in ((0, 0, 30, 20), (5, 6, 11, 17), (28, 0, 30, 2)):
        part = enlarge_part(picture, (left, top, right, bottom), 4)
        assert np.array_equal(part, whole[4 * top : 4 * bottom, 4 * left : 4 * right])


def test_pictures_are_mixed() -> None:
    plain, restored = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 20, np.uint8)
    assert [int(mix(plain, restored, share)[0, 0, 0]) for share in (0, 0.3, 1, 2)] == [10, 13, 20, 20]


def test_no_strength_is_no_restoration() -> None:
    for name in ("bundled", "bundled-perceptual", "none"):
        assert get_restorer(name, strength=0) == NoRestorer()
    with pytest.raises(DataError, match="unknown restorer"):
        get_restorer("magic", strength=0)


def test_digests_differ_by_strength_and_rule(tmp_path: Path) -> None:
    save_rule(tmp_path / "ours.json", RULE, {"pairs": 3})
    save_rule(tmp_path / "other.json", replace(RULE, enlargement=0.4), {})
    bundled = get_restorer("bundled")
    assert get_restorer(str(tmp_path / "ours.json")).digest == bundled.digest
    found = [get_restorer("bundled", strength=0.5), get_restorer(str(tmp_path / "other.json")), bundled]
    assert len({restorer.digest for restorer in found}) == 3


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf, -math.inf])
def test_impossible_strengths_are_refused(strength: float) -> None:
    for name in ("none", "bundled"):
        with pytest.raises(DataError, match=f"^--restore-strength {strength}: a number from 0 up is needed"):
            get_restorer(name, strength=strength)
    assert check_strength(2) == 2.0


def test_rules_are_kept_in_files(tmp_path: Path) -> None:
    path = tmp_path / "rule.json"
    rule = StrengthRule(0.7, 0.9, 611.5)
    save_rule(path, rule, {"pairs": 12})
    assert load_rule(path) == rule
    good = path.read_text(encoding="utf-8")
    for text in (
        good.replace("celebahq", "other"),
        good[:-20],
        "[]",
        good.replace("0.9", "1.9"),
        good.replace("0.7", "0"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"rule\.json") as error:
            load_rule(path)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="no such strength file"):
        get_restorer(str(tmp_path / "missing.json"))
