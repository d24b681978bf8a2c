"""One worker stays within its memory on a huge photo; `benchmarks/memory.py` looks at more of them."""

import sys
import time
from pathlib import Path

import pytest

from benchmarks.memory import BUDGET, SIZE_60MP, Case, face_at, large_photo, peak_bytes
from datatools.parallel import AHEAD, map_in_processes

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def test_a_photo_of_sixty_megapixels(tmp_path: Path) -> None:
    """Progressive, which decoders keep whole, and a face just small enough to be decoded at full size."""
    assert SIZE_60MP[0] * SIZE_60MP[1] > 60e6
    path = large_photo(tmp_path / "photo.jpg", progressive=True)
    peak = peak_bytes(Case("60 megapixels", path, face_at(1000, 1000, 2700)))
    assert 100e6 < peak < BUDGET


def make_megabytes(_number: int) -> bytes:
    return bytes(3_000_000)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_finished_faces_do_not_pile_up() -> None:
    """A consumer that is slower than the workers: what waits is bounded, whatever the shard's size."""

    def resident() -> int:
        return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])

    before = most = resident()
    for taken, _ in enumerate(map_in_processes(make_megabytes, range(200), 2)):
        time.sleep(0.01)  # much slower than making zeros
        if taken % 10 == 0:
            most = max(most, resident())
    assert most - before < 3_000_000 * (AHEAD * 2 + 12)
