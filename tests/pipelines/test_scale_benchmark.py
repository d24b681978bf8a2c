"""benchmarks/scale.py does at a tiny size all that it does at CelebA's."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import scale

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
SIZES = {"rows": 30, "count": 20, "images": 12, "shard-size": 5, "workers": 2}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("scale")
    given = [f"--{name}={value}" for name, value in SIZES.items()]
    given += ["--interval", "0.1", "--folder", str(folder), "--json", str(folder / "scale.json")]
    run = CliRunner().invoke(scale.main, given, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    assert [path.name for path in folder.iterdir()] == ["scale.json"]
    found: dict[str, Any] = json.loads((folder / "scale.json").read_text())
    assert run.output == scale.table(found) + "\n"
    return found


def test_the_build_goes_through_all_of_its_stages(results: dict[str, Any]) -> None:
    built = results["build"]
    stages = ["ScoreShard", "Rank", "BuildShard", "Join", "Verify", "Report", "BuildCelebAHQ"]
    assert list(built["stages"]) == stages
    assert built["tasks"] == len(stages)
    assert 0 < built["memory_of_the_largest_process"] < 1e9
    assert 0 < built["memory_of_all_processes"] < 1e9
    assert built["files_at_most"] >= 5
    assert built["files_at_the_end"] >= 5
    assert results["read_tree"]["memory"] > 10e6


def test_images_are_joined_and_verified(results: dict[str, Any]) -> None:
    joined = results["join"]
    pixels = 12 * 3 * sum(4**level for level in range(2, 9))
    assert pixels < joined["bytes"] < 1.2 * pixels
    for step in ("write", "join", "verify"):
        assert joined[step]["bytes_per_second"] > 0
    assert joined["join"]["disk_at_most"] > 0  # the parts are there before


def test_a_step_that_fails_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(scale.DataError, match=r"failed: .*no folder") as caught:
        scale.run(scale.READ, [tmp_path / "none"], tmp_path, 1)
    assert "\n" not in str(caught.value)
