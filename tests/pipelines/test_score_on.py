"""`--score-on`: which faces are scored, which are restored, and how often a photo is opened for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import luigi
import numpy as np
import pytest
from numpy.typing import NDArray

import datatools.faces.recipe
from datatools.faces.quality import quality_score
from datatools.faces.recipe import make_face, reduce_face
from datatools.images import Box, decode_rgb
from datatools.pyramid import Pyramid
from datatools.restore import Crop, NoRestorer, RestorePlan
from datatools.restore.base import cut
from datatools.sources.celeba import read_tree
from pipelines.layout import BuildLayout
from pipelines.tasks import Rank, Verify
from tests.support.builds import CHOSEN, digest


@dataclass(frozen=True)
class Darkener:
    """A restorer that halves all values, so that its faces and their scores are others, and counts its photos."""

    restored: list[int] = field(default_factory=list, compare=False)
    name: str = "darkener"
    digest: str = "darkener"
    batch_size: int = 1
    uses_torch: bool = False

    def plan(self, _side: float, /) -> RestorePlan:
        return RestorePlan()

    def run(self, crops: Sequence[Crop], /) -> list[NDArray[np.uint8]]:
        self.restored.extend([1] * len(crops))
        return [cut(picture, box) // 2 for _, picture, box in crops]


@pytest.fixture
def darkener(monkeypatch: pytest.MonkeyPatch) -> Darkener:
    restorer = Darkener()
    monkeypatch.setattr("pipelines.layout.get_restorer", lambda *_, **__: restorer)
    return restorer


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for every photo that is decoded."""
    calls: list[int] = []

    def decode(data: bytes, *, reduce: int = 1, box: Box | None = None) -> NDArray[np.uint8]:
        calls.append(1)
        return decode_rgb(data, reduce=reduce, box=box)

    monkeypatch.setattr(datatools.faces.recipe, "decode_rgb", decode)
    return calls


def build(task: type[luigi.Task], tree: Path, out: Path, **options: object) -> None:
    """Run a task of a small build in this process."""
    common = {"celeba_dir": str(tree), "output_dir": str(out), "resolution": "256", "shard_size": 3, "jobs": 1}
    assert luigi.build([task(**common, **options)], local_scheduler=True, workers=1, log_level="WARNING")


@pytest.mark.parametrize(
    ("score_on", "choice", "restored", "opened"),
    [
        ("original", {"count": 2}, 2, 8 + 2),
        ("original", {"count": CHOSEN}, CHOSEN, 8 + CHOSEN),
        ("original", {"selection": "all"}, 8, 8 + 8),
        ("original", {"selection": "official", "count": 3}, 3, 3 + 3),
        ("restored", {"count": 2}, 8 + 2, 8 + 2),
        ("restored", {"count": CHOSEN}, 8, 8),
        ("restored", {"selection": "all"}, 8, 8),
        ("restored", {"selection": "official", "count": 3}, 3, 3),
    ],
)
def test_what_is_restored_and_opened(
    score_on: str,
    choice: dict[str, object],
    restored: int,
    opened: int,
    tiny_tree: Path,
    tmp_path: Path,
    darkener: Darkener,
    decoded: list[int],
) -> None:
    build(Verify, tiny_tree, tmp_path, score_on=score_on, **choice)
    assert len(darkener.restored) == restored
    assert len(decoded) == opened


@pytest.mark.parametrize("score_on", ["original", "restored"])
def test_scores_are_of_the_face_that_is_asked_for_and_the_file_holds_restored_faces(
    score_on: str, tiny_tree: Path, finished_build: Path, tmp_path: Path, darkener: Darkener
) -> None:
    build(Verify, tiny_tree, tmp_path, score_on=score_on, count=CHOSEN)
    records = {record.file_name: record for record in read_tree(tiny_tree).records}
    with Pyramid(tmp_path / "celebahq.h5") as faces:
        assert faces.settings["score_on"] == score_on
        assert faces.settings["restorer_digest"] == "darkener"
        for i, name in enumerate(faces.provenance("file_name")):
            data, landmarks = records[name].path.read_bytes(), records[name].landmarks
            made = {kind: make_face(data, landmarks, kind).face for kind in (NoRestorer(), darkener)}
            scored = made[NoRestorer() if score_on == "original" else darkener]
            assert faces.provenance("score")[i] == quality_score(scored)
            np.testing.assert_array_equal(faces[256][i].transpose(1, 2, 0), reduce_face(made[darkener], 256))
            assert quality_score(made[darkener]) != quality_score(made[NoRestorer()])
    as_without = digest(tmp_path / "ranking.csv") == digest(finished_build / "ranking.csv")
    assert as_without == (score_on == "original")


def test_another_restorer_keeps_the_scores(
    tiny_tree: Path, tmp_path: Path, darkener: Darkener, decoded: list[int]
) -> None:
    build(Rank, tiny_tree, tmp_path, count=2, restore="none")
    before = len(decoded)
    build(Verify, tiny_tree, tmp_path, count=2, restore="another")
    assert len(decoded) - before == 2
    assert len(darkener.restored) == 2


def test_faces_are_kept_where_they_are_those_of_the_file(tiny_tree: Path, tmp_path: Path) -> None:
    settings = BuildLayout(tiny_tree, tmp_path, count=8, resolution=256)
    assert [
        replace(settings, restore=restore, score_on=score_on).keep_faces
        for restore in ("none", "bundled")
        for score_on in ("original", "restored")
    ] == [True, True, False, True]
