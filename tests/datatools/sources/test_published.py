"""datatools.sources.published: the shipped numbers are the published set's."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from datatools.sources.published import COUNT, KNOWN_FLAWS, celebahq_index_by_file, published_files, published_rows
from tests.support.paths import ROOT


def test_shape_and_range() -> None:
    rows = published_rows()
    assert rows.shape == (COUNT,)
    assert rows.dtype == np.int32
    assert len(set(rows.tolist())) == COUNT
    assert rows.min() >= 0
    assert rows.max() < 202_599


def test_numbers_are_unchanged() -> None:
    assert published_rows()[:6].tolist() == [119613, 99094, 200121, 81059, 202040, 614]
    digest = hashlib.sha256(published_rows().astype("<i4").tobytes()).hexdigest()
    assert digest == "1b044db2617944444178f0daad527be74f6b5238ddc02ec584f2035157b5fa7f"


def test_rows_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        published_rows()[0] = 1


def test_files_follow_from_rows() -> None:
    assert published_files()[:2] == ["119614.jpg", "099095.jpg"]
    assert celebahq_index_by_file()["000004.jpg"] == 5212
    assert len(celebahq_index_by_file()) == COUNT
    assert "000001.jpg" not in celebahq_index_by_file()


def test_known_flaws_are_entries_of_the_set() -> None:
    assert {70, 2815} <= set(KNOWN_FLAWS)
    assert all(0 <= index < COUNT and reason for index, reason in KNOWN_FLAWS.items())


def test_flaws_that_users_report_are_listed_as_such() -> None:
    pairs = (234, 3329, 6770, 7384, 7561, 12444, 12885, 13825, 15506, 19199, 20134, 24646)
    for earlier in pairs:
        assert KNOWN_FLAWS[earlier + 1] == f"reported as the same photo as {earlier} by users"
        assert earlier not in KNOWN_FLAWS  # one of the two stays
    assert KNOWN_FLAWS[5163] == "shows the same photo as 5162"
    assert KNOWN_FLAWS[2110] == "reported as not aligned by users"
    assert len(KNOWN_FLAWS) == 2 + 1 + len(pairs) + 11


def test_known_flaws_are_documented() -> None:
    page = (ROOT / "docs/known-flaws.md").read_text(encoding="utf-8")
    for index, reason in KNOWN_FLAWS.items():
        assert f"| {index} | {published_files()[index]} | {reason} |" in page


def test_published_images_on_disk_are_where_the_list_says(sample_data: Path) -> None:
    lines = (sample_data / "celebahq_published/index.csv").read_text().split()[1:]
    assert len(lines) == 35
    for line in lines:
        index, name = line.split(",")[:2]
        assert published_files()[int(index)] == name


def test_numbers_agree_with_the_list(sample_data: Path) -> None:
    lines = (sample_data / "celebahq_index/image_list.txt").read_text().splitlines()[1:]
    assert [line.split()[2] for line in lines] == published_files()
