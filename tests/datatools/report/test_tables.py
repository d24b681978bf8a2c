"""Reading ranking.csv and rejected.csv, and grouping entries by kind."""

import csv
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.report.tables import EXAMPLES, group_reasons, read_ranking, read_rejected


def entry(file_name: str, kind: str, stage: str, reason: str) -> dict[str, str]:
    return {"file_name": file_name, "stage": stage, "reason": reason} | ({"kind": kind} if kind else {})


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_entries_of_a_kind_are_one_group() -> None:
    entries = [
        entry(f"{i:06}.jpg", "outside-photo", "face", f"only {i}.5% of the rectangle lies inside") for i in range(9)
    ]
    entries += [
        entry("a.jpg", "damaged-photo", "photo", "truncated"),
        entry("b.jpg", "damaged-photo", "photo", "bad Huffman"),
    ]
    entries += [
        entry("c.jpg", "empty-photo", "photo", "zero bytes"),
        entry("d.jpg", "empty-photo", "photo", "zero bytes"),
    ]
    entries += [entry("e.jpg", "kind-of-2031", "photo", "1"), entry("f.jpg", "kind-of-2031", "photo", "2")]
    groups = group_reasons(entries)
    assert [(g.stage, g.text, g.count) for g in groups] == [
        ("face", "the face lies outside of the photo", 9),
        ("photo", "the picture is damaged", 2),
        ("photo", "zero bytes", 2),
        ("photo", "kind-of-2031", 2),
    ]
    assert len(groups[0].examples) == EXAMPLES
    assert groups[0].examples[1] == ("000001.jpg", "only 1.5% of the rectangle lies inside")


def test_entries_without_a_kind_are_grouped_by_reason_and_stage() -> None:
    """As in tables of earlier versions."""
    entries = [
        entry("a", "", "photo", "zero bytes, not 16"),
        entry("b", "", "photo", "zero bytes, not 16"),
        entry("c", "", "face", "zero bytes, not 16"),
        entry("d", "", "face", "zero bytes, not 17"),
    ]
    assert [(g.stage, g.text, g.count) for g in group_reasons(entries)] == [
        ("photo", "zero bytes, not 16", 2),
        ("face", "zero bytes, not 16", 1),
        ("face", "zero bytes, not 17", 1),
    ]


def test_kinds_are_read_where_the_table_has_them(tmp_path: Path) -> None:
    """Rewording a reason changes no group."""
    rows = [["file_name", "stage", "reason", "kind"], *([f"{i}", "photo", f"words {i}", "no-file"] for i in range(3))]
    (group,) = read_rejected(write_csv(tmp_path / "rejected.csv", rows)).groups
    assert (group.text, group.count) == ("the row has no photo", 3)
    head = ["file_name", "score", "rank", "chosen", "reason", "kind"]
    rows = [head, *([f"{i}.jpg", "1", "1", "0", f"duplicate of {i}", "duplicate"] for i in range(3))]
    (group,) = read_ranking(write_csv(tmp_path / "ranking.csv", rows)).groups
    assert (group.text, group.count) == ("duplicate of a photo with a better score", 3)


def test_rejected_are_counted_per_stage_most_first(tmp_path: Path) -> None:
    rows = [
        ["file_name", "stage", "reason"],
        ["a", "photo", "x"],
        ["b", "face", 'y, "z"\nw'],
        ["c", "face", "v"],
        ["d"],
    ]
    rejected = read_rejected(write_csv(tmp_path / "rejected.csv", rows))
    assert rejected.stages == {"face": 2, "photo": 1, "": 1}
    assert list(rejected.stages) == ["face", "photo", ""]
    assert rejected.total == 4
    assert 'y, "z" w' in [group.text for group in rejected.groups]


def test_entries_that_are_used_are_not_counted_as_rejected(tmp_path: Path) -> None:
    rows = [
        ["file_name", "stage", "reason", "kind"],
        ["a", "annotation", "x", "suspect-landmarks"],
        ["b", "annotation", "y", "repaired-landmarks"],
        ["c", "annotation", "z", "repaired-landmarks"],
        ["d", "annotation", "z", "wrong-landmarks"],
    ]
    rejected = read_rejected(write_csv(tmp_path / "rejected.csv", rows))
    assert (rejected.stages, rejected.total) == ({"annotation": 1}, 1)
    assert rejected.used == {
        "landmarks that differ from a detector's; its own are used": 2,
        "landmarks that differ from a detector's; they are used": 1,
    }
    assert sum(group.count for group in rejected.groups) == 4


def test_a_list_without_entries_is_empty(tmp_path: Path) -> None:
    rejected = read_rejected(write_csv(tmp_path / "rejected.csv", [["file_name", "stage", "reason"]]))
    assert rejected.total == 0
    assert rejected.groups == ()


def test_ranking(tmp_path: Path) -> None:
    rows = [
        ["file_name", "score", "rank", "chosen", "reason"],
        ["a.jpg", "3.5", "0", "1", ""],
        ["b.jpg", "3.25", "1", "0", "excluded"],
        ["c.jpg", "nan", "2", "0", "no score"],
        ["d.jpg", "", "", "0", "no score"],
        ["e.jpg", "3.375", "3", "0", "beyond the first 1"],
        ["f.jpg", "1", "4", "True", ""],
    ]
    ranking = read_ranking(write_csv(tmp_path / "ranking.csv", rows))
    assert ranking.names[-1] == "f.jpg"
    np.testing.assert_array_equal(ranking.scores, [3.5, 3.25, np.nan, np.nan, 3.375, 1])
    np.testing.assert_array_equal(ranking.chosen, [True, False, False, False, False, True])
    assert [(g.text, g.count) for g in ranking.groups] == [("excluded", 1), ("beyond the first 1", 1)]
    np.testing.assert_array_equal(ranking.scored, [True, True, False, False, True, True])
    assert ranking.best_not_chosen(5) == [4, 1]
    assert ranking.best_not_chosen(1) == [4]


def test_a_file_with_other_columns_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "ranking.csv", [["file", "score"], ["a", "1"]])
    with pytest.raises(DataError, match=r"ranking\.csv lacks the column file_name; its first line is 'file,score'"):
        read_ranking(path)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match=r"empty\.csv lacks the column file_name"):
        read_rejected(tmp_path / "empty.csv")
