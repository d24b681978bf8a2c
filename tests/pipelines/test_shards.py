"""A shard's own promises; the whole build is in test_build*.py."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.pyramid import Provenance, Pyramid
from datatools.restore import get_restorer
from datatools.restore.restorers import network_restorer
from datatools.restore.weights import save_weights
from datatools.sources.celeba import read_tree
from datatools.sources.records import FaceRecord
from pipelines.build_shard import ChosenFace, write_build_shard
from pipelines.photo_work import Recipe
from pipelines.score_shard import ScoreTable, read_score_shards, write_score_shard
from tests.support.builds import Photo, make_tree
from tests.support.restore_samples import tiny_network


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


def test_photos_together_give_the_faces_of_photos_alone(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    """The way of a GPU, here on the processor: the same records, rejections and order, and pixels but for rounding."""
    some = dict(list(photos.items())[:5])
    broken = list(some)[2]
    some[broken] = replace(some[broken], data=some[broken].data[:3000])
    records = read_tree(make_tree(tmp_path / "CelebA", some)).records
    save_weights(tmp_path / "jpeg.safetensors", tiny_network("jpeg"), "jpeg", {})
    restorer = network_restorer(str(tmp_path / "jpeg.safetensors"), super_resolution="auto", device="cpu", threads=1)
    restorer = replace(restorer, precision="fp32")
    tables, faces, pyramids = [], [], []
    for together in (1, 2):
        folder = tmp_path / str(together)
        folder.mkdir()
        recipe = Recipe(replace(restorer, batch_size=together), "lanczos", 256)
        told: list[int] = []
        write_score_shard(folder / "scores.npz", folder / "faces.rgb", records, recipe, together, told.append)
        assert told == [1] * 5
        tables.append(read_score_shards([folder / "scores.npz"], 5))
        faces.append(np.fromfile(folder / "faces.rgb", np.uint8).astype(int))
        pyramids.append(build(folder / "shard.h5", records, tables[-1], recipe, jobs=together))
    alone, grouped = tables
    assert alone.position.tolist() == grouped.position.tolist() == [0, 1, 3, 4]
    assert alone.rejections == grouped.rejections
    assert [rejection.file_name for rejection in alone.rejections] == [broken]
    assert alone.source_md5.tolist() == grouped.source_md5.tolist()
    np.testing.assert_array_equal(alone.quad, grouped.quad)
    np.testing.assert_allclose(alone.score, grouped.score, rtol=1e-3)
    assert np.abs(faces[0] - faces[1]).max() <= 1
    assert np.abs(pyramids[0] - pyramids[1]).max() <= 1
    stored = faces[1].reshape(5, 256, 256, 3)
    np.testing.assert_allclose(pyramids[1], stored[[0, 1, 3, 4]], atol=1)  # the groups of the passes differ


def build(path: Path, records: Sequence[FaceRecord], table: ScoreTable, recipe: Recipe, jobs: int) -> NDArray[np.int64]:
    """Second pass over all photos that gave a face; returns the pictures that it writes."""
    chosen = [
        ChosenFace(
            records[position],
            Provenance(
                file_name=records[position].file_name,
                source_md5=str(table.source_md5[row]),
                score=float(table.score[row]),
                rank=row,
                celebahq_index=records[position].celebahq_index,
                quad=table.quad[row].tolist(),
                landmarks=records[position].landmarks,
                attributes=records[position].attributes,
                identity=records[position].identity,
                split=records[position].split,
            ),
            shard=0,
            row=row,
        )
        for row, position in enumerate(table.position)
    ]
    names = [f"attribute {index}" for index in range(len(records[0].attributes))]
    write_build_shard(
        path, chosen, lambda _shard: None, recipe, jobs, min_level=4, compression="none", attribute_names=names
    )
    with Pyramid(path) as pyramid:
        return np.stack([pyramid.image(index) for index in range(len(chosen))]).astype(np.int64)
