"""Read the faces of a build for its report page, and write the pictures of the page."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.images import save_jpeg, save_png
from datatools.pyramid import Pyramid
from datatools.sources.own_pictures import as_plain_file
from datatools.sources.records import face_name
from datatools.text import counted, score_text, shorten
from datatools.webpage import Notes, Picture

TRIES = 8  # faces tried for each candidate
NOTES = 3  # failures that get a note each

T = TypeVar("T")


class Faces:
    """The faces of a pyramid, and the provenance of each, in the file's order. own: as `BuildSummary.own_pictures`."""

    def __init__(self, pyramid: Pyramid, own: bool = False) -> None:
        self.pyramid, self.own = pyramid, own
        photos, numbers = pyramid.provenance("file_name").tolist(), pyramid.provenance("face").tolist()
        self.names = [face_name(photo, number) for photo, number in zip(photos, numbers, strict=True)]
        self.md5s: list[str] = pyramid.provenance("source_md5").tolist()
        self.scores = np.asarray(pyramid.provenance("score"), np.float64)
        self.ranks = np.asarray(pyramid.provenance("rank"), np.int64)
        self.quads = np.asarray(pyramid.provenance("quad"), np.float64)
        self.landmarks = np.asarray(pyramid.provenance("landmarks"), np.float64)
        self.best_first = np.argsort(-self.scores, kind="stable")

    def words(self, i: int) -> tuple[str, str]:
        """Return the short name of face `i`, and its score and rank, as captions have them."""
        return shorten(self.names[i], 80), f"score {score_text(self.scores[i])}, rank {self.ranks[i]:,}"

    def image(self, i: int, side: int) -> NDArray[np.uint8]:
        """Return face `i`, (r, r, 3) uint8 RGB, from the smallest level with r >= side, else from the largest."""
        return self.images(i, i + 1, side)[0]

    def images(self, start: int, stop: int, side: int) -> list[NDArray[np.uint8]]:
        """Return faces `start` to `stop`, as `image` does each."""
        enough = [level for level in self.pyramid.levels if level >= side]
        level = self.pyramid[min(enough, default=max(self.pyramid.levels))]
        return [np.ascontiguousarray(face.transpose(1, 2, 0)) for face in level[start:stop]]

    def photo(self, i: int, photos: Mapping[str, Path]) -> bytes:
        """Return the file that face `i` was made from; of a photo of one's own, a file of the upright picture.

        Raises DataError where it is missing or has changed.
        """
        name = self.names[i]
        if name not in photos:
            raise DataError("its photo is not among the photos of this build")
        if not photos[name].is_file():
            raise DataError("its photo no longer exists")
        data = photos[name].read_bytes()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != self.md5s[i]:
            raise DataError("its photo has changed since the build")
        return as_plain_file(data)[0] if self.own else data


@dataclass
class PageBuilder(Notes):
    """Write the pictures of a page into `folder`, and note what could not be made."""

    folder: Path = field(kw_only=True)
    pictures: int = 0

    def picture(self, image: NDArray[np.uint8], alt: str, *, exact: bool = False) -> Picture:
        """Write a picture (h, w, 3). exact: without loss."""
        # Numbered, not named after photos: a photo's name may hold anything.
        self.pictures += 1
        source = f"pictures/{self.pictures:03}.{'png' if exact else 'jpg'}"
        path = self.folder / source
        path.parent.mkdir(exist_ok=True)
        if exact:
            save_png(path, image)
        else:
            save_jpeg(path, image, quality=87)
        return Picture(source, image.shape[1], image.shape[0], alt)

    def attempt_each(
        self,
        what: str,
        candidates: Iterable[tuple[str, NDArray[np.int64]]],
        faces: Faces,
        make: Callable[[int, str], T],
    ) -> list[T]:
        """Return make(face, why) for each candidate (why, faces), of the first of its faces for which that works.

        No face is tried twice. what: begins the notes, which end with a photo's name and what was wrong.
        """
        views: list[T] = []
        used: set[int] = set()
        earlier_notes = len(self.texts)
        for why, members in candidates:
            fresh = [int(i) for i in members[: TRIES + len(used)] if int(i) not in used][:TRIES]
            for i in fresh:
                used.add(i)
                view = self.attempt(f"{what} of {shorten(faces.names[i], 80)}", make, i, why)
                if view is not None:
                    views.append(view)
                    break
        failures = len(self.texts) - earlier_notes
        if failures > NOTES:  # all the photos are gone, say
            gave_none = f"{counted(failures - NOTES, 'other photo')} gave {what[0].lower()}{what[1:]} either"
            self.texts[earlier_notes + NOTES :] = [gave_none]
        return views
