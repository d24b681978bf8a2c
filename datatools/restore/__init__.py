"""Restore photos before the face is resampled.

Paper, appendix C: an artifact remover and a 4x super-resolver run before the face is cut out. Here a restorer sees only
the part of the photo that the face needs and the margin that its networks use, which gives the same result.

Importing this does not load torch; using a restorer with a network does.
"""

from typing import get_args

from datatools.errors import DataError
from datatools.restore.base import NAMES, Crop, NoRestorer, RestorePlan, Restorer, Step, SuperResolution

__all__ = ["NAMES", "Crop", "NoRestorer", "RestorePlan", "Restorer", "Step", "SuperResolution", "get_restorer"]


def get_restorer(
    name: str, *, super_resolution: SuperResolution = "auto", device: str = "cpu", threads: int = 1
) -> Restorer:
    """Return the restorer of that name.

    Args:
        name: "none"; "bundled" (the default chain of our own networks), "bundled-distortion" or "bundled-perceptual" by
            name; "realesrgan"; or a file with weights (.safetensors, .pth).
        super_resolution: "auto" leaves it out where the face rectangle is 1024 pixels or wider already: the result
            would be averaged away.
        device: "cpu", "cuda", "cuda:1" or "mps"; one that is not there is refused for "none" too.
        threads: CPU threads for the networks' arithmetic; 1 suits photos that are spread over processes.

    Raises:
        DataError: an unknown name, a missing package or file, a damaged file, a device that is not there.
    """
    if super_resolution not in get_args(SuperResolution):
        raise DataError(f"--super-resolution {super_resolution}: choose auto, always or never")
    if name == NoRestorer().name:
        if device != "cpu":
            from datatools.restore.devices import choose_device  # loads torch

            choose_device(device)
        return NoRestorer()
    from datatools.restore.restorers import network_restorer  # loads torch

    return network_restorer(name, super_resolution=super_resolution, device=device, threads=threads)
