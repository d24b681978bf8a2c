"""Fit the strength of the default restoration to published images that a user has (command line).

    python -m datatools.restore.fit --pairs CelebA celebahq_published --out strength.json

A face's pixels follow from the restorer's picture by the recipe's geometry, which is linear. So the face for any shares
is a sum of four faces, made once per pair by the recipe itself: without networks, with the artifact remover, and with
either of them enlarged by the network. What is kept of a pair are products of these faces; the error is a smooth
function of the rule, and fitting it to thousands of pairs takes no longer than making their faces.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from datatools.cli import OneLineCommand, PathOption
from datatools.errors import DataError
from datatools.faces.recipe import finish_face, make_face, prepare_face
from datatools.files import as_data_error, check_writable, list_pictures
from datatools.images import read_bytes, read_rgb
from datatools.parallel import available_cores
from datatools.progress import Progress
from datatools.restore import NoRestorer
from datatools.restore.base import cut
from datatools.restore.devices import torch_device
from datatools.restore.fit.dataset import split
from datatools.restore.restorers import NetworkRestorer, network_restorer
from datatools.restore.strength import StrengthRule, mean_change, save_rule
from datatools.sources.celeba import read_tree
from datatools.sources.records import FaceRecord
from datatools.text import counted

SIZES = (64, 128, 256, 512, 1024)
"""Sides in pixels at which faces are compared, after box averages."""

FITTED = [SIZES.index(256), SIZES.index(1024)]
"""Those at which the error is made small."""

FOLDS = 5
"""Into as many groups pairs are divided, each of which is measured with the rule that the others give."""

LARGEST_ENLARGED = 700.0
"""Side of a face rectangle, in photo pixels, above which the network's enlargement is not tried."""

BOUNDS = ((0.1, 10.0), (0.0, 1.0), (200.0, LARGEST_ENLARGED))
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
        change: root mean square of the remover's change of the photo, in levels.
        side: of its face rectangle, in photo pixels.
        products: (sizes, 4, 4) mean products of: published less unrestored face, the remover's change, what the
            network's enlargement changes without the remover, and with it.
    """

    name: str
    change: float
    side: float
    products: NDArray[np.float64]

    def errors(self, removal: float, enlargement: float) -> NDArray[np.float64]:
        """Return the mean square errors at `SIZES` for these shares of the two networks."""
        weights = np.array([-1.0, removal, enlargement * (1 - removal), enlargement * removal])
        return np.maximum(np.einsum("i,sij,j->s", weights, self.products, weights), LEAST_ERROR)

    def psnr(self, rule: StrengthRule | None) -> NDArray[np.float64]:
        """Return the PSNR at `SIZES`, in dB, of the face that this rule makes; None: without restoration."""
        shares = (0.0, 0.0)
        if rule is not None:
            shares = (rule.removal_share(self.change), rule.enlargement_share(self.side))
        return np.asarray(10 * np.log10(255**2 / self.errors(*shares)))


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

    cleaning = replace(whole, steps=(remover,))
    part = prepare_face(data, record.landmarks, cleaning)
    _, pixels, wanted = part.crop
    side = part.frame.side / part.reduce
    plain = face(NoRestorer())
    if target.shape != plain.shape:
        raise DataError(f"{published} has {target.shape[1]} x {target.shape[0]} pixels; 1024 x 1024 are needed")
    (restored,) = cleaning.run([part.crop])
    cleaned = finish_face(part, restored).face.astype(np.float32)
    changes = [target - plain, cleaned - plain]
    if side < LARGEST_ENLARGED:
        changes += [face(replace(whole, steps=(resolver,))) - plain, face(whole) - cleaned]
    else:
        changes += [np.zeros_like(plain)] * 2
    products = [_products([_reduced(change, size) for change in changes]) for size in SIZES]
    return Pair(record.file_name, mean_change(cut(pixels, wanted), restored), side, np.stack(products))


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
        mean = np.mean([pair.psnr(rule)[FITTED] for pair in pairs])
        return float(PRIOR * np.square((numbers - start) / widths).sum() - mean)

    corners = np.stack([start, *(start + 0.2 * np.diag(widths * [1, 1, -1]))])
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


def held_out_rules(pairs: Sequence[Pair]) -> list[StrengthRule]:
    """Return a rule for each pair, fitted to the pairs of other groups; the groups follow the hashes of the names."""
    order = sorted(range(len(pairs)), key=lambda index: hashlib.sha256(pairs[index].name.encode()).hexdigest())
    rules = [StrengthRule()] * len(pairs)
    for fold in range(min(FOLDS, len(pairs))):
        group = set(order[fold::FOLDS])
        rule = fit_rule([pair for index, pair in enumerate(pairs) if index not in group])
        for index in group:
            rules[index] = rule
    return rules


def report(pairs: Sequence[Pair], rule: StrengthRule, say: Callable[[str], object]) -> None:
    """Say the mean PSNR of these pairs at `SIZES` and the least gain, for several rules; `rule` was fitted to them."""
    bundled = StrengthRule()
    rows: dict[str, Sequence[StrengthRule | None]] = {
        "none": [None] * len(pairs),
        "bundled": [bundled] * len(pairs),
        "fitted": [rule] * len(pairs),
    }
    if len(pairs) > 1:
        rows["held out"] = held_out_rules(pairs)
    plain = np.stack([pair.psnr(None) for pair in pairs])
    say(f"{'PSNR in dB':12}" + "".join(f"{size:>8}" for size in SIZES) + "   least gain over none, at each size")
    for name, rules in rows.items():
        values = np.stack([pair.psnr(each) for pair, each in zip(pairs, rules, strict=True)])
        least = (values - plain).min(axis=0)
        say(
            f"{name:12}"
            + "".join(f"{v:8.2f}" for v in values.mean(axis=0))
            + "  "
            + "".join(f"{v:7.2f}" for v in least)
        )


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
@click.option("--device", default="auto", help="Device: cpu, cuda, cuda:1, mps, or auto.")
def main(pairs: tuple[Path, Path], out: Path, device: str) -> None:
    """Fit the strength of the default restoration to published images."""
    if out.suffix.lower() != ".json":
        raise DataError(f"--out {out} has to end in .json; with --task, a network is trained and written instead")
    with as_data_error(out):
        check_writable(out)
    found_pairs = published_pairs(*pairs)
    place = str(torch_device(device))
    restorer = network_restorer("bundled", super_resolution="always", device=place, threads=available_cores())
    measured: list[Pair] = []
    with Progress("pairs", len(found_pairs), "pair") as progress:
        for record, published in found_pairs:
            measured.append(measure_pair(record, published, restorer))
            progress()
    rule = fit_rule(measured)
    click.echo(f"{counted(len(measured), 'pair')}; held out: each with the rule that the other groups of pairs give")
    report(measured, rule, click.echo)
    click.echo(str(rule))
    save_rule(out, rule, {"pairs": len(measured)})
