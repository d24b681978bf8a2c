"""Copies from the CPU to a device."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on `device`, without waiting for the work that CUDA has in its queue.

    From pageable memory CUDA copies only when the queue is empty. Page-locked memory is copied in its turn, and PyTorch
    does not use it again before that.
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
