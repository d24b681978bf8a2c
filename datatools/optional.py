"""Import of optional libraries that require torchvision, without torchvision.

torchvision fits one version and one build of torch: installing it as a requirement replaces the installed torch. The
parts of torch-fidelity and spandrel that are used here never call it.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

UNNEEDED = "torchvision"


def import_optional(name: str) -> Any:
    """Import a module of an optional library, with placeholders for a torchvision that cannot be imported.

    What the module took from them raises ImportError when it is called. Raises what the import raises, such as
    ModuleNotFoundError where the library is not installed.
    """
    try:
        importlib.import_module(UNNEEDED)
    except (ImportError, RuntimeError, OSError):  # not installed, or built for another torch
        with _placeholders():
            return importlib.import_module(name)
    return importlib.import_module(name)


class _Missing:
    """Stands for a class or function."""

    def __init__(self, *_: object, **__: object) -> None:
        raise ImportError(f"{UNNEEDED} is needed for this, and is not installed or does not fit torch")


class _Placeholder(ModuleType):
    """Stands for a module: it has every name."""

    __version__ = "0"

    def __getattr__(self, name: str) -> type[_Missing]:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Missing,), {})


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] == UNNEEDED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def _placeholders() -> Iterator[None]:
    """Put placeholders in torchvision's place; others that look for it afterwards find what is really there."""
    finder = _Finder()
    _forget()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == UNNEEDED]:
        del sys.modules[name]
