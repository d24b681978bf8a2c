"""benchmarks/gpu.py does on a CPU, at tiny sizes, all that it will do on a GPU."""

import json
import math
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu
from pggan.training import style_draws


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda network: network)  # the compiler takes half a minute
        patch.setattr(style_draws, "seeded_noise", style_draws.seeded_noise)  # which the script replaces
        given = ["--device", "cpu", "--tiny", "--json", str(folder / "gpu.json"), "--table", str(folder / "gpu.md")]
        run = CliRunner().invoke(gpu.main, given, catch_exceptions=False)
    assert run.exit_code == 0
    table = (folder / "gpu.md").read_text()
    assert table in run.output
    found: dict[str, Any] = json.loads((folder / "gpu.json").read_text())
    for part, rows in found["parts"].items():
        assert f"### {part}\n" in table
        assert table.count("\n| ") >= len(rows)
    return found


def test_nothing_is_left_out_and_all_numbers_are_finite(results: dict[str, Any]) -> None:
    assert list(results["parts"]) == ["agreement", "steps", "restoration", "metrics", "run"]
    for row in (row for rows in results["parts"].values() for row in rows):
        assert "left out" not in row, row
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float)), row


def test_a_cpu_agrees_with_itself(results: dict[str, Any]) -> None:
    rows = results["parts"]["agreement"]
    assert {row["precision"] for row in rows} == {"fp32", "TF32", "bf16"}
    for row in rows:
        assert row["agrees"]
        assert (row["gradients"] == 0) == (row["precision"] != "bf16")


def test_every_level_is_measured_in_every_way(results: dict[str, Any]) -> None:
    rows = [row for row in results["parts"]["steps"] if "pictures" not in row["way"]]
    assert len({(row["level"], row["way"]) for row in rows}) == len(rows) == 2 * 5
    assert all(row["images_per_second"] > 0 for row in rows)


def test_the_killed_run_is_resumed(results: dict[str, Any]) -> None:
    (row,) = results["parts"]["run"]
    assert row["killed"]
    assert row["resumed"]
    assert row["finished"]


def test_what_goes_wrong_in_a_part_ends_that_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        yield {"metric": "SWD"}
        raise RuntimeError("no kernel image is available")

    monkeypatch.setitem(gpu.PARTS, "metrics", broken)
    rows = gpu.measured("metrics", gpu.TINY, torch.device("cpu"))
    assert rows == [{"metric": "SWD"}, {"left out": "RuntimeError: no kernel image is available"}]


def test_a_part_begins_nothing_when_its_time_is_up() -> None:
    clock = gpu.Clock(-1.0)
    rows = list(gpu.restoration(gpu.TINY, torch.device("cpu"), clock))
    assert len(rows) == 8
    assert all(row["left out"] == "no time" for row in rows)
    assert sum(gpu.WHOLE.seconds.values()) < 8 * 60


def test_a_machine_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "nothing was measured" in CliRunner().invoke(gpu.main, []).output
