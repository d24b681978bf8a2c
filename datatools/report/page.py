"""The content of the report page, section by section: numbers, words and pictures for templates/report.html."""

import datetime
import os
import platform
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import h5py
import jinja2
import numpy as np
import PIL

import datatools
from datatools.errors import DataError
from datatools.faces.resample import FINAL_FILTERS, FinalFilter
from datatools.images import decode_rgb, image_size
from datatools.pyramid import Pyramid
from datatools.report.histogram import PlotSize, log_axis_start, score_histogram
from datatools.report.parts import Face, Faces, PageBuilder, Picture
from datatools.report.sheets import contact_sheet, fit_picture
from datatools.report.strips import (
    PANEL,
    RestorationStrip,
    Strip,
    make_restoration_strip,
    make_strip,
    restoration_candidates,
    strip_candidates,
)
from datatools.report.summary import GENERATOR, BuildSummary, DuplicateFiles
from datatools.report.tables import RankingTable, read_ranking, read_rejected
from datatools.report_format import byte_size, duration, each_text, rate_text, score_text, shorten
from datatools.restore import NoRestorer
from datatools.text import counted

SHEET_FACES, SHEET_COLUMNS, SHEET_TILE = 24, 8, 136
BELOW_CUT = 16  # photos shown of those that were not chosen
PAIRS_SHOWN, PAIRS_NAMED = 18, 200
GROUPS_SHOWN = 40


@dataclass(frozen=True)
class Sheet:
    title: str
    picture: Picture
    faces: tuple[Face, ...]


@dataclass(frozen=True)
class StripView:
    why: str
    face: Face
    photo: Picture
    padded: Picture
    result: Picture
    strip: Strip
    enlargement: float


@dataclass(frozen=True)
class PairView:
    pair: DuplicateFiles
    first: Picture | None
    second: Picture | None


@dataclass(frozen=True)
class RestorationView:
    why: str
    face: Face
    before: Picture
    after: Picture
    strip: RestorationStrip
    resolution: int


def render_page(summary: BuildSummary, folder: Path, links_from: Path) -> str:
    """Make the pictures in `folder`, return the page's HTML. links_from: the folder where the page will finally lie."""
    builder = PageBuilder(folder)
    attempt = builder.attempt
    ranking = attempt("The ranking could not be read", read_ranking, summary.ranking_csv)
    rejected = attempt("The list of rejected entries could not be read", read_rejected, summary.rejected_csv)
    content = {
        "generator": GENERATOR,
        "made": datetime.datetime.now().astimezone(),
        "asked": _asked(summary.settings),
        "selection": summary.settings.get("selection", ""),
        "restored": _restored(summary.settings),
        "photos": len(summary.photos),
        "ranking": ranking,
        "rejected": rejected,
        "histogram": None,
        "below": None,
        "duplicates": summary.duplicates,
        "pairs_named": PAIRS_NAMED,
        "groups_shown": GROUPS_SHOWN,
        "stages": summary.stages,
        "total_seconds": sum(stage.seconds for stage in summary.stages),
        "disk": summary.disk_bytes,
        "settings": _effective(summary.settings),
        "versions": _versions(summary.settings),
        "links": {
            "pyramid": _link(summary.pyramid, links_from),
            "ranking": _link(summary.ranking_csv, links_from),
            "rejected": _link(summary.rejected_csv, links_from),
        },
        "notes": builder.notes,
    }
    if ranking:
        content["histogram"] = attempt("The histogram could not be drawn", _histogram, ranking, folder)
        what = "The photos that were not chosen could not be shown"
        content["below"] = attempt(what, _below, ranking, summary.photos, builder)
    content |= _file_content(summary, builder)
    pictures = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    page = ""
    for _ in range(3):  # the page says how large it is itself, which settles at once
        report_bytes = pictures + len(page.encode("utf-8", errors="replace"))
        page = _template().render(content | {"disk": {**summary.disk_bytes, "report/": report_bytes}})
    return page


def _file_content(summary: BuildSummary, builder: PageBuilder) -> dict[str, Any]:
    """The sections about the pyramid file; all of them empty when it cannot be opened."""
    attempt = builder.attempt
    content: dict[str, Any] = dict.fromkeys(("faces", "sheets", "strips", "restoration", "levels", "stored"))
    content["file_bytes"] = attempt("The pyramid file's size is unknown", lambda: summary.pyramid.stat().st_size)
    pyramid = attempt("The pyramid file could not be opened", Pyramid, summary.pyramid)
    faces = None
    try:
        if pyramid is not None:
            content["levels"] = attempt("The levels could not be listed", _levels, pyramid)
            content["stored"] = attempt("The stored settings could not be read", _stored, pyramid, summary)
            content["faces"] = faces = attempt("The faces could not be read", Faces.read, pyramid)
        if faces is not None:
            content["sheets"] = attempt("The contact sheets could not be made", _sheets, faces, builder)
            content["strips"] = _strips(faces, summary.photos, builder)
            if _restored(summary.settings):
                content["restoration"] = _restoration(faces, summary, builder)
        content["pairs"] = attempt("The duplicates could not be shown", _pairs, summary.duplicates, faces, builder)
    finally:
        if pyramid is not None:
            pyramid.close()
    return content


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("datatools.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=lambda number: f"{number:,}",
        size=byte_size,
        duration=duration,
        score=score_text,
        rate=rate_text,
        each=each_text,
        counted=counted,
        short=shorten,
    )
    return environment.get_template("report.html")


def _effective(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings as they took effect: what had none says why, what was chosen automatically says what."""
    effective = dict(settings)
    selection, restored = settings.get("selection"), _restored(settings)
    if selection == "all" and "count" in settings:
        effective["count"] = "no effect with selection all"
    if settings.get("order") == "auto":
        effective["order"] = f"{'official' if selection == 'official' else 'rank'} (auto)"
    for name in ("super_resolution", "score_on"):
        if name in settings and restored is None:
            effective[name] = "no effect with restore none"
    if settings.get("exclude") == "":
        effective["exclude"] = "none"
        effective.pop("excluded_digest", None)
    return effective


def _asked(settings: Mapping[str, str]) -> int | None:
    if settings.get("selection") == "all":
        return None
    text = str(settings.get("count", "")).replace(",", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _restored(settings: Mapping[str, str]) -> str | None:
    """What restored the photos; None where nothing did."""
    name = settings.get("restore", NoRestorer().name)
    return None if name == NoRestorer().name else name


def _histogram(ranking: RankingTable, folder: Path) -> dict[str, Any] | None:
    chosen = ranking.scores[ranking.scored & ranking.chosen]
    others = ranking.scores[ranking.scored & ~ranking.chosen]
    if not len(chosen) + len(others):
        return None
    # A cut exists where the chosen ones are the best: few of the others (left out by name, duplicates) lie above it.
    cut = None
    if len(chosen) and len(others) and np.count_nonzero(others > chosen.min()) <= 0.2 * len(others):
        cut = float(chosen.min())
    sizes = {"wide": PlotSize(900, 330), "narrow": PlotSize(400, 300)}
    for name, size in sizes.items():
        outside = score_histogram(folder / f"scores-{name}.svg", chosen, others, cut, size)
    scores = np.concatenate([chosen, others])
    start = log_axis_start(scores)
    parts = {label: part for label, part in (("Chosen", chosen), ("Not chosen", others)) if len(part)}
    quantiles = [
        (label, [float(np.quantile(part, fraction)) for part in parts.values()])
        for label, fraction in (("Lowest", 0), ("25 %", 0.25), ("Median", 0.5), ("75 %", 0.75), ("Highest", 1))
    ]
    return {
        "cut": cut,
        "outside": outside,
        "log_start": start,
        "below_start": 0 if start is None else int(np.count_nonzero(scores < start)),
        "parts": {k: len(v) for k, v in parts.items()},
        "quantiles": quantiles,
        "sizes": sizes,
    }


def _sheets(faces: Faces, builder: PageBuilder) -> list[Sheet]:
    order, count = faces.best_first, len(faces.names)
    if not count:
        return []
    if count <= SHEET_FACES:
        parts = [("All chosen faces" if count > 1 else "The chosen face", order)]
    else:
        each = min(SHEET_FACES, max(SHEET_COLUMNS, count // 3 // SHEET_COLUMNS * SHEET_COLUMNS))
        middle = (count - each) // 2
        parts = [
            ("Best of the chosen", order[:each]),
            ("Median of the chosen", order[middle : middle + each]),
            ("Worst of the chosen", order[count - each :]),
        ]
    sheets = []
    for title, members in parts:
        images = [faces.image(int(i), SHEET_TILE) for i in members]
        sheet = contact_sheet(images, SHEET_COLUMNS, SHEET_TILE)
        alt = f"Contact sheet, {title.lower()}: {len(members)} of {counted(count, 'face')} by quality score"
        sheets.append(Sheet(title, builder.picture(sheet, alt), tuple(faces.face(int(i)) for i in members)))
    return sheets


def _below(ranking: RankingTable, photos: Mapping[str, Path], builder: PageBuilder) -> dict[str, Any] | None:
    """The photos of the best that were not chosen; their faces are in no file."""
    shown, images = [], []
    for i in ranking.best_not_chosen(4 * BELOW_CUT):
        try:
            data = photos[ranking.names[i]].read_bytes()
            longest = max(image_size(data))
            reduce = max((k for k in (2, 4, 8) if longest / k >= SHEET_TILE), default=1)
            images.append(decode_rgb(data, reduce=reduce))
        except (KeyError, OSError, DataError):
            continue  # one of many examples; the next will do
        shown.append((ranking.names[i], float(ranking.scores[i]), ranking.reasons[i]))
        if len(shown) == BELOW_CUT:
            break
    if not shown:
        return None
    sheet = contact_sheet(images, SHEET_COLUMNS, SHEET_TILE)
    alt = f"{counted(len(shown), 'photo')} that {'was' if len(shown) == 1 else 'were'} not chosen, best first"
    return {"picture": builder.picture(sheet, alt), "photos": shown}


def _strips(faces: Faces, photos: Mapping[str, Path], builder: PageBuilder) -> list[StripView]:
    def view(i: int, why: str) -> StripView:
        face = faces.face(i)
        strip = make_strip(faces.photo(i, photos), faces.landmarks[i], faces.image(i, PANEL))
        return StripView(
            why=why,
            face=face,
            photo=builder.picture(strip.photo, f"Photo {face.name} with landmarks and rectangle"),
            padded=builder.picture(strip.padded, f"The picture that face {face.name} is cut from, with the rectangle"),
            result=builder.picture(strip.face, f"Face made from {face.name}"),
            strip=strip,
            enlargement=faces.pyramid.resolution / strip.frame.side,
        )

    candidates = builder.attempt("No strips could be chosen", strip_candidates, faces.quads, faces.best_first)
    return builder.attempt_each("No strip", candidates or [], faces, view)


def _restoration(faces: Faces, summary: BuildSummary, builder: PageBuilder) -> list[RestorationView]:
    final_filter = cast(FinalFilter, summary.settings.get("final_filter", FINAL_FILTERS[0]))

    def view(i: int, why: str) -> RestorationView:
        face, data = faces.face(i), faces.photo(i, summary.photos)
        strip = make_restoration_strip(data, faces.landmarks[i], faces.pyramid.image(i), final_filter)
        # Exact, since what a restoration changes would drown in what JPEG does.
        return RestorationView(
            why=why,
            face=face,
            before=builder.picture(strip.before, f"Part of face {face.name} without restoration", exact=True),
            after=builder.picture(strip.after, f"The same part of face {face.name}, restored", exact=True),
            strip=strip,
            resolution=faces.pyramid.resolution,
        )

    candidates = builder.attempt("No faces could be chosen", restoration_candidates, faces.quads, faces.best_first)
    return builder.attempt_each("No comparison", candidates or [], faces, view)


def _pairs(duplicates: Sequence[DuplicateFiles], faces: Faces | None, builder: PageBuilder) -> list[PairView]:
    """The closest pairs that have a face in the file."""
    places = {name: i for i, name in enumerate(faces.names)} if faces else {}
    shown = [pair for pair in duplicates if pair.first in places or pair.second in places]
    shown.sort(key=lambda pair: pair.distance)

    def face_of(name: str) -> Picture | None:
        if faces is None or name not in places:
            return None
        return builder.picture(fit_picture(faces.image(places[name], 160), 160, 160), f"Face {name}")

    return [PairView(pair, face_of(pair.first), face_of(pair.second)) for pair in shown[:PAIRS_SHOWN]]


def _levels(pyramid: Pyramid) -> list[tuple[int, int]]:
    """(resolution, bytes of its pixels) of every level, largest first."""
    return [(r, len(pyramid) * 3 * r * r) for r in pyramid.levels]


def _stored(pyramid: Pyramid, summary: BuildSummary) -> dict[str, str]:
    """The settings in the file that the build's own do not tell already."""
    stored = {str(name): str(value) for name, value in pyramid.settings.items()}
    return {name: value for name, value in stored.items() if str(summary.settings.get(name)) != value}


def _versions(settings: Mapping[str, str]) -> dict[str, str]:
    """Versions that the settings do not tell already."""
    versions = {
        "celebahq": datatools.__version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "OpenCV": cv2.__version__,
        "Pillow": PIL.__version__,
        "h5py": h5py.__version__,
        "HDF5": h5py.version.hdf5_version,
        "System": f"{platform.system()} {platform.machine()}",
    }
    return {
        name: value
        for name, value in versions.items()
        if settings.keys().isdisjoint({name.lower(), f"{name.lower()}_version"})
    }


def _link(path: Path, links_from: Path) -> str | None:
    """Relative URL of a file; None where there is none."""
    if not path.exists():
        return None
    return urllib.parse.quote(os.path.relpath(path.absolute(), links_from).replace(os.sep, "/"))
