"""Where networks are computed."""

import re

import torch

from datatools.errors import DataError, one_line


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one. Raises DataError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # there and back: "meta" exists everywhere and holds nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        # torch goes on with a list of all that is there, and what its developers should look at
        reason = re.split(r"(?<=\.)\s", one_line(error), maxsplit=1)[0]
        raise DataError(f"--device {name} is not available here: {reason}") from error
    return device
