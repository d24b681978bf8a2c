"""Command line parameters whose wrong values end the program in one line instead of a traceback."""

import luigi


class Choice(luigi.ChoiceParameter):
    """A choice whose wrong value ends the program in one line."""

    def parse(self, value: str) -> str:
        try:
            return str(super().parse(value))
        except ValueError:
            raise SystemExit(f"error: {value!r} is none of {', '.join(sorted(map(str, self._choices)))}") from None


class Number(luigi.IntParameter):
    """A whole number; anything else ends the program in one line."""

    def parse(self, value: str) -> int:
        try:
            return int(value)
        except ValueError:
            raise SystemExit(f"error: {value!r} is no whole number") from None
