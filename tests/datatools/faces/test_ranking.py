"""`datatools.faces.ranking`: selection, order, ties, duplicates, exclusions, the two tables."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datatools.errors import DataError
from datatools.faces.duplicates import DuplicatePair
from datatools.faces.ranking import (
    Order,
    Ranking,
    Selection,
    rank_faces,
    read_exclusions,
    required_count,
    select_candidates,
    write_ranking_csv,
    write_rejected_csv,
)
from datatools.sources.published import KNOWN_FLAWS, published_files
from datatools.sources.records import FaceRecord, Rejection, RejectionKind


def record(row: int, index: int = -1) -> FaceRecord:
    name = f"{row + 1:06d}.jpg"
    return FaceRecord(name, Path("img_celeba"), name, np.zeros((5, 2)), index)


def records(count: int) -> list[FaceRecord]:
    """Every third one published, in an order that is neither that of the source nor that of the scores."""
    return [record(row, (row * 7) % 300 if row % 3 == 0 else -1) for row in range(count)]


scores_lists = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, -1.0]), min_size=1, max_size=30)


def pairs_of(count: int) -> st.SearchStrategy[list[DuplicatePair]]:
    positions = st.integers(0, count - 1)
    pairs = st.tuples(positions, positions).filter(lambda pair: pair[0] < pair[1])
    return st.lists(pairs.map(lambda pair: DuplicatePair(*pair, distance=1)), max_size=10) if count > 1 else st.just([])


@given(scores_lists, st.integers(1, 40))
def test_the_best_are_chosen_best_first(scores: list[float], count: int) -> None:
    faces = records(len(scores))
    ranking = rank_faces(faces, np.array(scores), selection="score", count=count)
    assert sorted(ranking.rank) == list(range(1, len(scores) + 1))
    assert len(ranking.chosen) == min(count, len(scores))
    assert ranking.rank[ranking.chosen].tolist() == list(range(1, len(ranking.chosen) + 1))
    chosen = set(ranking.chosen.tolist())
    others = [scores[i] for i in range(len(scores)) if i not in chosen]
    assert all(scores[i] >= other for i in chosen for other in others)
    for i, reason in enumerate(ranking.reasons):
        assert reason == ("" if i in chosen else f"score below the best {count}")


@given(scores_lists, st.integers(1, 40), st.sampled_from([0.0, 0.3, 0.5, 3.0]))
def test_faces_below_the_least_score_are_not_chosen(scores: list[float], count: int, least: float) -> None:
    faces = records(len(scores))
    for selection in ("score", "all"):
        ranking = rank_faces(faces, np.array(scores), selection=selection, count=count, min_score=least)
        chosen = set(ranking.chosen.tolist())
        good = {i for i, score in enumerate(scores) if score >= least}
        assert chosen <= good
        assert len(chosen) == (len(good) if selection == "all" else min(count, len(good)))
        below = [reason for i, reason in enumerate(ranking.reasons) if i not in good]
        assert below == [f"score below {least:g}"] * len(below)


@given(scores_lists)
def test_ties_go_by_file_name(scores: list[float]) -> None:
    faces = records(len(scores))
    rank = rank_faces(faces, np.array(scores), selection="all", count=1).rank
    keys = [(-score, face.file_name) for score, face in zip(scores, faces, strict=True)]
    assert [keys[i] for i in np.argsort(rank)] == sorted(keys)


@given(st.data(), scores_lists)
def test_of_a_group_of_duplicates_the_best_stays(data: st.DataObject, scores: list[float]) -> None:
    faces = records(len(scores))
    drop = data.draw(pairs_of(len(scores)))
    count = data.draw(st.integers(1, len(scores)))
    ranking = rank_faces(faces, np.array(scores), selection="score", count=count, drop=drop)
    names = [face.file_name for face in faces]
    dropped = {i for i, lost in enumerate(ranking.rejections) if lost and lost.kind is RejectionKind.DUPLICATE}
    for i in dropped:
        better = names.index(ranking.reasons[i].removeprefix("duplicate of "))
        assert ranking.rank[better] < ranking.rank[i]
        assert better not in dropped
        assert {i, better} in [{pair.first, pair.second} for pair in drop]
    for pair in drop:
        assert pair.first in dropped or pair.second in dropped
    assert not dropped & set(ranking.chosen.tolist())
    # Those who were dropped make room for the next best.
    assert len(ranking.chosen) == min(count, len(scores) - len(dropped))


def test_a_dropped_face_does_not_drop_others() -> None:
    """a ~ b ~ c, but a and c are different photos: b goes, c stays."""
    drop = [DuplicatePair(1, 2, 3), DuplicatePair(0, 1, 3)]
    ranking = rank_faces(records(3), np.array([3.0, 2.0, 1.0]), selection="all", count=1, drop=drop)
    assert ranking.chosen.tolist() == [0, 2]
    assert ranking.reasons == ("", "duplicate of 000001.jpg", "")
    assert ranking.rejections[1] == Rejection(RejectionKind.DUPLICATE, "000002.jpg", "duplicate of 000001.jpg")


@pytest.mark.parametrize(
    ("selection", "order", "expected"),
    [
        ("all", "auto", [2, 0, 3, 1]),
        ("all", "rank", [2, 0, 3, 1]),
        ("all", "source", [0, 1, 2, 3]),
        ("all", "official", [3, 0, 2, 1]),  # unpublished ones last, by rank
        ("official", "auto", [3, 0, 2, 1]),
        ("official", "rank", [2, 0, 3, 1]),
        ("score", "auto", [2, 0]),
        ("score", "source", [0, 2]),
        ("score", "official", [0, 2]),
    ],
)
def test_order(selection: Selection, order: Order, expected: list[int]) -> None:
    faces = [record(0, 50), record(1), record(2), record(3, 20)]
    ranking = rank_faces(faces, np.array([3.0, 1.0, 4.0, 2.0]), selection=selection, count=2, order=order)
    assert ranking.chosen.tolist() == expected


@given(scores_lists, st.sampled_from(["rank", "source", "official"]))
def test_the_order_does_not_change_the_choice(scores: list[float], order: Order) -> None:
    faces, values = records(len(scores)), np.array(scores)
    one = rank_faces(faces, values, selection="score", count=5, order=order)
    other = rank_faces(faces, values, selection="score", count=5)
    assert sorted(one.chosen) == sorted(other.chosen)
    assert one.reasons == other.reasons


def names_of(faces: Sequence[FaceRecord]) -> list[str]:
    return [face.file_name for face in faces]


def test_official_candidates_are_the_first_published_ones_in_the_order_of_the_source() -> None:
    faces = [record(0, 50), record(1), record(2, 7), record(3, 20), record(4, 9)]
    chosen = select_candidates(faces, selection="official", count=3)
    assert names_of(chosen) == ["000003.jpg", "000004.jpg", "000005.jpg"]  # 7, 20, 9
    without = select_candidates(faces, selection="official", count=3, excluded=frozenset({"000003.jpg"}))
    assert names_of(without) == ["000001.jpg", "000003.jpg", "000004.jpg", "000005.jpg"]  # the excluded one stays
    for selection in ("score", "all"):
        assert select_candidates(faces, selection=selection, count=1) == tuple(faces)


def test_required_count() -> None:
    assert required_count("score", 30000) == 30000
    assert required_count("all", 30000) == 1
    assert required_count("official", 10) == 10
    assert required_count("official", 99999) == 30000
    flaws = read_exclusions("known-flaws")
    assert required_count("official", 30000, flaws) == 30000 - len(KNOWN_FLAWS)


def test_exclusions_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "unwanted.csv"
    path.write_text("file_name,why\n000005.jpg,blurred\n# a comment\n\n  000007.jpg  # as well\n000005.jpg\n")
    assert read_exclusions(str(path)) == {"000005.jpg", "000007.jpg"}


def test_known_flaws() -> None:
    published = published_files()
    assert read_exclusions("known-flaws") == {published[index] for index in KNOWN_FLAWS}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"12\n", "'12' is not a file name"),
        (b"../x.jpg\n", "is not a file name"),
        (b"\xff\xfe\x00.jpg", "cannot be read"),
    ],
)
def test_bad_exclusions(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "unwanted.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_exclusions(str(path))
    assert str(error.value).startswith(f"--exclude {path}")
    assert "\n" not in str(error.value)


def test_tables(tmp_path: Path) -> None:
    faces = records(3)
    low = Rejection(RejectionKind.LOW_SCORE, "000003.jpg", "score below the best 2")
    ranking = Ranking(np.array([2, 1, 3]), np.array([1, 0]), (None, None, low))
    rejections = [
        Rejection(RejectionKind.UNKNOWN_FORMAT, "bad, very.jpg", 'it begins with the text "x"'),
        Rejection(RejectionKind.UNUSED_ANNOTATION, "000001.jpg", "used without attributes"),
    ]
    write_ranking_csv(tmp_path / "ranking.csv", faces, np.array([0.5, 0.75, 0.125]), ranking, rejections)
    write_rejected_csv(tmp_path / "rejected.csv", rejections)
    with (tmp_path / "ranking.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["file_name", "score", "rank", "chosen", "reason", "kind"],
            ["000002.jpg", "0.750000", "1", "1", "", ""],
            ["000001.jpg", "0.500000", "2", "1", "", ""],  # once, though an annotation of it was rejected
            ["000003.jpg", "0.125000", "3", "0", "score below the best 2", "low-score"],
            ["bad, very.jpg", "", "", "0", 'photo: it begins with the text "x"', "unknown-format"],
        ]
    with (tmp_path / "rejected.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["file_name", "stage", "reason", "kind"],
            ["bad, very.jpg", "photo", 'it begins with the text "x"', "unknown-format"],
            ["000001.jpg", "annotation", "used without attributes", "unused-annotation"],
        ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ranking.csv", "rejected.csv"]
