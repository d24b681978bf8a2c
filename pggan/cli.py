"""What the command lines share."""

import math
from typing import Any

import click

from datatools.errors import DataError


class Number(click.FloatRange):
    """A range of finite numbers: `nan` lies in every range of click's, and `inf` in those without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


class PlainErrors(click.Command):
    """Prints a user's mistake, or what a disk refused, as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (DataError, OSError) as error:
            raise click.ClickException(str(error)) from error
