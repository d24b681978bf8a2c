"""Train a small convolutional autoencoder on a pyramid, and draw faces above what it makes of them.

python examples/autoencoder.py celebahq.h5 --level 64 --steps 5000 --out autoencoder.png
"""

import argparse
import itertools
import sys

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datatools.errors import DataError
from datatools.torch_data import Faces


def block(inputs: int, outputs: int, *, up: bool) -> nn.Sequential:
    """(N, inputs, r, r) -> (N, outputs, 2r, 2r), or r/2 downwards."""
    resize = nn.Upsample(scale_factor=2) if up else nn.Identity()
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, stride=1 if up else 2)
    return nn.Sequential(resize, conv, nn.GroupNorm(8, outputs), nn.SiLU())


class Autoencoder(nn.Module):
    """Images (N, 3, r, r) in 0..1 -> codes (N, code) -> images."""

    def __init__(self, resolution: int, code: int, width: int = 32) -> None:
        super().__init__()
        maps = [width]
        while resolution >> len(maps) - 1 > 4:
            maps.append(min(2 * maps[-1], 256))
        pairs = list(itertools.pairwise(maps))
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            *(block(below, above, up=False) for below, above in pairs),
            nn.Flatten(),
            nn.Linear(maps[-1] * 16, code),
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, maps[-1] * 16),
            nn.Unflatten(1, (maps[-1], 4, 4)),
            *(block(above, below, up=True) for below, above in reversed(pairs)),
            nn.Conv2d(width, 3, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))


def images_of(items: list[tuple[Tensor, None]]) -> Tensor:
    return torch.stack([picture for picture, _ in items]) / 255  # (N, 3, r, r)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("h5")
    parser.add_argument("--level", type=int, default=64)
    parser.add_argument("--code", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", default="autoencoder.png")
    use = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    try:
        faces = Faces(use.h5, use.level, split="all", target_type=[])
    except DataError as error:
        sys.exit(f"Error: {error}")
    loader = DataLoader(faces, use.batch, shuffle=True, num_workers=use.workers, collate_fn=images_of)
    model = Autoencoder(use.level, use.code).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    endless = (images for _ in itertools.count() for images in loader)
    for step, images in enumerate(itertools.islice(endless, use.steps), start=1):
        images = images.to(device)
        loss = nn.functional.mse_loss(model(images), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0 or step == use.steps:
            print(f"step {step}: mean squared error {loss.item():.4f}", flush=True)

    shown = images_of([faces[index] for index in range(min(8, len(faces)))]).to(device)
    with torch.no_grad():
        rows = torch.stack([shown, model(shown)])  # (2, N, 3, r, r)
    grid = rows.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (2 r, N r, 3)
    Image.fromarray((grid * 255).round().byte().cpu().numpy()).save(use.out)
