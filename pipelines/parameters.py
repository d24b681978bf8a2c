"""Luigi's parameters, made from the options: each is listed once in the help, and a wrong value ends in one line."""

import argparse
from dataclasses import Field, fields
from typing import Any

import luigi

from datatools.cli import expand_home
from datatools.errors import DataError
from pipelines.options import BuildOptions, RunOptions, choices_of, flag


def parameters(options: type[BuildOptions] | type[RunOptions]) -> dict[str, Any]:
    """Return a parameter for every option of the class, by name."""
    return {item.name: parameter(item) for item in fields(options)}


def parameter(item: Field[Any]) -> "_Parameter":
    """Return the parameter of one option."""
    significant = item.name in BuildOptions.__dataclass_fields__
    choices = [str(choice) for choice in choices_of(item)]
    default, text = item.default, item.metadata["help"]
    if choices:
        return Choice(str(default), description=text, choices=choices)
    if isinstance(default, bool):
        return Flag(description=text)
    if isinstance(default, int):
        return Number(default, description=text, significant=significant, always_in_help=item.name == "workers")
    if item.metadata["is_path"]:
        return NameOrPath(str(default), description=text)
    return (Text if isinstance(default, str) else PathText)(str(default), description=text)


def value_of(item: Field[Any], parameter: Any) -> Any:
    """Return the option's value for its parameter's, which is text for choices and paths."""
    default: Any = item.default
    return type(default)(parameter)


class _Hidden(argparse.Action):
    """Stores a value like any option, and is not in the help."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"help": argparse.SUPPRESS})

    def __call__(self, _parser: object, namespace: argparse.Namespace, values: Any, _flag: object = None) -> None:
        setattr(namespace, self.dest, True if self.nargs == 0 else values)


class _Parameter:
    """Knows its name on the command line, to name it when its value is wrong, and describes its default."""

    metavar: str | None = None
    """What stands for its value in the help."""
    description: str | None

    def __init__(self, default: Any, *, description: str, **kwargs: Any) -> None:
        super().__init__(default=default, description=description, **kwargs)  # type: ignore[call-arg]
        # Not what a subclass of Luigi's made of it: ChoiceParameter lists the choices in an order that changes.
        self.description = f"{description} [default: {'none' if default == '' else default}]"

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)  # type: ignore[misc]
        self._flag = flag(name)

    def _parser_kwargs(self, param_name: str, task_name: str | None = None) -> dict[str, Any]:
        kwargs: dict[str, Any] = super()._parser_kwargs(param_name, task_name)  # type: ignore[misc]
        if self.metavar is not None:
            kwargs["metavar"] = self.metavar
        if task_name not in (None, "core"):  # --BuildCelebAHQ-count, which Luigi adds to --count
            kwargs |= {"action": _Hidden} | ({"nargs": 0} if kwargs["action"] == "store_true" else {})
        return kwargs

    def refuse(self, value: object, expected: str) -> SystemExit:
        return SystemExit(f"error: {self._flag} {value}: {expected}")


class Text(_Parameter, luigi.Parameter):
    """Any text."""

    metavar = "NAME"


class PathText(_Parameter, luigi.Parameter):
    """A path; ~ is the home folder, whoever wrote it."""

    metavar = "PATH"

    def normalize(self, value: Any) -> Any:
        try:
            return expand_home(str(value))
        except DataError as error:
            raise SystemExit(f"error: {self._flag} {error}") from None


class NameOrPath(PathText):
    """A name that stands for something, or the path of a file."""

    metavar = "NAME|FILE"


class Choice(_Parameter, luigi.ChoiceParameter):
    """A choice whose wrong value ends the program in one line."""

    def __init__(self, default: str, *, choices: list[str], description: str) -> None:
        super().__init__(default, choices=choices, description=description)
        self.metavar = "{" + ",".join(choices) + "}"

    def parse(self, value: str) -> str:
        if value not in self._choices:
            raise self.refuse(value, f"one of {', '.join(sorted(self._choices, key=lambda c: (len(c), c)))} is needed")
        return value


class Number(_Parameter, luigi.IntParameter):
    """A whole number; anything else ends the program in one line."""

    metavar = "N"

    def parse(self, value: str) -> int:
        try:
            return int(value)
        except ValueError:
            raise self.refuse(value, "a whole number is needed") from None


class Flag(_Parameter, luigi.BoolParameter):
    """An option without a value; in luigi.cfg true or false."""

    def __init__(self, *, description: str) -> None:
        super().__init__(False, description=description)
        self.description = description

    def parse(self, value: Any) -> bool:
        if str(value).lower() not in ("true", "false"):
            raise self.refuse(value, "true or false is needed")
        return str(value).lower() == "true"
