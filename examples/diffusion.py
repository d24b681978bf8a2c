"""Train a small diffusion denoiser on a pyramid, and draw faces with it (Ho et al. 2020; sampler of Song et al. 2021).

python examples/diffusion.py celebahq.h5 --level 32 --steps 20000 --out diffusion.png
"""

import argparse
import itertools
import sys

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from datatools.errors import DataError
from datatools.torch_data import Faces


class Block(nn.Module):
    """Residual layers that know the time: (N, inputs, r, r) -> (N, outputs, r, r)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.time = nn.Linear(128, outputs)
        self.second = nn.Sequential(nn.GroupNorm(8, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.skip(x) + self.second(self.first(x) + self.time(time)[:, :, None, None])


class Denoiser(nn.Module):
    """A U-Net of three sizes: noisy images (N, 3, r, r) and times (N,) in 0..1 -> their noise."""

    def __init__(self, w: int = 64) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.enter, self.leave = nn.Conv2d(3, w, 3, padding=1), nn.Conv2d(w, 3, 3, padding=1)
        self.down = nn.ModuleList([Block(w, w), Block(w, 2 * w), Block(2 * w, 4 * w), Block(4 * w, 4 * w)])
        self.up = nn.ModuleList([Block(8 * w, 2 * w), Block(4 * w, w), Block(2 * w, w)])

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        angles = times[:, None] * torch.logspace(0, 3, 32, device=x.device)
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        x = self.down[0](self.enter(x), time)  # (N, w, r, r)
        half = self.down[1](nn.functional.avg_pool2d(x, 2), time)  # (N, 2 w, r/2, r/2)
        quarter = self.down[2](nn.functional.avg_pool2d(half, 2), time)  # (N, 4 w, r/4, r/4)
        y = self.up[0](torch.cat([self.down[3](quarter, time), quarter], dim=1), time)
        y = self.up[1](torch.cat([nn.functional.interpolate(y, scale_factor=2.0), half], dim=1), time)
        return self.leave(self.up[2](torch.cat([nn.functional.interpolate(y, scale_factor=2.0), x], dim=1), time))


def shares(times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shares of image and noise at times (N,), each (N, 1, 1, 1): the cosine schedule."""
    angles = (times * 0.995 * torch.pi / 2)[:, None, None, None]
    return angles.cos(), angles.sin()


@torch.no_grad()
def sample(denoiser: nn.Module, x: Tensor, steps: int = 50) -> Tensor:
    """Return images of noise x (N, 3, r, r), by DDIM."""
    for step in range(steps, 0, -1):
        now = torch.full((len(x),), step / steps, device=x.device)
        (image, noise), (next_image, next_noise), drawn = shares(now), shares(now - 1 / steps), denoiser(x, now)
        x = next_image * ((x - noise * drawn) / image).clamp(-1, 1) + next_noise * drawn
    return x


def images_of(items: list[tuple[Tensor, None]]) -> Tensor:
    return torch.stack([picture for picture, _ in items]) / 127.5 - 1  # (N, 3, r, r) in -1..1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("h5")
    for name, value in (("level", 32), ("steps", 20000), ("batch", 64), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", default="diffusion.png")
    use = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        faces = Faces(use.h5, use.level, split="all", target_type=[])
    except DataError as error:
        sys.exit(f"Error: {error}")
    loader = DataLoader(faces, use.batch, shuffle=True, num_workers=use.workers, collate_fn=images_of)
    model = Denoiser().to(device)
    ema = AveragedModel(model, avg_fn=lambda old, new, count: torch.lerp(old, new, max(0.001, 9 / (9 + float(count)))))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    endless = (batch for _ in itertools.count() for batch in loader)
    for step, batch in enumerate(itertools.islice(endless, use.steps), start=1):
        images, times, drawn = batch.to(device), torch.rand(len(batch)).to(device), torch.randn(batch.shape).to(device)
        image, noise = shares(times)
        loss = nn.functional.mse_loss(model(image * images + noise * drawn, times), drawn)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update_parameters(model)
        if step % 100 == 0 or step == use.steps:
            print(f"step {step}: mean squared error {loss.item():.4f}", flush=True)
    made = sample(ema, torch.randn(16, 3, use.level, use.level, device=device)).unflatten(0, (2, 8))
    grid = ((made + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    Image.fromarray(grid.cpu().numpy()).save(use.out)
