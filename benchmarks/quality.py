"""Does the quality score keep its promises on real photos, and does it agree with the authors' choice?

\b
    python benchmarks/quality.py --celeba-dir DIR [--every 4] [--figure docs/images/quality-roc.png]
    python benchmarks/quality.py --celeba-dir DIR --restore bundled --jobs 2 --at-least 0.975

DIR is a CelebA tree with photos in and not in the published set (by default celeba_sample in CELEBAHQ_TEST_DATA).
"""

import io
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datatools.cli import OneLineCommand
from datatools.errors import DataError
from datatools.faces.quality import quality_score
from datatools.faces.recipe import make_face
from datatools.parallel import map_in_processes
from datatools.restore import Restorer, get_restorer
from datatools.sources.celeba import read_tree
from datatools.sources.records import FaceRecord

Face = NDArray[np.uint8]
FORGIVEN = 0.002
"""Share of the range of scores by which a score may rise where it should fall: some faces have nothing to lose."""


def to_bytes(face: NDArray[np.floating]) -> Face:
    return np.clip(np.rint(face), 0, 255).astype(np.uint8)


def blur(face: Face, sigma: float) -> Face:
    size = 2 * int(np.ceil(4 * sigma)) + 1
    return to_bytes(cv2.GaussianBlur(face.astype(np.float32), (size, size), sigma, borderType=cv2.BORDER_REFLECT_101))


def reduce_and_enlarge(face: Face, factor: int) -> Face:
    size = len(face)
    small = Image.fromarray(face).resize((size // factor, size // factor), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((size, size), Image.Resampling.LANCZOS))


def motion_blur(face: Face, length: int, diagonal: bool) -> Face:
    kernel = np.eye(length, dtype=np.float32) if diagonal else np.ones((1, length), np.float32)
    return to_bytes(cv2.filter2D(face.astype(np.float32), -1, kernel / kernel.sum()))


def halftone(face: Face, shape: str, period: float, degrees: float, amplitude: float) -> Face:
    """Add a screen: `lines` (a sine), `dots` (a product of two sines) or `squares` (its sign)."""
    y, x = np.mgrid[: len(face), : len(face)].astype(np.float32)
    angle, wave = np.radians(degrees), 2 * np.pi / period
    screen = np.sin(wave * (x * np.cos(angle) + y * np.sin(angle)))
    if shape != "lines":
        screen = screen * np.sin(wave * (y * np.cos(angle) - x * np.sin(angle)))
    if shape == "squares":
        screen = np.sign(screen)
    return to_bytes(face + amplitude * screen[:, :, None])


def interlace(face: Face) -> Face:
    woven = face.copy()
    woven[1::2] = np.roll(face[1::2], 2, axis=1)
    return woven


def add_noise(face: Face, sigma: float, grey: bool, seed: int) -> Face:
    shape = (*face.shape[:2], 1 if grey else 3)
    return to_bytes(face + np.random.default_rng(seed).normal(0, sigma, shape).astype(np.float32))


def recompress(photo: bytes, quality: int) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


def screens(number: int) -> Iterator[tuple[str, float, float, float]]:
    """Four of many screens for face `number`: shape, period, angle, amplitude; over the faces all are seen."""
    periods, angles, amplitudes = (4, 5, 6, 7.3, 8, 10, 12), (0, 15, 30, 45, 60, 75, 90, 121), (6, 6, 12, 25)
    for turn, shape in enumerate(("lines", "dots", "squares", "lines")):
        pick = 4 * number + turn
        yield shape, periods[pick % 7], angles[(pick // 3) % 8], amplitudes[(pick // 5) % 4]


class Properties:
    """Scores before and after each degradation, over all faces."""

    def __init__(self) -> None:
        self.pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.noise: list[tuple[float, float, float]] = []  # score, with noise, after blur of sigma 0.5
        self.mapped: dict[str, list[float]] = defaultdict(list)  # the same face under gain or offset, one entry a face

    def _add(self, name: str, *scores: float) -> None:
        self.pairs[name] += pairwise(scores)

    def measure(self, number: int, face: Face, remake: Callable[[int], Face]) -> None:
        """All degradations of one face; `remake(quality)` is the face from the photo compressed with that quality."""
        score = quality_score(face)
        self._add("blur", score, *(quality_score(blur(face, sigma)) for sigma in (1, 2, 4, 8)))
        self._add("resize", score, *(quality_score(reduce_and_enlarge(face, factor)) for factor in (2, 4, 8)))
        for length in (9, 17):
            for diagonal in (False, True):
                self._add("motion", score, quality_score(motion_blur(face, length, diagonal)))
        for screen in screens(number):
            self._add("halftone", score, quality_score(halftone(face, *screen)))
        self._add("interlace", score, quality_score(interlace(face)))
        for quality in (10, 20):
            self._add(f"blocking_q{quality}", score, quality_score(remake(quality)))
        softer = quality_score(blur(face, 0.5))
        for sigma in (10, 20, 40):
            for grey in (False, True):
                self.noise.append((score, quality_score(add_noise(face, sigma, grey, number)), softer))
        self._add("mirror", score, quality_score(np.ascontiguousarray(face[:, ::-1])))
        for turns in (1, 3):
            self._add("turn", score, quality_score(np.ascontiguousarray(np.rot90(face, turns))))
        narrow = to_bytes(25 + face * np.float32(180 / 255)).astype(np.float32)  # room for gain and offset
        for name, gain, offset in (("", 1, 0), ("dim", 0.8, 0), ("bright", 1.2, 0), ("down", 1, -20), ("up", 1, 20)):
            self.mapped[name].append(quality_score(to_bytes(gain * narrow + offset)))

    def shares(self, spread: float) -> Iterator[tuple[str, float, str]]:
        """Name, share of pairs that keep the promise, and what the promise is; `spread` is the range of scores."""
        forgiven = FORGIVEN * spread
        limits = {"mirror": 0.005 * spread, "turn": 0.02 * spread}
        for name, pairs in self.pairs.items():
            before, after = np.array(pairs).T
            if name in limits:
                change = np.abs(after - before)
                what = f"change the score by less than {limits[name] / spread:.1%} of its range"
                yield name, float((change < limits[name]).mean()), f"{what}; most {change.max() / spread:.2%}"
            else:
                strict = (after < before).mean()
                what = f"lower the score ({len(pairs)}); {strict:.4f} if {FORGIVEN:.1%} of its range is not forgiven"
                yield name, float((after <= before + forgiven).mean()), what
        before, noisy, softer = np.array(self.noise).T
        fine = noisy - before <= np.maximum(before - softer, 0)
        yield "noise", float(fine.mean()), f"raise the score by no more than blur 0.5 px lowers it, of {len(fine)}"
        plain = np.array(self.mapped.pop(""))
        better, worse = np.nonzero(plain[:, None] - plain[None, :] > 0.05 * spread)
        changed = {name: np.array(scores) for name, scores in self.mapped.items()}
        both = [scores[better] > scores[worse] for scores in changed.values()]
        one = [plain[better] > scores[worse] for scores in changed.values()]
        one += [scores[better] > plain[worse] for scores in changed.values()]
        yield "order", float(np.mean(both)), "keep their order when gain or offset changes both"
        yield "order_one", float(np.mean(one)), "keep their order when gain or offset changes one"


def roc_curve(scores: NDArray[np.float64], chosen: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Shares of the not chosen and of the chosen with at least each score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are one step
    hits, misses = np.cumsum(chosen[order])[last], np.cumsum(~chosen[order])[last]
    return np.append(0, misses / max(misses[-1], 1)), np.append(0, hits / max(hits[-1], 1))


def area(scores: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    return float(np.trapezoid(*roc_curve(scores, chosen)[::-1]))


def bootstrap(scores: NDArray[np.float64], chosen: NDArray[np.bool_], rounds: int = 2000) -> tuple[float, float]:
    """95 % interval of the area, drawing photos with replacement."""
    draws = np.random.default_rng(0).integers(0, len(scores), (rounds, len(scores)))
    low, high = np.percentile([area(scores[draw], chosen[draw]) for draw in draws], [2.5, 97.5])
    return float(low), float(high)


def draw_figure(path: Path, scores: NDArray[np.float64], chosen: NDArray[np.bool_]) -> None:
    """The ROC curve, and how the scores of chosen and other photos are spread."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    left.plot(*roc_curve(scores, chosen), color="#1f77b4")
    left.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
    left.set(xlabel="share of the other photos taken", ylabel="share of the published set's photos taken")
    left.set_title(f"area under the curve {area(scores, chosen):.3f} ({len(scores)} photos)", fontsize=10)
    shown = np.maximum(scores, 0.01)
    bins = np.geomspace(0.01, shown.max(), 31)
    right.hist([shown[chosen], shown[~chosen]], bins, label=["in the published set", "not in it"])
    right.set(xscale="log", xlabel="quality score (bits; 0.01 stands for anything less)", ylabel="photos")
    right.legend(frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def default_celeba_dir() -> Path | None:
    data = os.environ.get("CELEBAHQ_TEST_DATA")
    return Path(data) / "celeba_sample" if data else None


def ratio(name: str, value: float, what: str) -> None:
    click.echo(f"ratio quality_{name} {value:.4f}  {what}")


@dataclass(frozen=True)
class Scorer:
    """Function object, a record -> the score of its face and the seconds that scoring took."""

    restorer: Restorer

    def __call__(self, record: FaceRecord) -> tuple[float, float]:
        face = make_face(record.path.read_bytes(), record.landmarks, self.restorer).face
        start = time.perf_counter()
        return quality_score(face), time.perf_counter() - start


def membership(celeba_dir: Path, restore: str, jobs: int, at_least: float) -> None:
    """The area under the ROC curve alone, by several processes. Raise DataError if it is smaller than `at_least`."""
    records = read_tree(celeba_dir).records
    scorer = Scorer(get_restorer(restore))
    with click.progressbar(map_in_processes(scorer, records, jobs), length=len(records), file=sys.stderr) as bar:
        scores = np.array([score for score, _ in bar])
    found = area(scores, np.array([record.celebahq_index >= 0 for record in records]))
    ratio("auc", found, f"area under the ROC curve of score against membership, {len(records)} photos, {restore}")
    if found < at_least:
        raise DataError(f"the area under the ROC curve is {found:.4f}, smaller than {at_least}")


def run(celeba_dir: Path, every: int, figure: Path | None, restore: str) -> None:
    records = read_tree(celeba_dir).records
    restorer = get_restorer(restore)
    properties = Properties()
    scores, chosen, seconds = [], [], []
    with click.progressbar(enumerate(records), length=len(records), file=sys.stderr) as bar:
        for number, record in bar:
            photo = record.path.read_bytes()
            landmarks = record.landmarks
            face = make_face(photo, landmarks, restorer).face
            start = time.perf_counter()
            scores.append(quality_score(face))
            seconds.append(time.perf_counter() - start)
            chosen.append(record.celebahq_index >= 0)
            if every and number % every == 0:
                properties.measure(
                    number // every,
                    face,
                    lambda quality, photo=photo, landmarks=landmarks: (
                        make_face(recompress(photo, quality), landmarks, restorer).face
                    ),
                )
    score, member = np.array(scores), np.array(chosen)
    if not 0 < member.sum() < len(member):
        raise DataError(
            f"{celeba_dir} has {member.sum()} of {len(member)} photos in the published set: needs both kinds"
        )
    low, high = bootstrap(score, member)
    what = "area under the ROC curve of score against membership in the published set"
    ratio("auc", area(score, member), f"{what}, {len(score)} photos; 95 % bootstrap interval {low:.3f} to {high:.3f}")
    for name, share, promise in properties.shares(float(np.ptp(score))) if every else ():
        ratio(name, share, f"share of pairs that {promise}")
    ratio(
        "seconds", float(np.median(seconds)), f"seconds for one 1024 x 1024 face, median; most {max(seconds[1:]):.4f}"
    )
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        draw_figure(figure, score, member)


@click.command(cls=OneLineCommand, help=__doc__)
@click.option("--celeba-dir", type=click.Path(path_type=Path), default=default_celeba_dir, help="a CelebA tree")
@click.option(
    "--every", type=click.IntRange(min=0), default=4, show_default=True, help="degrade every n-th face only; 0: none"
)
@click.option("--figure", type=click.Path(path_type=Path), help="write the ROC figure (PNG) here")
@click.option("--restore", default="none", show_default=True, help="how the faces are made")
@click.option("--jobs", type=click.IntRange(min=1), help="measure the area alone, by this many processes")
@click.option("--at-least", type=click.FloatRange(0, 1), default=0.0, help="fail below this area, with --jobs")
def main(
    celeba_dir: Path | None, every: int, figure: Path | None, restore: str, jobs: int | None, at_least: float
) -> None:
    cv2.setNumThreads(1)
    if celeba_dir is None:
        raise click.UsageError("no photos: give --celeba-dir, or set CELEBAHQ_TEST_DATA")
    if jobs is not None:
        membership(celeba_dir, restore, jobs, at_least)
        return
    run(celeba_dir, every, figure, restore)


if __name__ == "__main__":
    main()
