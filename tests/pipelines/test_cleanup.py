"""`pipelines.cleanup`: what a finished build removes, and what it leaves alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.cleanup import clean_up
from pipelines.layout import BuildLayout
from pipelines.unfinished import unfinished_path
from tests.support.builds import CHOSEN, file_names


@pytest.fixture
def settings(tiny_tree: Path, tmp_path: Path) -> BuildLayout:
    return BuildLayout(tiny_tree, tmp_path / "out", count=CHOSEN, shard_size=3, resolution=256, restore="none")


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"0")


def test_cleaning_up(settings: BuildLayout) -> None:
    other = replace(settings, count=2)
    kept = [
        settings.ranking_path,
        settings.marker("verified"),
        settings.marker("reported"),
        settings.score_path(0),
        settings.score_path(0).with_suffix(".json"),
        other.score_path(1),
        settings.work_dir / "lock",
        settings.work_dir / "faces" / "family.rgb",
        settings.work_dir / "notes-of-mine.json",
        settings.output_dir / "photo.h5",
    ]
    gone = [
        settings.build_path(0),
        other.build_path(0),
        settings.faces_path(1),
        other.ranking_path,
        other.marker("verified"),
        other.marker("finished"),
        settings.work_dir / "times" / "Rank-0123456789.json",
        settings.work_dir / "times" / "Join-0123456789.csv",  # of a version before
        settings.score_path(0).with_suffix(".csv"),
        settings.work_dir / "scores" / ".00001-0123456789abcdef.npz.partial",
        settings.work_dir / "times" / "Join-0123456789.csv",  # of a version before
        settings.score_path(0).with_suffix(".csv"),
        settings.work_dir / "scores" / ".00001-0123456789abcdef.stamps.partial",
        unfinished_path(settings.score_path(1)),
        unfinished_path(other.faces_path(1)),
        unfinished_path(other.build_path(1)),
        unfinished_path(settings.build_path(1).with_suffix(".rgb")),
        settings.work_dir / "build" / ".00001-0123456789abcdef.h5.partial",
        settings.work_dir / "faces" / ".00001-0123456789abcdef-256.rgb.partial",
        settings.work_dir / "times" / ".Rank-0123456789.json.partial",
        settings.work_dir / f".{settings.ranking_path.name}.partial",
        settings.output_dir / ".celebahq.h5.partial",
        settings.output_dir / ".ranking.csv.partial",
    ]
    for path in kept + gone:
        write(path)
    clean_up(settings)
    assert file_names(settings.output_dir) == {str(path.relative_to(settings.output_dir)) for path in kept}
    assert not (settings.work_dir / "build").exists()
    assert not (settings.work_dir / "times").exists()
