"""Nothing of a training outlives its process, whoever reads for it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.pipelines.test_build_kill import group_members, wait_until_gone
from tests.support.builds import HANGS, environment
from tests.support.pggan_runs import write_pyramid

TRAINING = """
import sys, threading, time
from pggan.data import stream as data
from pggan.train import main

def tell():
    while not any(thread.name.startswith("reader") for thread in threading.enumerate()):
        time.sleep(0.01)
    print("reading ahead", flush=True)

data.MEMORY_BYTES = 0
threading.Thread(target=tell, daemon=True).start()
main()
"""


def test_no_process_is_left_after_kill_9(tmp_path: Path) -> None:
    h5 = write_pyramid(tmp_path / "ramps.h5")
    options = ["--h5", h5, "--out", tmp_path / "run", "--preset", "tiny", "--workers", 2, "--device", "cpu"]
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, *map(str, options)],
        env=environment(OMP_NUM_THREADS=1),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert "reading ahead\n" in iter(process.stdout.readline, "")
            assert process.pid in group_members(process.pid)
            process.kill()
            assert process.wait() == -signal.SIGKILL
            assert wait_until_gone(process.pid, HANGS)
        finally:
            for left in group_members(process.pid):
                os.kill(left, signal.SIGKILL)
