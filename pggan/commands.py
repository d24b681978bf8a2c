"""What the command lines share."""

from typing import Any

import click

from datatools.errors import DataError


class PlainErrors(click.Command):
    """Prints a user's mistake as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DataError as error:
            raise click.ClickException(str(error)) from error
