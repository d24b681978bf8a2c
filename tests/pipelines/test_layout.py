"""`pipelines.layout`: counts, and digests that change with everything that changes bytes, and with nothing else."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datatools.errors import DataError
from datatools.restore.weights import save_weights
from pipelines import layout as module
from pipelines.layout import BuildLayout
from pipelines.tasks import BuildCelebAHQ
from tests.support.builds import Photo, make_tree
from tests.support.restore_samples import tiny_network

SCORE_ON = ("original", "restored")
BASE = {"count": 4, "shard_size": 3, "resolution": 256}


@pytest.fixture
def settings(tiny_tree: Path, tmp_path: Path) -> BuildLayout:
    return BuildLayout(tiny_tree, tmp_path / "out", **BASE)


def scores(settings: BuildLayout) -> list[str]:
    return [settings.score_path(index).name for index in range(settings.score_shards)]


def test_shards_hold_every_candidate_once(settings: BuildLayout) -> None:
    shards = [settings.shard_candidates(index) for index in range(settings.score_shards)]
    assert [len(shard) for shard in shards] == [3, 3, 2]
    assert sum(shards, ()) == settings.candidates
    assert settings.build_shards == 2


@pytest.mark.parametrize(
    ("changes", "chosen", "build_shards", "kept"),
    [
        ({}, 4, 2, True),
        ({"count": 3}, 3, 1, False),
        ({"count": 8}, 8, 3, True),
        ({"selection": "all", "count": 1}, 8, 3, True),
        ({"selection": "official", "count": 3}, 3, 1, True),
        ({"selection": "official", "count": 2}, 2, 1, True),
        ({"score_on": "restored"}, 4, 2, True),
        ({"restore": "bundled", "score_on": "restored"}, 4, 2, True),
        ({"restore": "bundled"}, 4, 2, False),  # the scored faces are not those of the file
        ({"restore": "bundled", "selection": "all"}, 8, 3, False),
    ],
)
def test_counts(settings: BuildLayout, changes: dict[str, Any], chosen: int, build_shards: int, kept: bool) -> None:
    changed = replace(settings, **{"restore": "none", **changes})
    assert (changed.chosen_count, changed.build_shards, changed.keep_faces) == (chosen, build_shards, kept)


@pytest.mark.parametrize(
    "change",
    [
        {"count": 5},
        {"selection": "all"},
        {"order": "source"},
        {"duplicates": "drop"},
        {"resolution": 512},
        {"min_level": 1},
        {"compression": "gzip"},
        {"format_levels": "1024,512"},
        {"final_filter": "box"},
        {"restore": "none"},
        {"score_on": "restored"},
        {"exclude": "known-flaws"},
        {"min_score": 0.25},
    ],
)
def test_what_changes_bytes_changes_the_build(settings: BuildLayout, change: dict[str, Any]) -> None:
    changed = replace(settings, **change)
    assert changed.build_digest != settings.build_digest
    assert changed.build_path(0) != settings.build_path(0)
    assert changed.marker("finished") != settings.marker("finished")
    # Scores are used again unless the faces themselves are others, or lie in other shards.
    assert (scores(changed) == scores(settings)) == (not {"final_filter", "shard_size", "score_on"} & set(change))
    ranked_alike = {"resolution", "min_level", "format_levels", "compression", "restore"} >= set(change)
    assert (changed.ranking_path == settings.ranking_path) == ranked_alike


def test_levels(settings: BuildLayout) -> None:
    settings = replace(settings, resolution=1024)
    assert settings.levels == (1024, 512, 256, 128, 64, 32, 16, 8, 4)
    assert replace(settings, min_level=1).levels[-1] == 1
    few = replace(settings, format_levels="256, 1024,512")
    assert few.levels == (1024, 512, 256)
    assert few.as_attributes()["format_levels"] == "256, 1024,512"
    assert "format_levels" not in settings.as_attributes()  # files and names of builds with all levels stay the same
    for wrong in ("512,256", "1024,500", "1024,1024", "all", "1024,"):
        with pytest.raises(DataError, match=f"--format-levels {wrong}: sides of levels with commas are needed, with "):
            _ = replace(settings, format_levels=wrong).levels


def test_faces_are_kept_by_their_size(settings: BuildLayout) -> None:
    assert replace(settings, resolution=512).faces_path(0) != settings.faces_path(0)


@pytest.mark.parametrize("name", ["RECIPE_VERSION", "_library_versions"])
def test_another_recipe_or_library(settings: BuildLayout, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scores(settings)
    value: object = module.RECIPE_VERSION + 1 if name == "RECIPE_VERSION" else lambda: {"numpy": "99"}
    monkeypatch.setattr(module, name, value)
    assert not set(before) & set(scores(replace(settings)))


@pytest.mark.parametrize("restore", ["none", "bundled-distortion"])
def test_another_torch_matters_to_networks_alone(
    settings: BuildLayout, restore: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = replace(settings, restore=restore)
    names, digest = {score_on: scores(replace(before, score_on=score_on)) for score_on in SCORE_ON}, before.build_digest
    monkeypatch.setattr(module, "version", lambda name: f"{name} of another year")
    changed = replace(settings, restore=restore)
    assert set(names["restored"]).isdisjoint(scores(replace(changed, score_on="restored"))) == (restore != "none")
    assert names["original"] == scores(changed)
    assert (changed.build_digest != digest) == (restore != "none")
    assert changed.as_attributes().get("torch") == (None if restore == "none" else "torch of another year")


@pytest.mark.parametrize("score_on", SCORE_ON)
def test_scores_depend_on_the_restorer_only_where_restored_faces_are_scored(
    settings: BuildLayout, score_on: str
) -> None:
    plain, restored, other = (
        replace(settings, score_on=score_on, restore=name) for name in ("none", "bundled", "bundled-perceptual")
    )
    same = score_on == "original"
    assert (scores(plain) == scores(restored) == scores(other)) == same
    assert (plain.ranking_path == restored.ranking_path == other.ranking_path) == same
    assert len({plain.build_digest, restored.build_digest, other.build_digest}) == 3
    assert restored.as_attributes()["score_on"] == score_on
    # without networks both are the same work
    assert scores(plain) == scores(replace(plain, score_on="original"))


def test_where_it_runs_changes_nothing(settings: BuildLayout, tmp_path: Path) -> None:
    """Not the folders, nor the way in which they are written; processes are no settings at all."""
    moved = tmp_path / "moved"
    shutil.copytree(settings.celeba_dir, moved)
    other = BuildLayout(moved, tmp_path / "elsewhere", **BASE)
    assert other.build_digest == settings.build_digest
    assert scores(other) == scores(settings)
    assert str(tmp_path) not in str(other.as_attributes())
    weights = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        save_weights(folder / "net.safetensors", tiny_network("sr"), "sr", {})
        weights.append(replace(settings, restore=str(folder / "net.safetensors")))
    assert weights[0].as_attributes() == weights[1].as_attributes()
    assert weights[0].as_attributes()["restore"] == "net.safetensors"
    assert not {"jobs", "workers"} & set(BuildLayout.__dataclass_fields__)
    assert not BuildCelebAHQ.jobs.significant


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        text = (tree / path).read_text()
        assert old in text
        (tree / path).write_text(text.replace(old, new, 1))

    return change


def append_to_photo(tree: Path) -> None:
    with min((tree / "Img" / "img_celeba").iterdir()).open("ab") as stream:
        stream.write(b"\0")


@pytest.mark.parametrize(
    ("change", "rescored"),
    [
        (edit("Anno/list_attr_celeba.txt", "Smiling", "Laughing"), 0),
        (edit("Anno/list_attr_celeba.txt", "1 -1 1", "1 -1 -1"), 0),
        (edit("Anno/identity_CelebA.txt", " 100", " 999"), 0),
        (edit("Eval/list_eval_partition.txt", " 1", " 2"), 0),
        (edit("Anno/list_landmarks_celeba.txt", "900001.jpg  ", "900001.jpg  1"), 1),
        (append_to_photo, 1),
    ],
    ids=["attribute name", "attribute", "identity", "split", "landmark", "photo"],
)
def test_annotations_and_photos_are_part_of_the_name(
    change: Callable[[Path], None], rescored: int, photos: Mapping[str, Photo], tmp_path: Path
) -> None:
    """Shards of other photos stay as they are."""
    before = BuildLayout(make_tree(tmp_path / "before", photos), tmp_path, **BASE)
    tree = make_tree(tmp_path / "after", photos)
    change(tree)
    after = BuildLayout(tree, tmp_path, **BASE)
    assert after.build_digest != before.build_digest
    assert sum(one != other for one, other in zip(scores(before), scores(after), strict=True)) == rescored


def test_shards_of_another_size_are_other_files_of_the_same_build(settings: BuildLayout) -> None:
    changed = replace(settings, shard_size=settings.shard_size + 1)
    assert changed.build_digest == settings.build_digest
    assert changed.build_path(0) != settings.build_path(0)
    assert changed.score_path(0) != settings.score_path(0)


def test_a_photo_that_vanishes_is_left_to_the_first_pass(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    settings = BuildLayout(make_tree(tmp_path / "CelebA", photos), tmp_path, **BASE)
    assert len(settings.candidates) == 8
    settings.candidates[0].path.unlink()
    assert len(scores(settings)) == 3
