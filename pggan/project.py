"""Project pictures into a style-based model: find w and noise maps whose picture is nearest to each.

For NAME.jpg in --images, --out gets NAME.png (the picture and its projection), NAME.safetensors (w and noise maps),
NAME.mp4 (the optimization), and all distances in distances.json. With --generated, pictures of the model itself are
projected, too, and histogram.png shows whether their distances are smaller: then a picture can be attributed to the
model.
"""

from pathlib import Path

import click
import safetensors.torch

from datatools.cli import FiniteNumber, OneLineCommand, PathOption, run_command
from datatools.errors import DataError, SettingError
from datatools.files import as_data_error, atomic_path
from datatools.pyramid.square import CROPS, Crop
from datatools.text import counted
from pggan.media.video import find_encoder
from pggan.metrics.distances import Distance, PixelDistance
from pggan.metrics.extractors import WeightFiles
from pggan.metrics.lpips import Lpips
from pggan.model.style import StyleGenerator
from pggan.projection.attribution import histogram, separation
from pggan.projection.optimize import STEPS
from pggan.projection.pictures import image_items, list_images, own_items
from pggan.projection.results import FOLDERS, Group, Results, digest
from pggan.projection.work import Projector, project
from pggan.training.distributed import choose_device
from pggan.training.models import load_model, use_fastest_threads
from pggan.training.threads import threads_option

EXAMPLES = """
\b
Examples:
  python -m pggan.project --model runs/style --images pictures --out projected --weights lpips=lpips.pth
  python -m pggan.project --model final.safetensors --images pictures --out projected --steps 200
  python -m pggan.project --model runs/style --images faces --generated 100 --out projected --batch 8 --no-film

\b
Without weights of LPIPS (--weights lpips=FILE, see docs/training.md) the distance is of pixels at several scales. Run
the same command again to resume: what is projected is not made again.
"""
HISTOGRAM = "histogram.png"


@click.command(cls=OneLineCommand, resumes=True, help=__doc__, epilog=EXAMPLES)
@click.option("--model", required=True, type=PathOption(), help="Style-based model: a run folder or a model file.")
@click.option("--ema-kimg", type=FiniteNumber(0, min_open=True), help="Half-life of one of its further EMAs.")
@click.option("--images", type=PathOption(file_okay=False), help="Folder of pictures to project.")
@click.option("--generated", type=click.IntRange(0), default=0, help="Number of the model's own pictures to project.")
@click.option("--out", required=True, type=PathOption(file_okay=False), help="Folder for the results.")
@click.option(
    "--crop", type=click.Choice(CROPS), default="none", show_default=True, help="Square part of pictures that are not."
)
@click.option("--steps", type=click.IntRange(1), default=STEPS, show_default=True, help="Steps of the optimization.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Pictures projected at a time.")
@click.option("--film/--no-film", default=True, show_default=True, help="Write a film for each of --images.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of noise and own pictures.")
@click.option("--weights", type=WeightFiles(), help="Weights of the distance: lpips=FILE.  [default: pixels]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@threads_option
def main(
    model: Path,
    ema_kimg: float | None,
    images: Path | None,
    generated: int,
    out: Path,
    crop: Crop,
    steps: int,
    batch: int,
    film: bool,
    seed: int,
    weights: dict[str, Path] | None,
    device: str,
) -> None:
    if images is None and not generated:
        raise DataError("name what is to be projected: --images FOLDER, --generated COUNT, or both")
    if other := [name for name in weights or {} if name != "lpips"]:
        raise SettingError("weights", f"{other[0]}: is not a distance of pictures; give lpips=FILE")
    for folder in FOLDERS.values():
        if images is not None and images.resolve() == (out / folder).resolve():
            raise DataError(f"--out {out}: results would replace the pictures of --images; choose another folder")
    found = list_images(images) if images else []
    loaded = load_model(model).with_ema(ema_kimg).to(choose_device(device))
    if not isinstance(loaded.ema, StyleGenerator):
        raise DataError(f"--model {model}: is a progressive GAN, which has no w; projection needs a style-based model")
    distance: Distance = PixelDistance()
    if weights:
        distance = Lpips(weights["lpips"], loaded.device)
    else:
        click.echo("note: no weights of LPIPS are given: the distance is of pixels at several scales", err=True)
    side = loaded.level.resolution
    if side < distance.smallest:
        raise DataError(f"--model {model}: makes pictures of {side} x {side} pixels, LPIPS needs {distance.smallest}")
    use_fastest_threads(loaded)
    settings = {"model_sha256": digest_of(loaded.ema), "lod": loaded.lod, "steps": steps, "seed": seed, "crop": crop}
    with as_data_error(f"--out {out}"):
        out.mkdir(parents=True, exist_ok=True)
        results = Results(out, {**settings, **distance.recipe})
        items = [*image_items(found, side, crop), *own_items(loaded, generated, seed)]
        encoder = find_encoder()
        if film and found and encoder is None:
            click.echo(
                "note: no encoder for films: each is a folder of about ten PNG files; for films pip install "
                "'celebahq[video]' first",
                err=True,
            )
        projector = Projector(loaded, loaded.ema, distance, steps, seed)
        failed = project(items, projector, results, batch, film=film, encoder=encoder)
        lines = finish(results, distance)
    for line in lines:
        click.echo(line)
    if failed:
        raise DataError(f"{counted(len(failed), 'picture')} of {len(items)} not projected: {'; '.join(failed[:5])}")


def digest_of(generator: StyleGenerator) -> str:
    """Return what depends on all weights."""
    return digest(safetensors.torch.save({name: t.cpu().contiguous() for name, t in generator.state_dict().items()}))


def finish(results: Results, distance: Distance) -> list[str]:
    """Write the histogram where there are pictures of both kinds; return lines about all results."""
    lines = []
    kinds: tuple[tuple[Group, str], ...] = (("images", "picture"), ("generated", "generated picture"))
    for group, what in kinds:
        distances = results.distances(group)
        if len(distances):
            lines.append(
                f"{counted(len(distances), what)} in {results.folder / FOLDERS[group]}: "
                f"distance {distances.mean():.4g}, {distances.min():.4g} to {distances.max():.4g}"
            )
    own, others = results.distances("generated"), results.distances("images")
    if len(own) and len(others):
        with atomic_path(results.folder / HISTOGRAM) as temporary:
            temporary.write_bytes(histogram(own, others, "LPIPS" if isinstance(distance, Lpips) else "pixel distance"))
        chance = separation(own, others)
        results.write(separation=chance)
        lines.append(
            f"{results.folder / HISTOGRAM}: the chance that a generated picture is nearer than another is {chance:.3f}"
        )
    return lines


def script() -> None:
    """Run the console script `celebahq-project`."""
    run_command(main)


if __name__ == "__main__":
    script()
