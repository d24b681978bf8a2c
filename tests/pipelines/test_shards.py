"""A shard's own promises; the whole build is in test_build*.py."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid import Pyramid
from datatools.restore.restorers import network_restorer
from datatools.restore.weights import save_weights
from pipelines.build_shard import chosen_faces, write_build_shard
from pipelines.finished_faces import KeptFaces
from pipelines.layout import BuildLayout
from pipelines.rank import write_ranking
from pipelines.score_shard import read_score_shards, write_score_shard
from tests.support.builds import Photo, make_tree
from tests.support.restore_samples import tiny_network


def test_a_photo_that_the_system_refuses_is_no_bad_photo(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    """A disk that goes away must not turn into rejections that a finished shard keeps for ever."""
    tree = make_tree(tmp_path / "CelebA", dict(list(photos.items())[:2]))
    layout = BuildLayout(tree, tmp_path, selection="all", resolution=256, restore="none")
    shard, faces, photo = layout.score_path(0), layout.faces_path(0), layout.candidates[1].path
    hidden = photo.rename(tmp_path / "hidden")
    with pytest.raises(DataError, match="cannot be read"):
        write_score_shard(layout, 0, 1)
    assert not shard.exists()
    assert not faces.exists()
    hidden.rename(photo)
    write_score_shard(layout, 0, 1)
    table = read_score_shards(layout)
    assert table.position.tolist() == [0, 1]
    assert table.rejections == ()
    assert faces.stat().st_size == 2 * 256 * 256 * 3


def test_photos_together_give_the_faces_of_photos_alone(
    photos: Mapping[str, Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of a GPU, here on the CPU: the same records, rejections and order, and pixels but for rounding."""
    some = dict(list(photos.items())[:5])
    broken = list(some)[2]
    some[broken] = replace(some[broken], data=some[broken].data[:3000])
    tree = make_tree(tmp_path / "CelebA", some)
    save_weights(tmp_path / "jpeg.safetensors", tiny_network("jpeg"), "jpeg", {})
    restorer = network_restorer(str(tmp_path / "jpeg.safetensors"), super_resolution="auto", device="cpu", threads=1)
    restorer = replace(restorer, precision="fp32")
    tables, faces, pyramids = [], [], []
    for together in (1, 2):
        monkeypatch.setattr(
            "pipelines.layout.get_restorer", lambda *_, size=together, **__: replace(restorer, batch_size=size)
        )
        layout = BuildLayout(
            tree, tmp_path / str(together), selection="all", order="source", resolution=256, score_on="restored"
        )
        done: list[int] = []
        write_score_shard(layout, 0, together, done.append)
        assert done == [1] * 5
        tables.append(read_score_shards(layout))
        faces.append(np.fromfile(layout.faces_path(0), np.uint8).astype(int))
        layout.faces_path(0).unlink()  # so that the second pass opens the photos again
        write_ranking(layout)
        done.clear()
        write_build_shard(layout, 0, chosen_faces(layout, 0), together, done.append, done.append)
        assert done == [1] * 4
        with Pyramid(layout.build_path(0)) as pyramid:
            pyramids.append(np.stack([pyramid.image(index) for index in range(4)]).astype(int))
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


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_face_of_the_first_pass_is_noticed(cut: bool, photos: Mapping[str, Photo], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "CelebA", dict(list(photos.items())[:2]))
    layout = BuildLayout(tree, tmp_path, selection="all", resolution=256, restore="none")
    write_score_shard(layout, 0, 1)
    path, kept = layout.faces_path(0), KeptFaces(layout, 0)
    whole = path.read_bytes()
    assert kept.read(1).tobytes() == whole[len(whole) // 2 :]
    path.write_bytes(whole[:-1] if cut else whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=r"\.rgb was damaged .* and is removed; run the same command again"):
        kept.read(1)
    assert not path.exists()
