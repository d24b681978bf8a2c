"""The strength of a restorer that played the authors is found again from pairs of photos and published images."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from datatools.errors import DataError
from datatools.faces.recipe import make_face
from datatools.restore import get_restorer, restorers
from datatools.restore.fit.metrics import psnr_rgb
from datatools.restore.fit.pairs import (
    SIZES,
    Pair,
    fit_rule,
    held_out_rules,
    main,
    measure_pair,
    published_pairs,
    report,
    split_pairs,
)
from datatools.restore.restorers import NetworkRestorer
from datatools.restore.strength import StrengthRule
from datatools.restore.weights import save_weights
from datatools.sources.celeba import read_tree
from tests.faults.trees import landmark_row
from tests.support.builds import Photo, make_tree
from tests.support.portraits import Portrait, render
from tests.support.restore_samples import tiny_network

INDEXES = {"000004.jpg": 5212, "000009.jpg": 9575, "000014.jpg": 27681, "000016.jpg": 18128}
AUTHORS = StrengthRule(9.0, 0.9, 500.0)


@pytest.fixture(autouse=True)
def tiny_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks in the place of the bundled ones."""
    folder = tmp_path / "data"
    folder.mkdir()
    save_weights(folder / "jpeg.safetensors", tiny_network("jpeg"), "jpeg", {})
    save_weights(folder / "sr-distortion.safetensors", tiny_network("sr"), "sr", {})
    monkeypatch.setattr(restorers, "FOLDER", folder)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    photos = {}
    for number, name in enumerate(INDEXES):
        unit = (45, 60, 80, 100)[number]
        size = (4 * unit, 5 * unit)
        portrait = Portrait(seed=number, size=size, unit=unit, centre=(2 * unit, 2.4 * unit))
        stream = io.BytesIO()
        Image.fromarray(render(portrait)).save(stream, "JPEG", quality=(30, 50, 70, 85)[number])
        photos[name] = Photo(stream.getvalue(), landmark_row(name, portrait.landmarks.round(1).ravel().tolist()))
    return make_tree(tmp_path / "CelebA", photos)


@pytest.fixture
def published(tree: Path, tmp_path: Path) -> Path:
    """What the authors made with another rule: JPEG copies."""
    folder = tmp_path / "published"
    folder.mkdir()
    restorer = get_restorer("bundled")
    assert isinstance(restorer, NetworkRestorer)
    authors = replace(restorer, rule=AUTHORS)
    for record in read_tree(tree).records:
        face = make_face(record.path.read_bytes(), record.landmarks, authors).face
        Image.fromarray(face).save(folder / f"{INDEXES[record.file_name]:05d}.jpg", quality=90)
    return folder


def test_the_authors_strength_is_recovered(tree: Path, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "rule.json"
    result = CliRunner().invoke(main, ["--pairs", str(tree), str(published), "--out", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "held out" in result.output
    assert json.loads(out.read_text(encoding="utf-8"))["card"] == {"pairs": 4}
    fitted, bundled = get_restorer(str(out)), get_restorer("bundled")
    assert isinstance(bundled, NetworkRestorer)
    scores = []
    for record, picture in published_pairs(tree, published):
        target = np.array(Image.open(picture))
        chains = (replace(bundled, rule=AUTHORS), fitted, bundled)
        faces = [make_face(record.path.read_bytes(), record.landmarks, chain).face for chain in chains]
        scores.append([psnr_rgb(face, target) for face in faces])
    limit, ours, before = np.mean(scores, axis=0)
    assert ours > limit - 0.3
    assert ours > before


def test_the_error_of_a_pair_is_that_of_the_face(tree: Path, published: Path) -> None:
    restorer = get_restorer("bundled")
    assert isinstance(restorer, NetworkRestorer)
    record, picture = published_pairs(tree, published)[1]
    pair = measure_pair(record, picture, restorer)
    assert pair.name == record.file_name
    assert pair.change > 1
    target = np.array(Image.open(picture))
    for rule in (StrengthRule(), AUTHORS, StrengthRule(0.5, 0.0, 500.0)):
        face = make_face(record.path.read_bytes(), record.landmarks, replace(restorer, rule=rule)).face
        assert pair.psnr(rule)[-1] == pytest.approx(psnr_rgb(face, target), abs=0.15)


def made_pair(number: int, removal: float, enlargement: float, side: float, change: float) -> Pair:
    """A pair whose authors used these shares, with noise that nothing explains."""
    rng = np.random.default_rng(number)
    parts = rng.standard_normal((4, 5000))
    parts[0] = removal * parts[1] + enlargement * ((1 - removal) * parts[2] + removal * parts[3])
    parts[0] += 0.2 * rng.standard_normal(5000)
    return Pair(str(number), change, side, np.stack([parts @ parts.T / 5000] * len(SIZES)))


TRUE = StrengthRule(0.9, 0.8, 600.0)


def made_pairs(count: int) -> list[Pair]:
    """Pairs of authors who used the rule TRUE."""
    rng = np.random.default_rng(1)
    places = [(float(rng.uniform(150, 690)), float(rng.uniform(0.2, 3))) for _ in range(count)]
    return [
        made_pair(n, TRUE.removal_share(change), TRUE.enlargement_share(side), side, change)
        for n, (side, change) in enumerate(places)
    ]


def test_a_rule_is_found_from_many_pairs() -> None:
    pairs = made_pairs(60)
    found = fit_rule(pairs)
    for pair in pairs:
        assert found.removal_share(pair.change) == pytest.approx(TRUE.removal_share(pair.change), abs=0.05)
        assert found.enlargement_share(pair.side) == pytest.approx(TRUE.enlargement_share(pair.side), abs=0.05)


def test_pairs_are_measured_with_the_rule_of_the_others() -> None:
    pairs = made_pairs(7)
    rules = held_out_rules(pairs)
    assert len(set(rules)) == 5
    assert held_out_rules(pairs[::-1]) == rules[::-1]
    odd = replace(pairs[0], products=pairs[0].products * np.outer([3, 1, 1, 1], [3, 1, 1, 1]))
    others = held_out_rules([odd, *pairs[1:]])
    assert others[0] == rules[0]
    assert others != rules
    lines: list[str] = []
    report(pairs, fit_rule(pairs), lines.append)
    values = {line[:12].strip(): float(line[12:20]) for line in lines[1:]}
    assert values["none"] < values["bundled"] < values["held out"] <= values["fitted"]


def test_pairs_are_held_out_by_name(tree: Path, published: Path) -> None:
    pairs = published_pairs(tree, published)
    training, held = split_pairs(pairs, 12)
    assert (len(training), len(held)) == (3, 1)
    assert split_pairs(list(reversed(pairs)), 12)[1] == held
    assert split_pairs(pairs[:3], 12) == (pairs[:3], [])


def test_what_are_no_pairs_is_refused(tree: Path, published: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "rule.json")

    def line(*arguments: object) -> str:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code != 0
        assert result.output.count("\n") == 1, result.output
        return result.output

    assert "is not a folder" in line("--pairs", tree, tmp_path / "nowhere", "--out", out)
    (tmp_path / "empty").mkdir()
    assert "has its published image in" in line("--pairs", tree, tmp_path / "empty", "--out", out)
    assert "has to end in .json" in line("--pairs", tree, published, "--out", tmp_path / "rule.safetensors")
    Image.new("RGB", (30, 30)).save(published / "05212.jpg")
    assert "1024 x 1024 are needed" in line("--pairs", tree, published, "--out", out)
    assert not Path(out).exists()


def test_a_missing_tree_is_an_error(tmp_path: Path, published: Path) -> None:
    with pytest.raises(DataError):
        published_pairs(tmp_path / "nowhere", published)
