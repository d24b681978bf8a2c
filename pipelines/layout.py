"""Where finished work lies, and the digests that name it: what changes a file's bytes changes its name."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import PIL
import scipy
from numpy.typing import NDArray

import datatools
from datatools.errors import DataError
from datatools.faces import RECIPE_VERSION
from datatools.files import FileStamp, file_stamp
from datatools.landmarks import get_detector
from datatools.pyramid.join import images_path
from datatools.pyramid.joined import joined_path
from datatools.pyramid.levels import chosen_levels, level_resolutions
from datatools.restore import NoRestorer, Restorer, get_restorer
from datatools.sources.celeba import CelebATree
from datatools.sources.records import FaceRecord
from pipelines.face_search import FaceSearch
from pipelines.found_faces import FoundFaces
from pipelines.inputs import BuildInputs
from pipelines.landmark_check import CheckedTree, check_tree


def digest_of(*parts: object) -> str:
    """Return a short name for a value: 16 hex digits of the SHA-256 of its JSON.

    An iterator counts as the list of its values, which are not all made at once.
    """
    found = hashlib.sha256()
    for text in _json(parts):
        found.update(text.encode())
    return found.hexdigest()[:16]


def _json(values: Iterable[object]) -> Iterator[str]:
    yield "["
    for number, value in enumerate(values):
        yield ", " if number else ""
        if isinstance(value, Iterator):
            yield "["
            separator = ""
            while some := list(islice(value, _ENCODED_AT_ONCE)):
                yield separator + _ENCODER.encode(some)[1:-1]
                separator = ", "
            yield "]"
        else:
            yield _ENCODER.encode(value)
    yield "]"


_ENCODER = json.JSONEncoder(sort_keys=True, default=str)
_ENCODED_AT_ONCE = 1000


@dataclass(frozen=True)
class BuildLayout(BuildInputs):
    """The options and their photos, and what follows for the work: its recipe, shards, digests and paths."""

    @property
    def pyramid_path(self) -> Path:
        return self.output_dir / "celebahq.h5"

    @property
    def levels(self) -> tuple[int, ...]:
        """Return the sides of the file's levels, largest first. Raises DataError for --format-levels without sense."""
        if not self.format_levels:
            return level_resolutions(self.resolution, self.min_level)
        try:
            return chosen_levels(self.resolution, map(int, self.format_levels.split(",")))
        except (DataError, ValueError) as error:
            raise DataError(
                f"--format-levels {self.format_levels}: sides of levels with commas are needed, with --resolution "
                f"{self.resolution} the largest, such as {self.resolution},{self.resolution // 2}"
            ) from error

    @property
    def own_pictures(self) -> bool:
        """Return whether photos are read as `datatools.sources.own_pictures` does."""
        return False

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """Return the names of the pyramid's optional columns that the source fills."""
        return ()

    @property
    def ranking_csv(self) -> Path:
        return self.output_dir / "ranking.csv"

    @property
    def rejected_csv(self) -> Path:
        return self.output_dir / "rejected.csv"

    @property
    def report_dir(self) -> Path:
        return self.output_dir / "report"

    @property
    def work_dir(self) -> Path:
        return self.output_dir / "work"

    @cached_property
    def search(self) -> FaceSearch | None:
        """Return the search for faces that comes first; None where the source has landmarks that are not checked.

        Raises DataError for missing weights or a device that is not there.
        """
        return self._check_search()

    @cached_property
    def unchecked(self) -> Self:
        """Return the same build without a check of landmarks: all that is known before the faces are found."""
        return replace(self, check_landmarks="no")

    def _check_search(self) -> FaceSearch | None:
        if self.check_landmarks == "no":
            return None
        photos = {record.photo_name: record.path for record in self.unchecked.usable}
        detector = get_detector(self.check_with, device=self.device)
        folder = self.work_dir / "checks"
        return FaceSearch(
            detector, FoundFaces(folder / "found.csv", folder), photos, self.own_pictures, self.shard_size
        )

    @cached_property
    def _checked(self) -> CheckedTree | None:
        """Return the photos after the check of their landmarks; the faces have to be found."""
        if self.check_landmarks == "no" or self.search is None:
            return None
        seen = self.search.found.seen()
        return check_tree(self.annotated_tree, seen, self.check_landmarks, self.search.source.name)

    @property
    def tree(self) -> CelebATree:
        return self.annotated_tree if self._checked is None else self._checked.tree

    @cached_property
    def restorer(self) -> Restorer:
        return get_restorer(
            self.restore,
            super_resolution=self.super_resolution,
            device=self.device,
            strength=self.restore_strength,
        )

    @property
    def score_restorer(self) -> Restorer:
        """Return what restores the faces that are scored: nothing unless they are scored as they will be stored."""
        return self.restorer if self.score_on == "restored" else NoRestorer()

    @property
    def scores_final_faces(self) -> bool:
        """Return whether the faces that are scored are those of the finished file."""
        return self.score_restorer == self.restorer

    @property
    def keep_faces(self) -> bool:
        """Return whether the first pass keeps its faces: worth the disk when at least half of them go into the file."""
        return self.scores_final_faces and 2 * self.chosen_count >= len(self.candidates)

    @property
    def score_shards(self) -> int:
        return -(-len(self.candidates) // self.shard_size)

    @property
    def build_shards(self) -> int:
        return max(-(-self.chosen_count // self.shard_size), 1)

    def scored_photos(self) -> int:
        """Return the number of photos in the score shards that exist."""
        return sum(len(self.shard_candidates(i)) for i in range(self.score_shards) if self.score_path(i).exists())

    def made_faces(self) -> int:
        """Return the number of faces in the build shards that exist."""
        return sum(self.faces_of_shard(i) for i in range(self.build_shards) if self.shard_exists(i))

    def shard_exists(self, index: int) -> bool:
        """Return whether the faces of a build shard are there: in its file, or in that which is being joined."""
        path = self.build_path(index)
        return path.exists() or (joined_path(path).exists() and self.joining_path.exists())

    @property
    def joining_path(self) -> Path:
        """Return the file that shards go into, one after the other, before it becomes the finished file."""
        return images_path(self.pyramid_path, self.build_paths())

    def faces_of_shard(self, index: int) -> int:
        """Return the number of faces of one build shard, if no photo turns out to be bad."""
        return min(self.shard_size, self.chosen_count - index * self.shard_size)

    def build_paths(self) -> list[Path]:
        """Return the paths of all build shards."""
        return [self.build_path(index) for index in range(self.build_shards)]

    def shard_candidates(self, index: int) -> tuple[FaceRecord, ...]:
        """Return the candidates of one score shard."""
        return self.candidates[index * self.shard_size : (index + 1) * self.shard_size]

    @cached_property
    def _stamps(self) -> NDArray[np.int64]:
        """Return the photos' stamps, (candidates, 3), as they were when first needed."""
        # Not `record.path`: making a Path takes longer than asking the system.
        stamps = [_stamp(f"{record.folder}/{record.photo}") for record in self.candidates]
        return np.array(stamps, dtype=np.int64).reshape(-1, len(NO_STAMP))

    def shard_stamps(self, index: int) -> NDArray[np.int64]:
        """Return the `FileStamp`s of the photos of one score shard, (n, 3)."""
        return self._stamps[index * self.shard_size : (index + 1) * self.shard_size]

    def _photos(self, shard: slice = slice(None)) -> Iterator[tuple[str, list[list[float]], int]]:
        """Yield what decides about the candidates' faces, apart from the recipe."""
        # A photo that changed at its size is found by its stamp (`pipelines.freshness`): times do not survive a copy.
        for record, size in zip(self.candidates[shard], self._stamps[shard, 0].tolist(), strict=True):
            yield record.file_name, record.landmarks.tolist(), size

    def _recipe(self, restorer: Restorer) -> tuple[object, ...]:
        """Return what decides about a face, apart from its photo."""
        return (RECIPE_VERSION, self.final_filter, restorer.digest, _versions(restorer))

    @property
    def face_digest(self) -> str:
        """Return the name of what decides about the pixels of a face in the file, apart from its photo."""
        return digest_of(self._recipe(self.restorer))

    @cached_property
    def _score_digests(self) -> tuple[str, ...]:
        size = self.shard_size
        return tuple(
            digest_of(self._recipe(self.score_restorer), self._photos(slice(index * size, (index + 1) * size)))
            for index in range(self.score_shards)
        )

    def score_path(self, index: int) -> Path:
        """Return the path of the scores of one shard; named by its photos, landmarks and the recipe."""
        return self.work_dir / "scores" / f"{index:05d}-{self._score_digests[index]}.npz"

    def faces_path(self, index: int) -> Path:
        """Return the path of the faces of that shard, where the first pass keeps them."""
        return self.work_dir / "faces" / f"{self.score_path(index).stem}-{self.resolution}.rgb"

    def build_path(self, index: int) -> Path:
        """Return the path of one shard of the finished file."""
        return self.work_dir / "build" / f"{index:05d}-{digest_of(self.build_digest, self.shard_size)}.h5"

    @property
    def ranking_path(self) -> Path:
        """Return the path of the choice and its order, for the tasks that follow."""
        return self.work_dir / f"ranking-{self.ranking_digest}.json"

    def marker(self, step: str) -> Path:
        """Return the path of the mark that says a step ("verified", "reported", "finished") of this build is done."""
        return self.work_dir / f"{step}-{self.build_digest}.json"

    @cached_property
    def ranking_digest(self) -> str:
        """Return the name of the ranking: of scores, choice, order, and the annotations that go into the file."""
        annotations = ((r.file_name, r.attributes, r.identity, r.split) for r in self.candidates)
        rejections = ((r.file_name, r.stage, r.detail) for r in self.early_rejections)
        choice: list[object] = [self.selection, self.count, self.order, self.duplicates, sorted(self.excluded)]
        choice += [sorted(self.listed)] if self.listed is not None else []
        choice += [self.min_score] if self.min_score else []
        checker = self.search if self._checked else None
        choice += [self.check_landmarks, checker.source.digest] if checker else []
        recipe = self._recipe(self.score_restorer)
        return digest_of(recipe, self._photos(), choice, self.tree.attribute_names, annotations, rejections)

    @cached_property
    def build_digest(self) -> str:
        """Return the name of the finished file's content."""
        layout = (*self.values("layout"), datatools.__version__)
        return digest_of(self.ranking_digest, self._recipe(self.restorer), *self.values("scores"), layout)

    @property
    def identity(self) -> str:
        """Return what processes that share the build's work have in common: the content and how it is divided."""
        content = self.stored() if self.search is not None else self.build_digest  # not known before the search
        return digest_of(content, self.shard_size, datatools.__version__)

    def _check_attributes(self) -> dict[str, str | int | float]:
        """Return what the file says of the check of landmarks."""
        if self._checked is None or self.search is None:
            return {}
        return {
            "checked_with": self.search.source.name,
            "checked_with_digest": self.search.source.digest[:16],
            "wrong_landmarks": self._checked.wrong,
            "unchecked_landmarks": self._checked.unchecked,
        }

    def as_attributes(self) -> dict[str, str | int | float]:
        """Return the options and versions that the file carries as attributes; no folder, time or host among them."""
        return {
            **self.stored(),
            "restorer_digest": self.restorer.digest,
            "face_digest": self.face_digest,
            "excluded": len(self.excluded),
            "excluded_digest": digest_of(sorted(self.excluded)) if self.excluded else "",
            "listed_digest": digest_of(sorted(self.listed)) if self.listed is not None else "",
            **self._check_attributes(),
            "build_digest": self.build_digest,
            "recipe_version": RECIPE_VERSION,
            **_versions(self.restorer),
        }


NO_STAMP = FileStamp(-1, -1, -1)
"""Stamp of a photo that vanished since the folder was listed, which the first pass will find out."""


def _stamp(path: str) -> FileStamp:
    try:
        return file_stamp(path)
    except OSError:
        return NO_STAMP


def _versions(restorer: Restorer) -> dict[str, str]:
    """Return the versions of libraries that may change pixels or scores."""
    return _library_versions() | ({"torch": version("torch")} if restorer.uses_torch else {})


@cache
def _library_versions() -> dict[str, str]:
    """Return the versions of the libraries that every build uses."""
    return {
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "scipy": scipy.__version__,
    }
