"""Tests hold on a machine that is busy with other work: none has a time limit near what it really takes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.conftest import SLOW
from tests.support.builds import HANGS
from tests.support.paths import ROOT

FILES = sorted(Path(__file__).parent.rglob("*.py"))
WAITING = {"wait", "join", "result", "wait_until_gone"}


def limits(source: str) -> Iterator[float]:
    """Numbers that a source gives as `timeout` to any call, or as the last argument to a call that waits."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [word.value for word in node.keywords if word.arg == "timeout"]
            given += node.args[-1:] if name in WAITING else []
            for value in given:
                if isinstance(value, ast.Constant) and type(value.value) in (int, float):
                    yield value.value


def test_limits_are_found() -> None:
    source = "run(['a'], timeout=60)\nprocess.wait(2.5)\nwait_until_gone(process.pid, 30)\n', '.join(x)\nd.get('a', 1)"
    assert sorted(limits(source)) == [2.5, 30, 60]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_no_limit_is_near_the_real_time(path: Path) -> None:
    assert [limit for limit in limits(path.read_text(encoding="utf-8")) if 0 < limit < HANGS] == []


def test_examples_have_no_deadline() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None


def test_what_is_not_quick_exists() -> None:
    assert list(SLOW) == sorted(set(SLOW))
    for path, _, name in (item.partition("::") for item in SLOW):
        assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_the_marker_leaves_slow_tests_out(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("quick")
    items = request.session.items
    assert [
        item.nodeid for item in items if bool(item.get_closest_marker("quick")) == item.nodeid.startswith(SLOW)
    ] == []
