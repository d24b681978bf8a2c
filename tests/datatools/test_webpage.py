"""The frame of report pages: texts stay texts, every section has its place, and failures become notes."""

import logging
from pathlib import Path

import jinja2
import pytest
from markupsafe import escape

from datatools.errors import DataError
from datatools.webpage import Notes, PageFigure, Picture, add_legend, new_plot, render, svg

EVIL = '"><b>&amp;'
TEMPLATE = """\
{% extends "webpage.html" %}
{% from "webpage_macros.html" import facts, row, show, table %}
{% set title = "A page" %}
{% set heading = name %}
{% block two %}{{ show(figure) }}{{ show(figure, below=true, linked=true) }}{% endblock %}
{% block one %}{% call table(["Level", "Bytes"]) %}{{ row("4", [12345|count]) }}{% endcall %}{% endblock %}
{% block unlisted %}hidden{% endblock %}
"""
FIGURE = PageFigure(EVIL, "caption", (Picture("a.png", 4, 5, EVIL), None), ((EVIL, "remark"),), "All items")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "some_pages").mkdir()
    (tmp_path / "some_pages" / "__init__.py").touch()
    (tmp_path / "some_pages" / "report.html").write_text(TEMPLATE)
    monkeypatch.syspath_prepend(tmp_path)
    content = {
        "generator": "test",
        "name": EVIL,
        "sections": {"one": "First", "two": "Second"},
        "notes": [EVIL],
        "figure": FIGURE,
    }
    return render("some_pages", content, {}).decode()


def test_sections_appear_in_the_order_of_their_list(page: str) -> None:
    assert page.startswith("<!DOCTYPE html>")
    assert page.index('<a href="#one">First</a>') < page.index('<a href="#two">Second</a>')
    assert page.index('<section id="one">') < page.index("12,345") < page.index('<section id="two">')
    assert page.index('<section id="two">') < page.index("a.png")
    assert "hidden" not in page


def test_texts_never_become_markup(page: str) -> None:
    assert "<b>" not in page
    assert page.count(str(escape(EVIL))) == 8  # the heading, a note; twice the title, the picture and the item


def test_figures_show_every_part(page: str) -> None:
    assert page.count(f"<figcaption><strong>{escape(EVIL)}</strong>: caption</figcaption>") == 2
    assert page.count("not in the file") == 2
    assert page.count('<a href="a.png">') == 1
    assert page.count("<summary>All items</summary>") == 2


def test_a_picture_is_one_element() -> None:
    plain = f'<img src="a.png" width="4" height="5" alt="{escape(EVIL)}">'
    assert str(escape(Picture("a.png", 4, 5, EVIL))) == plain
    assert str(escape(Picture("a.png", 4, 5, EVIL, enlarged=True))) == plain[:-1] + ' class="pixels">'


def test_a_name_that_is_missing_from_the_content_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad_pages").mkdir()
    (tmp_path / "bad_pages" / "__init__.py").touch()
    (tmp_path / "bad_pages" / "report.html").write_text("{{ nothing }}")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(jinja2.UndefinedError):
        render("bad_pages", {}, {})


def test_failures_become_notes(caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Exception) -> None:
        raise error

    notes = Notes()
    assert notes.attempt("No sum", sum, [1, 2]) == 3
    for error in (DataError("x is\nmissing"), KeyError(), OSError(2, "gone")):
        assert notes.attempt("No picture", fail, error) is None
    assert notes.texts == ["No picture: x is missing", "No picture: KeyError", "No picture: gone"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert [bool(record.exc_info) for record in caplog.records] == [False, True, False]


def test_notes_leave_an_interrupt_alone() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Notes().attempt("No picture", interrupt)


def test_equal_plots_are_equal_files() -> None:
    def draw(height: float) -> bytes:
        figure, axes = new_plot(400, 300)
        axes.plot([0, height], label="line")
        add_legend(figure)
        return svg(figure)

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert b'viewBox="0 0 300 225"' in draw(1)  # points: 0.75 of CSS pixels
