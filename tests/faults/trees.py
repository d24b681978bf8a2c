"""A small CelebA tree whose entries a test can spoil one by one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

ATTRIBUTES = ("Smiling", "Eyeglasses", "Male")
LANDMARKS = (30, 40, 60, 41, 46, 55, 33, 70, 58, 71)


def landmark_row(name: str, values: Sequence[float | str] = LANDMARKS) -> str:
    return name + "  " + "  ".join(str(value) for value in values)


def write_tree(
    root: Path,
    photos: Mapping[str, bytes],
    *,
    rows: Sequence[str] | None = None,
    count: int | str | None = None,
    shape: tuple[str, str, str] = ("Img", "Anno", "Eval"),
) -> Path:
    """Write photos (name -> bytes) and annotation files; returns `root`.

    rows   lines of list_landmarks_celeba.txt (default: one for every photo); count: its first line (default: as many)
    shape  folders, below root, of img_celeba, of the annotations and of the evaluation split; "" for root itself
    """
    image_dir, annotations, evaluation = root / shape[0] / "img_celeba", root / shape[1], root / shape[2]
    for folder in (image_dir, annotations, evaluation):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in photos.items():
        (image_dir / name).write_bytes(data)
    names = sorted(photos)
    rows = [landmark_row(name) for name in names] if rows is None else rows
    heading = f"{len(rows) if count is None else count}\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y\n"
    (annotations / "list_landmarks_celeba.txt").write_text(heading + "".join(row + "\n" for row in rows))
    attributes = [f"{name} {'1 -1 1' if index % 2 else '-1  1 -1'}\n" for index, name in enumerate(names)]
    text = f"{len(names)}\n{' '.join(ATTRIBUTES)} \n" + "".join(attributes)
    (annotations / "list_attr_celeba.txt").write_text(text)
    (annotations / "identity_CelebA.txt").write_text("".join(f"{name} {100 + i}\n" for i, name in enumerate(names)))
    (evaluation / "list_eval_partition.txt").write_text("".join(f"{name} {i % 3}\n" for i, name in enumerate(names)))
    return root
