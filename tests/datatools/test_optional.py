"""Optional libraries leave the installed torch alone: they come, and work, without torchvision."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

from datatools.optional import import_optional
from tests.support.builds import ROOT

LIBRARY = """
import torchvision
import torchvision.transforms.functional as F
from torchvision.datasets import CIFAR10

class Faces(CIFAR10):
    pass

def resize():
    return torchvision.transforms.Resize(3)

def needed_here():
    return 5
"""
TORCH = {"torch", "torchvision", "torchaudio"}
REPLACING = TORCH | {"torch-fidelity", "spandrel"}  # they require torchvision


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a library that names torchvision as those that are used here do."""
    (tmp_path / "asking.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "asking", raising=False)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "installed",
    [
        "raise ImportError('no such module')",
        "from torchvision import io\nraise RuntimeError('operator torchvision::nms does not exist')",
        "raise OSError('libcudart.so.13: cannot open shared object file')",
    ],
    ids=["none", "for another torch", "for CUDA"],
)
def test_a_library_works_without_the_torchvision_that_it_imports(library: Path, installed: str) -> None:
    package = library / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(installed)
    (package / "io.py").write_text("")
    module = import_optional("asking")
    assert module.needed_here() == 5
    for other in (module.Faces, module.F.normalize):
        with pytest.raises(ImportError, match="torchvision is needed for this"):
            other()
    assert [name for name in sys.modules if name.startswith("torchvision")] == []  # nobody else sees placeholders
    with pytest.raises((ImportError, RuntimeError, OSError)):
        importlib.import_module("torchvision")


def test_a_torchvision_that_works_is_used(library: Path) -> None:
    functional = library / "torchvision" / "transforms" / "functional"
    functional.mkdir(parents=True)
    (library / "torchvision" / "datasets.py").write_text("class CIFAR10:\n    real = True")
    for folder in (functional, functional.parent, functional.parents[1]):
        (folder / "__init__.py").write_text("")
    assert import_optional("asking").Faces.real
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]


def test_a_library_that_is_not_there() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_library_of_this_name"):
        import_optional("no_library_of_this_name")


def requirements() -> dict[str, list[str]]:
    """Return what pyproject.toml requires, by extra; "" is always required."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {**project["optional-dependencies"], "": project["dependencies"]}


def test_no_extra_requires_what_replaces_torch() -> None:
    required = requirements()
    names = {extra: {re.match(r"[\w-]+", item)[0].lower() for item in items} for extra, items in required.items()}  # type: ignore[index]
    assert {"dev", "video", ""} <= names.keys()
    assert names[""] & TORCH == {"torch"}
    assert {extra: found & REPLACING for extra, found in names.items() if extra and found & REPLACING} == {}


def test_documented_commands_leave_torch_alone() -> None:
    """Extras that are named exist, and what requires torchvision is installed without its requirements."""
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    files += [path for package in ("datatools", "pggan", "pipelines") for path in (ROOT / package).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"celebahq\[(\w+)\]", text))
    assert "video" in named
    assert named <= requirements().keys()
    commands = [line for line in re.findall(r"pip install ([^\n`]*)", text) if re.search("fidelity|spandrel", line)]
    assert len(commands) >= 5
    assert [line for line in commands if not line.startswith("--no-deps ")] == []
