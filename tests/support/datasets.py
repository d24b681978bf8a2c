"""Tiny copies of CIFAR-10, CelebA's aligned images and LSUN, of made pictures."""

import io
import pickle
from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ATTRIBUTES = ("Smiling", "Male")


def noise(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """A picture that compression hardly changes: coarse blocks of colour."""
    blocks = np.random.default_rng(seed).integers(0, 255, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(blocks.repeat(16, axis=0).repeat(16, axis=1)[:height, :width])


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, quality=90)
    return stream.getvalue()


def cifar10_arrays(each: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Pictures (each, 3072) and labels of five batches."""
    random = np.random.default_rng(10)
    labels = [np.arange(batch, batch + each, dtype=np.uint8) % 10 for batch in range(5)]
    return [(random.integers(0, 256, (each, 3072), dtype=np.uint8), of_batch) for of_batch in labels]


def make_cifar10(folder: Path, each: int = 8, kind: str = "bin") -> Path:
    """Write CIFAR-10 with `each` pictures a batch, as binary ("bin") or Python ("py") batches; returns `folder`."""
    inside = folder / f"cifar-10-batches-{kind}"
    inside.mkdir(parents=True)
    for number, (pictures, labels) in enumerate(cifar10_arrays(each), start=1):
        if kind == "bin":
            data = np.concatenate([labels[:, None], pictures], axis=1).tobytes()
            (inside / f"data_batch_{number}.bin").write_bytes(data)
        else:
            batch = {b"batch_label": b"training", b"labels": labels.tolist(), b"data": pictures, b"filenames": []}
            (inside / f"data_batch_{number}").write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def make_aligned(root: Path, count: int = 6, kind: str = "png") -> Path:
    """Write CelebA's aligned images and annotations, without a row of attributes for the last one; returns `root`."""
    folder = root / "Img" / ("img_align_celeba_png" if kind == "png" else "img_align_celeba")
    folder.mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, count + 1)]
    for seed, name in enumerate(names):
        pixels = noise(seed, 218, 178)
        (folder / f"{name[:6]}.{kind}").write_bytes(encoded(pixels, "PNG" if kind == "png" else "JPEG"))
    rows = [f"{name} {'1' if seed % 2 else '-1'} -1" for seed, name in enumerate(names[:-1])]
    for place in ("Anno", "Eval"):
        (root / place).mkdir()
    text = "\n".join([str(len(rows)), " ".join(ATTRIBUTES), *rows])
    (root / "Anno" / "list_attr_celeba.txt").write_text(f"{text}\n")
    (root / "Anno" / "identity_CelebA.txt").write_text("".join(f"{name} {7 * i}\n" for i, name in enumerate(names)))
    (root / "Eval" / "list_eval_partition.txt").write_text("".join(f"{name} {i % 3}\n" for i, name in enumerate(names)))
    return root


def lsun_pictures(count: int) -> dict[bytes, bytes]:
    """Key -> compressed picture: wide, high, larger than needed, square, in the kinds that LSUN has."""
    sizes = ((256, 340), (300, 256), (512, 600), (256, 256))
    return {
        f"{seed:040x}".encode(): encoded(noise(seed, *sizes[seed % 4]), ("WEBP", "JPEG", "PNG")[seed % 3])
        for seed in range(count)
    }


def make_lsun(folder: Path, entries: dict[bytes, bytes]) -> Path:
    """Write an LMDB of LSUN as folder/bedroom_train_lmdb; returns `folder`."""
    path = folder / "bedroom_train_lmdb"
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=1 << 28) as database, database.begin(write=True) as transaction:
        for key, data in entries.items():
            transaction.put(key, data)
    return folder
