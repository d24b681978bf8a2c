"""What report pages share: their frame and style (webpage.html), pictures, plots, and notes on what could not be shown.

A page is a template `report.html` that extends webpage.html and has a block for each of its sections.
"""

import base64
import datetime
import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from datatools.errors import DataError, reason
from datatools.text import counted, duration, shorten

INK, SOFT, AXIS = "#1d1d1f", "#5c5c61", "#b5b1a8"  # as in webpage.html
DASHES = (0, (4, 3))
TIMES = "\N{MULTIPLICATION SIGN}"

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A picture on a page; `{{ picture }}` in a template shows it.

    Attributes:
        source: URL relative to the page, or a data URI. width, height: CSS pixels. alt: what it shows.
        enlarged: whether it is shown so large that its pixels are to be squares.
    """

    source: str
    width: int
    height: int
    alt: str
    enlarged: bool = False

    def __html__(self) -> str:
        """Return the HTML element, as templates ask for it."""
        pixels = Markup(' class="pixels"' if self.enlarged else "")
        element = Markup('<img src="{}" width="{}" height="{}" alt="{}"{}>')
        return element.format(self.source, self.width, self.height, self.alt, pixels)


@dataclass(frozen=True)
class PageFigure:
    """Pictures under one caption; None is shown as a picture that does not exist.

    Attributes:
        title, caption: shown as "title: caption", without a title the caption alone.
        items: (text, remark) of a list that can be unfolded. items_title: what the list holds.
    """

    title: str
    caption: str
    pictures: tuple[Picture | None, ...]
    items: tuple[tuple[str, str], ...] = ()
    items_title: str = ""


@dataclass
class Notes:
    """Notes on what a page lacks. A page without a part is worth more than no page.

    Attributes:
        texts: the notes. expected: kinds of errors that are no bug, and are logged without a traceback.
    """

    texts: list[str] = field(default_factory=list)
    expected: tuple[type[Exception], ...] = (DataError, OSError)

    def attempt(self, what: str, make: Callable[..., T], *arguments: Any) -> T | None:
        """Return make(*arguments), or None where it fails; the note then says `what` and the reason."""
        try:
            return make(*arguments)
        except Exception as error:  # whatever it is
            note = f"{what}: {shorten(reason(error))}"
            unexpected = not isinstance(error, self.expected)
            log.warning("report: %s", note.encode("utf-8", "replace").decode(), exc_info=unexpected)
            self.texts.append(note)
            return None


def render(
    package: str,
    content: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]],
    template: str = "report.html",
) -> bytes:
    """Return the page that a template of `package` makes of `content`, in UTF-8.

    Args:
        content: what the template shows, and for webpage.html `generator`, `title`, `heading`, `sections` (name of
            the block -> heading) and `notes`.
        filters: of the template, besides `count`, `counted`, `duration` and `short`.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package, ""), jinja2.PackageLoader("datatools", "")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": lambda number: f"{number:,}", "counted": counted}
    environment.filters |= {"duration": duration, "short": shorten, **filters}
    made = datetime.datetime.now().astimezone()
    page = environment.get_template(template).render({"made": made, **content})
    return page.encode("utf-8", errors="replace")  # names on disk need not be valid Unicode


def data_uri(data: bytes, kind: str) -> str:
    """Return a URL that holds a picture file itself. kind: "png", "jpeg" or "svg+xml"."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def new_plot(width: int, height: int) -> tuple[Figure, Axes]:
    """Return an empty plot of `width` x `height` CSS pixels in the pages' style."""
    dots = 96.0
    figure = Figure(figsize=(width / dots, height / dots), dpi=dots, layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(which="both", colors=SOFT, labelsize=9)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(AXIS)
    return figure, axes


def add_legend(figure: Figure) -> None:
    """Name the plot's labelled parts above it."""
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9, handlelength=1.3, columnspacing=1.2)


def svg(figure: Figure) -> bytes:
    """Return a plot as an SVG file, the same bytes for the same plot."""
    stream = io.BytesIO()
    # A fixed salt for the names of its elements, and no date.
    with matplotlib.rc_context({"svg.hashsalt": "report"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
