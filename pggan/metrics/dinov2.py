"""DINOv2's vision transformer (Oquab et al. 2023), by which FD-DINOv2 is defined (Stein et al. 2023).

images (n, 3, h, w)  ->  224 x 224  ->  class token after the last normalization (n, d)

The authors' weight files are read as they are. torch-fidelity's extractor of DINOv2 downloads code, and takes no file.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from datatools.errors import DataError
from pggan.metrics.features import read_weights, resize_bicubic

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
SIDE = 224
RESIZE = "224 x 224, bicubic with antialiasing, not rounded"
HEAD = 64
"""Features of an attention head, in all of the family."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
NAMES = {(384, 12): "ViT-S/14", (768, 12): "ViT-B/14", (1024, 24): "ViT-L/14"}
"""By width and depth; FD-DINOv2 of the papers is by ViT-L/14."""


class Block(nn.Module):
    """Attention and perceptron, each normalized before, scaled per feature and added to its input: (n, tokens, d)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": nn.Parameter(torch.ones(width))}) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        # (n, t, 3 d) -> 3 x (n, heads, t, 64)
        q, k, v = self.attn["qkv"](self.norm1(x)).unflatten(2, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (n, t, d)
        x = x + self.ls1["gamma"] * self.attn["proj"](attended)
        return x + self.ls2["gamma"] * self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))


class VisionTransformer(nn.Module):
    """The network; parameters have the names and shapes of the authors' files.

    Args:
        width: features of a token, a multiple of 64. hidden: those inside the perceptrons. depth: number of blocks.
        patch: side of a patch in pixels. grid: side of the position embedding, in patches.
    """

    def __init__(self, width: int, hidden: int, depth: int, patch: int, grid: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # in the files; used in training alone
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.blocks = nn.ModuleList(Block(width, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w), normalized -> (n, width)."""
        patches = self.patch_embed["proj"](images)  # (n, d, h/p, w/p)
        patches = (patches + self._positions(patches.shape[2])).flatten(2).transpose(1, 2)  # (n, patches, d)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(images), -1, -1)
        x = torch.cat([first, patches], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def _positions(self, side: int) -> Tensor:
        """Return the position embedding of side x side patches, (1, d, side, side)."""
        grid = round((self.pos_embed.shape[1] - 1) ** 0.5)
        positions = self.pos_embed[:, 1:].unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        if side == grid:
            return positions
        scale = (side + 0.1) / grid  # the authors' guard against rounding down, which shifts the positions a little
        return functional.interpolate(positions, scale_factor=(scale, scale), mode="bicubic")


class DinoV2:
    """DINOv2 with the authors' weights: ViT-S/14, ViT-B/14 or ViT-L/14, without registers.

    Raises DataError for weights that cannot be read or are of another network.
    """

    def __init__(self, weights: Path, device: str | torch.device = "cpu") -> None:
        state = read_weights(weights)
        try:
            width, patch = state["patch_embed.proj.weight"].shape[::3]
            hidden = len(state["blocks.0.mlp.fc1.bias"])
            depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
            grid = round((state["pos_embed"].shape[1] - 1) ** 0.5)
            if width % HEAD or SIDE % patch:
                raise ValueError(f"{width} features, patches of {patch}")
            with torch.device("meta"):
                network = VisionTransformer(width, hidden, depth, patch, grid)
            network.load_state_dict(state, assign=True)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{weights}: weights of another network; those of DINOv2 are at {URL}") from error
        self.device = torch.device(device)
        self.network = network.float().eval().requires_grad_(False).to(self.device)
        self.mean, self.deviation = (torch.tensor(x, device=self.device)[:, None, None] for x in (MEAN, DEVIATION))
        self.recipe = {
            "network": f"DINOv2 {NAMES.get((width, depth), f'of width {width} and depth {depth}')}",
            "resize": RESIZE,
            "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        }

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            resized = resize_bicubic(images.to(self.device), SIDE) / 255
            features = self.network((resized - self.mean) / self.deviation).cpu()
        return features, features.new_zeros(len(features), 0)
