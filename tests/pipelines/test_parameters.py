"""`pipelines.parameters` and `pipelines.luigi_setup`: the help, options in luigi.cfg, paths in the home folder."""

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from datatools.cli import expand_home
from datatools.errors import DataError
from pipelines.tasks import BuildCelebAHQ
from tests.support.builds import command, environment

LUIGI = command(Path(), Path())[:3]


def luigi(folder: Path, *words: object, **extra: object) -> subprocess.CompletedProcess[str]:
    """Luigi with our tasks, started in `folder`."""
    arguments = [*LUIGI, *map(str, words)]
    return subprocess.run(arguments, cwd=folder, env=environment(**extra), capture_output=True, text=True)


def test_the_help_lists_every_option_once_with_its_default(tmp_path: Path) -> None:
    pages = [luigi(tmp_path, "BuildCelebAHQ", "--help", COLUMNS=200, PYTHONHASHSEED=seed) for seed in range(3)]
    assert {page.returncode for page in pages} == {0}
    assert len({page.stdout for page in pages}) == 1
    options = pages[0].stdout.split("options:")[1]
    names = Counter(re.findall(r"^  (--\S+)", options, re.MULTILINE))
    ours = ["--" + name.replace("_", "-") for name, _ in BuildCelebAHQ.get_params()]
    assert "--restore NAME|FILE" in options
    assert "--exclude NAME|FILE" in options
    assert "--celeba-dir PATH" in options
    assert names == Counter([*ours, "--workers", "--local-scheduler", "--module", "--help", "--help-all"])
    text = " ".join(options.split())
    assert "--selection {score,official,all}" in text
    assert "--order {auto,rank,source,official}" in text
    flags = [parameter for _, parameter in BuildCelebAHQ.get_params() if parameter._default is False]
    assert text.count("[default: ") == len(ours) + 1 - len(flags)  # all but flags, and --workers
    for default in ("CelebA", "score", "30000", "1000", "1024", "bundled", "lanczos"):
        assert f"[default: {default}]" in text


def test_the_help_without_a_task_names_it(tmp_path: Path) -> None:
    done = luigi(tmp_path, "--help")
    assert done.returncode == 0
    assert "BuildCelebAHQ" in done.stdout


def test_the_long_names_of_options_still_work(tiny_tree: Path, tmp_path: Path) -> None:
    done = luigi(tmp_path, "BuildCelebAHQ", "--BuildCelebAHQ-celeba-dir", tiny_tree, "--BuildCelebAHQ-count", 0)
    assert "error: --count 0: at least 1 is needed" in done.stderr
    done = luigi(tmp_path, "BuildCelebAHQ", "--celeba-dir", tiny_tree, "--BuildCelebAHQ-dry-run", "--count", 0)
    assert "error: --count 0: at least 1 is needed" in done.stderr


@pytest.mark.parametrize("task", ["BuildCelebAHQ", "BuildFromFolder"])
def test_options_that_a_task_does_not_take_are_one_line(task: str, tmp_path: Path) -> None:
    done = luigi(tmp_path, task, "--amount", 4)
    line = f"error: unrecognized arguments: --amount 4; see luigi --module pipelines {task} --help"
    assert (done.returncode, done.stderr.splitlines()) == (2, [line])


@pytest.mark.parametrize(
    ("config", "words", "line"),
    [
        ("[BuildCelebAHQ]\nworkers = 0\n", (), "error: --workers 0: at least 1 is needed"),
        ("[BuildCelebAHQ]\nworkers = many\n", (), "error: --workers many: a whole number is needed"),
        ("[BuildCelebAHQ]\nworkers = 4\n", ("--workers", 0), "error: --workers 0: at least 1 is needed"),
        ("[core]\nworkers = 0\n[BuildCelebAHQ]\nworkers = 4\n", (), "error: --workers 0: at least 1 is needed"),
        ("[BuildCelebAHQ]\ndry_run = maybe\n", (), "error: --dry-run maybe: true or false is needed"),
        ("[BuildCelebAHQ]\ncount = many\n", (), "error: --count many: a whole number is needed"),
        (
            "[BuildCelebAHQ]\nshard_sise = 4\n",
            (),
            "error: luigi.cfg, section [BuildCelebAHQ]: there is no option shard_sise; did you mean shard_size?",
        ),
    ],
)
def test_options_in_luigi_cfg(config: str, words: tuple[object, ...], line: str, tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text(config)
    done = luigi(tmp_path, "BuildCelebAHQ", *words)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [line]


def test_workers_of_luigi_cfg_share_the_machine(tiny_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text("[BuildCelebAHQ]\nworkers = 100\nrestore = none\nresolution = 256\ncount = 4\n")
    done = luigi(tmp_path, "BuildCelebAHQ", "--celeba-dir", tiny_tree, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert " with 1 process " in done.stdout


def test_home_folders(tiny_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "CelebA").symlink_to(tiny_tree)
    (tmp_path / "names.txt").write_text("900001.jpg\n")
    (tmp_path / "luigi.cfg").write_text("[BuildCelebAHQ]\nceleba_dir = ~/CelebA\nrestore = none\nresolution = 256\n")
    words = ("--output-dir=~/out", "--exclude=~/names.txt", "--count=4", "--dry-run")
    done = luigi(tmp_path, "BuildCelebAHQ", *words, HOME=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"for {tmp_path}/out/celebahq.h5" in done.stdout
    assert f"source        {tmp_path}/CelebA: 8 photos" in done.stdout
    assert f"1 of 1 name in --exclude {tmp_path}/names.txt" in done.stdout
    nobody = luigi(tmp_path, "BuildCelebAHQ", "--output-dir=~no-such-user/out")
    assert nobody.returncode == 1
    assert "error: --output-dir ~no-such-user/out: ~no-such-user is nobody's home folder" in nobody.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CelebA", "luigi.cfg", "names.txt"]


def test_expanding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/x") == "/home/me/x"
    assert expand_home("~") == "/home/me"
    for path in ("x/~/y", "./~x", "", os.fsdecode(b"\xe9~")):
        assert expand_home(path) == path
    with pytest.raises(DataError, match=r"^~nobody-here: ~nobody-here is nobody's home folder; write \./~nobody-here"):
        expand_home("~nobody-here")
