"""Reading ranking.csv and rejected.csv, and putting like reasons together."""

import csv
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.report.tables import EXAMPLES, group_reasons, read_ranking, read_rejected


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_reasons_that_differ_in_numbers_names_or_quotes_are_one_kind() -> None:
    entries = [(f"{i:06}.jpg", "face", f"only {i}.5% of the rectangle (side {i} px) lies inside") for i in range(9)]
    entries += [("a.jpg", "photo", "begins with the text 'hello'"), ("b.jpg", "photo", "begins with the text 'it'")]
    entries += [("c.jpg", "annotation", "no photo c.jpg"), ("d.jpg", "annotation", "no photo d.jpg")]
    groups = group_reasons(entries)
    assert [(g.stage, g.text, g.count) for g in groups] == [
        ("face", "only …% of the rectangle (side … px) lies inside", 9),
        ("photo", "begins with the text …", 2),
        ("annotation", "no photo …", 2),
    ]
    assert len(groups[0].examples) == EXAMPLES
    assert groups[0].examples[1] == ("000001.jpg", "only 1.5% of the rectangle (side 1 px) lies inside")


def test_equal_reasons_keep_their_numbers_and_stages_stay_apart() -> None:
    entries = [
        ("a", "photo", "zero bytes, not 16"),
        ("b", "photo", "zero bytes, not 16"),
        ("c", "face", "zero bytes, not 16"),
    ]
    assert [(g.stage, g.text, g.count) for g in group_reasons(entries)] == [
        ("photo", "zero bytes, not 16", 2),
        ("face", "zero bytes, not 16", 1),
    ]


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
