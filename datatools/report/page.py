"""The content of the report page, section by section: numbers, words and pictures for report.html."""

import os
import platform
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import h5py
import numpy as np
import PIL
from numpy.typing import NDArray

import datatools
from datatools.errors import DataError
from datatools.faces.resample import FINAL_FILTERS, FinalFilter
from datatools.images import decode_rgb, image_size
from datatools.pyramid import Pyramid
from datatools.report.choose import write_choose_page
from datatools.report.histogram import log_axis_start, score_histogram
from datatools.report.parts import Faces, PageBuilder
from datatools.report.sheets import contact_sheet, fit_picture
from datatools.report.strips import (
    PANEL,
    make_restoration_strip,
    make_strip,
    restoration_candidates,
    strip_candidates,
)
from datatools.report.summary import GENERATOR, BuildSummary, DuplicateFiles
from datatools.report.tables import RankingTable, read_ranking, read_rejected
from datatools.restore import NoRestorer
from datatools.sources.own_pictures import as_plain_file
from datatools.text import byte_size, counted, each_text, rate_text, score_text, shorten
from datatools.webpage import TIMES, PageFigure, Picture, render

SECTIONS = {
    "counts": "Counts",
    "rejected": "Rejected and faulty entries",
    "scores": "Quality scores",
    "faces": "Faces",
    "strips": "From photo to face",
    "restoration": "Restoration",
    "duplicates": "Duplicates",
    "time": "Time",
    "disk": "Disk use",
    "settings": "Settings and versions",
}
FILTERS: dict[str, Callable[..., str]] = {
    "size": byte_size,
    "score": score_text,
    "rate": rate_text,
    "each": each_text,
}

SHEET_FACES, SHEET_COLUMNS, SHEET_TILE = 24, 8, 136
BELOW_CUT = 16  # photos shown of those that were not chosen
PAIRS_SHOWN = 18
PAIR_FACE = 160  # pixels


def render_page(summary: BuildSummary, folder: Path, links_from: Path) -> bytes:
    """Write the pictures into `folder` and return the page. links_from: the folder that the page will be moved to."""
    builder = PageBuilder(folder=folder)
    attempt = builder.attempt
    ranking = attempt("The ranking could not be read", read_ranking, summary.ranking_csv)
    rejected = attempt("The list of rejected entries could not be read", read_rejected, summary.rejected_csv)
    histogram = below = None
    if ranking:
        histogram = attempt("The histogram could not be drawn", _histogram, ranking, builder)
        what = "The photos that were not chosen could not be shown"
        below = attempt(what, _below, ranking, summary, builder)
    restored = _restored(summary.settings)
    content = {
        "generator": GENERATOR,
        "sections": {name: heading for name, heading in SECTIONS.items() if restored or name != "restoration"},
        "summary": summary,
        "requested": _requested(summary.settings),
        "restored": restored,
        "ranking": ranking,
        "rejected": rejected,
        "histogram": histogram,
        "below": below,
        "settings": _effective(summary.settings),
        "versions": _versions(summary.settings),
        "link": lambda path: _link(path, links_from),
        **_file_content(summary, builder),
        "notes": builder.texts,
    }
    pictures = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    page = b""
    for _ in range(3):  # the page says how large it is itself, which settles at once
        disk = {**summary.disk_bytes, "report/": pictures + len(page)}
        page = render("datatools.report", content | {"disk": disk}, FILTERS)
    return page


def _file_content(summary: BuildSummary, builder: PageBuilder) -> dict[str, Any]:
    """Return what the page shows of the pyramid file; None for all of it when the file cannot be opened."""
    attempt = builder.attempt
    content: dict[str, Any] = dict.fromkeys(
        ("faces", "sheets", "choose", "strips", "restoration", "pairs", "levels", "stored")
    )
    content["file_bytes"] = attempt("The pyramid file's size is unknown", lambda: summary.pyramid.stat().st_size)
    pyramid = attempt("The pyramid file could not be opened", Pyramid, summary.pyramid)
    if pyramid is None:
        return content
    with pyramid:
        content["levels"] = [(r, len(pyramid) * 3 * r * r) for r in pyramid.levels]  # bytes of pixels
        content["stored"] = attempt("The stored settings could not be read", _stored, pyramid, summary)
        content["faces"] = faces = attempt("The faces could not be read", Faces, pyramid, summary.own_pictures)
        if faces is None:
            return content
        content["sheets"] = attempt("The contact sheets could not be made", _sheets, faces, builder)
        what = "The page of all faces could not be made"
        content["choose"] = attempt(what, write_choose_page, faces, summary, builder.folder)
        content["strips"] = _strips(faces, summary.photos, builder)
        if _restored(summary.settings):
            content["restoration"] = _restoration(faces, summary, builder)
        content["pairs"] = attempt("The duplicates could not be shown", _pairs, summary.duplicates, faces, builder)
    return content


def _effective(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings as they took effect: those without effect give the reason, `auto` gives what it chose."""
    effective = dict(settings)
    selection, restored = settings.get("selection"), _restored(settings)
    if selection == "all" and "count" in settings:
        effective["count"] = "no effect with selection all"
    if settings.get("order") == "auto":
        effective["order"] = f"{'official' if selection == 'official' else 'rank'} (auto)"
    for name in ("super_resolution", "restore_strength", "score_on"):
        if name in settings and restored is None:
            effective[name] = "no effect with restore none"
    if settings.get("exclude") == "":
        effective["exclude"] = "none"
        effective.pop("excluded_digest", None)
    return effective


def _requested(settings: Mapping[str, str]) -> int | None:
    """Return the number of faces that the build was to choose, None where there was no limit."""
    count = settings.get("count", "")
    return int(count.replace(",", "")) if count and settings.get("selection") != "all" else None


def _restored(settings: Mapping[str, str]) -> str | None:
    """Return the name of the restorer, None where the photos were not restored."""
    name = settings.get("restore", NoRestorer().name)
    return None if name == NoRestorer().name or float(settings.get("restore_strength", 1)) == 0 else name


def _histogram(ranking: RankingTable, builder: PageBuilder) -> dict[str, Any] | None:
    chosen = ranking.scores[ranking.scored & ranking.chosen]
    others = ranking.scores[ranking.scored & ~ranking.chosen]
    if not len(chosen) + len(others):
        return None
    # A cut exists where the chosen ones are the best: few of the others (left out by name, duplicates) lie above it.
    cut = None
    if len(chosen) and len(others) and np.count_nonzero(others > chosen.min()) <= 0.2 * len(others):
        cut = float(chosen.min())
    alt = "Histogram of quality scores, chosen and not chosen photos; the numbers are in the table below"
    plots = {}
    for name, width, height in (("wide", 900, 330), ("narrow", 400, 300)):
        plot, outside = score_histogram(chosen, others, cut, width, height)
        (builder.folder / f"scores-{name}.svg").write_bytes(plot)
        plots[name] = Picture(f"scores-{name}.svg", width, height, alt)
    scores = np.concatenate([chosen, others])
    start = log_axis_start(scores)
    parts = {label: part for label, part in (("Chosen", chosen), ("Not chosen", others)) if len(part)}
    quantiles = [
        (label, [float(np.quantile(part, fraction)) for part in parts.values()])
        for label, fraction in (("Lowest", 0), ("25 %", 0.25), ("Median", 0.5), ("75 %", 0.75), ("Highest", 1))
    ]
    return {
        **plots,
        "cut": cut,
        "outside": outside,
        "log_start": start,
        "below_start": 0 if start is None else int(np.count_nonzero(scores < start)),
        "parts": {label: len(part) for label, part in parts.items()},
        "quantiles": quantiles,
    }


def _sheets(faces: Faces, builder: PageBuilder) -> list[PageFigure]:
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
    return [_sheet(title, members, faces, builder) for title, members in parts]


def _sheet(title: str, members: NDArray[np.int64], faces: Faces, builder: PageBuilder) -> PageFigure:
    items = tuple(faces.words(int(i)) for i in members)
    sheet = contact_sheet([faces.image(int(i), SHEET_TILE) for i in members], SHEET_COLUMNS, SHEET_TILE)
    alt = f"Contact sheet, {title.lower()}: {len(items)} of {counted(len(faces.names), 'face')} by quality score"
    picture = builder.picture(sheet, alt)
    if len(items) == 1:
        return PageFigure(title, ", ".join(items[0]), (picture,))
    first, last = members[0], members[-1]
    caption = (
        f"{counted(len(items), 'face')}, scores {score_text(faces.scores[first])} to {score_text(faces.scores[last])}, "
        f"ranks {faces.ranks[first]:,} to {faces.ranks[last]:,}; from left to right, row by row"
    )
    return PageFigure(title, caption, (picture,), items, "File names, scores and ranks")


def _below(ranking: RankingTable, summary: BuildSummary, builder: PageBuilder) -> PageFigure | None:
    """Return the photos of the best that were not chosen; their faces are in no file."""
    shown, images = [], []
    for i in ranking.best_not_chosen(4 * BELOW_CUT):
        try:
            data = summary.photos[ranking.names[i]].read_bytes()
            data = as_plain_file(data)[0] if summary.own_pictures else data
            longest = max(image_size(data))
            reduce = max((k for k in (2, 4, 8) if longest / k >= SHEET_TILE), default=1)
            images.append(decode_rgb(data, reduce=reduce))
        except (KeyError, OSError, DataError):
            continue  # one of many examples; the next will do
        shown.append(i)
        if len(shown) == BELOW_CUT:
            break
    if not shown:
        return None
    scores = [score_text(ranking.scores[i]) for i in shown]
    if len(shown) == 1:
        alt = "1 photo that was not chosen"
        caption = f"1 photo, score {scores[0]}. This is the photo; its face is in no file."
    else:
        alt = f"{len(shown)} photos that were not chosen, best first"
        caption = f"{len(shown)} photos, scores {scores[0]} to {scores[-1]}. These are the photos; "
        caption += "their faces are in no file."
    picture = builder.picture(contact_sheet(images, SHEET_COLUMNS, SHEET_TILE), alt)
    reasons = [shorten(ranking.reasons[i], 120) for i in shown]
    items = tuple(
        (shorten(ranking.names[i], 80), f"{score}: {reason}" if reason else score)
        for i, score, reason in zip(shown, scores, reasons, strict=True)
    )
    return PageFigure("Best that were not chosen", caption, (picture,), items, "File names, scores and reasons")


def _strips(faces: Faces, photos: Mapping[str, Path], builder: PageBuilder) -> list[PageFigure]:
    def make(i: int, why: str) -> PageFigure:
        frame, panels = make_strip(faces.photo(i, photos), faces.landmarks[i], faces.image(i, PANEL))
        scale = faces.pyramid.resolution / frame.side
        scaled = f"enlarged {scale:.2f} times" if scale >= 1 else f"reduced to {100 * scale:.0f} %"
        (width, height), (short_name, score_and_rank), name = frame.photo_size, faces.words(i), faces.names[i]
        caption = (
            f"{short_name} ({width} {TIMES} {height} px), {score_and_rank}; the rectangle's side of "
            f"{frame.side:.0f} px was {scaled}, {'padded' if frame.padded else 'not padded'}"
        )
        alts = (
            f"Photo {name} with landmarks and rectangle",
            f"The picture that face {name} is cut from, with the rectangle",
            f"Face made from {name}",
        )
        return PageFigure(why, caption, tuple(map(builder.picture, panels, alts)))

    return builder.attempt_each("No strip", strip_candidates(faces.quads, faces.best_first), faces, make)


def _restoration(faces: Faces, summary: BuildSummary, builder: PageBuilder) -> list[PageFigure]:
    final_filter = cast(FinalFilter, summary.settings.get("final_filter", FINAL_FILTERS[0]))

    def make(i: int, why: str) -> PageFigure:
        data, image, name = faces.photo(i, summary.photos), faces.pyramid.image(i), faces.names[i]
        frame, (before, after) = make_restoration_strip(data, faces.landmarks[i], image, final_filter)
        caption = (
            f"{', '.join(faces.words(i))}; the rectangle's side was {frame.side:.0f} px; "
            f"these parts differ by {np.abs(before.astype(int) - after).mean():.1f} of 255 levels on average"
        )
        # Exact, since what a restoration changes would drown in what JPEG does.
        pictures = (
            builder.picture(before, f"Part of face {name} without restoration", exact=True),
            builder.picture(after, f"The same part of face {name}, restored", exact=True),
        )
        return PageFigure(why, caption, pictures)

    return builder.attempt_each("No comparison", restoration_candidates(faces.quads, faces.best_first), faces, make)


def _pairs(duplicates: Sequence[DuplicateFiles], faces: Faces, builder: PageBuilder) -> list[PageFigure]:
    """Return the closest pairs that have a face in the file."""
    places = {name: i for i, name in enumerate(faces.names)}

    def face_of(name: str) -> Picture | None:
        if name not in places:
            return None
        image = fit_picture(faces.image(places[name], PAIR_FACE), PAIR_FACE, PAIR_FACE)
        return builder.picture(image, f"Face {name}")

    shown = [pair for pair in duplicates if pair.first in places or pair.second in places]
    figures = []
    for pair in sorted(shown, key=lambda pair: pair.distance)[:PAIRS_SHOWN]:
        caption = f"{shorten(pair.first, 60)}, {shorten(pair.second, 60)}: distance {pair.distance}"
        figures.append(PageFigure("", caption, (face_of(pair.first), face_of(pair.second))))
    return figures


def _stored(pyramid: Pyramid, summary: BuildSummary) -> dict[str, str]:
    """Return the settings in the file that differ from those of this build, or are not among them."""
    stored = {str(name): str(value) for name, value in pyramid.settings.items()}
    return {name: value for name, value in stored.items() if str(summary.settings.get(name)) != value}


def _versions(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of libraries that the settings do not contain already."""
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
    """Return the relative URL of a file, None where it does not exist."""
    if not path.exists():
        return None
    return urllib.parse.quote(os.path.relpath(path.absolute(), links_from).replace(os.sep, "/"))
