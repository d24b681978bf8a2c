"""What a build report is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GENERATOR = "CelebA-HQ build report"  # marks a folder as one that a new report may replace


@dataclass(frozen=True)
class StageTime:
    """Time that a stage of the build took. seconds: work, side by side or not, added up; images: how many."""

    name: str
    seconds: float
    images: int


@dataclass(frozen=True)
class DuplicateFiles:
    """Two photos whose faces look alike. distance: differing bits of their perceptual hashes (0..256)."""

    first: str
    second: str
    distance: int


@dataclass(frozen=True)
class BuildSummary:
    """Results of a finished build, as its report shows them.

    Attributes:
        pyramid: the finished file.
        ranking_csv: columns file_name, score, rank, chosen, reason, kind. rejected_csv: file_name, stage, reason,
            kind. Tables without the column kind are read, too.
        photos: every photo with landmarks: file name -> file.
        duplicates: pairs found. stages: in the order of the work.
        settings: shown as they are; of them the page itself uses `count` (faces requested), `selection`, and, where
            `restore` is another than "none", `final_filter`.
        disk_bytes: what lies on disk after the build: name -> bytes.
        excluded: names that the build left out, as lists have them.
        list_names: the faces that have another name in lists than in tables: the table's name -> the list's.
        own_pictures: whether photos are turned and converted to sRGB (`datatools.sources.own_pictures`).
    """

    pyramid: Path
    ranking_csv: Path
    rejected_csv: Path
    photos: Mapping[str, Path]
    duplicates: tuple[DuplicateFiles, ...]
    stages: tuple[StageTime, ...]
    settings: Mapping[str, str]
    disk_bytes: Mapping[str, int]
    excluded: tuple[str, ...] = ()
    list_names: Mapping[str, str] = field(default_factory=dict)
    own_pictures: bool = False
