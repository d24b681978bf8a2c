"""A small CelebA-shaped tree made on the spot, so that the whole build can be tried without CelebA.

    python -m datatools.sample DIR

Its photos are framings of two portraits in the public domain that come with installed libraries: the astronaut Eileen
Collins (NASA, in scikit-image) and Rear Admiral Grace Hopper (US Navy, in matplotlib). They are turned, mirrored and
degraded; the landmarks are carried through the same maps, so they are true. Two entries are bad on purpose, to show how
rejects are reported: one file is text, and one row of the landmarks file has no photo. File names lie beyond CelebA's,
so that none is taken for one of the published CelebA-HQ's photos.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from datatools.cli import OneLineCommand, PathOption, run_command
from datatools.errors import DataError
from datatools.files import atomic_path
from datatools.images import read_rgb
from datatools.text import counted

FIRST_NUMBER = 900_001
"""CelebA's own photos are 000001.jpg to 202599.jpg."""

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
class Portrait:
    """A photograph of one person.

    Attributes:
        identity: number of the person.
        pixels: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) in centre coordinates, set by eye on an enlargement.
        attributes: those of ATTRIBUTES that it shows.
    """

    identity: int
    pixels: NDArray[np.uint8]
    landmarks: NDArray[np.float64]
    attributes: set[str]

    def mirrored(self) -> "Portrait":
        """Return the portrait with left and right exchanged."""
        landmarks = (self.pixels.shape[1] - 1, 0) + self.landmarks[[1, 0, 2, 4, 3]] * (-1, 1)
        return Portrait(self.identity, self.pixels[:, ::-1], landmarks, self.attributes)


def portraits() -> dict[str, Portrait]:
    """Return the astronaut and the admiral."""
    astronaut = Portrait(
        1,
        data.astronaut(),
        np.array([(203.0, 100.6), (246.3, 103.3), (224.5, 127.6), (202.7, 139.3), (244.0, 140.7)]),
        {
            *[
                "Bangs",
                "Brown_Hair",
                "High_Cheekbones",
                "Mouth_Slightly_Open",
                "No_Beard",
                "Oval_Face",
                "Smiling",
                "Young",
            ]
        },
    )
    admiral = Portrait(
        2,
        read_rgb(Path(get_sample_data("grace_hopper.jpg", asfileobj=False))),
        np.array([(222.4, 190.0), (304.4, 187.0), (270.0, 239.0), (229.5, 282.0), (308.5, 280.0)]),
        {"Eyeglasses", "Gray_Hair", "No_Beard", "Wearing_Hat"},
    )
    return {"astronaut": astronaut, "admiral": admiral}


@dataclass(frozen=True)
class Framing:
    """How one photo is cut from a portrait and degraded.

    Attributes:
        who: a key of `portraits`.
        what: the framing in words.
        size: (width, height) of the photo in pixels.
        scale: pixels of the photo per pixel of the portrait.
        face_at: where the middle between eyes and mouth comes to lie; None keeps the portrait's own framing.
        roll: degrees, clockwise.
        mirrored: left and right are exchanged.
        blur: Gaussian sigma in pixels of the photo.
        grey: the photo has no colours.
        quality: of the JPEG file.
    """

    who: str
    what: str
    size: tuple[int, int]
    scale: float = 1
    face_at: tuple[float, float] | None = None
    roll: float = 0
    mirrored: bool = False
    blur: float = 0
    grey: bool = False
    quality: int = 92


FRAMINGS = (
    Framing("astronaut", "as it is", (512, 512), quality=95),
    Framing("astronaut", "large", (1536, 1536), 3, mirrored=True),
    Framing("astronaut", "small", (256, 256), 0.5, quality=95),
    Framing("astronaut", "tiny", (128, 128), 0.25, mirrored=True, quality=95),
    Framing("astronaut", "close", (600, 640), 2.2, (300, 260)),
    Framing("astronaut", "rolled 15 degrees", (560, 560), 1.6, (280, 260), 15, mirrored=True),
    Framing("astronaut", "rolled -30 degrees", (520, 520), 1.4, (260, 235), -30),
    Framing("astronaut", "cut by the left border", (420, 460), 1.3, (80, 155)),
    Framing("astronaut", "cut by the upper border", (460, 420), 1.3, (230, 70), mirrored=True),
    Framing("astronaut", "strong JPEG", (512, 512), mirrored=True, quality=12),
    Framing("astronaut", "grey", (448, 480), 1.2, (224, 142), grey=True),
    Framing("astronaut", "blurred", (480, 480), 1.2, (240, 144), blur=3, mirrored=True),
    Framing("admiral", "as it is", (512, 600), quality=95),
    Framing("admiral", "large", (1024, 1200), 2, mirrored=True),
    Framing("admiral", "small", (256, 300), 0.5, mirrored=True, quality=95),
    Framing("admiral", "close", (600, 700), 1.3, (300, 330)),
    Framing("admiral", "rolled -15 degrees", (420, 460), 0.9, (210, 210), -15),
    Framing("admiral", "rolled 20 degrees", (380, 400), 0.8, (180, 200), 20, mirrored=True),
    Framing("admiral", "cut by the right border", (280, 460), 0.8, (210, 185), mirrored=True),
    Framing("admiral", "cut by the lower border", (340, 210), 0.7, (185, 150)),
)


def write_sample(root: Path) -> dict[str, str]:
    """Write the tree below `root`: photos, an unreadable file and a row without a photo; the same bytes every time.

    Returns what each photo is, by file name. Raises DataError where `root` holds other photos already.
    """
    image_dir = root / "Img" / "img_celeba"
    *names, text, missing = (f"{FIRST_NUMBER + i}.jpg" for i in range(len(FRAMINGS) + 2))
    strangers = sorted({path.name for path in image_dir.glob("*")} - {*names, text})
    if strangers:
        raise DataError(f"{image_dir} holds other photos ({strangers[0]}); give a new or empty folder for the sample")
    for folder in (image_dir, root / "Anno", root / "Eval"):
        folder.mkdir(parents=True, exist_ok=True)

    sources = portraits()
    landmarks: dict[str, NDArray[np.float64]] = {}
    signs, identities = [], []
    for name, framing in zip(names, FRAMINGS, strict=True):
        source = sources[framing.who].mirrored() if framing.mirrored else sources[framing.who]
        photo, landmarks[name] = frame(source, framing)
        _write(image_dir / name, photo)
        shown = source.attributes | ({"Blurry"} if framing.blur else set())
        signs.append(f"{name} " + " ".join(" 1" if attribute in shown else "-1" for attribute in ATTRIBUTES))
        identities.append(f"{name} {source.identity}")
    _write(image_dir / text, b"This file is no picture: a failed download, as it happens.\n")
    landmarks |= dict.fromkeys((text, missing), sources["astronaut"].landmarks)

    heading = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    # CelebA's own landmarks are whole pixels; these are written as exact as they are known.
    rows = [f"{name}  " + "  ".join(f"{v:.2f}" for v in points.ravel()) for name, points in landmarks.items()]
    # One in eight photos for validation and for testing, as in CelebA.
    splits = [f"{name} {(0, 0, 0, 1, 0, 0, 0, 2)[i % 8]}" for i, name in enumerate(names)]
    for path, lines in {
        "Anno/list_landmarks_celeba.txt": [str(len(rows)), heading, *rows],
        "Anno/list_attr_celeba.txt": [str(len(signs)), " ".join(ATTRIBUTES), *signs],
        "Anno/identity_CelebA.txt": identities,
        "Eval/list_eval_partition.txt": splits,
    }.items():
        _write(root / path, "".join(f"{line}\n" for line in lines).encode())
    made = {name: f"{framing.who}, {framing.what}" for name, framing in zip(names, FRAMINGS, strict=True)}
    return made | {text: "no picture (on purpose)", missing: "a row without a photo (on purpose)"}


def framing_matrix(portrait: Portrait, framing: Framing) -> NDArray[np.float64]:
    """Return the map, (2, 3), from centre coordinates of the portrait to those of the photo."""
    angle = np.deg2rad(framing.roll)
    linear = framing.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if framing.face_at is None:
        offset = np.full(2, 0.5 * framing.scale - 0.5)  # edges stay on edges
    else:
        offset = np.asarray(framing.face_at) - linear @ portrait.landmarks[[0, 1, 3, 4]].mean(axis=0)
    return np.column_stack([linear, offset])


def frame(portrait: Portrait, framing: Framing) -> tuple[bytes, NDArray[np.float64]]:
    """Return JPEG bytes and landmarks of one photo."""
    matrix = framing_matrix(portrait, framing)
    source: cv2.typing.MatLike = portrait.pixels
    if framing.scale < 1:  # finer detail than the photo can have
        source = cv2.GaussianBlur(source, (0, 0), 0.4 / framing.scale)
    # Frames that are turned reach beyond the portrait, into its plain backdrop.
    photo = cv2.warpAffine(source, matrix, framing.size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    if framing.blur:
        photo = cv2.GaussianBlur(photo, (0, 0), framing.blur)
    image = Image.fromarray(photo.astype(np.uint8)).convert("L" if framing.grey else "RGB")
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=framing.quality)
    return stream.getvalue(), portrait.landmarks @ matrix[:, :2].T + matrix[:, 2]


def _write(path: Path, contents: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(contents)


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


def script() -> None:
    """Run the console script `celebahq-sample`."""
    run_command(main)


if __name__ == "__main__":
    script()
