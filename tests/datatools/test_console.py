"""`datatools.console`: work continues without its console, and exit codes stay true."""

import importlib
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from datatools.cli import PathOption
from datatools.console import say
from datatools.pyramid import Pyramid
from tests.support.builds import command, environment
from tests.support.pggan_runs import write_pyramid

ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}

WORK = """
import sys
from datatools.console import protect_console
protect_console()
for number in range(20000):
    print("line", number, "\\xe9\\udce9")
    print("note", number, "\\xe9\\udce9", file=sys.stderr)
open(sys.argv[1], "w").write("finished")
"""

Launch = Callable[..., subprocess.CompletedProcess[str]]


def shell(line: str) -> Launch:
    """Run a command through the shell, `{}` in `line` standing for it; exit code is the command's."""

    def launch(words: list[str], **extra: object) -> subprocess.CompletedProcess[str]:
        text = line.format(shlex.join(words))
        script = f"{text}; exit ${{PIPESTATUS[0]}}"
        return subprocess.run(
            ["bash", "-c", script], cwd="/", env=environment(**extra), capture_output=True, text=True, errors="replace"
        )

    return launch


def hung_up(words: list[str], **extra: object) -> subprocess.CompletedProcess[str]:
    """Run a command on a terminal that is gone: writing to it fails with EIO."""
    master, slave = pty.openpty()
    os.close(master)
    try:
        done = subprocess.run(words, cwd="/", env=environment(**extra), stdout=slave, stderr=slave)
    finally:
        os.close(slave)
    return subprocess.CompletedProcess(done.args, done.returncode, "", "")


CONSOLES: dict[str, Launch] = {
    "stdout closed": shell("{} >&-"),
    "stderr closed": shell("{} 2>&-"),
    "both closed": shell("{} >&- 2>&-"),
    "all closed": shell("{} <&- >&- 2>&-"),
    "reader of stdout left": shell("{} | true"),
    "reader of both left": shell("{} 2>&1 | head -1"),
    "stdout full": shell("{} > /dev/full"),
    "stderr full": shell("{} 2> /dev/full"),
    "both full": shell("{} > /dev/full 2>&1"),
    "hung up": hung_up,
}


@pytest.mark.parametrize("console", CONSOLES)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_work_ends_with_0_on_every_console(console: str, encoding: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", WORK, str(tmp_path / "result")]
    done = CONSOLES[console](words, PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert (tmp_path / "result").read_text() == "finished"
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception" not in done.stdout + done.stderr


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WORK, str(tmp_path / "result")]
    done = subprocess.run(words, env=environment(**ASCII), capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == r"line 0 \xe9\udce9"
    assert done.stderr.splitlines()[0] == r"note 0 \xe9\udce9"
    assert len(done.stdout.splitlines()) == len(done.stderr.splitlines()) == 20000


def test_files_do_not_take_the_place_of_closed_streams(tmp_path: Path) -> None:
    code = (
        "import os, sys; from datatools.console import protect_console; protect_console(); "
        "stream = open(sys.argv[1], 'wb'); os.write(1, b'from a library'); os.write(2, b'from a library'); "
        "stream.write(b'data'); stream.close()"
    )
    done = CONSOLES["all closed"]([sys.executable, "-c", code, str(tmp_path / "file")])
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_full_disk_loses_only_what_was_written_meanwhile() -> None:
    code = (
        "import os, sys; from datatools.console import protect_console; protect_console(); "
        "spare = os.dup(1); full = os.open('/dev/full', os.O_WRONLY); print('before'); "
        "os.dup2(full, 1); print('lost'); os.dup2(spare, 1); print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "before\nafter\n", "")


def test_importing_the_packages_leaves_streams_alone() -> None:
    code = (
        "import sys; before = sys.stdout, sys.stderr; import datatools.h5tool, pipelines, pggan.train; "
        "assert (sys.stdout, sys.stderr) == before"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_say_survives_streams_of_others(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="ascii") as stream:
        say("\xe9", stream)
        stream_of_ascii = (tmp_path / "text").open("w", encoding="ascii")
        say("caf\xe9", stream_of_ascii)
        stream_of_ascii.close()
        say("nothing", stream_of_ascii)
        assert (tmp_path / "text").read_text() == "caf\\xe9\n"
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for the flush of what it still holds


# --- command lines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("console", ["all closed", "reader of both left", "both full", "hung up"])
def test_a_build_ends_with_0_on_every_console(console: str, tiny_tree: Path, tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"caf\xc3\xa9 \xe9")  # the second is no UTF-8
    done = CONSOLES[console](command(tiny_tree, out, "--count", 2), **ASCII)
    assert done.returncode == 0, done.stderr
    assert "BuildCelebAHQ done" in (out / "work" / "log.txt").read_text(encoding="utf-8")
    assert (out / "report" / "index.html").exists()
    with Pyramid(out / "celebahq.h5") as faces:
        assert len(faces) == 2
    again = CONSOLES[console](command(tiny_tree, out, "--count", 2), **ASCII)
    assert again.returncode == 0


@pytest.mark.parametrize("console", ["all closed", "reader of both left", "both full"])
def test_a_build_that_fails_says_so_with_its_exit_code(console: str, tiny_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "ranking.csv").mkdir(parents=True)  # a folder where the file should go
    done = CONSOLES[console](command(tiny_tree, tmp_path / "out", "--count", 2))
    assert done.returncode == 30
    log = (tmp_path / "out" / "work" / "log.txt").read_text(encoding="utf-8")
    assert re.search(r"error: ranking: .*ranking\.csv", log)
    refused = CONSOLES[console](command(tiny_tree, tmp_path / "out", "--count", 0))
    assert refused.returncode == 1


@pytest.mark.parametrize("console", ["all closed", "reader of both left", "both full"])
def test_a_training_ends_with_0_on_every_console(console: str, tmp_path: Path) -> None:
    h5 = write_pyramid(tmp_path / "ramps.h5")
    run = tmp_path / "caf\xe9"
    sizes = ["--total-kimg", "0.2", "--tick-kimg", "0.05", "--fmap-base", "16", "--fmap-max", "4", "--minibatch", "4"]
    words = ["-m", "pggan.train", "--h5", str(h5), "--out", str(run), "--preset", "tiny", "--device", "cpu", *sizes]
    done = CONSOLES[console]([sys.executable, *words], OMP_NUM_THREADS=1, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert (run / "final.safetensors").exists()
    assert "finished after" in (run / "log.txt").read_text(encoding="utf-8").splitlines()[-1]


def test_a_short_command_ends_silently_with_its_reader(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "datatools.h5tool", "inspect", str(write_pyramid(tmp_path / "ramps.h5"))]
    done = shell("{} | head -1")(words)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert shell("{} >&-")(words).returncode == 0


def test_a_command_whose_result_is_its_output_fails_when_that_is_lost(tmp_path: Path) -> None:
    h5 = str(write_pyramid(tmp_path / "ramps.h5"))
    for words in (["inspect", h5], ["compare", h5, h5], ["verify", h5]):
        done = shell("{} > /dev/full")([sys.executable, "-m", "datatools.h5tool", *words])
        assert done.returncode == 1
        assert done.stderr == "Error: standard output cannot be written: No space left on device\n"


COMMANDS = (
    *("datatools.h5tool.__main__", "datatools.sample", "datatools.restore.fit.train", "datatools.restore.fit.evaluate"),
    *("datatools.restore.fit.pairs", "datatools.landmarks.__main__", "datatools.download.__main__"),
    *("pggan.train", "pggan.generate", "pggan.evaluate", "pggan.convert", "pggan.report.__main__"),
    "pggan.project",
)


@pytest.mark.parametrize("module", COMMANDS)
def test_every_path_of_every_command_line_may_begin_with_the_home_folder(module: str) -> None:
    main = importlib.import_module(module).main
    commands = list(main.commands.values()) if isinstance(main, click.Group) else [main]
    paths = [option.type for command in commands for option in command.params if isinstance(option.type, click.Path)]
    assert paths
    assert {type(path) for path in paths} == {PathOption}


def test_home_folder_on_a_command_line(tmp_path: Path) -> None:
    write_pyramid(tmp_path / "ramps.h5")
    words = ["-m", "datatools.h5tool", "extract", "~/ramps.h5", "~/pictures", "--indices", "0"]
    done = subprocess.run([sys.executable, *words], env=environment(HOME=tmp_path), cwd="/", capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pictures" / "00000.png").exists()
