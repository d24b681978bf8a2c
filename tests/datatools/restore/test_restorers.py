"""Restorers of networks: their names, what their digests cover, and how they load."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datatools.errors import DataError
from datatools.restore import NAMES, NoRestorer, SuperResolution, get_restorer, restorers
from datatools.restore.external import REALESRGAN
from datatools.restore.networks import ArtifactRemover
from datatools.restore.restorers import BUNDLED, NetworkRestorer, load_network, load_step, network_restorer
from datatools.restore.tiling import restore
from datatools.restore.weights import save_weights
from tests.support.builds import environment
from tests.support.paths import ROOT
from tests.support.restore_samples import restore_part, tiny_file, tiny_network


def test_names(tmp_path: Path) -> None:
    assert get_restorer("none") == NoRestorer()
    plain = get_restorer("bundled")
    assert plain.name == "bundled"
    assert plain.digest == get_restorer("bundled-distortion").digest
    ours = get_restorer(str(tiny_file(tmp_path, "sr")))
    assert ours.plan(100).scale == 4
    assert get_restorer(str(tiny_file(tmp_path, "jpeg"))).plan(100).scale == 1


def test_docs_and_code_have_the_same_names() -> None:
    assert {"none", REALESRGAN, *BUNDLED} == set(NAMES)
    rows = (ROOT / "docs" / "restoration.md").read_text(encoding="utf-8").partition("| `--restore` |")[2].splitlines()
    assert [row.split("`")[1] for row in rows if row.startswith("| `")] == list(NAMES)


def test_the_device_may_be_left_open(tmp_path: Path) -> None:
    path = str(tiny_file(tmp_path, "jpeg"))
    restorer = network_restorer(path, super_resolution="auto", device="auto", threads=1)
    assert restorer.device == ("cuda" if torch.cuda.is_available() else "cpu")


def test_what_is_no_restorer_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("damaged", "foreign", "other", "folder")
    damaged, foreign, other, folder = (tmp_path / f"{name}.safetensors" for name in names)
    folder.mkdir()
    (tmp_path / "folder.pth").mkdir()
    damaged.write_bytes(tiny_file(tmp_path, "sr").read_bytes()[:-100])
    save_file({"weight": torch.zeros(2)}, foreign)
    save_weights(other, tiny_network("sr"), "sharpen", {})
    cases = {
        "magic": "unknown restorer 'magic'; known: bundled, bundled-distortion, bundled-perceptual, none, "
        "realesrgan, or a weight file",
        "srmd": "srmd is no longer supported; name a weight file",
        str(tmp_path / "none.safetensors"): "none.safetensors: no such weight file",
        str(tmp_path / "none.pth"): "none.pth: no such weight file",
        str(tmp_path / "face.jpg"): "neither a restorer's name nor a weight file",
        str(tmp_path): "neither a restorer's name nor a weight file",
        str(folder): "folder.safetensors is a folder; name a weight file",
        str(tmp_path / "folder.pth"): "folder.pth is a folder; name a weight file",
        "x" * 300 + ".pth": "cannot be read: File name too long",
        str(damaged): "damaged.safetensors is damaged or not a weight file",
        str(foreign): "spandrel",  # which does not know it, or is not installed
        str(other): "other.safetensors: the weights do not fit",
    }
    for name, message in cases.items():
        with pytest.raises(DataError) as error:
            get_restorer(name)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="--super-resolution sometimes: choose auto, always or never"):
        get_restorer("none", super_resolution="sometimes")  # type: ignore[arg-type]
    for device in ("nonsense", "cuda:99", "meta"):
        for name in ("none", str(tiny_file(tmp_path, "jpeg"))):
            with pytest.raises(DataError, match=f"--device {device} is not available here: .+") as error:
                get_restorer(name, device=device)
            assert "\n" not in str(error.value)
    monkeypatch.setattr(restorers, "FOLDER", tmp_path)
    with pytest.raises(DataError, match="is missing: the installation is damaged"):
        get_restorer("bundled")


def test_files_that_cannot_be_read_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = tiny_file(tmp_path, "sr"), tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(2)}, other)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # file modes do not bind every user
    for path in (ours, other):
        with pytest.raises(DataError) as error:
            get_restorer(str(path))
        assert str(error.value) == f"{path}: cannot be read: Permission denied"


def test_the_digest_tells_weights_settings_and_arithmetic(tmp_path: Path) -> None:
    def restorer(path: Path, super_resolution: SuperResolution = "auto") -> NetworkRestorer:
        return network_restorer(str(path), super_resolution=super_resolution, device="cpu", threads=1)

    first = restorer(tiny_file(tmp_path, "sr"))
    others = [
        restorer(tiny_file(tmp_path, "sr", seed=4)),
        restorer(tiny_file(tmp_path, "sr"), "always"),
        restorer(tiny_file(tmp_path, "sr"), "never"),
        replace(first, precision="bf16" if first.precision == "fp32" else "fp32"),
        replace(first, device="cuda"),
        replace(first, device="mps"),
    ]
    assert len({one.digest for one in [first, *others]}) == 7
    assert replace(first, device="cuda:1").digest == replace(first, device="cuda").digest
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(tiny_file(tmp_path, "sr").read_bytes())
    assert replace(restorer(moved), threads=2).digest == first.digest


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    """In one process, too, as in a notebook: the digest says that the weights are others."""
    path = tmp_path / "sr.safetensors"
    picture = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    results, digests = [], set()
    for seed in (3, 4, 3):
        save_weights(path, tiny_network("sr", seed), "sr", {})
        restorer = get_restorer(str(path))
        digests.add(restorer.digest)
        results.append(restore_part(restorer, 100, picture, (0, 0, 10, 12)))
    assert len(digests) == 2
    assert not np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_a_file_of_a_remover_is_used_wholly(tmp_path: Path) -> None:
    (step,) = network_restorer(str(tiny_file(tmp_path, "jpeg")), super_resolution="auto", device="cpu", threads=1).steps
    assert step.strength == load_step(step).strength == 1


def test_only_faces_that_are_enlarged_are_restored_in_several_orientations(tmp_path: Path) -> None:
    path = tmp_path / "jpeg.safetensors"
    save_weights(path, ArtifactRemover((6, 8), (1, 1), self_ensemble=2), "jpeg", {})
    restorer = network_restorer(str(path), super_resolution="auto", device="cpu", threads=1)
    picture = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    crops = [(restorer.plan(side), picture, (0, 0, 16, 24)) for side in (1023, 1024)]
    results = restorer.run(crops)
    assert [load_step(plan.steps[0]).self_ensemble for plan, _, _ in crops] == [2, 1]
    for (plan, _, _), result in zip(crops, results, strict=True):
        np.testing.assert_array_equal(result, restore(load_step(plan.steps[0]), picture, precision=restorer.precision))
    assert not np.array_equal(*results)


def test_the_digest_tells_the_removers_strength(tiny: NetworkRestorer) -> None:
    remover, resolver = tiny.steps
    weaker = [replace(tiny, steps=(replace(remover, strength=strength), resolver)) for strength in (0.0, 0.5)]
    assert len({restorer.digest for restorer in (tiny, *weaker)}) == 3
    assert pickle.loads(pickle.dumps(weaker[1])) == weaker[1]


def test_a_graphics_processor_takes_several_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tiny_file(tmp_path, "sr"))
    assert get_restorer("none").batch_size == get_restorer(path).batch_size == 1
    monkeypatch.setattr(restorers, "torch_device", torch.device)
    assert get_restorer(path, device="mps").batch_size == restorers.GPU_BATCH > 1


def test_a_restorer_travels_without_its_networks(tiny: NetworkRestorer) -> None:
    _ = tiny.plan(100)  # loads them
    packed = pickle.dumps(tiny)
    assert len(packed) < 2000
    assert pickle.loads(packed) == tiny


def test_torch_is_not_loaded_for_builds_without_networks() -> None:
    code = (
        "import sys, datatools.restore, pipelines, pipelines.tasks\n"
        "datatools.restore.get_restorer('none').plan(100.0)\n"
        "print('torch' in sys.modules, 'pipelines.layout' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_one_network_by_name_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {task: str(tiny_file(tmp_path, task)) for task in ("jpeg", "sr")}
    ours = load_network(files["sr"], "sr")
    wanted = tiny_network("sr").state_dict()
    assert all(torch.equal(value, wanted[name].half().float()) for name, value in ours.state_dict().items())
    with pytest.raises(DataError, match="needed is 'sr'"):
        load_network(files["jpeg"], "sr")
    with pytest.raises(DataError, match=r"absent\.safetensors: no such weight file"):
        load_network(str(tmp_path / "absent.safetensors"), "sr")
    with pytest.raises(DataError, match="nobody is neither a restorer's name nor a weight file"):
        load_network("nobody", "sr")
    others = {"one.pth": tiny_network("jpeg"), "four.pth": tiny_network("sr")}
    monkeypatch.setattr(restorers, "load_external", others.__getitem__)
    assert load_network("four.pth", "sr") is others["four.pth"]
    with pytest.raises(DataError, match=r"one\.pth enlarges 1x; give a network that enlarges 4x"):
        load_network("one.pth", "sr")
