"""From a photo to its result, in any number of processes, or in groups for a GPU; the parts that both passes share.

Nothing here depends on where it runs.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, reason
from datatools.faces.geometry import FrameError
from datatools.faces.recipe import FacePart, prepare_face
from datatools.faces.resample import FinalFilter
from datatools.files import FileStamp, file_stamp
from datatools.images import ImageError
from datatools.parallel import Report, map_in_groups, map_in_processes
from datatools.restore import Restorer
from datatools.sources.records import FaceRecord, Rejection, RejectionKind


@dataclass(frozen=True)
class Recipe:
    """What turns a photo into a face; picklable, so that it reaches worker processes."""

    restorer: Restorer
    final_filter: FinalFilter
    resolution: int


def read_photo(path: Path) -> tuple[bytes, FileStamp]:
    """Return the file's bytes, and its stamp before they were read.

    What the system refuses is no fault of the photo, and must not become a finished result.
    """
    try:
        stamp = file_stamp(path)
        return path.read_bytes(), stamp
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {reason(error)}; fix that, or leave it out with --exclude, and run the "
            "same command again, finished work is kept"
        ) from error


@dataclass(frozen=True)
class OpenedPhoto:
    """A photo before its restoration: what is to be restored, or why there is no face."""

    source_md5: str
    stamp: FileStamp
    part: FacePart | None = None
    rejection: Rejection | None = None


def open_photo(record: FaceRecord, recipe: Recipe) -> OpenedPhoto:
    """Read a photo and do everything that comes before its restoration. Raises DataError where it cannot be read."""
    data, stamp = read_photo(record.path)
    digest = hashlib.md5(data).hexdigest()
    try:
        return OpenedPhoto(digest, stamp, prepare_face(data, record.landmarks, recipe.restorer))
    except (ImageError, FrameError) as error:
        rejection = Rejection(RejectionKind(error.fault), record.file_name, str(error))
        return OpenedPhoto(digest, stamp, rejection=rejection)


Item = TypeVar("Item")
Result = TypeVar("Result")


class PhotoWork(ABC, Generic[Item, Result]):
    """Function object, a photo -> its result, in parts: between them several photos may be restored at once.

    Picklable, so that it reaches worker processes.
    """

    recipe: Recipe

    @abstractmethod
    def prepare(self, item: Item) -> OpenedPhoto:
        """Do everything before the restoration."""

    @abstractmethod
    def finish(self, photo: OpenedPhoto, restored: NDArray[np.uint8] | None) -> Result:
        """Do everything after it. `restored`: None where the photo gives no face."""

    def __call__(self, item: Item) -> Result:
        photo = self.prepare(item)
        return self.finish(photo, self.recipe.restorer.run([photo.part.crop])[0] if photo.part is not None else None)


def map_photos(
    work: PhotoWork[Item, Result], items: Iterable[Item], jobs: int, progress: Report | None = None
) -> Generator[Result, None, None]:
    """Yield results in the order of `items`, by `jobs` processes; threads, if the restorer takes photos together."""
    restorer = work.recipe.restorer
    if restorer.batch_size == 1:
        return map_in_processes(work, items, jobs, progress)

    def restore(photos: list[OpenedPhoto]) -> list[NDArray[np.uint8] | None]:
        restored = iter(restorer.run([photo.part.crop for photo in photos if photo.part is not None]))
        return [next(restored) if photo.part is not None else None for photo in photos]

    return map_in_groups(
        work.prepare, restore, work.finish, items, size=restorer.batch_size, threads=jobs, progress=progress
    )
