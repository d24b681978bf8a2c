"""A program that comes to a certain picture and no further, so that a test can kill it before it finishes."""

import importlib
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.builds import HANGS, environment


def kill_when(reached: Callable[[], bool], function: str, item: str, words: Sequence[str]) -> None:
    """Run `python -m` with `words`, and kill it and all its processes once `reached`.

    function: `module:name` of the function that sleeps when its last argument is `item`, or a path of that name.
    """
    command = [sys.executable, "-m", "tests.support.stuck", function, item, *words]
    with subprocess.Popen(
        command,
        cwd="/",
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + HANGS
        try:
            while not reached():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def main(function: str, item: str, program: str, *arguments: str) -> None:
    """Run a program as `python -m` does, with a function that sleeps."""
    module, name = function.split(":")
    original = getattr(importlib.import_module(module), name)

    def stuck(*values: object) -> object:
        if Path(str(values[-1])).name == item:
            time.sleep(2 * HANGS)
        return original(*values)

    setattr(sys.modules[module], name, stuck)
    sys.argv = [program, *arguments]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
