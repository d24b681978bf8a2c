"""Reading: arrays like NumPy's own indexing, in any process, and one clear line for files that are no pyramids."""

import hashlib
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.pyramid import Pyramid
from datatools.pyramid.format import image_checksum
from datatools.pyramid.reader import StoredLevel
from tests.support.builds import HANGS
from tests.support.pyramid_samples import NAMES, face, row, write

COUNT = 12


@pytest.fixture(scope="module", params=["none", "gzip"])
def pyramid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    return Pyramid(write(tmp_path_factory.mktemp("pyramid") / "a.h5", range(COUNT), compression=request.param))


def reference(level: int) -> NDArray[np.uint8]:
    assert level == 32
    return np.stack([face(index).transpose(2, 0, 1) for index in range(COUNT)])


def test_what_it_says_of_itself(pyramid: Pyramid) -> None:
    assert len(pyramid) == COUNT
    assert pyramid.resolution == 32
    assert pyramid.levels == (32, 16, 8, 4)
    assert pyramid.attribute_names == NAMES
    assert pyramid.settings == {"restore": "none", "seed": 7, "gain": 0.5}
    assert [type(value) for _, value in sorted(pyramid.settings.items())] == [float, str, int]
    assert pyramid[8].shape == (COUNT, 3, 8, 8)
    assert pyramid[8].dtype == np.uint8
    assert len(pyramid[8]) == COUNT
    assert "12 images" in repr(pyramid)
    assert "(12, 3, 8, 8)" in repr(pyramid[8])


def test_iterating_gives_every_image(pyramid: Pyramid) -> None:
    np.testing.assert_array_equal(np.stack(list(pyramid[32])), reference(32))


positions = st.integers(-COUNT, COUNT - 1)
borders = st.none() | st.integers(-2 * COUNT, 2 * COUNT)
keys = (
    positions
    | st.builds(slice, borders, borders, st.none() | st.sampled_from([-3, -1, 1, 2, 5]))
    | st.lists(positions, max_size=20)
    | st.lists(st.booleans(), min_size=COUNT, max_size=COUNT)
)


@settings(deadline=None)
@given(key=keys)
def test_indexing_is_numpys(pyramid: Pyramid, key: Any) -> None:
    expected = reference(32)[np.array(key, int) if key == [] else key]
    for form in [key, np.array(key)] if isinstance(key, list) and key else [key]:
        found = pyramid[32][form]
        assert found.shape == expected.shape
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("start", "count"), [(0, COUNT), (5, 3), (COUNT - 1, 1), (COUNT, 0)])
def test_read_into_fills_the_callers_array(pyramid: Pyramid, start: int, count: int) -> None:
    out = np.full((count, 3, 32, 32), 255, np.uint8)
    pyramid[32].read_into(start, out)
    np.testing.assert_array_equal(out, reference(32)[start : start + count])


@pytest.mark.parametrize(("start", "count"), [(0, COUNT + 1), (-1, 1), (COUNT, 1)])
def test_read_into_rejects_images_that_do_not_exist(pyramid: Pyramid, start: int, count: int) -> None:
    with pytest.raises(IndexError, match="of 12"):
        pyramid[32].read_into(start, np.empty((count, 3, 32, 32), np.uint8))


def test_digest_depends_on_every_pixel_of_the_level_and_on_extra_bytes(pyramid: Pyramid, tmp_path: Path) -> None:
    checksums = np.array([image_checksum(image) for image in reference(32)], "<u4").tobytes()
    assert pyramid.digest(32) == hashlib.sha256(checksums).hexdigest()
    assert pyramid.digest(32, b"labels") == hashlib.sha256(checksums + b"labels").hexdigest()
    other = Pyramid(write(tmp_path / "other.h5", range(1, COUNT + 1)))
    digests = [pyramid.digest(32), pyramid.digest(16), pyramid.digest(32, b"labels"), other.digest(32)]
    assert len({*digests}) == 4
    assert digests[0] == Pyramid(write(tmp_path / "same.h5", range(COUNT))).digest(32)
    with pytest.raises(DataError, match="no level 64"):
        pyramid.digest(64)


def test_arrays_are_the_callers_own(pyramid: Pyramid) -> None:
    pyramid[32][0][:] = 0
    pyramid[32][:3][:] = 0
    np.testing.assert_array_equal(pyramid[32][:], reference(32))


@pytest.mark.parametrize("key", [COUNT, -COUNT - 1, [0, COUNT], [-COUNT - 1], [True] * (COUNT - 1)])
def test_images_that_are_not_there(pyramid: Pyramid, key: Any) -> None:
    with pytest.raises(IndexError, match="12"):
        pyramid[32][key]


@pytest.mark.parametrize("key", [(0, 1), 1.0, [0.5], [[0, 1]], "0", None])
def test_keys_that_make_no_sense(pyramid: Pyramid, key: Any) -> None:
    with pytest.raises(TypeError, match="integer, a slice"):
        pyramid[32][key]


def test_unknown_level(pyramid: Pyramid) -> None:
    with pytest.raises(DataError, match="no level 64; it has 32, 16, 8, 4"):
        pyramid[64]


def test_image_for_display(pyramid: Pyramid) -> None:
    np.testing.assert_array_equal(pyramid.image(5), face(5))
    assert pyramid.image(5).flags.c_contiguous
    np.testing.assert_array_equal(pyramid.image(-1, 8), pyramid[8][COUNT - 1].transpose(1, 2, 0))


def test_provenance_comes_back(pyramid: Pyramid) -> None:
    rows = [row(index) for index in range(COUNT)]
    for name in ("file_name", "source_md5", "score", "rank", "celebahq_index"):
        assert pyramid.provenance(name).tolist() == [getattr(each, name) for each in rows]
    np.testing.assert_array_equal(pyramid.provenance("quad"), [each.quad for each in rows])
    np.testing.assert_array_equal(pyramid.provenance("landmarks"), [each.landmarks for each in rows])
    assert pyramid.provenance("identity").tolist() == [-1 if r.identity is None else r.identity for r in rows]
    assert pyramid.provenance("split").tolist() == [-1 if r.split is None else r.split for r in rows]
    assert pyramid.provenance("attributes").shape == (COUNT, 3)


def test_attributes_by_name(pyramid: Pyramid) -> None:
    young = pyramid.attribute("Young")
    assert young.dtype == np.int8
    assert young.tolist() == [-1, 1, 0, 1, -1, 0] * 2


def test_unknown_names(pyramid: Pyramid, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no attribute 'smilling', did you mean 'Smiling'\? known: 5_o_Clock"):
        pyramid.attribute("smilling")
    with pytest.raises(DataError, match="no attribute 'xyz'; known: 5_o_Clock"):
        pyramid.attribute("xyz")
    with pytest.raises(DataError, match=r"no provenance column 'scores', did you mean 'score'\?"):
        pyramid.provenance("scores")
    bare = Pyramid(write(tmp_path / "bare.h5", range(0), attribute_names=()))
    with pytest.raises(DataError, match="built without any"):
        bare.attribute("Smiling")
    assert "attributes" not in bare.provenance_names


# Worker processes and threads


def sums(pyramid: Pyramid, queue: Any) -> None:
    queue.put([int(pyramid[32][index].sum()) for index in range(COUNT)] + [float(pyramid.provenance("score").sum())])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("opened_before", [False, True])
def test_worker_processes(pyramid: Pyramid, method: str, opened_before: bool) -> None:
    """As a torch DataLoader hands its data set to workers: inherited or pickled, used in the parent as well."""
    pyramid.close()
    if opened_before:
        assert pyramid[32][0].any()
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    workers = [context.Process(target=sums, args=(pyramid, queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    own = [int(image.sum()) for image in reference(32)] + [float(pyramid.provenance("score").sum())]
    assert [queue.get(timeout=HANGS) for _ in workers] == [own] * 3
    for worker in workers:
        worker.join(HANGS)
        assert worker.exitcode == 0
    np.testing.assert_array_equal(pyramid[32][:], reference(32))


def test_a_forked_process_opens_the_file_itself(pyramid: Pyramid) -> None:
    parents = pyramid.handles()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        own = pyramid.handles()
        os.write(write_end, b"own" if own is not parents and own.process == os.getpid() else b"shared")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read_end, 10) == b"own"
    os.close(read_end)
    os.close(write_end)
    assert pyramid.handles() is parents


def test_a_pickle_carries_the_path_alone(pyramid: Pyramid) -> None:
    pyramid[32][0]
    assert len(pickle.dumps(pyramid)) < 300
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pyramid))[32][:], reference(32))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pyramid[32]))[:], reference(32))


def test_threads_share_a_pyramid(pyramid: Pyramid) -> None:
    expected = reference(32)
    wrong: list[int] = []

    def read(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(0, COUNT, 200).tolist():
            if not np.array_equal(pyramid[32][index], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closing_closes_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", range(3))

    def opened() -> int:
        return sum(os.path.realpath(f"/proc/self/fd/{name}") == str(path) for name in os.listdir("/proc/self/fd"))

    with Pyramid(path) as pyramid:
        assert pyramid[4][0].shape == (3, 4, 4)
        assert opened() == 1
    assert opened() == 0
    assert pyramid[4][1].shape == (3, 4, 4)  # opens again


def test_reads_of_more_than_the_kernel_gives_at_once(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datatools.pyramid.reader.MAX_READ", 1000)
    np.testing.assert_array_equal(pyramid[32][:], reference(32))


# Files that are no pyramids


def edit(change: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def overwrite_tables(path: Path) -> None:
    """Noise over HDF5's own tables, the signature spared."""
    with path.open("r+b") as file:
        file.seek(60)
        file.write(b"\x55" * 3000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: [path.unlink(), path.mkdir()], "is a folder; .* from-folder makes a pyramid of its pictures"),
        (lambda path: path.write_bytes(b""), "not an HDF5 file"),
        (lambda path: path.write_text("photos"), "not an HDF5 file"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), r"truncated \(\d+ of \d+ bytes are there\)"),
        (lambda path: os.truncate(path, 20_000), "truncated"),
        (overwrite_tables, "damaged HDF5"),
        (edit(lambda file: file.attrs.modify("complete", np.uint8(0))), "completeness mark is missing"),
        (edit(lambda file: file.attrs.__delitem__("complete")), "completeness mark is missing"),
        (edit(lambda file: file.attrs.__setitem__("format_version", 2)), "format version 2 is not 1"),
        (edit(lambda file: file.attrs.__delitem__("format")), "not a pyramid .* look like the 2017 layout"),
        (edit(lambda file: file.attrs.__delitem__("count")), "missing at the root: count"),
        (edit(lambda file: file.__delitem__("settings")), "missing at the root: settings"),
        (edit(lambda file: file.attrs.__setitem__("resolution", 33)), "power of two"),
        (edit(lambda file: file.__delitem__("data8x8")), "data8x8 is missing"),
        (edit(lambda file: [file.__delitem__(name) for name in ("data8x8", "data4x4")]), r"\(and 1 more\)"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    path = write(tmp_path / "a.h5", range(5))
    damage(path)
    with pytest.raises(DataError, match=rf"a\.h5: .*{message}") as caught:
        Pyramid(path)
    assert "\n" not in str(caught.value)


def test_bytes_lost_while_open_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", range(5))
    pyramid = Pyramid(path)
    assert pyramid[32][4].any()
    os.truncate(path, 8000)
    with pytest.raises(DataError, match=r"data32x32: images 4 to 4 cannot be read \(the file ends before them\)"):
        pyramid[32][4]


def test_uncompressed_images_are_read_by_offset(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "a.h5", range(5))) as file:
        assert StoredLevel(file, file["data32x32"]).offset == file["data32x32"].id.get_offset()
    with h5py.File(write(tmp_path / "b.h5", range(5), compression="lzf")) as file:
        assert StoredLevel(file, file["data32x32"]).offset is None
