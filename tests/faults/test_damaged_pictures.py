"""Pictures with random damage: each is decoded or refused in a line; none ends the process, hangs, or keeps memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builds import HANGS, environment
from tests.support.tries import FULL, Tries

LEAK = 2.0
"""KiB of memory for each picture, from which something is kept: the pixels of one take 20."""

DECODE = """
import io, json, re, sys, warnings
import numpy as np
from PIL import Image
from datatools.images import ImageError, decode_rgb, decode_upright
from tests.faults.pictures import scene

kind, count = sys.argv[1], int(sys.argv[2])
stream = io.BytesIO()
Image.fromarray(scene(96, 72)).save(stream, format=kind)
whole = stream.getvalue()
random = np.random.default_rng(7)

def damaged():
    data = bytearray(whole)
    for _ in range(random.integers(1, 4)):
        start = int(random.integers(len(data))) if random.random() < 0.7 else int(random.integers(min(200, len(data))))
        length = int(random.choice([1, 1, 2, 8, 64, 512]))
        how = random.integers(5)
        if how == 0:
            data[start] ^= 1 << random.integers(8)
        elif how == 1:
            data[start : start + length] = random.bytes(length)
        elif how == 2:
            data[start : start + length] = bytes(length)
        elif how == 3:
            del data[start : start + length]
        else:
            data[start:start] = random.bytes(length)
        if len(data) < 2:
            break
    return bytes(data[: random.integers(len(data) + 1)] if random.random() < 0.3 else data)

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])

warnings.simplefilter("ignore")
decoded, lines, memory = 0, set(), []
for i in range(count):
    data = damaged()
    try:
        array = decode_rgb(data) if i % 2 else decode_upright(data)[0]
        assert array.ndim == 3 and array.dtype == np.uint8
        decoded += 1
    except ImageError as error:
        assert "\\n" not in str(error) and str(error)
        lines.add(str(error))
    if i >= count // 4:  # after a warm-up
        memory.append(resident())
slope = float(np.polyfit(np.arange(len(memory)), memory, 1)[0])
print(json.dumps({"decoded": decoded, "reasons": len(lines), "growth": memory[-1] - memory[0], "slope": slope}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_pictures(kind: str, tries: Tries) -> None:
    count = tries.count(150, 10_000)
    done = subprocess.run(
        [sys.executable, "-c", DECODE, kind, str(count)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 0 < found["decoded"] < count  # some damage is too small to be noticed, and some is not
    assert found["reasons"] > 3
    assert found["growth"] < 40 << 10, found
    assert not FULL or found["slope"] < LEAK, found  # of few pictures it shows how the allocator warms up
    tries.record(f"damaged {kind} file, decoded", count, f"{found['decoded']:,} decoded, others refused in a line")
