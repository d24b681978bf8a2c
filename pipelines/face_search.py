"""The search for faces in a build's photos: which photos, by what, and what earlier runs have found."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from datatools.landmarks import LandmarkSource
from pipelines.found_faces import FoundFaces


@dataclass(frozen=True, eq=False)
class FaceSearch:
    """A search for faces.

    Attributes:
        source: the detector.
        found: what it has found.
        photos: name -> file.
        own: whether these are photos of one's own (`datatools.own_pictures`).
        shard_size: photos per unit of work.
    """

    source: LandmarkSource
    found: FoundFaces
    photos: Mapping[str, Path]
    own: bool
    shard_size: int

    @property
    def is_done(self) -> bool:
        """Return whether faces were looked for in every photo as it is now."""
        return not self.found.missing(self.photos, self.source.digest)

    @cached_property
    def undetected(self) -> tuple[str, ...]:
        """Return the photos in which faces have yet to be found, as they were when this was first asked for."""
        return self.found.missing(self.photos, self.source.digest)

    @property
    def shards(self) -> int:
        return -(-len(self.undetected) // self.shard_size)

    def names_of(self, index: int) -> tuple[str, ...]:
        """Return the photos of one shard."""
        return self.undetected[index * self.shard_size : (index + 1) * self.shard_size]
