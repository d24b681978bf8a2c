"""How often a fault is tried, and the table of what came of it (docs/reliability.md)."""

import os
from collections.abc import Callable
from dataclasses import dataclass

FULL = os.environ.get("FAULTS") == "full"
"""Whether faults are tried as often as `make faults` does."""

PROPERTY = "fault"


@dataclass(frozen=True)
class Tries:
    """What a test of a fault needs."""

    note: Callable[[str, object], None]

    def count(self, few: int, many: int) -> int:
        """The number of tries: few in `make test`, many in `make faults`."""
        return many if FULL else few

    def record(self, fault: str, times: int, outcome: str) -> None:
        """Note a row of the table."""
        self.note(PROPERTY, f"| {fault} | {times:,} | {outcome} |")
