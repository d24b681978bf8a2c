"""Builds that leave out more photos than the one before: what is used again, and what is opened."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from datatools.errors import DataError
from datatools.landmarks.base import Face
from datatools.landmarks.table import write_table
from datatools.pyramid import Pyramid
from pipelines.build_shard import chosen_faces, write_build_shard
from pipelines.dry_run import describe_plan
from pipelines.finish import join_shards
from pipelines.folder_layout import FolderLayout
from pipelines.freshness import scores_are_fresh
from pipelines.layout import BuildLayout
from pipelines.photo_work import read_photo
from pipelines.rank import write_ranking
from pipelines.score_shard import read_score_shards, write_score_shard
from tests.support.builds import Photo, digest, make_tree


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the photos that are opened."""
    names: list[str] = []
    monkeypatch.setattr("pipelines.photo_work.read_photo", lambda path: (names.append(path.name), read_photo(path))[1])
    return names


def build(layout: BuildLayout) -> BuildLayout:
    """Make the finished file in this process, without what is there already."""
    for index in range(layout.score_shards):
        if not scores_are_fresh(layout, index):
            write_score_shard(layout, index, 1)
    write_ranking(layout)
    ignored: list[int] = []
    for index in range(layout.build_shards):
        write_build_shard(layout, index, chosen_faces(layout, index), 1, ignored.append, ignored.append)
    join_shards(layout, ignored.append)
    return layout


def leaving_out(layout: BuildLayout, name: str) -> BuildLayout:
    path = layout.output_dir / "exclude.txt"
    path.write_text(f"{name}\n")
    return replace(layout, exclude=str(path))


def faces_of(layout: BuildLayout) -> list[str]:
    with Pyramid(layout.pyramid_path) as pyramid:
        return [str(name) for name in pyramid.provenance("file_name")]


@pytest.fixture
def first(tiny_tree: Path, tmp_path: Path, opened: list[str]) -> BuildLayout:
    """A finished build of the best three of eight photos; `opened` is empty."""
    made = build(BuildLayout(tiny_tree, tmp_path, count=3, shard_size=3, resolution=256, restore="none"))
    opened.clear()
    return made


def test_only_the_face_that_moves_up_is_made(first: BuildLayout, tmp_path: Path, opened: list[str]) -> None:
    before = faces_of(first)
    again = leaving_out(first, before[0])
    plan = describe_plan(again, 1)
    assert "7 of 7 photos scored, 0 of 3 faces made, about 2 will be copied from" in plan
    opened.clear()
    build(again)
    after = faces_of(again)
    assert after[:2] == before[1:]
    assert opened == after[2:]
    (tmp_path / "new").mkdir()
    fresh = build(replace(again, output_dir=tmp_path / "new"))
    assert digest(again.pyramid_path) == digest(fresh.pyramid_path)
    assert before[0] not in opened[1:]  # the new build opens the others alone


def test_a_face_that_is_used_again_is_opened_where_it_was_not(first: BuildLayout, opened: list[str]) -> None:
    excluding = leaving_out(first, faces_of(first)[0])
    new = replace(excluding, output_dir=first.output_dir / "new")
    new.output_dir.mkdir()
    build(new)
    opened.clear()
    including = replace(new, exclude="")
    assert [scores_are_fresh(including, i) for i in range(3)].count(False) == 1
    build(including)
    assert digest(including.pyramid_path) == digest(first.pyramid_path)
    assert len(opened) == 3 + 1  # its shard is scored again


def test_an_excluded_photo_is_neither_opened_nor_asked_whether_it_changed(
    photos: Mapping[str, Photo], tmp_path: Path, opened: list[str]
) -> None:
    """What the system refuses to read can be left out, and does not cost the other scores."""
    tree = make_tree(tmp_path / "CelebA", dict(list(photos.items())[:3]))
    layout = BuildLayout(tree, tmp_path, selection="all", resolution=256, restore="none")
    excluding = leaving_out(layout, (bad := layout.candidates[1]).file_name)
    write_score_shard(excluding, 0, 1)
    assert opened == [record.path.name for record in excluding.usable]
    bad.path.write_bytes(bytes(bad.path.stat().st_size))
    for path in tmp_path.rglob("*.stamps"):
        path.unlink()  # so that all photos are compared
    assert scores_are_fresh(replace(excluding), 0)
    assert not scores_are_fresh(replace(layout), 0)
    table = read_score_shards(excluding)
    assert (table.position.tolist(), table.rejections) == ([0, 2], ())


@pytest.mark.parametrize("change", [{"restore_strength": 0.5, "restore": "none"}, {"final_filter": "box"}])
def test_faces_of_another_recipe_are_not_copied(
    change: dict[str, object], first: BuildLayout, opened: list[str]
) -> None:
    changed = replace(first, **change)  # type: ignore[arg-type]
    same = changed.face_digest == first.face_digest
    assert same == ("final_filter" not in change)
    build(changed)
    assert (opened == []) == same


def test_a_damaged_face_is_not_copied(first: BuildLayout) -> None:
    again = leaving_out(first, faces_of(first)[0])
    with h5py.File(first.pyramid_path, "r+") as file:
        file["data256x256"][1, 0, 0, 0] ^= 1
    with pytest.raises(DataError, match=r"celebahq.h5: image 1 is damaged; remove the file"):
        build(again)


@pytest.mark.parametrize(
    ("line", "excluded"),
    [
        ("1.jpg", {"1.jpg", "1.jpg (face 1)"}),
        ("1.jpg (face 0)", {"1.jpg"}),
        ("1.jpg (face 1)", {"1.jpg (face 1)"}),
        ("2.jpg (face 0)", {"2.jpg"}),
        ("2.jpg (face 1)", {"2.jpg (face 1)"}),
    ],
)
def test_a_list_names_all_faces_of_a_photo_or_one(line: str, excluded: set[str], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    face = Face(np.arange(10.0).reshape(5, 2), (0, 0, 50, 50), 1.0)
    faces = {"1.jpg": [face, face], "2.jpg": [face]}
    for name in faces:
        (tmp_path / "photos" / name).touch()
    write_table(tmp_path / "points.csv", faces, dict.fromkeys(faces, "hand"))
    layout = FolderLayout(
        photos=tmp_path / "photos", output_dir=tmp_path, landmarks=str(tmp_path / "points.csv"), all_faces=True
    )
    assert layout.list_names == {"1.jpg": "1.jpg (face 0)"}
    assert leaving_out(layout, line).excluded == excluded
