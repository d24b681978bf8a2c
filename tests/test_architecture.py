"""Which package may import what (docs/architecture.md)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builds import environment
from tests.support.paths import ROOT

PACKAGES = ("datatools", "pipelines", "pggan")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]

ALLOWED = {
    # Networks see the pyramid and pictures, never photos or their annotations. Errors, files, words and what
    # the command lines share are everybody's.
    "pggan": (
        "pggan",
        "datatools.pyramid",
        "datatools.images",
        "datatools.errors",
        "datatools.readable",
        "datatools.optional",
        "datatools.files",
        "datatools.text",
        "datatools.cli",
        "datatools.console",
        "datatools.progress",
        "datatools.parallel",
    ),
    "pipelines": ("pipelines", "datatools"),
    "datatools": ("datatools",),
}
ONLY_IN = {
    "torch": ("pggan", "datatools/restore", "datatools/landmarks"),
    "torchvision": ("pggan", "datatools/restore", "datatools/landmarks"),
    "luigi": ("pipelines",),
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a module imports anywhere in it; `from a import b` counts as a.b."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_within(name: str, allowed: str) -> bool:
    """`allowed` itself, what is in it, and, for the pyramid, the modules that it consists of."""
    parts = allowed == "datatools.pyramid" and name.startswith("datatools.pyramid_")
    return name == allowed or name.startswith(allowed + ".") or parts


def test_there_are_modules_to_look_at() -> None:
    assert {"datatools/faces/recipe.py", "pipelines/tasks.py"} <= set(NAMES)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_arrows(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = [name for name in imports(path) if name.split(".")[0] in (*PACKAGES, "tests", "benchmarks")]
    assert [name for name in ours if not any(is_within(name, allowed) for allowed in ALLOWED[package])] == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_where_they_belong(library: str) -> None:
    users = {
        name for path, name in zip(MODULES, NAMES, strict=True) for used in imports(path) if is_within(used, library)
    }
    assert {name for name in users if not name.startswith(ONLY_IN[library])} == set()
    if library == "luigi":
        assert "pipelines/tasks.py" in users  # the search finds something


def test_starting_a_worker_loads_no_heavy_library() -> None:
    code = "import sys, datatools.faces.recipe, datatools.pyramid, pipelines; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"cv2", "h5py", "luigi"} <= loaded
    assert not loaded & {"torch", "torchvision", "skimage", "matplotlib", "face_alignment", "pggan"}
