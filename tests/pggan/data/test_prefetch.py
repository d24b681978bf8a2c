"""Memory that is used again, but not while somebody holds it."""

import numpy as np
import torch

from pggan.data.prefetch import Buffers


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
