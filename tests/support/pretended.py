"""What happens on the pretended device (`pretend_device`), in a process of its own."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.support.builds import HANGS
from tests.support.paths import ROOT


def reports_of(module: str) -> dict[str, dict[str, Any]]:
    """Return the reports of a module of `tests.support` by case, see `pretend_device.reports`."""
    result = subprocess.run(
        [sys.executable, "-m", f"tests.support.{module}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    found: dict[str, dict[str, Any]] = json.loads(result.stdout.splitlines()[-1])
    return found
