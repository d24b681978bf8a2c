"""Reading ahead: order, how far, errors; memory that is used again, but not while somebody holds it."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import torch

from datatools.errors import DataError
from pggan.data.prefetch import Buffers, map_ahead


def later_ones_faster(number: int) -> tuple[int, str]:
    time.sleep(0.02 if number % 4 == 0 else 0)
    return number * number, threading.current_thread().name


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    started: list[str] = []
    results = list(
        map_ahead(later_ones_faster, range(30), threads, 4, lambda: started.append(threading.current_thread().name))
    )
    assert [square for square, _ in results] == [number * number for number in range(30)]
    assert {name for _, name in results} <= set(started)
    assert threading.current_thread().name not in started
    assert len(started) <= threads
    assert list(map_ahead(later_ones_faster, [], threads, 4)) == []


def test_only_a_few_items_are_begun_before_their_turn() -> None:
    begun: list[int] = []
    threads = threading.active_count()

    def items() -> Iterator[int]:
        for number in range(100):
            begun.append(number)
            yield number

    with closing(map_ahead(later_ones_faster, items(), 2, 5)) as results:
        for taken, _ in enumerate(results, start=1):
            assert len(begun) <= taken + 5
            if taken == 20:
                break
        assert threading.active_count() == threads + 2
    assert len(begun) == 25
    assert threading.active_count() == threads  # closed: its threads are gone


def test_errors_come_in_place_of_the_result() -> None:
    def refuse_seven(number: int) -> int:
        if number == 7:
            raise DataError("seven is no good")
        return number

    results = map_ahead(refuse_seven, range(20), 2, 6)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(DataError, match="seven is no good"):
        next(results)


def test_memory_is_used_again_when_nobody_holds_it() -> None:
    buffers = Buffers((3, 4, 4))
    first = buffers.take(2)
    assert (first.shape, first.dtype) == ((2, 3, 4, 4), torch.uint8)
    place = first.data_ptr()
    del first
    second = buffers.take(2)
    assert second.data_ptr() == place
    assert buffers.take(2).data_ptr() != place


def test_memory_that_is_held_in_any_way_is_left_alone() -> None:
    buffers = Buffers((3, 4, 4))
    holders = (
        lambda images: images[1:],
        lambda images: images.detach().view(-1)[5:],
        lambda images: images.numpy()[1:][0, 0].T,
        lambda images: torch.from_numpy(images.numpy()[:1]),
    )
    for hold in holders:
        images = buffers.take(2).fill_(7)
        held = hold(images)
        del images
        buffers.take(2).fill_(9)
        assert np.unique(np.asarray(held)).tolist() == [7]
        del held


def test_another_count_is_another_shape() -> None:
    buffers = Buffers((1, 2, 2))
    for count in (3, 1, 0, 3):
        assert buffers.take(count).shape == (count, 1, 2, 2)
