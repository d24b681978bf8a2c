"""Project pictures in batches and write the results of each batch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from datatools.images import ImageError
from datatools.progress import Progress
from pggan.media.grids import shrink
from pggan.media.video import STILL_FPS, Frame, write_film
from pggan.metrics.distances import Distance
from pggan.model.files import Model
from pggan.model.style import StyleGenerator
from pggan.pixels import to_bytes
from pggan.projection.optimize import Projection, Start, draw_at, first_maps
from pggan.projection.pictures import Item
from pggan.projection.results import Entry, Results, side_by_side

FILM_FRAMES, FPS, FILM_SIDE = 300, 30, 512
"""Frames of a film at most, their number in a second, and the largest side of its pictures in pixels."""


@dataclass
class Projector:
    """How pictures are projected; `start` is computed when it is first needed."""

    model: Model
    generator: StyleGenerator
    distance: Distance
    steps: int
    seed: int
    start: Start | None = None

    def begin(self, pictures: Sequence[NDArray[np.uint8]]) -> Projection:
        """Return the projection of pictures (r, r, 3), before its first step."""
        if self.start is None:
            self.start = Start.of(self.model, self.generator)
        lod, device = self.model.lod, self.model.device
        targets = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device, torch.float32)
        maps = first_maps(self.generator, lod, self.seed)
        return Projection(self.generator, lod, targets, self.distance, self.start, maps, self.steps)


def project(
    items: Sequence[Item], projector: Projector, results: Results, batch: int, *, film: bool, encoder: str | None
) -> list[str]:
    """Project what is not done yet, and write it; return a line for each picture that could not be read.

    `film`: write a film of each that is no picture of the model; `encoder`: as `find_encoder` gives it.
    """
    missing = [item for item in items if not results.has(item.group, item.name, item.sha256)]
    failed, ready = [], []
    with Progress("project", len(missing) * projector.steps, "step") as progress:
        for number, item in enumerate(missing):
            try:
                ready.append((item, item.load()))
            except ImageError as error:
                failed.append(str(error))
                progress(projector.steps)
            if ready and (len(ready) == batch or number == len(missing) - 1):
                _project_batch(ready, projector, results, progress, film=film, encoder=encoder)
                ready = []
    return failed


def _project_batch(
    ready: Sequence[tuple[Item, NDArray[np.uint8]]],
    projector: Projector,
    results: Results,
    progress: Callable[[int], object],
    *,
    film: bool,
    encoder: str | None,
) -> None:
    pictures = [picture for _, picture in ready]
    projection = projector.begin(pictures)
    filmed = [number for number, (item, _) in enumerate(ready) if film and item.group == "images"]
    films: dict[int, list[Frame]] = {number: [] for number in filmed}
    most = FILM_FRAMES if encoder is not None else FILM_FRAMES // FPS * STILL_FPS
    every = math.ceil(projector.steps / most)
    for step in range(projector.steps):
        projection.step(draw_at(projector.seed, step, projection.w.shape[1]))
        if filmed and (step % every == 0 or step == projector.steps - 1):
            for number, made in zip(filmed, to_bytes(projection.pictures()[filmed]), strict=True):
                films[number].append(side_by_side(*(shrink(p, FILM_SIDE) for p in (pictures[number], made))))
        progress(len(ready))
    made, distances = to_bytes(projection.pictures()), projection.distances().tolist()
    for number, (item, picture) in enumerate(ready):
        if number in films:
            place = results.place(item.group, item.name)
            write_film(place.with_name(f"{item.name}.mp4"), films[number], FPS, encoder)
        maps = {f"noise{layer:02d}": noise[number, 0].detach() for layer, noise in enumerate(projection.maps)}
        tensors = {"w": projection.w[number].detach(), **maps}
        entry = Entry(distances[number], item.sha256)
        results.add(item.group, item.name, entry, (picture, made[number]), tensors)
