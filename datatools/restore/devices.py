"""Where networks are computed."""

import torch

from datatools.errors import DataError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one. Raises DataError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # there and back: "meta" exists everywhere and holds nothing
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"--device {name} is not available here: {str(error).splitlines()[0]}") from error
    return device
