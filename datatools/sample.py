"""A small CelebA-shaped tree made on the spot, so that the whole build can be tried without CelebA.

    python -m datatools.sample DIR

It holds photos cut from the astronaut portrait that scikit-image ships (NASA, public domain) in several framings and
degradations, and rendered portraits; the landmarks are carried through the same maps, so they are true. Two entries are
bad on purpose, to show how rejects are reported: one file is text, and one row of the landmarks file has no photo. File
names lie beyond CelebA's, so that none is taken for one of the published CelebA-HQ's photos.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datatools.cli import OneLineCommand, PathOption, run_command
from datatools.errors import DataError
from datatools.files import atomic_path
from datatools.sample_portraits import Portrait, render
from datatools.text import counted

FIRST_NUMBER = 900_001
"""CelebA's own photos are 000001.jpg to 202599.jpg."""

ASTRONAUT_LANDMARKS = np.array([(203.0, 100.6), (246.3, 103.3), (224.5, 127.6), (202.7, 139.3), (244.0, 140.7)])
"""(5, 2) in centre coordinates of `skimage.data.astronaut()`, set by eye on an enlargement."""

_HEADROOM = 256
"""Rows added above the portrait; a multiple of 4, so that it stays whole in the photos at half and quarter scale."""

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
"""CelebA's attributes in CelebA's order."""


@dataclass(frozen=True)
class Framing:
    """How one photo is cut from the astronaut portrait and degraded."""

    what: str
    size: tuple[int, int] = (512, 512)
    """(width, height) in pixels."""
    scale: float = 1
    roll: float = 0
    """Degrees, clockwise."""
    face_at: tuple[float, float] | None = None
    """Where the middle between eyes and mouth comes to lie; None keeps the portrait's own framing."""
    blur: float = 0
    """Gaussian sigma in pixels."""
    grey: bool = False
    quality: int = 92


FRAMINGS = (
    Framing("as it is", quality=95),
    Framing("large", size=(1536, 1536), scale=3),
    Framing("small", size=(256, 256), scale=0.5, quality=95),
    Framing("tiny", size=(128, 128), scale=0.25, quality=95),
    Framing("close", size=(600, 640), scale=2.2, face_at=(300, 260)),
    Framing("rolled 15 degrees", size=(560, 560), scale=1.6, roll=15, face_at=(280, 260)),
    Framing("rolled -15 degrees", size=(560, 560), scale=1.6, roll=-15, face_at=(280, 260)),
    Framing("rolled 30 degrees", size=(520, 520), scale=1.4, roll=30, face_at=(260, 235)),
    Framing("rolled -30 degrees", size=(520, 520), scale=1.4, roll=-30, face_at=(260, 235)),
    Framing("cut by the left border", size=(420, 460), scale=1.3, face_at=(80, 155)),
    Framing("cut by the right border", size=(420, 460), scale=1.3, face_at=(340, 155)),
    Framing("cut by the upper border", size=(460, 420), scale=1.3, face_at=(230, 70)),
    Framing("cut by the lower border", size=(460, 190), scale=1.3, face_at=(230, 140)),
    Framing("strong JPEG", quality=12),
    Framing("grey", size=(448, 480), scale=1.2, face_at=(224, 142), grey=True),
    Framing("blurred", size=(480, 480), scale=1.2, face_at=(240, 144), blur=3),
)

PORTRAITS = (
    Portrait(11),
    Portrait(
        12, (560, 700), 165, (280, 330), -8, skin=(120, 78, 55), hair=(28, 22, 20), iris=(70, 45, 28),
        lips=(130, 62, 62), cloth=(150, 60, 50), wall=(150, 140, 110), light=0.6, smile=0.25, open_mouth=0.8,
        fringe=0.02,
    ),
    Portrait(
        13, (900, 1080), 290, (450, 520), 5, 0.05, skin=(245, 208, 186), hair=(196, 150, 88),
        iris=(90, 130, 165), lips=(205, 96, 104), cloth=(70, 120, 90), wall=(90, 110, 90), smile=0.2,
        open_mouth=0.6, long_hair=True, fringe=0.15,
    ),
    Portrait(
        14, (600, 720), 180, (300, 350), skin=(205, 150, 115), hair=(120, 116, 112), cloth=(40, 42, 48),
        wall=(160, 120, 100), light=0.5, beard=0.8, glasses=True,
    ),
    Portrait(
        15, (480, 600), 150, (250, 280), 12, -0.06, skin=(238, 196, 168), hair=(150, 66, 34),
        iris=(70, 120, 80), lips=(196, 100, 92), cloth=(120, 110, 60), wall=(110, 100, 130), light=0.5,
        smile=0.15, long_hair=True, fringe=0.2,
    ),
    Portrait(
        16, (640, 640), 150, (330, 310), -4, 0.08, skin=(230, 188, 150), hair=(24, 22, 26), iris=(48, 32, 24),
        lips=(170, 84, 84), cloth=(210, 205, 196), wall=(176, 186, 196), light=-0.7, smile=0.12, fringe=0.3,
    ),
    Portrait(
        17, (520, 640), 170, (260, 300), 3, skin=(88, 58, 44), hair=(18, 16, 16), iris=(46, 30, 22),
        lips=(110, 56, 56), cloth=(190, 150, 50), wall=(86, 120, 128), light=-0.6, smile=0.05, beard=0.9,
        fringe=-0.05,
    ),
    Portrait(
        18, (400, 480), 110, (190, 230), -14, -0.05, skin=(216, 166, 132), hair=(52, 32, 24), iris=(60, 70, 90),
        lips=(190, 80, 96), cloth=(130, 50, 90), wall=(200, 180, 160), light=0.7, smile=0.3, open_mouth=1,
        long_hair=True,
    ),
)  # fmt: skip


def write_sample(root: Path) -> dict[str, str]:
    """Write the tree below `root`: 24 photos, an unreadable file and a row without a photo; the same bytes every time.

    Returns what each photo is, by file name. Raises DataError where `root` holds other photos already.
    """
    root = Path(root)
    image_dir = root / "Img" / "img_celeba"
    names = [f"{FIRST_NUMBER + i}.jpg" for i in range(len(FRAMINGS) + len(PORTRAITS) + 2)]
    strangers = sorted({path.name for path in image_dir.glob("*")} - set(names))
    if strangers:
        raise DataError(f"{image_dir} holds other photos ({strangers[0]}); give a new or empty folder for the sample")
    for folder in (image_dir, root / "Anno", root / "Eval"):
        folder.mkdir(parents=True, exist_ok=True)

    astronaut = _raise_backdrop(_astronaut())
    made: dict[str, str] = {}
    landmarks: dict[str, NDArray[np.float64]] = {}
    attributes: dict[str, tuple[int, ...]] = {}
    identities: dict[str, int] = {}
    for name, framing in zip(names, FRAMINGS, strict=False):
        data, landmarks[name] = _frame(astronaut, framing)
        _write(image_dir / name, data)
        attributes[name], identities[name] = _signs(_ASTRONAUT | ({"Blurry"} if framing.blur else set())), 1
        made[name] = f"astronaut, {framing.what}"
    for name, portrait in zip(names[len(FRAMINGS) :], PORTRAITS, strict=False):
        _write(image_dir / name, _jpeg(render(portrait), 93))
        landmarks[name] = portrait.landmarks
        attributes[name], identities[name] = _signs(_portrait_attributes(portrait)), portrait.seed
        made[name] = "rendered portrait"
    text, missing = names[-2:]
    _write(image_dir / text, b"This file is no picture: a failed download, as it happens.\n")
    made[text], made[missing] = "no picture (on purpose)", "a row without a photo (on purpose)"
    landmarks |= dict.fromkeys((text, missing), ASTRONAUT_LANDMARKS)
    _write_annotations(root, landmarks, attributes, identities)
    return made


def _astronaut() -> NDArray[np.uint8]:
    try:
        from skimage import data  # not at the top: it takes a second, and nothing else needs it
    except ImportError as error:
        raise DataError(f"the sample is made with scikit-image, which is not installed ({error})") from error
    picture: NDArray[np.uint8] = data.astronaut()
    return picture


def _raise_backdrop(astronaut: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the portrait with more of its blurred backdrop above: turned frames reach beyond its upper edge."""
    taller = cv2.copyMakeBorder(astronaut, _HEADROOM, 0, 0, 0, cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(taller, (0, 0), 14)
    weight = np.clip((_HEADROOM - np.arange(len(taller))) / 24, 0, 1)[:, None, None]
    return np.rint(taller + weight * (soft.astype(np.float64) - taller)).astype(np.uint8)


def framing_matrix(framing: Framing) -> NDArray[np.float64]:
    """Return the map, (2, 3), from centre coordinates of the astronaut portrait to those of the photo."""
    angle = np.deg2rad(framing.roll)
    linear = framing.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = ASTRONAUT_LANDMARKS[[0, 1, 3, 4]].mean(axis=0)
    if framing.face_at is None:
        offset = np.full(2, 0.5 * framing.scale - 0.5)  # edges stay on edges
    else:
        offset = np.asarray(framing.face_at) - linear @ middle
    return np.column_stack([linear, offset])


def _frame(source: cv2.typing.MatLike, framing: Framing) -> tuple[bytes, NDArray[np.float64]]:
    """Return JPEG bytes and landmarks of one photo; `source` is the portrait with its backdrop raised."""
    matrix = framing_matrix(framing)
    to_photo = matrix.copy()
    to_photo[:, 2] -= to_photo[:, :2] @ (0, _HEADROOM)
    if framing.scale < 1:  # reduce without aliasing first; what is left for the warp is a shift
        source = cv2.resize(source, None, fx=framing.scale, fy=framing.scale, interpolation=cv2.INTER_AREA)
        to_photo[:, :2] /= framing.scale
        to_photo[:, 2] -= to_photo[:, :2] @ np.full(2, 0.5 * framing.scale - 0.5)
    photo = cv2.warpAffine(source, to_photo, framing.size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)
    if framing.blur:
        photo = cv2.GaussianBlur(photo, (0, 0), framing.blur)
    pixels = photo.astype(np.uint8)
    if framing.grey:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8)
    return _jpeg(pixels, framing.quality), ASTRONAUT_LANDMARKS @ matrix[:, :2].T + matrix[:, 2]


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality)
    return stream.getvalue()


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


_ASTRONAUT = {"Smiling", "Mouth_Slightly_Open", "Brown_Hair", "Bangs", "High_Cheekbones", "No_Beard", "Oval_Face"}
_HAIR = {
    "Black_Hair": (24, 22, 20),
    "Brown_Hair": (70, 45, 30),
    "Blond_Hair": (196, 150, 88),
    "Gray_Hair": (120, 116, 112),
}


def _portrait_attributes(portrait: Portrait) -> set[str]:
    """Return the attributes that were painted for sure."""
    hair = min(_HAIR, key=lambda name: float(np.linalg.norm(np.subtract(_HAIR[name], portrait.hair))))
    present = {
        hair: True,
        "Smiling": portrait.smile >= 0.15,
        "Mouth_Slightly_Open": portrait.open_mouth > 0,
        "Eyeglasses": portrait.glasses,
        "5_o_Clock_Shadow": portrait.beard > 0,
        "No_Beard": portrait.beard == 0,
        "Bangs": portrait.fringe >= 0.15,
        "Wavy_Hair": portrait.long_hair,
    }
    return {name for name, there in present.items() if there}


def _signs(present: set[str]) -> tuple[int, ...]:
    return tuple(1 if name in present else -1 for name in ATTRIBUTES)


def _write_annotations(
    root: Path,
    landmarks: Mapping[str, NDArray[np.float64]],
    attributes: Mapping[str, tuple[int, ...]],
    identities: Mapping[str, int],
) -> None:
    heading = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    # CelebA's own landmarks are whole pixels; these are written as exact as they are known.
    rows = [f"{name}  " + "  ".join(f"{v:.2f}" for v in points.ravel()) for name, points in landmarks.items()]
    signs = [f"{name} " + " ".join(f"{v:2d}" for v in values) for name, values in attributes.items()]
    # One in eight photos for validation and for testing, as in CelebA.
    splits = [f"{name} {(0, 0, 0, 1, 0, 0, 0, 2)[i % 8]}" for i, name in enumerate(attributes)]
    for path, lines in {
        "Anno/list_landmarks_celeba.txt": [str(len(rows)), heading, *rows],
        "Anno/list_attr_celeba.txt": [str(len(signs)), " ".join(ATTRIBUTES), *signs],
        "Anno/identity_CelebA.txt": [f"{name} {identity}" for name, identity in identities.items()],
        "Eval/list_eval_partition.txt": splits,
    }.items():
        _write(root / path, "".join(f"{line}\n" for line in lines).encode())


@click.command(cls=OneLineCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", metavar="DIR", type=PathOption(file_okay=False))
def main(folder: Path) -> None:
    """Make a small CelebA-shaped tree in DIR to try the build with.

    Example: python -m datatools.sample demo/celeba
    """
    made = write_sample(folder)
    for name, what in made.items():
        click.echo(f"{name}  {what}")
    click.echo(f"{counted(len(made) - 2, 'photo')} and 2 bad entries in {folder}")


if __name__ == "__main__":
    run_command(main)
