"""datatools.download.catalogue: what is known of the data sets' files."""

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest

from datatools.download.catalogue import DATA_SETS, LSUN_OBJECTS, LSUN_SCENES, DataSet, data_set, lsun
from datatools.errors import DataError

EVERY = [*DATA_SETS.values(), lsun("bedroom"), lsun("cat")]


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_entries_are_sound(each: DataSet) -> None:
    assert len({file.path for file in each.files}) == len(each.files)
    for file in each.files:
        assert urlsplit(file.url).hostname in ("drive.usercontent.google.com", "www.cs.toronto.edu", "dl.yf.io")
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|", file.checksum)
        assert ".." not in PurePosixPath(file.path).parts
    for archive in each.archives:
        assert archive.path in {file.path for file in each.files}
    assert each.terms
    assert each.consent == each.name.startswith("celeba")


def test_celebas_photos_come_in_fourteen_parts_with_checksums() -> None:
    parts = [file for file in DATA_SETS["celeba"].files if file.name.startswith("img_celeba.7z.")]
    assert [part.name[-3:] for part in parts] == [f"{number:03}" for number in range(1, 15)]
    assert all(part.checksum.startswith("sha1:") for part in parts)
    assert len({part.url for part in parts}) == len({part.checksum for part in parts}) == 14
    aligned = [file for file in DATA_SETS["celeba-aligned-png"].files if ".7z." in file.name]
    assert [part.name[-3:] for part in aligned] == [f"{number:03}" for number in range(1, 17)]


def test_identities_are_not_downloaded() -> None:
    assert all("identity" not in file.path for each in EVERY for file in each.files)
    assert "on request" in DATA_SETS["celeba"].on_request


def test_names() -> None:
    assert data_set("cifar10").files[0].size == 170_052_171
    assert data_set("lsun", "tower").files[0].url == "http://dl.yf.io/lsun/scenes/tower_train_lmdb.zip"
    assert data_set("lsun", "cat").files[0].url == "http://dl.yf.io/lsun/objects/cat.zip"
    assert len(LSUN_SCENES) == 10
    assert len(LSUN_OBJECTS) == 20
    with pytest.raises(DataError, match=r"mnist: no such data set; choose one of celeba, .*, lsun"):
        data_set("mnist")
    with pytest.raises(DataError, match="LSUN has no category 'bedrom'; choose one of bedroom, "):
        lsun("bedrom")
