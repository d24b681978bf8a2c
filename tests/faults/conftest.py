"""Processes that run commands under a layer that can fail, and what the commands work on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from tests.faults.works import make_inputs
from tests.support.failing_storage import Commands, failing_storage, find_compiler


@pytest.fixture(scope="module")
def running() -> Iterator[Callable[[str], Commands]]:
    """Commands after given imports; each process is started once."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("the failing layer needs Linux and a C compiler")
    with ExitStack() as stack:
        yield cache(lambda imports: stack.enter_context(failing_storage(compiler, imports)))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the works need; not to be changed."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder
