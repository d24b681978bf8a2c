"""`python -m benchmarks` measures part by part and writes one page; every part can be repeated by its command."""

import importlib
import inspect
import math
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as program
from benchmarks.progressive import measure as measure_progressive
from benchmarks.progressive import speedup
from benchmarks.rows import Row
from pggan.config.presets import get_preset

SMALL = program.Part("Small pyramid", "pyramid", {"images": 4, "side": 16, "rounds": 1}, note="Four images.")
MISSING = program.Part("Missing", "there_is_none", {"images": 4})


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the load of the machine is read from /proc")


@pytest.mark.parametrize("part", program.PARTS, ids=lambda part: part.title)
def test_commands_take_the_options_of_their_parts(part: program.Part) -> None:
    module = importlib.import_module(f"benchmarks.{part.script}")
    inspect.signature(module.measure).bind(**part.options)
    command = module.main.commands[part.command] if part.command else module.main
    assert set(part.options) <= {parameter.name for parameter in command.params}
    assert part.line().startswith(f"python benchmarks/{part.script}.py ")


@LINUX
def test_the_page_has_the_rows_and_the_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PARTS", (SMALL, MISSING))
    monkeypatch.setattr(program, "sample_tree", lambda folder: folder)
    done = CliRunner().invoke(program.main, ["--out", str(tmp_path / "page.md")])
    assert done.exit_code == 1
    assert "page.md is written, without Missing" in done.output
    text = (tmp_path / "page.md").read_text()
    assert "\n## Small pyramid\n\n    python benchmarks/pyramid.py --images 4 --side 16 --rounds 1\n" in text
    assert "\nFour images.\n" in text
    assert "Left out: ModuleNotFoundError: No module named 'benchmarks.there_is_none'" in text
    values = {name: float(value) for name, value in re.findall(r"^\| `(\w+)` \| (\S+) \| \S.* \|$", text, re.MULTILINE)}
    assert list(values) == [
        *("pyramid_write", "pyramid_write_levels", "pyramid_join", "pyramid_verify_disk", "pyramid_verify_cache"),
        *("pyramid_join_memory", "pyramid_verify_memory"),
    ]
    assert all(value > 0 and math.isfinite(value) for value in values.values())


@LINUX
def test_a_part_ends_with_its_time(tmp_path: Path) -> None:
    result = program.run(SMALL, tmp_path, 0.0)
    assert (result.rows, result.failure) == ((), "there was no time")
    assert "Left out: there was no time." in program.page([result], [], "a folder")


@pytest.mark.parametrize(("others", "busy"), [(0.01, False), (0.5, True)])
def test_the_page_says_whether_the_machine_was_busy(others: float, busy: bool) -> None:
    results = [program.Result(SMALL, (Row("a", 1234.4, "one over another"),), 3.0, others)]
    text = program.page(results, ["a CPU"], "a folder")
    assert ("the machine was busy" in text) == busy
    assert f"took {others:.0%} of the CPUs" in text
    assert "- a CPU\n" in text
    assert "| `a` | 1,234 | one over another |" in text


def test_growing_takes_the_sum_of_its_stages() -> None:
    schedule = get_preset("celebahq").with_resolution(16).schedule
    seconds = {4: 1.0, 8: 3.0, 16: 10.0}
    assert speedup(schedule, seconds, 1000) == (1000, 10_000)
    assert speedup(schedule, seconds, 800_064 + 1000) == (800_064 + 3000, 8_010_640)
    assert speedup(schedule, dict.fromkeys(seconds, 2.0), 3_000_000) == (6_000_000, 6_000_000)


def test_progressive_growing_measures_every_level() -> None:
    rows = {row.name: row.value for row in measure_progressive(8, kimg=500)}
    end = int(get_preset("celebahq").with_resolution(8).schedule.total_kimg)
    assert list(rows) == ["step_4", "step_8", "progressive_500", "progressive_1600", f"progressive_{end}"]
    assert all(value > 0 for value in rows.values())
    assert rows["progressive_500"] == pytest.approx(rows["step_8"] / rows["step_4"])
