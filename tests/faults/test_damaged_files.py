"""Files of ours, cut off or with a flipped bit: noticed in one line, or the same values as before."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from pggan.config.settings import NetworkConfig
from pggan.model.files import new_model, read_model, save_model
from pggan.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from tests.support.builds import HANGS, environment
from tests.support.pyramid_samples import write
from tests.support.tries import Tries

READ_PYRAMID = """
import json, sys
from pathlib import Path
import numpy as np
from datatools.errors import DataError
from datatools.pyramid import Pyramid, verify

whole, seed, count = Path(sys.argv[1]).read_bytes(), int(sys.argv[2]), int(sys.argv[3])
path = Path(sys.argv[4])

def values():
    with Pyramid(path) as pyramid:
        levels = [pyramid[4 * 2**i][:] for i in range(4)]
        columns = [pyramid.provenance(name) for name in ("file_name", "source_md5", "score", "rank", "quad")]
        return [repr((v.shape, v.dtype, v.tobytes() if v.dtype != object else v.tolist())) for v in levels + columns]

path.write_bytes(whole)
expected, outcomes = values(), {"refused": 0, "found by verify": 0, "harmless": 0, "unnoticed": 0}
random = np.random.default_rng(seed)
for _ in range(count):
    data = bytearray(whole)
    if random.random() < 0.2:
        data = data[: random.integers(len(data))]
    else:
        data[random.integers(len(data))] ^= 1 << random.integers(8)
    path.write_bytes(data)
    print(json.dumps(outcomes), flush=True)
    problems = verify(path)
    assert all("\\n" not in problem for problem in problems)
    try:
        same = values() == expected
    except DataError as error:
        assert "\\n" not in str(error)
        outcomes["refused"] += 1
        assert problems, error
        continue
    outcomes["found by verify" if problems else "harmless" if same else "unnoticed"] += 1
print(json.dumps(outcomes))
"""


def test_damaged_pyramids(tmp_path: Path, tries: Tries) -> None:
    count = tries.count(60, 2_000)
    h5 = write(tmp_path / "whole.h5", range(6))
    words = [str(h5), "5", str(count), str(tmp_path / "damaged.h5")]
    done = subprocess.run(
        [sys.executable, "-c", READ_PYRAMID, *words], env=environment(), capture_output=True, text=True, timeout=HANGS
    )
    assert done.returncode == 0, f"{done.returncode} {done.stdout[-300:]} {done.stderr[-2000:]}"
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert outcomes["unnoticed"] == 0
    text = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.items())
    tries.record("pyramid file cut off or with a flipped bit", count, text)


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    if random.random() < 0.2:
        return data[: random.integers(len(data))]
    changed = bytearray(data)
    changed[random.integers(len(data))] ^= 1 << random.integers(8)
    return bytes(changed)


def test_damaged_checkpoints(tmp_path: Path, tries: Tries) -> None:
    count = tries.count(50, 2_000)
    random = np.random.default_rng(6)
    checkpoint = save_checkpoint(tmp_path, {"images": 16, "weights": [1.5, 2.5]}, 1)
    whole = checkpoint.path.read_bytes()
    for _ in range(count):
        checkpoint.path.write_bytes(damaged(whole, random))
        with pytest.raises(ValueError, match="bytes that are not the"):
            load_checkpoint(Checkpoint(checkpoint.path, 16))
    checkpoint.path.write_bytes(whole)
    assert load_checkpoint(checkpoint)["weights"] == [1.5, 2.5]
    tries.record("checkpoint cut off or with a flipped bit", count, "refused; the one before is used")


def test_damaged_models(tmp_path: Path, tries: Tries) -> None:
    count = tries.count(50, 2_000)
    random = np.random.default_rng(8)
    path = tmp_path / "model.safetensors"
    config = NetworkConfig(8, fmap_base=16, fmap_max=4, latent_size=4)
    save_model(path, new_model(config), lod=0.0, images=16)
    whole, expected = path.read_bytes(), bits(path)
    harmless, lines = 0, list[str]()
    for _ in range(count):
        path.write_bytes(damaged(whole, random))
        try:
            found = bits(path)
        except DataError as error:
            lines.append(str(error))
            continue
        harmless += 1
        assert found == expected
    assert not [line for line in lines if "\n" in line]
    tries.record("model file cut off or with a flipped bit", count, f"refused in a line, or the same ({harmless})")


def bits(path: Path) -> dict[str, bytes]:
    model = read_model(path)
    tensors = {name: network.state_dict() for name, network in model.stored.items()}
    return {f"{a}.{b}": value.numpy().tobytes() for a, state in tensors.items() for b, value in state.items()}
