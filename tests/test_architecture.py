"""Which package and which part may import what (docs/architecture.md), and that no imports go round in circles."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.builds import environment
from tests.support.paths import ROOT

PACKAGES = ("datatools", "pipelines", "pggan")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

ALLOWED = {
    # Networks see the pyramid and pictures, never photos or their annotations. Errors, files, words and what
    # the command lines share are everybody's.
    "pggan": (
        "pggan",
        "datatools.pyramid",
        "datatools.images",
        "datatools.errors",
        "datatools.optional",
        "datatools.files",
        "datatools.text",
        "datatools.parallel",
        "datatools.cli",
        "datatools.console",
        "datatools.progress",
        "datatools.webpage",
    ),
    "pipelines": ("pipelines", "datatools"),
    "datatools": ("datatools",),
}
ONLY_IN = {
    "torch": ("pggan", "datatools.restore", "datatools.landmarks", "datatools.torch_data"),
    "torchvision": ("pggan", "datatools.restore", "datatools.landmarks"),
    "luigi": ("pipelines",),
}
OUTER = {
    "datatools.report",
    "datatools.exports",
    "datatools.h5tool",
    "datatools.sample",
    "datatools.download",
    "datatools.torch_data",
}
"""What is made of the library's parts; the parts do not know it."""
PARTS = {"datatools.pyramid", "datatools.sources", "datatools.faces", "datatools.restore", "datatools.landmarks"}
FIT = "datatools.restore.fit"
FIT_COMMAND = "datatools.restore.evaluate"
"""The documented name of the command line `datatools.restore.fit.evaluate`."""

EXCEPTIONS: set[tuple[str, str]] = set()
"""Pairs (importing module, imported module) that break a rule of the parts or close a cycle. This list only shrinks."""


def module_name(path: Path) -> str:
    """Return the dotted name of a source file; that of an `__init__.py` is its package's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports, anywhere in it; `from a import b` counts as a.b."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


NAMES = {module_name(path): frozenset(imported_names(path)) for path in SOURCES}
"""What each module imports, by the module's name."""


def is_within(name: str, parents: Iterable[str]) -> bool:
    """Return whether `name` is one of `parents` or lies in one."""
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def modules_run(importer: str, name: str, modules: Iterable[str]) -> Iterator[str]:
    """Yield the modules among `modules` that importing `name` runs.

    These are the module itself and the packages that it lies in, but for those around the importer, which run already.
    A name that the importer takes out of a package around it needs that package's `__init__.py`, so it counts.
    """
    steps = name.split(".")
    prefixes = [".".join(steps[:length]) for length in range(1, len(steps) + 1)]
    found = [prefix for prefix in prefixes if prefix in modules]
    for prefix in found:
        around = is_within(importer, [prefix])
        if prefix != importer and (not around or (prefix == found[-1] and prefix != name)):
            yield prefix


def import_graph(names: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Return, for each module of `names`, which of the others run when it is imported."""
    return {
        module: {run for name in imported for run in modules_run(module, name, names)}
        for module, imported in names.items()
    }


def part_of(module: str) -> str:
    """Return a module's part: the first two steps of its name; fitting restorers is a part of its own."""
    return FIT if is_within(module, [FIT]) else ".".join(module.split(".")[:2])


def part_graph(graph: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Return which part imports which other one; the bare packages are no part."""
    parts: dict[str, set[str]] = {}
    for module, imported in graph.items():
        if "." in module and module != FIT_COMMAND:
            others = {part_of(name) for name in imported if "." in name} - {part_of(module)}
            parts.setdefault(part_of(module), set()).update(others)
    return parts


def find_cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the nodes of one cycle of `graph`, the first one again at the end; an empty list if there is none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            cycle = visit(other, [*path, node])
            if cycle:
                return cycle
        done.add(node)
        return []

    return next((cycle for node in sorted(graph) if (cycle := visit(node, []))), [])


GRAPH = import_graph(NAMES)
CLEAN = {
    module: {other for other in imported if (module, other) not in EXCEPTIONS} for module, imported in GRAPH.items()
}
"""GRAPH without the exceptions."""


def broken_rules() -> Iterator[tuple[str, str]]:
    """Yield (importing module, imported module) for every import that the rules of the parts forbid."""
    for module, imported in GRAPH.items():
        for other in imported - {"datatools", "datatools.restore"}:
            if module == "datatools" or (is_within(other, [FIT]) and not is_within(module, [FIT, FIT_COMMAND])):
                yield module, other
            if is_within(module, ["datatools"]) and not is_within(module, OUTER):
                top = not is_within(module, PARTS)
                if is_within(other, OUTER) or (top and is_within(other, PARTS)):
                    yield module, other


def test_there_are_modules_to_look_at() -> None:
    assert {"datatools.faces.recipe", "datatools.pyramid", "pipelines.tasks"} <= NAMES.keys()
    assert "datatools.errors" in GRAPH["datatools.files"]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_what_they_may(package: str) -> None:
    ours = [
        (module, name)
        for module, imported in NAMES.items()
        for name in sorted(imported)
        if is_within(module, [package]) and is_within(name, (*PACKAGES, "tests", "benchmarks"))
    ]
    assert [(module, name) for module, name in ours if not is_within(name, ALLOWED[package])] == []


def test_parts_import_what_they_may() -> None:
    assert sorted(set(broken_rules()) - EXCEPTIONS) == []


def test_every_exception_is_still_needed() -> None:
    broken = set(broken_rules())
    for module, other in sorted(EXCEPTIONS):
        assert other in GRAPH[module], f"{module} no longer imports {other}"
        graph = {**CLEAN, module: {*CLEAN[module], other}}
        closed = find_cycle(graph) or find_cycle(part_graph(graph))
        assert (module, other) in broken or closed, f"{module} may import {other}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert " -> ".join(find_cycle(CLEAN)) == ""


def test_no_part_imports_itself_by_way_of_others() -> None:
    assert " -> ".join(find_cycle(part_graph(CLEAN))) == ""


@pytest.mark.parametrize(
    ("names", "cycle"),
    [
        ({"p": [], "p.a": ["p.b.f"], "p.b": ["os"]}, []),
        ({"p": [], "p.a": ["p.b.f"], "p.b": ["p.a"]}, ["p.a", "p.b", "p.a"]),
        ({"p": ["p.a.f"], "p.a": ["p.b"], "p.b": []}, []),  # a package that hands on what its modules define
        ({"p": ["p.a.f"], "p.a": ["p.f"]}, ["p", "p.a", "p"]),  # and a module that takes it from there
        ({"p": [], "q": ["q.a"], "q.a": ["p.a"], "p.a": ["q.b"], "q.b": []}, ["p.a", "q", "q.a", "p.a"]),
    ],
    ids=["chain", "two modules", "package", "through the package", "two packages"],
)
def test_cycles_are_found(names: dict[str, list[str]], cycle: list[str]) -> None:
    assert find_cycle(import_graph(names)) == cycle


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_where_they_belong(library: str) -> None:
    users = {module for module, imported in NAMES.items() for name in imported if is_within(name, [library])}
    assert {module for module in users if not is_within(module, ONLY_IN[library])} == set()
    if library == "luigi":
        assert "pipelines.tasks" in users  # the search finds something


def test_starting_a_worker_loads_no_heavy_library() -> None:
    code = "import sys, datatools.faces.recipe, datatools.pyramid, pipelines; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"cv2", "h5py", "luigi"} <= loaded
    assert not loaded & {"torch", "torchvision", "skimage", "matplotlib", "pggan"}
