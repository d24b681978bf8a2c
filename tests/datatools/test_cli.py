"""`datatools.cli`: mistakes in one line, numbers, ranges."""

import errno
import math
import pickle
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from datatools.cli import FiniteNumber, OneLineCommand, OneLineGroup, parse_ranges
from datatools.errors import DataError, SettingError
from tests.support.builds import HANGS, environment

MISTAKES = [
    (DataError("a.h5: no such file"), "Error: a.h5: no such file\n"),
    (OSError(errno.ENOSPC, "No space left on device", "a.png"), "Error: [Errno 28] No space left on device: 'a.png'\n"),
    (OSError("two\nlines"), "Error: two lines\n"),
    (SettingError("fmap_base", "0: must be\nat least 1"), "Error: --fmap-base 0: must be at least 1\n"),
]


@pytest.mark.parametrize(("mistake", "line"), MISTAKES)
def test_mistakes_are_one_line_and_exit_with_1(mistake: Exception, line: str) -> None:
    @click.command(cls=OneLineCommand)
    def command() -> None:
        raise mistake

    @click.group(cls=OneLineGroup)
    def group() -> None:
        pass

    group.add_command(command, "command")
    for result in (CliRunner().invoke(command), CliRunner().invoke(group, ["command"])):
        assert result.exit_code == 1
        assert result.output == line


def test_wrong_settings_keep_their_name_across_processes() -> None:
    error = pickle.loads(pickle.dumps(SettingError("fmap_base", "0: must be at least 1")))
    assert (str(error), error.setting) == ("fmap_base 0: must be at least 1", "fmap_base")


def test_bugs_keep_their_traceback() -> None:
    @click.command(cls=OneLineCommand)
    def command() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(command).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--share", "5"], "--share: 5.0 is not in the range 0<=x<=1; see tool paint --help"),
        (["--share", "much"], "--share: 'much' is not a valid float range; see tool paint --help"),
        (["--shar", "1"], "No such option '--shar'. Did you mean '--share'?"),
        (["--share", "1", "red"], "Missing option '--size'. Choose from: small, large; see tool paint --help"),
        (["--size", "small", "--share"], "Option '--share' requires an argument; see tool paint --help"),
        (["--size", "small", "one", "two"], "Got unexpected extra argument (two); see tool paint --help"),
    ],
)
def test_misused_options_are_one_line_and_exit_with_2(words: list[str], line: str) -> None:
    @click.command(cls=OneLineCommand)
    @click.option("--share", type=FiniteNumber(0, 1))
    @click.option("--size", type=click.Choice(["small", "large"]), required=True)
    @click.argument("colour", required=False)
    def command(**_: object) -> None:
        pass

    @click.group(cls=OneLineGroup)
    def group() -> None:
        pass

    group.add_command(command, "paint")
    result = CliRunner().invoke(group, ["paint", *words], prog_name="tool")
    assert (result.exit_code, result.output) == (2, f"Error: {line}\n")
    unknown = CliRunner().invoke(group, ["draw"], prog_name="tool")
    assert (unknown.exit_code, unknown.output) == (2, "Error: No such command 'draw'; see tool --help\n")
    assert CliRunner().invoke(group, [], prog_name="tool").output.startswith("Usage: tool [OPTIONS] COMMAND")


@pytest.mark.parametrize("resumes", [False, True])
def test_ctrl_c_is_one_line_and_exits_with_130(resumes: bool) -> None:
    @click.command(cls=OneLineCommand, resumes=resumes)
    def command() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(command)
    line = "interrupted; run the same command again to resume\n" if resumes else "interrupted\n"
    assert (result.exit_code, result.output) == (130, line)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_non_finite_numbers_are_rejected(value: str) -> None:
    @click.command()
    @click.option("--rate", type=FiniteNumber())
    def command(rate: float) -> None:
        assert math.isfinite(rate)

    result = CliRunner().invoke(command, [f"--rate={value}"])
    assert result.exit_code == 2
    assert f"{value} is not a finite number" in result.output
    assert CliRunner().invoke(command, ["--rate", "1e9"]).exit_code == 0


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("0-2,7,5-5", None, [0, 1, 2, 7, 5]),
        (" 4, 1-2,2", 5, [4, 1, 2, 2]),
        ("3-", 5, [3, 4]),
        ("007", None, [7]),
        ("12345678901", None, [12345678901]),
    ],
)
def test_ranges(text: str, count: int | None, expected: list[int]) -> None:
    assert parse_ranges(text, "--seeds", count) == expected


@pytest.mark.parametrize("count", [None, 5])
@pytest.mark.parametrize("text", ["", "a", "1-b", "-1", "-", "3-2", "1,,2", "1-2-3", "9" * 5000, "0-99999999999", "²"])
def test_impossible_ranges(text: str, count: int | None) -> None:
    with pytest.raises(DataError, match=r"^--seeds: ") as error:
        parse_ranges(text, "--seeds", count)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("text", ["5", "0-5", "5-"])
def test_ranges_stay_below_the_count(text: str) -> None:
    with pytest.raises(DataError, match="does not lie in 0-4"):
        parse_ranges(text, "--indices", 5)
    with pytest.raises(DataError, match="neither a number nor a range"):
        parse_ranges("5-", "--seeds")


def test_ctrl_c_ends_a_command_also_where_python_raises_nothing() -> None:
    code = """
import signal, time, weakref
import click
from datatools.cli import OneLineCommand, run_command

@click.command(cls=OneLineCommand)
def command():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    class Thing: pass
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    time.sleep(60)

run_command(command)
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=HANGS)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
