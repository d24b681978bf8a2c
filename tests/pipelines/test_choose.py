"""From the report to the next build: faces marked in a browser, the saved list, and the file without them."""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datatools.pyramid import Pyramid
from tests.support.browser import Browser, open_browser
from tests.support.builds import CHOSEN, build, file_states

FACES = "[...document.querySelectorAll('#faces button')]"
PRESSED = f"{FACES}.filter(e => e.ariaPressed === 'true').map(e => e.title)"


SUMMARY = "document.getElementById('marked').textContent"


def face(name: str) -> str:
    """A JavaScript expression of the button with this face."""
    return f"{FACES}.find(e => e.title === '{name}')"


def set_order(browser: Browser, order: str) -> list[str]:
    """Choose an order; return the names that are shown."""
    change = f"(e => (e.value = '{order}', e.dispatchEvent(new Event('change'))))(document.getElementById('order'))"
    browser.value(change)
    return list(browser.value(f"{FACES}.map(e => e.title)"))


def load_list(browser: Browser, text: str) -> None:
    """Give the page a list, as a person does who chooses a file, and wait until it has read it."""
    files = f"(t => (t.items.add(new File([{json.dumps(text)}], 'old.txt')), t.files))(new DataTransfer())"
    browser.value(f"(e => (e.files = {files}, e.dispatchEvent(new Event('change'))))(document.getElementById('load'))")
    browser.value(
        "new Promise(done => (function look() { document.getElementById('said').textContent ? done() : "
        "setTimeout(look, 10) })())"
    )


def shown_picture(browser: Browser, name: str) -> NDArray[np.float64]:
    """Return the picture of a face as the browser shows it, 16 x 16."""
    data = base64.b64decode(browser.screenshot(browser.box(f"{face(name)}.querySelector('i')")))
    return small(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def small(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BOX), np.float64)


def test_marked_faces_are_left_out_by_the_next_build(tiny_tree: Path, finished_build: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished_build, out)
    with Pyramid(out / "celebahq.h5") as pyramid:
        before = pyramid.provenance("file_name").tolist()
        faces = {name: small(pyramid.image(i, 64)) for i, name in enumerate(before)}
    clicked, by_key, unmarked, kept = before
    with open_browser(tmp_path / "browser") as browser:
        browser.open(out / "report" / "choose.html")
        assert set_order(browser, "worst") == before[::-1]
        assert set_order(browser, "name") == sorted(before)
        for name in before:  # each at its place, whatever the order
            picture = shown_picture(browser, name)
            differences = {other: float(np.abs(picture - faces[other]).mean()) for other in before}
            assert min(differences, key=lambda other: differences[other]) == name
        set_order(browser, "best")
        browser.click(face(clicked))
        browser.press("ArrowRight")
        browser.press(" ")
        browser.press("ArrowRight")
        browser.press(" ")
        assert browser.value(PRESSED) == [clicked, by_key, unmarked]
        browser.open(out / "report" / "choose.html")
        assert browser.value(PRESSED) == [clicked, by_key, unmarked]  # remembered
        browser.click(face(unmarked))
        browser.click("document.getElementById('save')")
        saved = browser.saved("exclude.txt")
        assert saved.read_text().splitlines()[1:] == sorted([clicked, by_key])
        scores = {name: state for name, state in file_states(out / "work").items() if name.endswith(".npz")}
        build(tiny_tree, out, "--count", CHOSEN, "--exclude", saved)
        browser.open(out / "report" / "choose.html")
        assert browser.value(SUMMARY) == "0 marked, 2 in the list"  # what was left out stays
        load_list(browser, f"# old\n{kept},0.5\n{clicked}\ngone.jpg # since May\n")
        assert browser.value(PRESSED) == [kept]
        assert browser.value(SUMMARY) == "1 marked, 4 in the list"
    with Pyramid(out / "celebahq.h5") as pyramid:
        after = pyramid.provenance("file_name").tolist()
    assert after[:2] == [unmarked, kept]  # two others follow
    assert len(after) == CHOSEN
    assert not {clicked, by_key} & set(after)
    states = file_states(out / "work")
    assert {name: states[name] for name in scores} == scores  # nothing was scored again
