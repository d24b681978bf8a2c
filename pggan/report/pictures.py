"""Make the pictures that the report embeds: grids over time, samples, and the training faces nearest to them."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datatools.errors import DataError
from datatools.images import ImageError, read_rgb
from datatools.progress import Progress
from datatools.pyramid import Level, Pyramid
from datatools.webpage import Picture, data_uri
from pggan.metrics.neighbours import nearest
from pggan.model.files import Model

Rgb = NDArray[np.uint8]  # (H, W, 3)

BOX = 512  # CSS pixels that a grid has on the page; those of few large pictures may be 768 pixels inside
LARGEST = 768
CELLS = 8  # columns and rows that a grid shows at most ...
CELLS_WANTED = 4  # ... and columns below which its pictures are shrunk instead
SNAPSHOTS = 60
QUALITIES = (90, 80, 65)  # of JPEG; the first at which the grids fit
GRIDS_BYTES = 5 << 20  # as base64 a third more

SAMPLES, NEAREST = 8, 4
SEARCHED = 128  # pixels: the descriptors use nothing finer
BATCH = 256
FACE, NEAR = 128, 96  # CSS pixels of a sample and of a face next to it


@dataclass(frozen=True)
class Grid:
    """A snapshot: kimg seen, and the picture."""

    kimg: float
    picture: Picture


@dataclass(frozen=True)
class Neighbour:
    """A training face near a sample. `distance`: see metrics.neighbours.face_descriptor."""

    name: str
    mirrored: bool
    distance: float
    picture: Picture


@dataclass(frozen=True)
class Sample:
    """A picture of the model, and training faces, the nearest first."""

    seed: int
    picture: Picture
    neighbours: tuple[Neighbour, ...]


def encoded(image: Rgb, quality: int | None = None) -> bytes:
    """Return the image as a JPEG file of that quality, without a quality as a PNG file."""
    stream = io.BytesIO()
    if quality is None:
        Image.fromarray(image).save(stream, format="PNG", optimize=True)
    else:
        # pictures of few pixels suffer visibly where two share a colour
        Image.fromarray(image).save(stream, format="JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


def cut_grid(grid: Rgb, resolution: int) -> Rgb:
    """Return the upper left pictures of a grid, as many as fit on the page; large ones are reduced by a power of two.

    Args:
        grid: (rows r, columns r, 3), r being `resolution`.

    Raises DataError for a picture that is no such grid.
    """
    rows, columns = grid.shape[0] // resolution, grid.shape[1] // resolution
    if not rows or not columns or grid.shape[0] % resolution or grid.shape[1] % resolution:
        raise DataError(f"{grid.shape[1]} x {grid.shape[0]} pixels are not a grid of pictures of {resolution}")
    shrink = 1
    while min(columns, CELLS_WANTED) * resolution // shrink > LARGEST:
        shrink *= 2
    side = resolution // shrink
    columns = min(columns, max(CELLS_WANTED, min(CELLS, BOX // side)))
    rows = min(rows, columns)
    return reduced(grid[: rows * resolution, : columns * resolution], shrink)


def reduced(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return (..., H, W, 3) reduced to box averages by a factor that divides both sides."""
    if factor == 1:
        return image
    *more, height, width, _ = image.shape
    boxes = image.reshape(*more, height // factor, factor, width // factor, factor, 3)
    return np.rint(boxes.mean(axis=(-4, -2), dtype=np.float32)).astype(np.uint8)


def spread(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` of the indices below `count`, evenly spread, with the first and the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, wanted))}) if count else []


def read_grids(files: Sequence[tuple[float, Path]], resolution: int) -> tuple[list[Grid], list[str]]:
    """Return grids for the page, and what is wrong with those that cannot be shown. files: (kimg, file) by rising kimg.

    Number and JPEG quality are limited so that the page stays small.
    """
    kept, problems = [], []
    chosen = [files[place] for place in spread(len(files), SNAPSHOTS)]
    for kimg, path in Progress("grids", len(chosen), "file").over(chosen):
        try:
            kept.append((kimg, cut_grid(read_rgb(path), resolution)))
        except (ImageError, DataError) as error:
            problems.append(f"{path.name}: {error}")
    data: list[bytes] = []
    for quality in QUALITIES:
        data = [encoded(image, quality) for _, image in kept]
        if sum(map(len, data)) <= GRIDS_BYTES:
            break
    fitting = len(data) * GRIDS_BYTES // max(sum(map(len, data)), 1)
    grids = []
    for place in spread(len(data), max(fitting, 2)):
        kimg, image = kept[place]
        alt = f"Grid of generated pictures after {kimg:.10g} kimg"
        grids.append(Grid(kimg, _picture(data_uri(data[place], "jpeg"), image, BOX, alt)))
    return grids, problems


def read_reals(path: Path, resolution: int) -> Picture:
    """Return the grid of reals, cut like the others. Raises DataError where it cannot be shown."""
    image = cut_grid(read_rgb(path), resolution)
    return _picture(data_uri(encoded(image, QUALITIES[0]), "jpeg"), image, BOX, "Grid of training faces")


def samples_of(model: Model) -> tuple[Rgb, list[Sample]]:
    """Return pictures of the first seeds, (n, s, s, 3) with s up to `SEARCHED` pixels, and samples for the page."""
    pictures = model.pictures(range(SAMPLES))
    pictures = reduced(pictures, max(1, pictures.shape[1] // SEARCHED))
    return pictures, [
        Sample(seed, _face(picture, FACE, f"Generated picture, seed {seed}"), ())
        for seed, picture in enumerate(pictures)
    ]


def with_neighbours(
    samples: Sequence[Sample], pictures: Rgb, faces: Pyramid, mirror: bool, device: str
) -> list[Sample]:
    """Return the samples with the nearest faces of the pyramid.

    Args:
        pictures: of the samples, (n, s, s, 3), s being a level of the pyramid.
        mirror: look among the mirrored faces as well, because the networks saw them too.

    Raises DataError where the pyramid has no such level, or pictures too small for a comparison.
    """
    level = faces[pictures.shape[1]]
    count, ways = len(level), 2 if mirror else 1
    wanted = min(NEAREST, count)
    # A face and its mirror image are often near to the same sample: one of them is shown.
    queries = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    found = nearest(queries, _ways(level, mirror), ways * wanted, device=device)
    names = faces.provenance("file_name")
    results = []
    for sample, places, distances in zip(samples, found.indices, found.distances, strict=True):
        near: dict[int, Neighbour] = {}
        for place, distance in zip(places.tolist(), distances.tolist(), strict=True):
            index, mirrored = place % count, place >= count
            if index in near or len(near) == wanted:
                continue
            face = level[index].transpose(1, 2, 0)
            name = str(names[index]) or f"image {index}"
            alt = f"Training face {name}{', mirrored' if mirrored else ''}"
            shown = _face(np.ascontiguousarray(face[:, ::-1] if mirrored else face), NEAR, alt)
            near[index] = Neighbour(name, mirrored, distance, shown)
        results.append(Sample(sample.seed, sample.picture, tuple(near.values())))
    return results


def _ways(level: Level, mirror: bool) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of a level (n, 3, r, r), then, with `mirror`, of all its images mirrored."""
    starts = [(start, mirrored) for mirrored in (False, True)[: 1 + mirror] for start in range(0, len(level), BATCH)]
    for start, mirrored in Progress("nearest faces", len(starts), "batch").over(starts):
        batch = level[start : start + BATCH]
        yield np.ascontiguousarray(batch[..., ::-1]) if mirrored else batch


def _face(image: Rgb, box: int, alt: str) -> Picture:
    return _picture(data_uri(encoded(image), "png"), image, box, alt)


def _picture(source: str, image: Rgb, box: int, alt: str) -> Picture:
    """Return a picture with every pixel repeated as often as the box allows; a larger one is reduced to the box."""
    height, width = image.shape[:2]
    scale = box // width or box / width
    return Picture(source, round(width * scale), round(height * scale), alt, enlarged=scale >= 2)
