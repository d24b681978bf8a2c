"""The settings of a build as one frozen value, and the digests that name finished work."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import PIL
import scipy
from numpy.typing import NDArray

import datatools
from datatools.errors import DataError
from datatools.faces.ranking import Order, Selection, read_exclusions, required_count, select_candidates
from datatools.faces.resample import FinalFilter
from datatools.files import FileStamp, file_stamp
from datatools.restore import NoRestorer, Restorer, SuperResolution, get_restorer
from datatools.sources.celeba import CelebATree, check_sizes, read_tree
from datatools.sources.celeba_layout import PhotoNames
from datatools.sources.records import FaceRecord, Rejection, RejectionKind

Compression = Literal["none", "gzip", "lzf"]
Duplicates = Literal["report", "drop"]
ScoreOn = Literal["original", "restored"]

RECIPE_VERSION = 3
"""Raised whenever faces, scores or hashes change for the same settings, so that old shards are not used again."""


class NoPhotosError(DataError):
    """No row, or too few, have a photo; the message says what was found."""


def digest_of(*parts: object) -> str:
    """Short name for a value: 16 hex digits of the SHA-256 of its JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@cache
def _cached_tree(root: Path) -> CelebATree:
    return read_tree(root)


@dataclass(frozen=True)
class BuildSettings:
    """Everything that decides about a build's bytes; fields are the command line's options."""

    celeba_dir: Path
    output_dir: Path
    selection: Selection = "score"
    count: int = 30000
    shard_size: int = 1000
    resolution: int = 1024
    restore: str = "bundled"
    super_resolution: SuperResolution = "auto"
    device: str = "cpu"
    score_on: ScoreOn = "original"
    final_filter: FinalFilter = "lanczos"
    compression: Compression = "none"
    min_level: int = 4
    order: Order = "auto"
    exclude: str = ""
    duplicates: Duplicates = "report"

    @property
    def pyramid_path(self) -> Path:
        return self.output_dir / "celebahq.h5"

    @property
    def work_dir(self) -> Path:
        return self.output_dir / "work"

    @cached_property
    def restorer(self) -> Restorer:
        return get_restorer(self.restore, super_resolution=self.super_resolution, device=self.device)

    @property
    def score_restorer(self) -> Restorer:
        """The restoration of the faces that are scored: none unless they are scored as they will be stored."""
        return self.restorer if self.score_on == "restored" else NoRestorer()

    @property
    def scores_final_faces(self) -> bool:
        """Whether the faces that are scored are those of the finished file."""
        return self.score_restorer == self.restorer

    @property
    def tree(self) -> CelebATree:
        # Read once per process: worker processes are forked from the one that checked the settings.
        return _cached_tree(self.celeba_dir)

    @cached_property
    def excluded(self) -> frozenset[str]:
        """Names in --exclude: as in the annotations where they mean a photo of the tree, else as they are written."""
        names = read_exclusions(self.exclude) if self.exclude else frozenset()
        photos = PhotoNames({record.file_name for record in self.tree.records}, names)
        return frozenset(photos.find(name) or name for name in sorted(names))

    @cached_property
    def candidates(self) -> tuple[FaceRecord, ...]:
        """The photos that are turned into faces and scored, in the order of CelebA's rows."""
        return select_candidates(self.tree.records, selection=self.selection, count=self.count, excluded=self.excluded)

    @cached_property
    def left_out(self) -> tuple[Rejection, ...]:
        """The photos that "official" has no use for; nobody looks at them."""
        known = {record.file_name for record in self.candidates} | self.excluded
        beyond = f"beyond the first {self.count} of the published set"
        return tuple(
            Rejection(RejectionKind.BEYOND_COUNT, r.file_name, beyond)
            if r.celebahq_index >= 0
            else Rejection(RejectionKind.NOT_PUBLISHED, r.file_name, "not in the published set")
            for r in self.tree.records
            if r.file_name not in known
        )

    @cached_property
    def early_rejections(self) -> tuple[Rejection, ...]:
        """Entries that are out before any photo is opened."""
        excluded = (r for r in self.tree.records if r.file_name in self.excluded)
        return self.tree.rejections + tuple(
            Rejection(RejectionKind.EXCLUDED, r.file_name, f"listed in {Path(self.exclude).name}") for r in excluded
        )

    @property
    def chosen_count(self) -> int:
        """Images in the finished file, if no photo turns out to be bad."""
        if self.selection == "all":
            return len(self.candidates)
        return min(required_count(self.selection, self.count, self.excluded), len(self.candidates))

    @property
    def keep_faces(self) -> bool:
        """Whether the first pass keeps its faces: worth the disk when at least half of them go into the file."""
        return self.scores_final_faces and 2 * self.chosen_count >= len(self.candidates)

    @property
    def score_shards(self) -> int:
        return -(-len(self.candidates) // self.shard_size)

    @property
    def build_shards(self) -> int:
        return max(-(-self.chosen_count // self.shard_size), 1)

    def shard_candidates(self, index: int) -> tuple[FaceRecord, ...]:
        """The candidates of one score shard."""
        return self.candidates[index * self.shard_size : (index + 1) * self.shard_size]

    @cached_property
    def _stamps(self) -> NDArray[np.int64]:
        """(candidates, 3): the photos' stamps when they were first asked for."""
        return np.array([_stamp(r.path) for r in self.candidates], dtype=np.int64).reshape(-1, len(NO_STAMP))

    def shard_stamps(self, index: int) -> NDArray[np.int64]:
        """(n, 3): `FileStamp`s of the photos of one score shard."""
        return self._stamps[index * self.shard_size : (index + 1) * self.shard_size]

    @cached_property
    def _photos(self) -> tuple[tuple[str, list[list[float]], int], ...]:
        """What decides about the candidates' faces, apart from the recipe."""
        # A photo that changed at its size is found by its stamp (`pipelines.freshness`): times do not survive a copy.
        sizes = self._stamps[:, 0].tolist()
        return tuple((r.file_name, r.landmarks.tolist(), size) for r, size in zip(self.candidates, sizes, strict=True))

    def _recipe(self, restorer: Restorer) -> tuple[object, ...]:
        """What decides about a face, apart from its photo."""
        return (RECIPE_VERSION, self.final_filter, restorer.digest, _versions(restorer))

    @cached_property
    def _score_digests(self) -> tuple[str, ...]:
        size = self.shard_size
        return tuple(
            digest_of(self._recipe(self.score_restorer), self._photos[index * size : (index + 1) * size])
            for index in range(self.score_shards)
        )

    def score_path(self, index: int) -> Path:
        """What the first pass finds out about one shard; named by its photos, landmarks and the recipe."""
        return self.work_dir / "scores" / f"{index:05d}-{self._score_digests[index]}.npz"

    def faces_path(self, index: int) -> Path:
        """The faces of that shard, where the first pass keeps them."""
        return self.work_dir / "faces" / f"{self.score_path(index).stem}-{self.resolution}.rgb"

    def build_path(self, index: int) -> Path:
        """One shard of the finished file."""
        return self.work_dir / "build" / f"{index:05d}-{digest_of(self.build_digest, self.shard_size)}.h5"

    @property
    def ranking_path(self) -> Path:
        """The choice and its order, for the tasks that follow."""
        return self.work_dir / f"ranking-{self.ranking_digest}.json"

    def marker(self, step: str) -> Path:
        """Tells that the step ("verified", "reported", "finished") is done for this very build."""
        return self.work_dir / f"{step}-{self.build_digest}.json"

    def forget(self, *steps: str) -> None:
        """Remove what says that steps are done, for this build and others: what they made is about to be replaced."""
        for step in steps:
            for path in self.work_dir.glob(f"{step}-*.json"):
                path.unlink(missing_ok=True)  # shards that run side by side forget the same

    @cached_property
    def ranking_digest(self) -> str:
        """Names the ranking: all scores, the choice, its order, and the annotations that go into the file."""
        annotations = [(r.file_name, r.attributes, r.identity, r.split) for r in self.candidates]
        rejections = [(r.file_name, r.stage, r.detail) for r in self.early_rejections]
        choice = (self.selection, self.count, self.order, self.duplicates, sorted(self.excluded))
        recipe = self._recipe(self.score_restorer)
        return digest_of(recipe, self._photos, choice, self.tree.attribute_names, annotations, rejections)

    @cached_property
    def build_digest(self) -> str:
        """Names the finished file."""
        layout = (self.resolution, self.min_level, self.compression, datatools.__version__)
        return digest_of(self.ranking_digest, self._recipe(self.restorer), self.score_on, layout)

    def as_attributes(self) -> dict[str, str | int | float]:
        """Settings and versions that the file carries as attributes; no path, time or host among them."""
        return {
            "selection": self.selection,
            "count": self.count,
            "resolution": self.resolution,
            "restore": Path(self.restore).name,
            "super_resolution": self.super_resolution,
            "restorer_digest": self.restorer.digest,
            "score_on": self.score_on,
            "final_filter": self.final_filter,
            "compression": self.compression,
            "min_level": self.min_level,
            "order": self.order,
            "duplicates": self.duplicates,
            "exclude": Path(self.exclude).name,
            "excluded": len(self.excluded),
            "excluded_digest": digest_of(sorted(self.excluded)) if self.excluded else "",
            "build_digest": self.build_digest,
            "recipe_version": RECIPE_VERSION,
            **_versions(self.restorer),
        }

    def check(self) -> None:
        """Raise DataError for settings that cannot lead to a file; of a few photos the size is read."""
        for name, value in (("count", self.count), ("shard-size", self.shard_size)):
            if value < 1:
                raise DataError(f"--{name} {value}: at least 1 is needed")
        if self.resolution not in (256, 512, 1024):
            raise DataError(f"--resolution {self.resolution}: 256, 512 or 1024")
        _ = self.restorer  # raises for an unknown name, a damaged file, a device that is not there
        needed = required_count(self.selection, self.count, self.excluded)
        available = len(self.candidates)
        missing = self.tree.describe_missing()
        if not self.tree.records:
            raise NoPhotosError(missing or f"none of the rows of {self.celeba_dir} can be used")
        if not available and (self.selection == "all" or not needed):
            raise NoPhotosError(f"none of the rows of {self.celeba_dir} has a photo to be used")
        if self.selection == "official":
            if not available:
                reason = f"; {missing}" if missing else ""
                raise NoPhotosError(f"{self.celeba_dir} has no photos of the published set to be used{reason}")
        elif available < needed:
            causes = "; ".join(filter(None, (missing, self.tree.describe_unannotated())))
            rest = f"{causes}; or give" if causes else "give"
            raise NoPhotosError(
                f"--count {self.count}, but {self.celeba_dir} has only {available} rows with a photo"
                f"{' that are not excluded' if self.excluded else ''}; {rest} --count {available}"
                if available
                else f"--count {self.count}, but {self.celeba_dir} has no rows with a photo that are not excluded"
            )
        check_sizes(self.candidates)


NO_STAMP = FileStamp(-1, -1, -1)
"""Of a photo that vanished since the folder was listed, which the first pass will find out."""


def _stamp(path: Path) -> FileStamp:
    try:
        return file_stamp(path)
    except OSError:
        return NO_STAMP


def _versions(restorer: Restorer) -> dict[str, str]:
    """Versions of the libraries that may change pixels or scores; torch is among them where networks restore."""
    networks = {} if isinstance(restorer, NoRestorer) else {"torch": version("torch")}
    return _library_versions() | networks


@cache
def _library_versions() -> dict[str, str]:
    """Those that every build uses."""
    return {
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "scipy": scipy.__version__,
    }
