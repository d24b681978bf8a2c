"""Write pictures and films of a trained model.

\b
--seeds      a PNG file for every seed, or with --grid for every grid of them
--slerp      a PNG file, each row of which goes from one seed to the next
--mix        PNG files, grids that mix the styles of two seeds
--video      a film in which all pictures change smoothly, and that has no end
--progress   with --video: time-lapse of a training run
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from click.core import ParameterSource
from numpy.typing import NDArray

from datatools.cli import FiniteNumber, OneLineCommand, PathOption, parse_ranges, run_command
from datatools.errors import DataError
from datatools.files import as_data_error
from datatools.images import save_png
from datatools.progress import Progress
from datatools.text import counted
from pggan.config.style import StyleConfig
from pggan.media.grids import parse_grid, save_grid
from pggan.media.latents import Change, best_first, critic_scores
from pggan.media.look import NOISE, set_look
from pggan.media.sheets import write_mixed, write_strip
from pggan.media.video import (
    STILL_FPS,
    Frame,
    Space,
    Walk,
    find_encoder,
    progress_frames,
    timelapse,
    walk_frames,
    write_film,
)
from pggan.model.files import Model, render
from pggan.training.distributed import choose_device, rank, world_size
from pggan.training.models import load_model, use_fastest_threads
from pggan.training.threads import threads_option

EXAMPLES = """
\b
Examples:
  python -m pggan.generate --model runs/faces --out pictures --seeds 0-99
  python -m pggan.generate --model final.safetensors --out pictures --seeds 7,12,1000-1020 --device cuda
  python -m pggan.generate --model final.safetensors --out pictures --seeds 0-31 --grid 8x4
  python -m pggan.generate --model runs/faces --out pictures --seeds 0-999 --curate 32 --grid 8x4
  python -m pggan.generate --model runs/faces --out pictures --slerp 3,17,42 --steps 8
  python -m pggan.generate --model runs/style --out pictures --mix 85,100,75 --columns 55,821 --truncation 0.7
  python -m pggan.generate --model runs/faces --video film.mp4 --grid 4x2 --seconds 60
  python -m pggan.generate --progress runs/faces --video training.mp4

\b
Films need an encoder: pip install 'celebahq[video]', or an ffmpeg on the PATH. Without one, PNG files are written, of
each second or snapshot.

\b
--truncation: a model that normalizes its latents has no mean to pull them to; all pictures become more like the one
of --centre, and vary less. A model that does not normalize has its latents shrunk. A style-based model has its styles
pulled to their average (psi of the papers). --curate: the discriminator's
score says how real a picture looks to the network that was trained against this generator, and no more than that.
"""
SEEDS = 100
BATCH = 64
MANY = 256  # pictures that are worth a trial of which number of threads makes them fastest
PROGRESS_SECONDS, PROGRESS_FPS = 20.0, 30

# What can be done: in words, and the options that have a say in it.
COMMON = {"model", "ema_kimg", "label", "truncation", "centre", "noise", "device", "threads"}
USES = {
    "pictures": ("pictures of --seeds", COMMON | {"out", "seeds", "grid", "curate"}),
    "strip": ("rows of --slerp", COMMON | {"out", "slerp_seeds", "steps", "zoom", "space"}),
    "mix": ("grids of --mix", COMMON | {"out", "mix", "columns", "layers", "zoom"}),
    "walk": (
        "the film of --video",
        COMMON | {"video", "seconds", "fps", "smooth_seconds", "grid", "seed", "zoom", "space"},
    ),
    "progress": ("the film of --progress", {"progress", "video", "seconds", "fps", "device", "threads"}),
}


@click.command(cls=OneLineCommand, help=__doc__, epilog=EXAMPLES)
@click.option("--model", type=PathOption(), help="A model file, a run folder, or the bundled faces-32.")
@click.option("--ema-kimg", type=FiniteNumber(0, min_open=True), help="Half-life of one of the run's further EMAs.")
@click.option("--out", type=PathOption(file_okay=False), help="Folder for the pictures.")
@click.option(
    "--seeds", help="Seeds such as 0-99,500; each gives one picture.  [default: 0-99; with --grid those that fill it]"
)
@click.option("--grid", metavar="WxH", help="Columns and rows of a grid or film.")
@click.option(
    "--curate", type=click.IntRange(1), help="Number of seeds to keep, those that the discriminator scores best."
)
@click.option(
    "--slerp",
    "slerp_seeds",
    metavar="SEEDS",
    help="Seeds such as 3,17,42; makes rows of pictures from one to the next.",
)
@click.option(
    "--steps",
    type=click.IntRange(2, 1000),
    default=8,
    show_default=True,
    help="Number of pictures in a row of --slerp.",
)
@click.option(
    "--mix",
    metavar="SEEDS",
    help="Seeds of a grid's rows; makes pictures with their styles, and some of each of --columns.",
)
@click.option("--columns", metavar="SEEDS", default="0-4", show_default=True, help="Seeds of the columns of --mix.")
@click.option(
    "--layers",
    default="coarse,middle,fine",
    show_default=True,
    help="Styles that --mix takes from the columns, one grid each; also places such as 0-3.",
)
@click.option(
    "--space",
    type=click.Choice(["z", "w"]),
    default="z",
    show_default=True,
    help="Where films and rows of --slerp go from one picture to the next: latents, or w of style-based models.",
)
@click.option("--video", type=PathOption(dir_okay=False), help="Film to write, .mp4.")
@click.option("--progress", type=PathOption(), help="Run folder whose snapshots the film shows.")
@click.option("--seconds", type=FiniteNumber(0.1, 36000), help="Length of the film.  [default: 60; with --progress 20]")
@click.option("--fps", type=click.IntRange(1, 240), help="Frames per second.  [default: 60; with --progress 30]")
@click.option(
    "--smooth-seconds",
    type=FiniteNumber(0.01),
    default=0.75,
    show_default=True,
    help="How slowly pictures change: deviation of the Gaussian over time.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the film's latents.")
@click.option(
    "--zoom",
    type=click.IntRange(1, 64),
    help="Factor by which pixels are repeated.  [default: films up to 1920 x 512; strips not]",
)
@click.option("--label", type=click.IntRange(0), help="Class, of a model with labels.  [default: drawn by the seed]")
@click.option(
    "--truncation",
    type=FiniteNumber(0, 1),
    default=1.0,
    show_default=True,
    help="Scale of the variety, 1 for all of it; see below.",
)
@click.option("--centre", type=click.IntRange(0), help="Seed that --truncation pulls to.  [default: 0]")
@click.option(
    "--noise",
    type=click.Choice(list(NOISE)),
    default="const",
    show_default=True,
    help="Noise maps of style-based models: the model's own, drawn for each picture, or none.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@threads_option
def main(
    model: Path | None,
    ema_kimg: float | None,
    out: Path | None,
    seeds: str | None,
    grid: str | None,
    curate: int | None,
    slerp_seeds: str | None,
    steps: int,
    mix: str | None,
    columns: str,
    layers: str,
    space: Space,
    video: Path | None,
    progress: Path | None,
    seconds: float | None,
    fps: int | None,
    smooth_seconds: float,
    seed: int,
    zoom: int | None,
    label: int | None,
    truncation: float,
    centre: int | None,
    noise: str,
    device: str,
) -> None:
    of_seeds = "mix" if mix is not None else "strip" if slerp_seeds is not None else "walk" if video else "pictures"
    use = "progress" if progress else of_seeds
    check_options(click.get_current_context(), use)
    encoder = find_encoder() if video else None
    if progress is not None:
        assert video is not None
        fps = fps or PROGRESS_FPS
        shown = timelapse(progress, seconds or PROGRESS_SECONDS, fps)
        shown = shown if encoder else [replace(one, frames=1) for one in shown]
        make_film(video, progress_frames(shown), sum(one.frames for one in shown), fps, encoder, "snapshot")
        return

    size = None if grid is None else parse_grid(grid)
    if slerp_seeds is not None:
        chosen = parse_ranges(slerp_seeds, "--slerp")
    elif seeds is not None:  # a seed that is named twice would give a file, or the name of a grid, twice
        chosen = list(dict.fromkeys(parse_ranges(seeds, "--seeds")))
    else:
        chosen = list(range(SEEDS if size is None or curate is not None else size[0] * size[1]))
    assert model is not None
    loaded = load_model(model).with_ema(ema_kimg).to(choose_device(device))
    change = set_look(loaded, truncation, centre, noise)
    if use != "pictures" and rank():
        return  # torchrun's first process makes what is one file
    if (side := loaded.level.resolution) < (whole := loaded.config.resolution) and not rank():
        click.echo(f"note: the model has grown to {side} x {side} pixels of {whole} x {whole} so far", err=True)
    torch.manual_seed(0)  # of random noise
    if video is not None:
        rate = STILL_FPS if encoder is None else fps or Walk.fps
        walk = Walk(seconds or Walk.seconds, rate, smooth_seconds, size or (1, 1), seed, zoom)
        frames = walk_frames(loaded, walk, label=label, change=change, space=space)
        if walk.frames * walk.cells >= MANY:
            use_fastest_threads(loaded)
        if walk.stands_still:
            click.echo("note: the film hardly changes; give --smooth-seconds below a third of --seconds", err=True)
        make_film(video, frames, walk.frames, walk.fps, encoder)
        return

    assert out is not None
    if len(chosen) >= MANY:
        use_fastest_threads(loaded)
    with as_data_error(f"--out {out}"):
        out.mkdir(parents=True, exist_ok=True)
        if mix is not None:
            seeds_of_both = parse_ranges(mix, "--mix"), parse_ranges(columns, "--columns")
            written = write_mixed(loaded, out, *seeds_of_both, layers.split(","), zoom or 1, label)
        elif slerp_seeds is not None:
            written = write_strip(loaded, out, chosen, steps, zoom or 1, label, change, space)
        else:
            if curate is not None:
                chosen = curated(loaded, chosen, curate, label, change)
            written = write_pictures(loaded, out, chosen, size, label, change)
    if not rank():
        click.echo(f"{written} in {out}")


def check_options(context: click.Context, use: str) -> None:
    """Raise DataError for options that have no effect, and for missing ones."""
    words, used = USES[use]
    for option in context.command.params:
        name = str(option.name)
        if name not in used and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise DataError(f"{option.opts[0]} has no effect with {words}; remove it")
        if name in used & {"model", "out", "video"} and context.params[name] is None:
            raise DataError(f"{option.opts[0]} is missing, for {words}")
    video, centre = context.params["video"], context.params["centre"]
    if video is not None and video.suffix.lower() != ".mp4":
        raise DataError(f"--video {video}: the name of a film must end in .mp4")
    if centre is not None and context.params["truncation"] == 1:
        raise DataError("--centre has no effect without a --truncation below 1")


def pictures_of(model: Model, seeds: Sequence[int], label: int | None, change: Change) -> NDArray[np.uint8]:
    """Return (n, r, r, 3) uint8: `Model.pictures` of changed latents."""
    return render(model.ema, change(model.latents(seeds)), model.labels(label, seeds), model.lod)


def write_pictures(
    model: Model, out: Path, seeds: Sequence[int], size: tuple[int, int] | None, label: int | None, change: Change
) -> str:
    """Write a file for every seed or every grid of (columns, rows) seeds; return what was written, in words.

    torchrun's processes take turns with the batches, which are the same however many there are.
    """
    side = 0
    parts = batches(seeds, BATCH if size is None else size[0] * size[1])
    own = parts[rank() :: world_size()]
    with Progress("generate", sum(map(len, own)), "picture") as progress:
        for some in own:
            torch.manual_seed(some[0])  # of random noise
            pictures = pictures_of(model, some, label, change)
            side = pictures.shape[1]
            if size is not None:
                save_grid(out / f"grid{some[0]:06d}.png", pictures, size[0])
                progress(len(some))
                continue
            for seed, picture in zip(some, pictures, strict=True):
                save_png(out / f"seed{seed:06d}.png", picture)
                progress(1)
    files = counted(len(seeds if size is None else parts), "file")
    return f"{files} of {counted(len(seeds), 'picture')} of {side} x {side} pixels"


def curated(model: Model, seeds: Sequence[int], count: int, label: int | None, change: Change) -> list[int]:
    """Return the `count` seeds with the best scores of the discriminator, best first, and print them."""
    if "discriminator" in model.untrained:
        raise DataError("--curate: the model file has no discriminator that could choose")
    if isinstance(model.config, StyleConfig) and model.config.classes:
        raise DataError("--curate: is not for style-based models with classes; leave it out")
    if count > len(seeds):
        raise DataError(f"--curate {count}: more than the {counted(len(seeds), 'seed')}")
    with Progress("curate", len(seeds), "picture") as progress:
        scores = []
        for some in batches(seeds, BATCH):
            scores.append(critic_scores(model, pictures_of(model, some, label, change)))
            progress(len(some))
    all_scores = np.concatenate(scores)
    kept = np.sort(all_scores)[::-1][:count]
    best = best_first(seeds, all_scores)[:count]
    if not rank():
        click.echo(
            f"kept {count} of {counted(len(seeds), 'seed')}: scores {kept[0]:.3g} to {kept[-1]:.3g}, "
            f"of all {all_scores.mean():.3g} +- {all_scores.std():.2g}"
        )
        click.echo(f"the best first: --seeds {','.join(map(str, best))}")
    return best


def make_film(
    video: Path, frames: Iterable[Frame], count: int, fps: int, encoder: str | None, each: str = "second"
) -> None:
    """Write the film, or where nothing can encode it a PNG file of `each` second or snapshot; print which."""
    written = write_film(video, Progress("film", count, "frame").over(frames), fps, encoder)
    if encoder is None:
        click.echo(
            f"no encoder for {video}: {counted(count, 'picture')}, one of each {each} whatever --fps, in {written}; "
            "for the film pip install 'celebahq[video]' and run the same command again"
        )
    else:
        click.echo(f"{counted(count, 'frame')}, {count / fps:g} s at {fps} per second, in {written}")


def batches(seeds: Sequence[int], size: int) -> list[Sequence[int]]:
    """Return the seeds in batches."""
    return [seeds[start : start + size] for start in range(0, len(seeds), size)]


def script() -> None:
    """Run the console script `celebahq-generate`."""
    run_command(main)


if __name__ == "__main__":
    script()
