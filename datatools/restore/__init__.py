"""Restore photos before the face is resampled.

Paper, appendix C: an artifact remover and a 4x super-resolver run before the face is cut out. Here a restorer sees only
the part of the photo that the face needs and the margin that its networks use, which gives the same result.

Importing this does not load torch; using a restorer with a network does.
"""

from typing import get_args

from datatools.errors import DataError
from datatools.restore.base import NAMES, Crop, NoRestorer, RestorePlan, Restorer, Step, SuperResolution
from datatools.restore.strength import check_strength

__all__ = ["NAMES", "Crop", "NoRestorer", "RestorePlan", "Restorer", "Step", "SuperResolution", "get_restorer"]


def get_restorer(
    name: str,
    *,
    super_resolution: SuperResolution = "auto",
    device: str = "cpu",
    threads: int = 1,
    strength: float = 1.0,
) -> Restorer:
    """Return the restorer of that name.

    Args:
        name: "none"; "bundled" (the default chain of our own networks), "bundled-distortion" or "bundled-perceptual" by
            name; "realesrgan"; or a file with weights (.safetensors, .pth), or with a strength rule for the default
            chain (.json, see `datatools.restore.strength`).
        super_resolution: "auto" leaves it out where it brings nothing: for a face rectangle of 1024 pixels and more,
            and with the default chain for less, by its strength rule.
        device: "cpu", "cuda", "cuda:1" or "mps"; one that is not there is refused for "none" too.
        threads: CPU threads for the networks' arithmetic; 1 suits photos that are spread over processes.
        strength: factor of the share of the networks' work that is used; shares above 1 count as 1. 0: "none".

    Raises:
        DataError: a strength that is negative or not finite, an unknown name, a missing package or file, a damaged
            file, a device that is not there.
    """
    check_strength(strength)
    if super_resolution not in get_args(SuperResolution):
        raise DataError(f"--super-resolution {super_resolution}: choose auto, always or never")
    if name == NoRestorer().name:
        if device != "cpu":
            from datatools.restore.devices import torch_device  # loads torch

            torch_device(device)
        return NoRestorer()
    from datatools.restore.restorers import network_restorer  # loads torch

    restorer = network_restorer(
        name, super_resolution=super_resolution, device=device, threads=threads, strength=strength
    )
    return restorer if strength > 0 else NoRestorer()
