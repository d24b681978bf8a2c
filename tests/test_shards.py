"""A shard's own promises; the whole build is in test_build*.py."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from datatools.celeba import read_tree
from datatools.errors import DataError
from datatools.restore import get_restorer
from pipelines.shards import Recipe, read_score_shards, write_score_shard
from tests.builds import Photo, make_tree


def test_a_photo_that_the_system_refuses_is_no_bad_photo(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    """A disk that goes away must not turn into rejections that a finished shard keeps for ever."""
    records = read_tree(make_tree(tmp_path / "CelebA", photos)).records[:2]
    recipe = Recipe(get_restorer("none"), "lanczos", 256)
    hidden = records[1].path.rename(tmp_path / "hidden")
    shard, faces = tmp_path / "shard.npz", tmp_path / "shard.rgb"
    with pytest.raises(DataError, match="cannot be read"):
        write_score_shard(shard, faces, records, recipe, jobs=1)
    assert not shard.exists()
    assert not faces.exists()
    hidden.rename(records[1].path)
    write_score_shard(shard, faces, records, recipe, jobs=1)
    table = read_score_shards([shard], 2)
    assert table.position.tolist() == [0, 1]
    assert table.rejections == ()
    assert faces.stat().st_size == 2 * 256 * 256 * 3
