"""Train a classifier of an attribute on an export for Hugging Face: `datasets` reads it, PyTorch gets the tensors.

python -m datatools.h5tool export celebahq.h5 faces --to huggingface --level 64
python examples/huggingface.py faces --attribute Smiling
"""

import argparse
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from torch import nn
from torch.utils.data import DataLoader

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--attribute", default="Smiling")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    use = parser.parse_args()
    torch.manual_seed(0)

    def tensors(rows: dict[str, list[Any]]) -> dict[str, torch.Tensor]:
        pixels = np.stack([np.asarray(picture) for picture in rows["image"]])  # (n, r, r, 3) uint8
        flags = [1.0 if values[use.attribute] > 0 else 0.0 for values in rows["attributes"]]
        return {"pixels": torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, "label": torch.tensor(flags)}

    faces = load_dataset(use.folder, split="train").with_transform(tensors)
    parts = faces.train_test_split(test_size=0.1, seed=0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, 5, stride=2), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, 1), nn.Flatten(0)),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(1, use.epochs + 1):
        for batch in DataLoader(parts["train"], use.batch, shuffle=True):
            loss = nn.functional.binary_cross_entropy_with_logits(model(batch["pixels"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = [((model(b["pixels"]) > 0) == (b["label"] > 0)) for b in DataLoader(parts["test"], use.batch)]
        print(f"epoch {epoch}: {torch.cat(right).float().mean():.1%} of {use.attribute} right", flush=True)
