"""From a photo to its face, in any number of processes, or in groups for a GPU; what both passes share.

Nothing here depends on where it runs.
"""

import hashlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datatools.faces.duplicates import perceptual_hash
from datatools.faces.geometry import FrameError
from datatools.faces.quality import quality_score
from datatools.faces.recipe import FacePart, finish_face, prepare_face, reduce_face
from datatools.faces.resample import FinalFilter
from datatools.images import ImageError
from datatools.parallel import Report
from datatools.restore import Restorer
from datatools.sources.own_pictures import as_plain_file
from datatools.sources.records import FaceRecord, RejectionKind
from pipelines.cluster import Workers, map_photo_steps
from pipelines.layout import NO_STAMP
from pipelines.photo_files import read_photo

Row = dict[str, Any]
"""What is known about a photo, as values for JSON, which keeps all digits: `source_md5`; `stamp`, the `FileStamp` from
before it was read; `orientation`, of a photo of one's own; then either `rejection`, its file name, kind and detail, or,
where faces are scored, `score`, `hash` (4 numbers of 64 bits) and `quad` (4 points)."""

Opened = tuple[Row, FacePart | None]
Face = NDArray[np.uint8]
"""(r, r, 3) RGB."""


@dataclass(frozen=True)
class FaceMaker:
    """Function object, a photo -> its row and face, in parts: between them several photos may be restored at once.

    Picklable, so that it reaches worker processes.

    Attributes:
        scores: whether the face is scored, too. keeps_faces: whether the face is returned.
        excluded: names of photos that are not opened.
    """

    restorer: Restorer
    final_filter: FinalFilter
    resolution: int
    scores: bool = False
    keeps_faces: bool = True
    excluded: frozenset[str] = frozenset()

    def prepare(self, record: FaceRecord) -> Opened:
        """Do everything before the restoration. Raises DataError where the photo cannot be read."""
        if record.file_name in self.excluded:
            rejection = (record.file_name, str(RejectionKind.EXCLUDED), "not opened")
            # No photo has this stamp and MD5, so one that is no longer excluded is opened.
            return {"source_md5": "", "stamp": NO_STAMP, "rejection": rejection}, None
        data, stamp = read_photo(record.path)
        row: Row = {"source_md5": hashlib.md5(data).hexdigest(), "stamp": stamp}
        try:
            if record.own:
                data, row["orientation"] = as_plain_file(data)
            return row, prepare_face(data, record.landmarks, self.restorer)
        except (ImageError, FrameError) as error:
            return row | {"rejection": (record.file_name, str(error.fault), str(error))}, None

    def restore(self, photos: list[Opened]) -> list[NDArray[np.uint8] | None]:
        """Restore photos together; None for those that give no face."""
        restored = iter(self.restorer.run([part.crop for _, part in photos if part is not None]))
        return [None if part is None else next(restored) for _, part in photos]

    def finish(self, photo: Opened, restored: NDArray[np.uint8] | None) -> tuple[Row, Face | None]:
        """Do everything after the restoration."""
        row, part = photo
        if part is None or restored is None:
            return row, None
        face = finish_face(part, restored, final_filter=self.final_filter).face
        if self.scores:
            quad = part.frame.quad.tolist()
            row = row | {"score": quality_score(face), "hash": perceptual_hash(face).tolist(), "quad": quad}
        return row, reduce_face(face, self.resolution) if self.keeps_faces else None

    def __call__(self, record: FaceRecord) -> tuple[Row, Face | None]:
        photo = self.prepare(record)
        return self.finish(photo, self.restore([photo])[0])


def map_photos(
    make: FaceMaker, records: Iterable[FaceRecord], workers: Workers, progress: Report | None = None
) -> Generator[tuple[Row, Face | None], None, None]:
    """Yield results in the order of `records`; by threads, if the restorer takes photos together."""
    size, path = make.restorer.batch_size, attrgetter("path")
    return map_photo_steps(
        make.prepare, make.restore, make.finish, records, path, workers, size=size, progress=progress
    )
