"""Luigi's parameters, made from the options: each is listed once in the help, and a wrong value ends in one line."""

import argparse
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import luigi

from datatools.cli import expand_home
from datatools.errors import DataError, flag
from pipelines.options import RunOptions, choices_of


def parameters(options: type[Any]) -> dict[str, Any]:
    """Return a parameter for every option of the class, by name; for none that is not one of the command line's."""
    return {item.name: OptionParameter(item) for item in fields(options) if item.metadata["help"]}


class OptionParameter(luigi.Parameter[Any]):
    """The parameter of one option, whose values have the option's type. `check_values` checks choices and minima."""

    def __init__(self, item: Field[Any]) -> None:
        self._flag = flag(item.name)
        self._kind: type[Any] = type(item.default)
        self._takes_path = item.metadata["is_path"] or issubclass(self._kind, Path)
        if choices := choices_of(item):
            self._metavar = "{" + ",".join(map(str, choices)) + "}"
        else:
            self._metavar = {int: "N", float: "X", str: "NAME|FILE" if self._takes_path else "NAME"}.get(
                self._kind, "PATH"
            )
        default = "" if self._kind is bool else f" [default: {'none' if item.default == '' else item.default}]"
        super().__init__(
            item.default,
            significant=item.name not in RunOptions.__dataclass_fields__,
            description=item.metadata["help"] + default,
            always_in_help=item.name == "workers",
        )

    def parse(self, text: Any) -> Any:
        return self.normalize(text)

    def normalize(self, value: Any) -> Any:
        """Return a value of the option's type, from text or such a value; ~ is the home folder, whoever wrote it."""
        if self._kind is bool:
            if str(value).lower() not in ("true", "false"):
                raise SystemExit(f"error: {self._flag} {value}: true or false is needed")
            return str(value).lower() == "true"
        try:
            return self._kind(expand_home(value) if self._takes_path and isinstance(value, str) else value)
        except DataError as error:
            raise SystemExit(f"error: {self._flag} {error}") from None
        except ValueError:
            kind = "number" if self._kind is float else "whole number"
            raise SystemExit(f"error: {self._flag} {value}: a {kind} is needed") from None

    def _parser_kwargs(  # type: ignore[override]
        self, param_name: str, task_name: str | None = None
    ) -> dict[str, Any]:
        kwargs: dict[str, Any] = super()._parser_kwargs(param_name, task_name)
        kwargs |= {"action": "store_true"} if self._kind is bool else {"metavar": self._metavar}
        if task_name not in (None, "core"):  # --BuildCelebAHQ-count, which Luigi adds to --count
            kwargs |= {"action": _Hidden} | ({"nargs": 0} if self._kind is bool else {})
        return kwargs


class _Hidden(argparse.Action):
    """Stores a value like any option, and is not in the help."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"help": argparse.SUPPRESS})

    def __call__(self, _parser: object, namespace: argparse.Namespace, values: Any, _flag: object = None) -> None:
        setattr(namespace, self.dest, True if self.nargs == 0 else values)
