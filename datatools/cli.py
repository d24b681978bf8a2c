"""What the command lines share: their start, and paths as users write them."""

import os
import re
from pathlib import Path
from typing import Any

import click

from datatools.console import protect_console
from datatools.errors import DataError


def run_command(command: click.Command) -> None:
    """Run the command line of this process and exit; a console that fails never ends it."""
    protect_console()
    command()


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
