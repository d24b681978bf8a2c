"""Fit the strength of the default restoration to published images that a user has (command line).

    python -m datatools.restore.fit --pairs CelebA celebahq_published --out strength.json

A face's pixels follow from the restorer's picture by the recipe's geometry, which is linear. So the face for any shares
is a sum of four faces, made once per pair by the recipe itself: without networks, with the artifact remover, and with
either of them enlarged by the network. What is kept of a pair are products of these faces; the error is a smooth
function of the rule, and fitting it to thousands of pairs takes no longer than making their faces.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from datatools.cli import OneLineCommand, PathOption
from datatools.errors import DataError
from datatools.faces.recipe import make_face, prepare_face
from datatools.files import as_data_error, check_writable, list_pictures
from datatools.images import read_bytes, read_rgb
from datatools.parallel import available_cores
from datatools.progress import Progress
from datatools.restore import NoRestorer
from datatools.restore.devices import torch_device
from datatools.restore.fit.dataset import split
from datatools.restore.restorers import NetworkRestorer, network_restorer
from datatools.restore.strength import StrengthRule, blockiness, save_rule
from datatools.sources.celeba import read_tree
from datatools.sources.records import FaceRecord
from datatools.text import counted

SIZES = (256, 1024)
"""Sides in pixels at which faces are compared, after box averages."""

LARGEST_ENLARGED = 700.0
"""Side of a face rectangle, in photo pixels, above which the network's enlargement is not tried."""

BOUNDS = ((0.0, 1.0), (0.05, 5.0), (0.0, 1.0), (200.0, LARGEST_ENLARGED))
"""Of the rule's numbers, in their order."""

PRIOR = 0.02
"""Weight in dB of the distance from the bundled rule, in shares of the bounds' widths: decides where pairs do not."""

LEAST_ERROR = 1e-9
"""Smallest mean square that counts, so that equal faces have a finite error."""


@dataclass(frozen=True)
class Pair:
    """What is kept of a photo and its published image.

    Attributes:
        name: of the photo.
        blocks: its blockiness.
        side: of its face rectangle, in photo pixels.
        products: (sizes, 4, 4) mean products of: published less unrestored face, the remover's change, what the
            network's enlargement changes without the remover, and with it.
    """

    name: str
    blocks: float
    side: float
    products: NDArray[np.float64]

    def errors(self, removal: float, enlargement: float) -> NDArray[np.float64]:
        """Return the mean square errors at `SIZES` for these shares of the two networks."""
        weights = np.array([-1.0, removal, enlargement * (1 - removal), enlargement * removal])
        return np.maximum(np.einsum("i,sij,j->s", weights, self.products, weights), LEAST_ERROR)

    def psnr(self, rule: StrengthRule) -> NDArray[np.float64]:
        """Return the PSNR at `SIZES`, in dB, of the face that this rule makes."""
        errors = self.errors(rule.removal_share(self.blocks), rule.enlargement_share(self.side))
        return np.asarray(10 * np.log10(255**2 / errors))


def published_pairs(celeba_dir: Path, published_dir: Path) -> list[tuple[FaceRecord, Path]]:
    """Return the photos of a CelebA tree of which the other folder has the published image, named by its index.

    Raises:
        DataError: there is none; see also `read_tree`.
    """
    if not published_dir.is_dir():
        raise DataError(f"--pairs: {published_dir} is not a folder")
    pictures = {
        int(p.stem): p for p in list_pictures(published_dir).pictures if p.stem.isascii() and p.stem.isdecimal()
    }
    records = [record for record in read_tree(celeba_dir).records if record.celebahq_index in pictures]
    if not records:
        raise DataError(
            f"--pairs: no photo of {celeba_dir} has its published image in {published_dir}; "
            "images are named by their index, such as 00000.png"
        )
    return [(record, pictures[record.celebahq_index]) for record in records]


def measure_pair(record: FaceRecord, published: Path, restorer: NetworkRestorer) -> Pair:
    """Make the faces of a pair and keep their products.

    Raises:
        DataError: a photo that gives no face, a published image that is no picture of 1024 x 1024.
    """
    remover, resolver = restorer.steps
    whole = replace(restorer, rule=None, strength=1.0, super_resolution="always")
    data = read_bytes(record.path)
    target = read_rgb(published)

    def face(chain: NetworkRestorer | NoRestorer) -> NDArray[np.float32]:
        return make_face(data, record.landmarks, chain).face.astype(np.float32)

    part = prepare_face(data, record.landmarks, replace(whole, steps=(remover,)))
    _, pixels, wanted = part.crop
    side = part.frame.side / part.reduce
    plain = face(NoRestorer())
    if target.shape != plain.shape:
        raise DataError(f"{published} has {target.shape[1]} x {target.shape[0]} pixels; 1024 x 1024 are needed")
    cleaned = face(replace(whole, steps=(remover,)))
    changes = [target - plain, cleaned - plain]
    if side < LARGEST_ENLARGED:
        changes += [face(replace(whole, steps=(resolver,))) - plain, face(whole) - cleaned]
    else:
        changes += [np.zeros_like(plain)] * 2
    products = [_products([_reduced(change, size) for change in changes]) for size in SIZES]
    return Pair(record.file_name, blockiness(pixels, wanted), side, np.stack(products))


def _reduced(face: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    factor = face.shape[0] // size
    return face.reshape(size, factor, size, factor, 3).mean(axis=(1, 3), dtype=np.float64)


def _products(pictures: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    rows = np.stack([picture.ravel() for picture in pictures])
    return rows @ rows.T / rows.shape[1]


def fit_rule(pairs: Sequence[Pair]) -> StrengthRule:
    """Return the rule with the highest mean PSNR on these pairs, near the bundled one where they do not decide."""
    start = np.array(astuple(StrengthRule()))
    widths = np.array([high - low for low, high in BOUNDS])

    def loss(numbers: NDArray[np.float64]) -> float:
        rule = StrengthRule(*map(float, numbers))
        mean = np.mean([pair.psnr(rule) for pair in pairs])
        return float(PRIOR * np.square((numbers - start) / widths).sum() - mean)

    corners = np.stack([start, *(start + 0.2 * widths * np.eye(4)[i] * (1 if i != 3 else -1) for i in range(4))])
    options = {"initial_simplex": corners, "maxiter": 2000, "xatol": 1e-4, "fatol": 1e-5}
    found = minimize(loss, start, method="Nelder-Mead", bounds=BOUNDS, options=options)
    return StrengthRule(*(round(float(number), 4) for number in found.x))


def split_pairs(
    pairs: Sequence[tuple[FaceRecord, Path]], validation: int
) -> tuple[list[tuple[FaceRecord, Path]], list[tuple[FaceRecord, Path]]]:
    """Return (training, held out) pairs; at most a quarter is held out, chosen by the hash of the photo's name."""
    training, held = split([record.path for record, _ in pairs], min(validation, len(pairs) // 4))
    kept, out = set(training), set(held)
    return [pair for pair in pairs if pair[0].path in kept], [pair for pair in pairs if pair[0].path in out]


def report(pairs: Sequence[Pair], rules: dict[str, StrengthRule], say: Callable[[str], None]) -> None:
    """Say the mean PSNR of these pairs for each rule."""
    for name, rule in rules.items():
        values = np.mean([pair.psnr(rule) for pair in pairs], axis=0)
        say(f"  {name:10}" + "".join(f"  {value:6.2f} dB at {size}" for value, size in zip(values, SIZES, strict=True)))


@click.command(
    cls=OneLineCommand,
    context_settings={"show_default": True},
    epilog="Example: python -m datatools.restore.fit --pairs CelebA celebahq_published --out strength.json",
)
@click.option(
    "--pairs",
    type=PathOption(),
    nargs=2,
    required=True,
    metavar="TREE PUBLISHED",
    help="A CelebA tree, and a folder of published images named by their index.",
)
@click.option("--out", type=PathOption(), required=True, help="File to write (.json), for --restore.")
@click.option("--validation", type=click.IntRange(min=0), default=12, help="Pairs held out, at most a quarter of all.")
@click.option("--device", default="auto", help="Device: cpu, cuda, cuda:1, mps, or auto.")
def main(pairs: tuple[Path, Path], out: Path, validation: int, device: str) -> None:
    """Fit the strength of the default restoration to published images."""
    if out.suffix.lower() != ".json":
        raise DataError(f"--out {out} has to end in .json; with --task, a network is trained and written instead")
    with as_data_error(out):
        check_writable(out)
    training, held = split_pairs(published_pairs(*pairs), validation)
    place = str(torch_device(device))
    restorer = network_restorer("bundled", super_resolution="always", device=place, threads=available_cores())
    found: list[Pair] = []
    with Progress("pairs", len(training) + len(held), "pair") as progress:
        for record, published in (*training, *held):
            found.append(measure_pair(record, published, restorer))
            progress()
    fitted, rest = found[: len(training)], found[len(training) :]
    rule = fit_rule(fitted)
    rules = {"none": StrengthRule(0.0, 1e9, 0.0), "bundled": StrengthRule(), "fitted": rule}
    for name, group in (("fitted to", fitted), ("held out", rest)):
        click.echo(f"{counted(len(group), 'pair')} {name}")
        if group:
            report(group, rules, click.echo)
    click.echo(str(rule))
    save_rule(out, rule, {"pairs": len(fitted), "held_out": len(rest)})
