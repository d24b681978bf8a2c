"""The stream of images is a pure function of (seed, images seen), whoever reads it and however it is cut."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datatools.errors import DataError
from datatools.pyramid import Pyramid, join
from pggan.data.prefetch import Buffers
from pggan.data.stream import Batch, Order, Places, Reader, Request, Source, as_floats, requests, stream
from tests.support.pggan_runs import PRESET, write_pyramid


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("pyramid") / "ramps.h5", attributes=True)


@given(st.integers(0, 2**40), st.integers(1, 60), st.integers(0, 500), st.integers(1, 40), st.integers(1, 9))
def test_order_does_not_depend_on_how_it_is_cut(seed: int, count: int, start: int, length: int, piece: int) -> None:
    whole = Order(seed, count, True).at(np.arange(start, start + length))
    order = Order(seed, count, True)
    parts = [order.at(np.arange(i, min(i + piece, start + length))) for i in range(start, start + length, piece)]
    for values, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.array_equal(values, np.concatenate(pieces))


@given(st.integers(0, 2**40), st.integers(1, 60))
def test_every_epoch_shows_every_image_once(seed: int, count: int) -> None:
    indices, _ = Order(seed, count, False).at(np.arange(3 * count))
    for epoch in indices.reshape(3, count):
        assert sorted(epoch) == list(range(count))


def test_epochs_seeds_and_mirroring_differ() -> None:
    positions = np.arange(2000)
    first, flips = Order(1, 1000, True).at(positions)
    assert not np.array_equal(first[:1000], first[1000:])
    assert not np.array_equal(first, Order(2, 1000, True).at(positions)[0])
    assert 0.45 < flips.mean() < 0.55
    assert not np.array_equal(flips[np.argsort(first[:1000])], flips[1000 + np.argsort(first[1000:])])
    assert not Order(1, 1000, False).at(positions)[1].any()


def wanted(images: int = 0) -> Iterator[Request]:
    return requests(PRESET.schedule, images, np.arange)


def test_requests_follow_the_schedule() -> None:
    found = list(wanted())
    assert np.array_equal(np.concatenate([request.positions for request in found]), np.arange(200))
    assert [request.resolution for request in found[:: 50 // 5]] == [4, 8, 8, 16, 16]
    later = list(wanted(104))
    assert [r.positions.tolist() for r in later] == [r.positions.tolist() for r in found[26:]]


def test_batches_are_images_of_the_file(h5: Path) -> None:
    source, order = Source(h5), Order(3, 50, True)
    indices, flips = order.at(np.arange(200))
    cpu = torch.device("cpu")
    images = [image for batch in stream(source, order, wanted(), workers=0) for image in as_floats(batch, cpu).numpy()]
    assert len(images) == 200
    pyramid = Pyramid(h5)
    for position in (0, 3, 60, 130, 199):
        stored = pyramid[images[position].shape[1]][int(indices[position])]
        shown = stored[:, :, ::-1] if flips[position] else stored
        assert np.array_equal(images[position], (shown.astype(np.float32) / np.float32(127.5)) - 1)
    assert flips[[0, 3, 60, 130, 199]].any()


@pytest.mark.parametrize(("workers", "memory_bytes"), [(0, 0), (1, 0), (2, 10_000)])
def test_workers_and_memory_change_nothing(h5: Path, workers: int, memory_bytes: int) -> None:
    source = Source(h5)
    reference = list(stream(source, Order(3, 50, True), wanted(), workers=0))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = list(stream(source, Order(3, 50, True), wanted(), workers=workers, memory_bytes=memory_bytes))
    assert len(found) == len(reference) == 50
    for one, other in zip(reference, found, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.flips, other.flips)
        assert torch.equal(one.indices, other.indices)
        assert other.seconds > 0
    assert torch.equal(state, torch.get_rng_state())


def test_levels_in_memory_are_read_ahead_for_cuda(h5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, reference = (
        Source(h5),
        [batch.images for batch in stream(Source(h5), Order(3, 50, True), wanted(), workers=0)],
    )
    threads: set[str] = set()
    read = Reader.read

    def watched(reader: Reader, places: Places) -> Batch:
        threads.add(threading.current_thread().name)
        return read(reader, places)

    monkeypatch.setattr(Reader, "read", watched)
    monkeypatch.setattr("pggan.data.stream.Buffers", lambda shape, **_: Buffers(shape))  # not pinned: here is no CUDA
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    found = stream(source, Order(3, 50, True), wanted(), workers=1, pin_memory=True)
    assert all(torch.equal(one, batch.images) for one, batch in zip(reference, found, strict=True))
    assert threading.main_thread().name not in threads


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_cannot_be_read_are_told(tmp_path: Path, workers: int) -> None:
    path = write_pyramid(tmp_path / "cut.h5")
    batches = stream(Source(path), Order(3, 50, True), wanted(150), workers=workers, memory_bytes=0)
    next(batches)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"cut\.h5: data16x16: images \d+ to \d+ cannot be read \(the file ends"):
        list(batches)


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_compressed_levels_are_read_ahead_too(h5: Path, tmp_path: Path, compression: str) -> None:
    join([h5], tmp_path / "packed.h5", compression=compression, settings={})
    sources = Source(h5), Source(tmp_path / "packed.h5")
    plain, packed = (
        list(stream(source, Order(3, 50, True), wanted(), workers=2, memory_bytes=0)) for source in sources
    )
    assert all(torch.equal(a.images, b.images) for a, b in zip(plain, packed, strict=True))


def test_ranks_share_a_minibatch(h5: Path) -> None:
    source = Source(h5)
    whole = list(stream(source, Order(3, 50, True), wanted(), workers=0))
    odd = list(
        stream(source, Order(3, 50, True), requests(PRESET.schedule, 0, lambda n: np.arange(1, n, 2)), workers=0)
    )
    assert all(torch.equal(a.images[1::2], b.images) for a, b in zip(whole, odd, strict=True))


def test_digest_tells_data_apart(h5: Path, tmp_path: Path) -> None:
    same = write_pyramid(tmp_path / "same.h5")
    assert Source(h5).digest() == Source(same).digest()
    assert Source(h5).digest() != Source(write_pyramid(tmp_path / "fewer.h5", 49)).digest()
    assert Source(h5).digest() != Source(h5, "Male").digest()


def test_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images to train on"):
        Source(write_pyramid(tmp_path / "empty.h5", 0))
