"""`pipelines.options`: each option once; the command line, luigi.cfg, docs and the finished file agree with it."""

import configparser
import re
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import luigi
import pytest

from datatools.errors import DataError, flag
from pipelines.layout import BuildLayout
from pipelines.options import BuildOptions, RunOptions, check_values, choices_of
from pipelines.tasks import BuildCelebAHQ
from tests.support.paths import ROOT

OPTIONS = {item.name: item for item in (*fields(BuildOptions), *fields(RunOptions))}
OTHER: dict[str, Any] = {
    "selection": "all",
    "count": 5,
    "resolution": 512,
    "restore": "none",
    "super_resolution": "never",
    "restore_strength": 0.5,
    "score_on": "restored",
    "final_filter": "box",
    "min_level": 1,
    "format_levels": "256,64",
    "compression": "gzip",
    "order": "source",
    "duplicates": "drop",
    "exclude": "known-flaws",
    "check_landmarks": "repair",
    "check_with": "auto",
    "min_score": 0.5,
    "device": "cpu:0",
    "shard_size": 2,
    "output_dir": Path("elsewhere"),
}
"""Another value for each option, the folder of photos aside."""


def documented_rows(heading: str = "| option | default |") -> dict[str, tuple[str, str]]:
    """Flag -> (values, default) of a table of options in docs/build.md."""
    lines = (ROOT / "docs" / "build.md").read_text(encoding="utf-8").splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(heading))
    rows = {}
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        option, default, _ = (cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:4])
        name, _, values = option.strip("`").partition(" ")
        rows[name] = (values, default.strip("`"))
    return rows


def shown(default: object) -> str:
    """A default as tables have it."""
    return "" if default == "" or default is False else str(default)


def test_the_docs_have_every_option_with_its_choices_and_default() -> None:
    rows = documented_rows()
    assert set(rows) == {flag(name) for name in OPTIONS}
    for name, item in OPTIONS.items():
        values, default = rows[flag(name)]
        assert default == shown(item.default), name
        if choices_of(item):
            assert values.split("|") == list(map(str, choices_of(item))), name
        else:
            assert "|" not in values or name == "device", name


def test_luigi_cfg_has_the_defaults() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "luigi.cfg", encoding="utf-8")
    values = dict(config["BuildCelebAHQ"])
    assert set(OPTIONS) - set(values) == {
        "exclude",
        "format_levels",
        "ids",
        "jobs",
        "dry_run",
        "dask_scheduler",
        "ship_bytes",
    }  # what they mean by default needs no line
    assert values == {name: str(OPTIONS[name].default) for name in values}


def test_the_command_line_has_every_option_with_its_default() -> None:
    defaults = {name: parameter._default for name, parameter in BuildCelebAHQ.get_params()}
    defaults["workers"] = luigi.interface.core.workers._default
    assert {name: str(value) for name, value in defaults.items()} == {
        name: str(item.default) for name, item in OPTIONS.items()
    }
    task = BuildCelebAHQ(resolution="256", celeba_dir="photos")
    assert task.layout == BuildLayout(Path("photos"), resolution=256)
    assert task.run_options == RunOptions()


def test_an_option_decides_about_the_file_as_it_says(
    tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest changes with the options that decide about bytes, and with no other; so do its attributes."""
    (tmp_path / "names.txt").write_text("900001.jpg\n")
    others = OTHER | {"ids": str(tmp_path / "names.txt")}

    def restorer(name: str, *, super_resolution: str, device: str, strength: float) -> SimpleNamespace:
        return SimpleNamespace(uses_torch=True, digest=f"{name} {super_resolution} {strength}", device=device)

    monkeypatch.setattr("pipelines.layout.get_restorer", restorer)
    monkeypatch.setattr("pipelines.layout.FoundFaces.seen", lambda _: {})
    layout = BuildLayout(tiny_tree, count=4, shard_size=3, resolution=256, check_with="mtcnn")
    assert set(others) | {"celeba_dir"} == set(BuildOptions.__dataclass_fields__)
    for name, value in others.items():
        changed = replace(layout, **{name: value})
        decides = OPTIONS[name].metadata["decides"] is not None
        assert (changed.build_digest != layout.build_digest) == decides, name
        assert (changed.stored() != layout.stored()) == decides, name


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (BuildOptions(count=0), "--count 0: at least 1 is needed"),
        (BuildOptions(min_score=-1.0), "--min-score -1.0: at least 0 is needed"),
        (BuildOptions(min_score=float("nan")), "--min-score nan: at least 0 is needed"),
        (BuildOptions(min_level=2), "--min-level 2: one of 4, 1 is needed"),
        (BuildOptions(order="random"), "--order random: one of auto, rank, source, official is needed"),  # type: ignore[arg-type]
        (BuildOptions(restore_strength=-0.5), "--restore-strength -0.5: a finite number from 0 up is needed"),
        (BuildOptions(restore_strength=float("nan")), "--restore-strength nan: a finite number from 0 up is needed"),
        (BuildOptions(restore_strength=float("inf")), "--restore-strength inf: a finite number from 0 up is needed"),
        (RunOptions(workers=0), "--workers 0: at least 1 is needed"),
        (RunOptions(jobs=-1), "--jobs -1: a number of processes, or 0 for as many as fill the machine"),
    ],
)
def test_a_wrong_value_is_named(options: BuildOptions | RunOptions, line: str) -> None:
    check_values(BuildOptions())
    check_values(RunOptions())
    with pytest.raises(DataError, match=f"^{re.escape(line)}$"):
        check_values(options)
