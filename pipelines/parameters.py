"""Command line parameters whose wrong values end the program in one line instead of a traceback."""

import luigi


class _Option:
    """Knows its name on the command line, to tell it when its value is wrong."""

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)  # type: ignore[misc]
        self._flag = "--" + name.replace("_", "-")

    def refuse(self, value: str, expected: str) -> SystemExit:
        return SystemExit(f"error: {self._flag} {value}: {expected}")


class Choice(_Option, luigi.ChoiceParameter):
    """A choice whose wrong value ends the program in one line."""

    def parse(self, value: str) -> str:
        if value not in self._choices:
            raise self.refuse(value, f"one of {', '.join(sorted(self._choices, key=lambda c: (len(c), c)))} is needed")
        return value


class Number(_Option, luigi.IntParameter):
    """A whole number; anything else ends the program in one line."""

    def parse(self, value: str) -> int:
        try:
            return int(value)
        except ValueError:
            raise self.refuse(value, "a whole number is needed") from None
