"""What a source of photos gives: one record per photo that can be used, one rejection per entry that cannot."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class FaceRecord:
    """One photo with its annotations; not to be changed. Frozen ones take four times as long to make."""

    file_name: str
    """As in the annotations; of a photo of one's own, `face_name` of its path below the folder."""
    folder: Path
    photo: str
    """Of the photo in that folder, whose name may differ in case or ending."""
    landmarks: NDArray[np.float64]
    """(5, 2): left eye, right eye, nose, left and right mouth corner; (x, y) in centre coordinates of stored pixels."""
    celebahq_index: int = -1
    """Index in the published CelebA-HQ, -1 when not in it."""
    attributes: tuple[int, ...] | None = None
    """+1 or -1 in the order of `CelebATree.attribute_names`; None when not given for this photo."""
    identity: int | None = None
    split: int | None = None
    """Official evaluation split: 0 training, 1 validation, 2 test."""
    own: bool = False
    """Whether this is a photo of one's own: landmarks refer to the upright picture, and colours become sRGB."""
    face: int = 0
    """Number of the face in its photo."""

    @property
    def path(self) -> Path:
        """Return the photo's path, which is not kept: CelebA has 200,000."""
        return self.folder / self.photo

    @property
    def photo_name(self) -> str:
        """Return the name of the photo: `file_name` without the number of the face."""
        return self.file_name.removesuffix(face_name("", self.face))


def face_name(photo: str, number: int) -> str:
    """Return the name of a face in tables: its photo's, with the face's number from the second one on."""
    return single_face_name(photo, number) if number else photo


def single_face_name(photo: str, number: int) -> str:
    """Return the name by which lists mean one face alone, also the first one of a photo that has several."""
    return f"{photo} (face {number})"


class RejectionKind(StrEnum):
    """Why an entry is not in the finished file, or not with all its annotations.

    The value is what files store. `stage`: where it was found ("annotation", "photo", "face", "excluded", or "choice"
    for a face that was scored and not chosen). `text`: the kind in words.
    """

    stage: str
    text: str

    MANGLED_ROW = "mangled-row", "annotation", "the row is not a file name and 10 numbers"
    NOT_FINITE = "not-finite", "annotation", "the landmarks are not finite"
    BAD_FILE_NAME = "bad-file-name", "annotation", "the row has no plain file name"
    REPEATED_ROW = "repeated-row", "annotation", "second row for the same file; the first one is used"
    MISSING_ROWS = "missing-rows", "annotation", "the file has fewer rows than its first line says"
    UNUSED_ANNOTATION = "unused-annotation", "annotation", "bad optional annotation; the photo is used without it"
    WRONG_LANDMARKS = "wrong-landmarks", "annotation", "the landmarks differ from those that a detector finds"
    SUSPECT_LANDMARKS = "suspect-landmarks", "annotation", "landmarks that differ from a detector's; they are used"
    REPAIRED_LANDMARKS = "repaired-landmarks", "annotation", "landmarks that differ from a detector's; its own are used"
    NO_ROW = "no-row", "annotation", "the photo has no row of landmarks"
    NO_FILE = "no-file", "photo", "the row has no photo"
    NOT_READABLE = "not-readable", "photo", "the entry is not a file that can be read"
    EMPTY_PHOTO = "empty-photo", "photo", "the file is empty"
    UNKNOWN_FORMAT = "unknown-format", "photo", "the file is not a picture of a known format"
    DAMAGED_PHOTO = "damaged-photo", "photo", "the picture is damaged"
    TOO_LARGE = "too-large", "photo", "the picture has too many pixels"
    UNKNOWN_SAMPLES = "unknown-samples", "photo", "the picture's samples cannot be turned into 8-bit RGB"
    BAD_LANDMARKS = "bad-landmarks", "face", "the landmarks give no face"
    NO_FACE = "no-face", "face", "no face was found in the photo"
    SMALL_FACE = "small-face", "face", "the faces in the photo are too small"
    OUTSIDE_PHOTO = "outside-photo", "face", "the face lies outside of the photo"
    CONTRADICTION = "contradiction", "face", "the landmarks contradict each other"
    EXCLUDED = "excluded", "excluded", "excluded by the user"
    DUPLICATE = "duplicate", "choice", "duplicate of a photo with a better score"
    LOW_SCORE = "low-score", "choice", "score below that of the chosen faces"
    BEYOND_COUNT = "beyond-count", "choice", "beyond the wanted number of published photos"
    NOT_PUBLISHED = "not-published", "choice", "not in the published set"
    NOT_LISTED = "not-listed", "choice", "not in the list of the photos to use"
    # Scores that were stored before there were kinds have these.
    PHOTO = "photo", "photo", "the photo cannot be used"
    FACE = "face", "face", "the photo gives no face"

    def __new__(cls, value: str, stage: str = "", text: str = "") -> "RejectionKind":
        kind = str.__new__(cls, value)
        kind._value_, kind.stage, kind.text = value, stage, text
        return kind

    @property
    def is_used(self) -> bool:
        """Return whether the photo is used all the same."""
        used = RejectionKind.UNUSED_ANNOTATION, RejectionKind.SUSPECT_LANDMARKS, RejectionKind.REPAIRED_LANDMARKS
        return self in used


@dataclass(frozen=True, slots=True)
class Rejection:
    """One entry that is not used, or not all of it, and why. detail: one line for people, about this very entry."""

    kind: RejectionKind
    file_name: str
    detail: str

    @property
    def stage(self) -> str:
        """Where it was found."""
        return self.kind.stage
