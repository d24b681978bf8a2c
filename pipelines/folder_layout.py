"""A build from a folder of one's own photos: its options, its photos and faces, and what follows for the work."""

# ruff: noqa: RUF009 - `option` returns a field of a dataclass

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from datatools.errors import DataError
from datatools.landmarks import SOURCES, LandmarkSource, get_landmark_source
from datatools.landmarks.base import Face, Photo
from datatools.landmarks.check import finds_itself
from datatools.landmarks.table import read_file_landmarks
from datatools.restore import Restorer
from datatools.sources.folder import (
    FaceChoice,
    FolderPhotos,
    FolderTree,
    list_photos,
    read_folder,
    read_own_names,
)
from datatools.sources.own_attributes import OwnAttributes, read_attributes
from datatools.sources.records import single_face_name
from pipelines.face_search import FaceSearch
from pipelines.found_faces import FoundFaces
from pipelines.layout import BuildLayout
from pipelines.options import BuildOptions, option

OWN_VERSION = 1
"""Raised whenever photos of one's own are read otherwise, so that stored faces of theirs are not used again."""


@dataclass(frozen=True)
class FolderOptions(BuildOptions):
    """The options of a build from a folder of photos. celeba_dir: the folder, by the name that shared code has."""

    celeba_dir: Path = option(Path(), "")
    output_dir: Path = option(Path(), "where faces.h5, landmarks.csv, ranking.csv, rejected.csv and report/ go")
    count: int = option(30000, "number of images, for --selection score", decides="choice", minimum=1)
    photos: Path = option(Path("photos"), "folder of your photos; its subfolders are read, too")
    selection: Literal["all", "score"] = option(
        "all", "all: every face; score: the best --count faces", decides="choice"
    )
    order: Literal["auto", "rank", "source"] = option(
        "auto", "order of the images; auto: rank (best first); source: by name", decides="choice"
    )
    exclude: str = option("", "text file of photos not to use", decides="choice", is_path=True)
    landmarks: str = option("auto", f"what finds the faces: {', '.join(SOURCES)}, or a table (.csv)", is_path=True)
    all_faces: bool = option(False, "use every face of a photo, not only the most prominent one")
    min_face: int = option(0, "least size of a face in pixels", minimum=0)
    attributes: str = option("", "table (.csv) of attributes, identity and split by file name", is_path=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "celeba_dir", self.photos)


@dataclass(frozen=True)
class FolderLayout(FolderOptions, BuildLayout):
    """The options, the folder's photos and the faces found in them, and the work's digests and paths."""

    entries: ClassVar[str] = "faces"

    @property
    def pyramid_path(self) -> Path:
        return self.output_dir / "faces.h5"

    @property
    def landmarks_csv(self) -> Path:
        """Return the path of the table of landmarks, which people may correct."""
        return self.output_dir / "landmarks.csv"

    @property
    def own_pictures(self) -> bool:
        return True

    @property
    def optional_columns(self) -> tuple[str, ...]:
        return ("orientation", "face")

    @cached_property
    def landmark_source(self) -> LandmarkSource:
        """Return what finds the faces. Raises DataError for an unknown name, missing weights or a damaged table."""
        return get_landmark_source(self.landmarks, self.photos, device=self.device)

    @cached_property
    def folder_photos(self) -> FolderPhotos:
        """Return the photos, without the pictures that builds make."""
        return list_photos(self.photos, without=(self.report_dir, self.work_dir))

    @cached_property
    def search(self) -> FaceSearch | None:
        source = self.landmark_source
        if not source.reads_pixels:
            return self._check_search()
        if self.check_landmarks != "no":
            raise DataError(f"--check-landmarks {self.check_landmarks}: {finds_itself(source.name)}")
        found = FoundFaces(self.landmarks_csv, self.work_dir / "landmarks")
        return FaceSearch(source, found, self.folder_photos.paths, self.own_pictures, self.shard_size)

    @cached_property
    def _landmarks(self) -> tuple[str, str, dict[str, list[Face]]]:
        """Return name and digest of the landmarks that are used, and the faces by photo."""
        source = self.landmark_source
        if source.reads_pixels and self.search is not None:
            table = read_file_landmarks(self.landmarks_csv)
            edited = hashlib.sha256(self.landmarks_csv.read_bytes()).hexdigest() != self.search.found.written
            source, name = table, f"{source.name}, corrected by hand" if edited else source.name
        else:
            name = source.name
        names = list(self.folder_photos.paths)
        return name, source.digest, dict(zip(names, source.find([Photo(each) for each in names]), strict=True))

    @cached_property
    def own_attributes(self) -> OwnAttributes:
        """Return the table of --attributes."""
        return read_attributes(Path(self.attributes)) if self.attributes else OwnAttributes()

    @cached_property
    def _annotated_tree(self) -> FolderTree:
        name, _, faces = self._landmarks
        found = self.search.found if self.search is not None and self.landmark_source.reads_pixels else None
        return read_folder(
            self.photos,
            self.folder_photos,
            faces,
            FaceChoice(self.all_faces, self.min_face),
            source=name,
            no_face=f"{self.landmark_source.name} found no face; to use the photo, add its points to landmarks.csv"
            if found
            else f"no points in {name}",
            unreadable=found.rejections if found else {},
            attributes=self.own_attributes,
        )

    @property
    def annotated_tree(self) -> FolderTree:
        return self._annotated_tree

    @cached_property
    def excluded(self) -> frozenset[str]:
        """Return the names of faces in --exclude; where it names a photo, of all its faces; else as written."""
        return self._faces_in(self.exclude, "--exclude") if self.exclude else frozenset()

    @cached_property
    def listed(self) -> frozenset[str] | None:
        """Return the names in --ids, as `excluded` has them; None without that option."""
        return self._faces_in(self.ids, "--ids") if self.ids else None

    def _faces_in(self, path: str, flag: str) -> frozenset[str]:
        faces = self._faces_of_photos | {
            single_face_name(record.photo_name, record.face): [record.file_name] for record in self.tree.records
        }
        return frozenset(each for name in read_own_names(Path(path), flag, faces) for each in faces.get(name, [name]))

    @cached_property
    def _faces_of_photos(self) -> dict[str, list[str]]:
        """Return the names of the faces of each photo."""
        faces: dict[str, list[str]] = {}
        for record in self.tree.records:
            faces.setdefault(record.photo_name, []).append(record.file_name)
        return faces

    @cached_property
    def list_names(self) -> dict[str, str]:
        # The first face of a photo has the photo's name, which means all of them in a list.
        several = {photo for photo, faces in self._faces_of_photos.items() if photo in faces[:1] and faces[1:]}
        return {photo: single_face_name(photo, 0) for photo in several}

    def check_photos(self) -> None:
        """Do nothing: landmarks were found in these very photos, or each photo says what does not fit."""

    def _recipe(self, restorer: Restorer) -> tuple[object, ...]:
        return ("own photos", OWN_VERSION, *super()._recipe(restorer))

    def as_attributes(self) -> dict[str, str | int | float]:
        name, digest, _ = self._landmarks
        return {
            **super().as_attributes(),
            "source": "own photos",
            "landmarks": name,
            "landmarks_digest": digest[:16],
            "all_faces": int(self.all_faces),
            "min_face": self.min_face,
        }
