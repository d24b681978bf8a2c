"""What `--check-landmarks` does: annotated landmarks against the faces that a detector has found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from datatools.landmarks.check import Action, Comparison, Verdict, compare_all, repairs
from datatools.sources.celeba import CelebATree
from datatools.sources.records import FaceRecord, Rejection, RejectionKind
from datatools.text import counted
from pipelines.found_faces import Seen


@dataclass(frozen=True)
class CheckedTree:
    """Photos after the check of their landmarks.

    Attributes:
        tree: without the records that are rejected, and with the landmarks that are repaired.
        wrong: number of landmarks that differ from the detector's.
        unchecked: number of those in whose photos it found no face.
    """

    tree: CelebATree
    wrong: int
    unchecked: int


def check_tree(tree: CelebATree, seen: Mapping[str, Seen], action: Action, detector: str) -> CheckedTree:
    """Compare the landmarks of a tree with detected faces, and report, reject or repair those that are wrong.

    Args:
        tree: the photos with the landmarks to check.
        seen: what the detector saw, by the photos' names; others are not checked.
        action: what to do with wrong landmarks; one that cannot be repaired is rejected.
        detector: its name, for people.
    """
    there = [record for record in tree.records if record.photo_name in seen]
    points = np.array([record.landmarks for record in there]).reshape(-1, 5, 2)
    looked_at = [seen[record.photo_name] for record in there]
    comparisons = compare_all(points, [one.faces for one in looked_at], [one.size for one in looked_at])
    used = {record.file_name: record for record in tree.records}
    rejections: list[Rejection] = []
    pairs = zip(there, comparisons, strict=True)
    for _, of_photo in groupby(pairs, key=lambda pair: pair[0].photo_name):
        records, compared = zip(*of_photo, strict=True)
        for record, rejection in _outcomes(records, compared, action, detector):
            rejections.append(rejection)
            if record is None:
                del used[rejection.file_name]
            else:
                used[rejection.file_name] = record
    unchecked = sum(one.verdict is Verdict.NOT_DETECTED for one in comparisons)
    count = f"{len(rejections):,} of {counted(len(there), 'row')} of landmarks"
    verb = "disagrees" if len(rejections) == 1 else "disagree"
    lines = [f"{count} {verb} with {detector} (--check-landmarks {action}; rejected.csv)"] if rejections else []
    if unchecked:
        lines.append(f"{counted(unchecked, 'row')} of landmarks not checked: {detector} found no face")
    checked = replace(
        tree,
        records=tuple(used.values()),
        rejections=(*tree.rejections, *rejections),
        notes=(*tree.notes, *lines),
    )
    return CheckedTree(checked, len(rejections), unchecked)


def _outcomes(
    records: Sequence[FaceRecord], comparisons: Sequence[Comparison], action: Action, detector: str
) -> list[tuple[FaceRecord | None, Rejection]]:
    """Return what becomes of the records of a photo that are wrong: the one to use or None, and why."""
    outcomes: list[tuple[FaceRecord | None, Rejection]] = []
    for record, comparison, face in zip(records, comparisons, repairs(comparisons), strict=True):
        if comparison.verdict is not Verdict.WRONG:
            continue
        kind, kept, use = RejectionKind.WRONG_LANDMARKS, None, ""
        if action == "report":
            kind, kept, use = RejectionKind.SUSPECT_LANDMARKS, record, "; used as they are"
        elif action == "repair" and face is not None:
            kind, kept = RejectionKind.REPAIRED_LANDMARKS, replace(record, landmarks=face.points)
            use = f"; those of {detector} are used"
        outcomes.append((kept, Rejection(kind, record.file_name, comparison.detail + use)))
    return outcomes
