"""Commands on storage that fails below Python: in HDF5, LMDB and safetensors, too (`failing_storage.c`)."""

import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.builds import HANGS, environment

SOURCE = Path(__file__).with_name("failing_storage.c")
READING, WRITING, NAMES = 1, 2, 4
"""Kinds of calls, as the C file has them; `NAMES`: those that take a path."""
FOR_EVER = 1 << 40
CODES = tuple(getattr(errno, name) for name in ("EIO", "ESTALE", "ENOSPC", "EROFS", "EDQUOT"))


@dataclass(frozen=True)
class Fault:
    """The calls of `kinds` on files below `folder` that fail: `times` of them, from the `first` on.

    code: their error; minus the number of a signal that the process gets instead.
    """

    folder: Path
    first: int
    times: int = 1
    code: int = errno.EIO
    kinds: int = READING | WRITING | NAMES


@dataclass(frozen=True)
class Ended:
    """How a command ended. returncode: as of `subprocess`. seen, failed: numbers of calls."""

    returncode: int
    output: str
    error: str
    seen: int
    failed: int


class Commands:
    """Runs commands, each in a process forked from one that has imported what takes long."""

    def __init__(self, server: "subprocess.Popen[str]", folder: Path) -> None:
        self._server, self._folder = server, folder

    def run(self, code: str, words: Sequence[object], fault: Fault) -> Ended:
        """Run Python code with these words as `sys.argv[1:]`."""
        request = [code, [*map(str, words)], str(fault.folder), fault.kinds, fault.first, fault.times, fault.code]
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(request), file=self._server.stdin, flush=True)
        returncode, seen, failed = json.loads(self._server.stdout.readline())
        output, error = ((self._folder / name).read_text(errors="replace") for name in ("1", "2"))
        return Ended(returncode, output, error, seen, failed)


@contextmanager
def failing_storage(compiler: str, imports: str) -> Iterator[Commands]:
    """Compile the layer and start the process that runs commands, after these statements."""
    with tempfile.TemporaryDirectory() as name:
        layer = Path(name) / "layer.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", layer, SOURCE, "-ldl"], check=True, timeout=HANGS)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.support.failing_storage", name, imports],
            env=environment(LD_PRELOAD=layer, OMP_NUM_THREADS=1),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            yield Commands(server, Path(name))


def find_compiler() -> str | None:
    """Return a C compiler, where the layer can be used."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") if sys.platform == "linux" else None


def serve(folder: Path) -> str | None:
    """Fork a process for every request; return the code to run in it, None in the first process at its end."""
    layer = ctypes.CDLL(None)
    layer.fail_calls.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_long, ctypes.c_int]
    layer.calls_seen.restype = layer.calls_failed.restype = ctypes.c_long
    for line in sys.stdin:
        code, words, *fault = json.loads(line)
        arguments = (os.fsencode(fault[0]), *fault[1:])
        layer.fail_calls(b"", *arguments[1:])  # the counters are there before the fork
        pid = os.fork()
        if pid == 0:
            signal.alarm(HANGS)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background have it ignored,
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and those under nohup this one
            for descriptor in (0, 1, 2):
                os.dup2(os.open(folder / str(descriptor), os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
            sys.argv[1:] = words
            os.chdir("/")
            layer.fail_calls(*arguments)
            return str(code)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([status, layer.calls_seen(), layer.calls_failed()]), flush=True)
    return None


if __name__ == "__main__":
    exec(sys.argv[2])
    if (source := serve(Path(sys.argv[1]))) is not None:
        exec(source, {"__name__": "__main__"})
