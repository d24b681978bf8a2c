"""Photos as detectors see them: no larger than they need, and with the faces they find in pixels of the whole photo."""

from collections.abc import Sequence
from dataclasses import dataclass

from datatools.images import decode_rgb, image_size
from datatools.landmarks.base import Face, LandmarkSource, Photo
from datatools.sources.own_pictures import OwnPicture

ENOUGH = 1024
"""Photos are decoded at a half, quarter or eighth while the longer side keeps at least so many pixels: detectors find
nearly the same points in a fraction of the time, and miss faces of less than a thirtieth of that side."""


@dataclass(frozen=True, eq=False)
class View:
    """A photo as a detector sees it.

    Attributes:
        photo: with its pixels.
        size: (width, height) of the whole photo.
        reduce: 1, 2, 4 or 8: how many times larger that is.
    """

    photo: Photo
    size: tuple[int, int]
    reduce: int


def view_photo(name: str, data: bytes, *, own: bool) -> View:
    """Decode a photo for a detector.

    Args:
        name: of the photo.
        data: the file's bytes.
        own: whether it is turned as EXIF asks, and converted to sRGB; landmarks of CelebA refer to stored pixels.

    Raises: ImageError where it cannot be used.
    """
    picture = OwnPicture(data) if own else None
    size = picture.size if picture else image_size(data)
    reduce = next((k for k in (8, 4, 2) if max(size) >= k * ENOUGH), 1)
    pixels = picture.decode(reduce=reduce) if picture else decode_rgb(data, reduce=reduce)
    return View(Photo(name, pixels), size, reduce)


def find_faces(source: LandmarkSource, views: Sequence[View | None]) -> list[list[Face]]:
    """Return the faces of photos, in pixels of the whole photos; none for a photo without a view."""
    found = iter(source.find([view.photo for view in views if view is not None]))
    enlarge = source.reads_pixels  # landmarks of a file are those of the whole photo
    return [
        [] if view is None else [face.scaled(view.reduce) if enlarge else face for face in next(found)]
        for view in views
    ]


def load_detectors(*sources: LandmarkSource) -> None:
    """Load networks now, which the processes forked after this share."""
    for source in sources:
        if source.reads_pixels and source.batch_size == 1:
            source.find([])
