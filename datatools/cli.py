"""What the command lines share: their start, one line for mistakes and Ctrl-C, and values as users write them."""

import math
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
from click.exceptions import NoArgsIsHelpError

from datatools.console import protect_console
from datatools.errors import DataError, SettingError, one_line

MAX_RANGE = 10_000_000
"""Numbers that one range may stand for."""
MAX_DIGITS = 40
"""Digits of a range: no file has an image with a longer number."""

AGAIN_AFTER = 0.02
"""Seconds after which Ctrl-C that was lost is raised again."""


def run_command(command: click.Command) -> None:
    """Run the command line of this process and exit; a console that fails never ends it, and Ctrl-C always does."""
    protect_console()
    _keep_ctrl_c()
    command()


def _keep_ctrl_c() -> None:
    """Raise Ctrl-C again where Python loses it: in a destructor, or in the callback of a weak reference."""
    other_hook, main_thread = sys.unraisablehook, threading.get_ident()

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):  # here it would be lost, too
            again = threading.Timer(AGAIN_AFTER, signal.pthread_kill, (main_thread, signal.SIGINT))
            again.daemon = True  # a command that has ended meanwhile needs it no more
            again.start()
        else:
            other_hook(unraisable)

    sys.unraisablehook = hook


class Misuse(click.ClickException):
    """Options or arguments that a command does not take."""

    exit_code = 2

    @classmethod
    def of(cls, error: click.UsageError, command: str) -> "Misuse":
        """Return click's message on one line, without the usage before it; `command` has --help."""
        message = error.format_message()
        if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter) and error.param:
            name = error.param.get_error_hint(error.ctx).replace("'", "")
            message = f"{name}: {error.message}"
        if not getattr(error, "possibilities", None):  # which the message ends with
            message = f"{message.removesuffix('.')}; see {command} --help"
        return cls(" ".join(message.split()))


class Interruption(click.ClickException):
    """Ctrl-C, which is no error."""

    exit_code = 128 + signal.SIGINT

    def show(self, file: IO[Any] | None = None) -> None:
        stream = file or sys.stderr
        click.echo(f"{chr(10) if stream.isatty() else ''}{self.message}", file=stream)  # "^C" stands in that line


class OneLineCommand(click.Command):
    """A command that prints one line where it cannot end well: exit code 1 for a user's mistake or a refusal of the
    system, 2 for options that it does not take, 130 for Ctrl-C.

    `resumes`: whether the same command resumes after an interruption, which the line then says.
    """

    def __init__(self, *args: Any, resumes: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.resumes = resumes

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with self._one_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with self._one_line(ctx):
            return super().invoke(ctx)

    @contextmanager
    def _one_line(self, ctx: click.Context) -> Iterator[None]:
        try:
            yield
        except NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise Misuse.of(error, ctx.command_path) from error
        except SettingError as error:
            raise click.ClickException(" ".join(error.for_command_line.split())) from error
        except (DataError, OSError) as error:
            raise click.ClickException(one_line(error)) from error
        except KeyboardInterrupt as error:
            after = "; run the same command again to resume" if self.resumes else ""
            raise Interruption(f"interrupted{after}") from error


class OneLineGroup(OneLineCommand, click.Group):
    """A group of commands that print errors as `OneLineCommand` does."""


class FiniteNumber(click.FloatRange):
    """A range of finite numbers: `nan` lies in every range of click's, and `inf` in those without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


def parse_ranges(text: str, option: str, count: int | None = None) -> list[int]:
    """Return the numbers of "0-99,500", both ends included, in the order given; `option` is what messages name.

    With `count`, numbers must be smaller than it, and "90-" runs to the last one. Raises DataError for other texts.
    """
    numbers: list[int] = []
    for item in map(str.strip, text.split(",")):
        first, dash, last = item.partition("-")
        if not dash:
            last = first
        elif not last and count is not None:
            last = str(count - 1)
        if not (first.isdecimal() and last.isdecimal() and len(first + last) < MAX_DIGITS):
            raise DataError(f"{option}: {item[:40]!r} is neither a number nor a range such as 0-99")
        begin, end = int(first), int(last)
        if count is not None and max(begin, end) >= count:
            raise DataError(f"{option}: {item} does not lie in 0-{count - 1}")
        if not 0 <= end - begin < MAX_RANGE:
            raise DataError(f"{option}: {item} is not a rising range, or is too long")
        numbers.extend(range(begin, end + 1))
    return numbers


def expand_home(path: str) -> str:
    """Return `path` with ~ or ~user at its start replaced by the home folder, which no shell does after `--option=`.

    Raises DataError for a user that does not exist.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = re.match("~[^/]*", expanded)[0]  # type: ignore[index]
        raise DataError(f"{path}: {user} is nobody's home folder; write ./{path} for a file of that name")
    return expanded


class PathOption(click.Path):
    """A path, of which ~ is expanded."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(expand_home(os.fspath(value)), param, ctx)
        except DataError as error:
            self.fail(str(error), param, ctx)


class NameOrPath(click.ParamType):
    """Text that may be a path, of which ~ is expanded: a file, a pattern of files or a name."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return expand_home(value)
        except DataError as error:
            self.fail(str(error), param, ctx)
