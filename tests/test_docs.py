"""Docs stay true where a program can check it: links, commands, options, line lengths, and tables that stand once."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from datatools.pyramid.format import ATTRIBUTES, COLUMNS
from datatools.restore.fit import train as fit
from pggan import train as pggan
from tests.support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
LONGEST = 120
DATACLASS_OPTIONS = {"datatools.restore.fit": fit.main.params, "pggan.train": pggan.main.params}
"""Commands whose options are made from a dataclass."""


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets on a rendered page."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command in the page's blocks and `...`, with its continued lines."""
    whole = re.sub(r" \\\n\s+", " ", text(page))
    for command in re.findall(r"\bpython -m [^\n`]*|\bpython (?:benchmarks|tools)/[^\n`]*", whole):
        yield command.split("  #")[0].split()


def option_strings(path: Path) -> set[str]:
    """Return all strings in a module that look like options."""
    constants = [node.value for node in ast.walk(ast.parse(text(path))) if isinstance(node, ast.Constant)]
    return {option for value in constants if isinstance(value, str) for option in re.findall(r"--[a-z][\w-]*", value)}


def source_of(command: list[str]) -> list[Path]:
    """Return the files in which a documented command may define its options."""
    if command[1] != "-m":
        return [ROOT / command[1]]
    module = ROOT.joinpath(*command[2].split("."))
    found = [path for path in (module.with_suffix(".py"), *sorted(module.glob("*.py"))) if path.is_file()]
    others = re.findall(r"^from ([\w.]+) import main$", "\n".join(map(text, found)), re.MULTILINE)
    return found + [ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in others]


def test_there_are_pages_to_look_at() -> None:
    assert {"README.md", "docs/build.md", "docs/results/fidelity.md"} <= set(IDS)
    assert sum(1 for page in PAGES for _ in commands(page)) > 50


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_lines_are_short(page: Path) -> None:
    lines = [line for line in text(page).split("\n") if not line.lstrip().startswith("|")]
    assert [line for line in lines if len(line) > LONGEST] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if not link.startswith(("http://", "https://")):
            name, _, fragment = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            headings = re.findall(r"^#+ (.+)$", text(target), re.MULTILINE) if target.suffix == ".md" else []
            if not target.exists() or (fragment and fragment not in map(anchor, headings)):
                broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_exist(page: Path) -> None:
    """Modules and scripts of documented commands are there, and their options occur in them."""
    for command in commands(page):
        sources = source_of(command)
        if command[1] == "-m" and command[2].split(".")[0] not in ("datatools", "pggan", "pipelines"):
            continue  # a tool of others
        assert sources, " ".join(command)
        known = set().union({"--help"}, *map(option_strings, sources))
        for parameter in DATACLASS_OPTIONS.get("".join(command[2:3]), []):
            known |= {*parameter.opts, *parameter.secondary_opts}
        used = {word.split("=")[0] for word in command if re.match(r"--[a-z]", word)}
        assert used <= known, " ".join(command)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_files_exist(page: Path) -> None:
    """Paths of the repository that a page names are there."""
    named = re.findall(r"`((?:datatools|pggan|pipelines|tests|benchmarks|tools|docs)/[\w./-]+)`", text(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", text(page))
        if not link.startswith("http")
    }
    assert [str(page) for page in PAGES if page not in linked and page.name not in ("README.md",)] == []


def test_no_table_stands_twice() -> None:
    rows = Counter(
        line
        for page in PAGES
        for line in text(page).split("\n")
        if line.startswith("|") and len(line) > 40 and set(line) - set("|- ")
    )
    assert [row for row, times in rows.items() if times > 1] == []


def test_no_example_stands_twice() -> None:
    classes = Counter(name for page in PAGES for name in re.findall(r"^class (\w+)", text(page), re.MULTILINE))
    assert [name for name, times in classes.items() if times > 1] == []


def defined_in(module: Path) -> set[str]:
    """Return the names that a module, or the `__init__.py` of a package, defines or imports."""
    path = module.with_suffix(".py")
    path = path if path.is_file() else module / "__init__.py"
    if not path.is_file():
        return set()
    nodes = list(ast.walk(ast.parse(text(path))))
    names = {getattr(node, "name", "") for node in nodes}
    return names | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"])  # which names what is gone
def test_names_of_modules_exist(page: Path) -> None:
    """`datatools.files.atomic_path` and `from datatools.files import atomic_path` name what is there."""
    named = re.findall(r"`((?:datatools|pggan|pipelines)(?:\.\w+)+)`", text(page))
    for module, names in re.findall(r"^from ((?:datatools|pggan)[\w.]*) import ([\w, ]+)$", text(page), re.MULTILINE):
        named += [f"{module}.{name.strip()}" for name in names.split(",")]
    missing = []
    for name in named:
        path = ROOT.joinpath(*name.split("."))
        if not (path.with_suffix(".py").is_file() or path.is_dir() or path.name in defined_in(path.parent)):
            missing.append(name)
    assert missing == []


ARCHITECTURE = ROOT / "docs" / "architecture.md"


def test_the_map_has_every_module() -> None:
    rows = re.findall(r"^\| `([\w/]+/)` \| (.*) \|$", text(ARCHITECTURE).partition("## The map")[2], re.MULTILINE)
    named = {folder: sorted(re.findall(r"`(\w+\.py)`", modules)) for folder, modules in rows}
    folders = {
        path.parent for package in ("datatools", "pipelines", "pggan") for path in (ROOT / package).rglob("*.py")
    }
    there = {
        f"{folder.relative_to(ROOT)}/": sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
        for folder in folders
    }
    assert named == {folder: names for folder, names in there.items() if names}


def test_what_architecture_names_is_there() -> None:
    """`name` in `path`, as in docs/architecture.md: each part of the name is defined in that file."""
    places = [
        (name, path) for page in PAGES for name, path in re.findall(r"`([\w.]+)` in\s+`([\w/]+\.py)`", text(page))
    ]
    assert ("run_rounds", "pggan/training/loop.py") in places
    for name, path in places:
        if "/" in path:
            assert set(name.split(".")) <= defined_in(ROOT / path), f"{name} in {path}"


def test_the_format_page_has_every_column_with_its_shape() -> None:
    rows = dict(re.findall(r"^\| `provenance/(\w+)` \| (\([^)]*\))", text(ROOT / "docs" / "pyramid-format.md"), re.M))
    shapes = {column.name: ", ".join(("N", *map(str, column.shape))) for column in COLUMNS}
    expected = {name: f"({shape},)" if shape == "N" else f"({shape})" for name, shape in shapes.items()}
    assert rows == {**expected, ATTRIBUTES: rows[ATTRIBUTES]}
