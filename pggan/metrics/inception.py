"""The Inception network of 2015, by which FID and the inception score are defined, from the package torch-fidelity.

images (n, 3, h, w)  ->  299 x 299  ->  features (n, 2048) and logits (n, 1008)

Network, inception score, precision and recall are the library's (Obukhov et al. 2020), which is optional.
"""

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datatools.errors import DataError, SettingError
from datatools.optional import import_optional
from pggan.metrics.features import read_weights, resize_bicubic

FidResize = Literal["tensorflow", "clean"]
INSTALL = 'pip install --no-deps "torch-fidelity>=0.4,<0.5"'
"""Without the torchvision that it requires: see `datatools.optional`."""
FEATURES, LOGITS = "2048", "logits_unbiased"
SIDE = 299
RESIZES: dict[FidResize, str] = {
    "tensorflow": "299 x 299, bilinear without antialiasing, as TensorFlow 1 did",
    "clean": "299 x 299, bicubic with antialiasing, not rounded, as clean FID does",
}


class Inception:
    """The Inception network of 2015 with the original weights, as FID is defined.

    Args:
        weights: file of the weights; None: torch-fidelity downloads it, or takes what it downloaded before.
        device: where the network computes.
        resize: how images come to 299 x 299: "tensorflow" as in the original, "clean" as in Parmar et al. 2022.

    Raises DataError where the package is missing, the weights cannot be had, or they are of another network.
    """

    def __init__(
        self, weights: Path | None = None, device: str | torch.device = "cpu", resize: FidResize = "tensorflow"
    ) -> None:
        module = library("feature_extractor_inceptionv3")
        url: str = module.URL_INCEPTION_V3
        used = weights or Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
        if weights is not None:
            read_weights(weights)  # the library would run code that it may hold
        try:
            path = None if weights is None else str(weights)
            network = module.FeatureExtractorInceptionV3("inception-v3-compat", [FEATURES, LOGITS], path)
        except OSError as error:
            raise SettingError(
                "weights",
                f"the weights of the Inception network cannot be downloaded ({error}): "
                f"fetch {url} elsewhere and give the file as inception=FILE",
            ) from error
        except Exception as error:  # of load_state_dict, or whatever the bytes of a damaged download lead to
            if weights is None:
                raise DataError(f"{used}: a damaged download; delete it, or give the file yourself") from error
            raise DataError(f"{weights}: weights of another network; the right ones are at {url}") from error
        self.device, self.resize = torch.device(device), resize
        self.network = network.to(self.device)
        self.recipe = {
            "network": "Inception v3, 2015-12-05",
            "resize": RESIZES[resize],
            "weights_sha256": hashlib.sha256(used.read_bytes()).hexdigest(),
            "library": f"torch-fidelity {importlib.metadata.version('torch-fidelity')}",
        }

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = images.to(self.device)
        with torch.no_grad():
            if self.resize == "tensorflow":
                features, logits = self.network(images)
            else:
                # The library takes bytes and resizes them itself: its first layer gets ours in place of these.
                resized = (resize_bicubic(images, SIDE) - 128) / 128
                first: nn.Module = self.network.Conv2d_1a_3x3
                hook = first.register_forward_pre_hook(lambda *_: (resized,))
                features, logits = self.network(images[..., :1, :1])
                hook.remove()
        return features.cpu(), logits.cpu()


def library(module: str) -> Any:
    """Return a module of torch-fidelity. Raises DataError, which says how to install it."""
    try:
        return import_optional(f"torch_fidelity.{module}")
    except (ImportError, RuntimeError) as error:
        raise DataError(
            f"the Inception network, its score, precision and recall need torch-fidelity ({error}): {INSTALL}"
        ) from error
