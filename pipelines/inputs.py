"""What the options mean for a source: its photos, those that are excluded, those that become candidates."""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar

from datatools.faces.ranking import read_exclusions, read_names, required_count, select_candidates
from datatools.sources.celeba import CelebATree, check_sizes, read_tree
from datatools.sources.celeba_layout import PhotoNames
from datatools.sources.published import published_files
from datatools.sources.records import FaceRecord, Rejection, RejectionKind
from pipelines.options import BuildOptions


@cache
def _cached_tree(root: Path) -> CelebATree:
    return read_tree(root)


@dataclass(frozen=True)
class BuildInputs(BuildOptions):
    """The options, and the photos that they select; annotations are read when they are first needed."""

    entries: ClassVar[str] = "rows with a photo"
    """What becomes candidates, for messages."""

    @property
    def annotated_tree(self) -> CelebATree:
        """Return the photos with the landmarks that the source has for them."""
        # Read once per process: worker processes are forked from the one that checked the options.
        return _cached_tree(self.celeba_dir)

    @property
    def tree(self) -> CelebATree:
        """Return the photos with the landmarks that are used."""
        return self.annotated_tree

    @cached_property
    def excluded(self) -> frozenset[str]:
        """Return the names in --exclude: as in the annotations where they mean a photo of the tree, else as written."""
        return self._as_annotated(read_exclusions(self.exclude) if self.exclude else frozenset())

    @cached_property
    def listed(self) -> frozenset[str] | None:
        """Return the names in --ids, as `excluded` has them; None without that option."""
        return self._as_annotated(read_names(Path(self.ids), "--ids")) if self.ids else None

    def _as_annotated(self, names: frozenset[str]) -> frozenset[str]:
        if not names:
            return names
        photos = PhotoNames({record.file_name for record in self.tree.records}, names)
        return frozenset(photos.find(name) or name for name in sorted(names))

    @cached_property
    def list_names(self) -> dict[str, str]:
        """Return the faces that --exclude and --ids call by another name than tables do: table's name -> list's."""
        return {}

    @cached_property
    def unlisted(self) -> frozenset[str]:
        """Return the names that --ids leaves out."""
        if self.listed is None:
            return frozenset()
        return frozenset({record.file_name for record in self.tree.records}.union(published_files()) - self.listed)

    @cached_property
    def candidates(self) -> tuple[FaceRecord, ...]:
        """Return the photos that have a place in the score shards, in the order of CelebA's rows.

        Those in --exclude have one, too, so that all others keep theirs and their scores; they are not opened.
        """
        records = [record for record in self.tree.records if record.file_name not in self.unlisted]
        return select_candidates(records, selection=self.selection, count=self.count, excluded=self.excluded)

    @cached_property
    def usable(self) -> tuple[FaceRecord, ...]:
        """Return the candidates that are turned into faces and scored: those that are not excluded."""
        return tuple(record for record in self.candidates if record.file_name not in self.excluded)

    @cached_property
    def left_out(self) -> tuple[Rejection, ...]:
        """Return the photos that "official" or --ids leaves out; nobody looks at them."""
        known = {record.file_name for record in self.candidates} | self.excluded
        beyond = f"beyond the first {self.count} of the published set"
        return tuple(
            Rejection(RejectionKind.NOT_LISTED, r.file_name, f"not listed in {Path(self.ids).name}")
            if r.file_name in self.unlisted
            else Rejection(RejectionKind.BEYOND_COUNT, r.file_name, beyond)
            if r.celebahq_index >= 0
            else Rejection(RejectionKind.NOT_PUBLISHED, r.file_name, "not in the published set")
            for r in self.tree.records
            if r.file_name not in known
        )

    @cached_property
    def early_rejections(self) -> tuple[Rejection, ...]:
        """Return the entries that are out before any photo is opened."""
        excluded = (r for r in self.tree.records if r.file_name in self.excluded)
        return self.tree.rejections + tuple(
            Rejection(RejectionKind.EXCLUDED, r.file_name, f"listed in {Path(self.exclude).name}") for r in excluded
        )

    @property
    def needed_count(self) -> int:
        """Return how many photos a build needs at least.

        For "official" these are as many as the published list has left, with --ids no more than it lists.
        """
        needed = required_count(self.selection, self.count, self.excluded | self.unlisted)
        return needed if self.listed is None else min(needed, len(self.usable))

    def check_photos(self) -> None:
        """Raise DataError where photos and landmarks do not belong together; of a few photos the size is read."""
        check_sizes(self.usable)

    @property
    def chosen_count(self) -> int:
        """Return the number of images in the finished file, if no photo turns out to be bad."""
        return len(self.usable) if self.selection == "all" else min(self.needed_count, len(self.usable))
