"""Every option of a build once: name, type, default, choices, help, and what in the results it decides.

Luigi's parameters (`pipelines.parameters`), digests, attributes of the finished file and checks follow from the fields
of these classes; a test compares docs/build.md and luigi.cfg with them.
"""

# ruff: noqa: RUF009 - `option` returns a field of a dataclass

import math
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from datatools.errors import DataError, flag
from datatools.faces.ranking import Order, Selection
from datatools.faces.resample import FinalFilter
from datatools.restore import NAMES as RESTORERS
from datatools.restore import SuperResolution

Engine = Literal["local", "dask"]
Compression = Literal["none", "gzip", "lzf", "lz4", "zstd"]
Duplicates = Literal["report", "drop"]
ScoreOn = Literal["original", "restored"]

CheckLandmarks = Literal["no", "report", "reject", "repair"]
Detector = Literal["auto", "face-alignment", "mtcnn"]

Decides = Literal["face", "scores", "choice", "layout"]
"""What an option decides: a face's pixels, which face is scored, the faces in the file, how the file holds them."""


def option(
    default: Any,
    help: str,
    *,
    decides: Decides | None = None,
    choices: tuple[int, ...] = (),
    minimum: int | None = None,
    needed: str = "",
    is_path: bool = False,
    later: bool = False,
) -> Any:
    """Define an option as a field of a dataclass.

    decides: None where the option changes no byte of the results. choices: of a number; a Literal names its own.
    needed: what to say of a number below `minimum`. is_path: a text that may be the path of a file. later: added in a
    later version, so that builds without it keep the names of their finished work.
    """
    metadata = {"help": help, "decides": decides, "choices": choices, "minimum": minimum, "is_path": is_path}
    metadata["later"] = later
    return field(default=default, metadata={**metadata, "needed": needed or f"at least {minimum} is needed"})


@dataclass(frozen=True)
class BuildOptions:
    """The options that say what is built, and where."""

    celeba_dir: Path = option(Path("CelebA"), "CelebA's folder, with Img/img_celeba (or img_celeba) and Anno")
    output_dir: Path = option(Path(), "where celebahq.h5, ranking.csv, rejected.csv and report/ go")
    selection: Selection = option(
        "score",
        "score: the best --count faces; official: the photos of the published CelebA-HQ; all: every face",
        decides="choice",
    )
    count: int = option(30000, "number of images (at most, for --selection official)", decides="choice", minimum=1)
    shard_size: int = option(1000, "photos per unit of work", minimum=1)
    resolution: int = option(1024, "largest level of the file", decides="layout", choices=(256, 512, 1024))
    restore: str = option(
        "bundled",
        f"restoration before the face is cut out: {', '.join(RESTORERS)}, or a weight file",
        decides="face",
        is_path=True,
    )
    super_resolution: SuperResolution = option(
        "auto",
        "fourfold enlargement by the restoration; auto: where the face is so small in the photo that it helps",
        decides="face",
    )
    restore_strength: float = option(
        1.0,
        "factor of the share of the networks' work that is used; 0: as --restore none",
        decides="face",
        minimum=0,
        needed="a finite number from 0 up is needed",
    )
    device: str = option("cpu", "where the restoration is computed: cpu, cuda, cuda:1, mps")
    score_on: ScoreOn = option(
        "original",
        "face that is scored; original: made without networks, so that only chosen photos are restored; restored: "
        "restore every photo, then score (paper)",
        decides="scores",
    )
    final_filter: FinalFilter = option(
        "lanczos", "filter of the last reduction: lanczos (data set) or box (paper)", decides="face"
    )
    min_level: int = option(
        4, "smallest level of the file; the 2017 training code needs 1", decides="layout", choices=(4, 1)
    )
    format_levels: str = option(
        "", "levels to store, such as 1024,512,256; the largest is --resolution", decides="layout", later=True
    )
    compression: Compression = option("none", "compression of the finished file", decides="layout")
    order: Order = option(
        "auto",
        "order of the images; auto: official for --selection official, else rank (best first)",
        decides="choice",
    )
    duplicates: Duplicates = option(
        "report", "list photos that occur twice, or use only the better one", decides="choice"
    )
    exclude: str = option("", "text file of photos not to use, or known-flaws", decides="choice", is_path=True)
    ids: str = option("", "text file of the photos to use; all others are left out", decides="choice", is_path=True)
    check_landmarks: CheckLandmarks = option(
        "no", "compare landmarks with a detector: report wrong ones, reject them, or repair them", decides="choice"
    )
    check_with: Detector = option("auto", "detector for --check-landmarks")
    min_score: float = option(0.0, "least score of a face that is chosen", decides="choice", minimum=0)

    def values(self, decides: Decides) -> list[Any]:
        """Return the values of the options that decide about this, in their order."""
        items = [item for item in fields(self) if item.metadata["decides"] == decides]
        return [getattr(self, item.name) for item in items if not self._is_as_before(item)]

    def _is_as_before(self, item: Field[Any]) -> bool:
        """Return whether an option that was added later has the value that means what was done before."""
        return item.metadata["later"] and getattr(self, item.name) == item.default

    def stored(self) -> dict[str, str | int | float]:
        """Return what the finished file says of the options: those that decide about it, without folders of paths."""
        kept = [item for item in fields(self) if item.metadata["decides"] and not self._is_as_before(item)]
        values = {item.name: getattr(self, item.name) for item in kept}
        return values | {item.name: Path(values[item.name]).name for item in kept if item.metadata["is_path"]}


@dataclass(frozen=True)
class RunOptions:
    """The options that say how the work is done; results do not depend on them."""

    jobs: int = option(
        0,
        "processes per shard (threads with a GPU); 0: as many as the machine has cores for",
        minimum=0,
        needed="a number of processes, or 0 for as many as fill the machine",
    )
    workers: int = option(1, "shards side by side, each with --jobs processes", minimum=1)
    engine: Engine = option("local", "who works on photos: processes of this machine, or a Dask cluster")
    dask_scheduler: str = option("", "address of the Dask cluster's scheduler, such as tcp://host:8786")
    ship_bytes: bool = option(False, "send photos to the Dask cluster's workers, which do not see their folder")
    dry_run: bool = option(False, "print what would be done, with disk space and time, and stop")


def choices_of(item: Field[Any]) -> tuple[Any, ...]:
    """Return the values that an option may have; () for any."""
    return get_args(item.type) if get_origin(item.type) is Literal else item.metadata["choices"]


def check_values(options: Any) -> None:
    """Raise DataError for a number that is too small or not finite, or a value that is not among the choices."""
    for item in (item for item in fields(options) if "minimum" in item.metadata):
        value, minimum, choices = getattr(options, item.name), item.metadata["minimum"], choices_of(item)
        if minimum is not None and not minimum <= value < math.inf:
            raise DataError(f"{flag(item.name)} {value}: {item.metadata['needed']}")
        if choices and value not in choices:
            raise DataError(f"{flag(item.name)} {value}: one of {', '.join(map(str, choices))} is needed")
