"""Choose the device that computes networks."""

import re

import torch
from torch import Tensor

from datatools.errors import DataError, one_line


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on `device`; CUDA copies page-locked memory without waiting for its other work."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def torch_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA if available, else the CPU. Raise DataError if it is missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # there and back: "meta" exists everywhere and holds nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        # the first sentence: torch adds a list of devices and hints for its developers
        reason = re.split(r"(?<=\.)\s", one_line(error), maxsplit=1)[0]
        raise DataError(f"--device {name} is not available here: {reason}") from error
    return device
