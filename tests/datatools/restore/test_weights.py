"""Weight files: what is written comes back, and nothing else gets in."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from datatools.errors import DataError
from datatools.restore import weights
from datatools.restore.weights import FORMAT, file_digest, load_remover, load_weights, save_weights, task_of
from tests.support.restore_samples import tiny_network


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sr.safetensors"
    save_weights(path, tiny_network("sr"), "sr", {"steps": 7})
    return path


@pytest.mark.parametrize("task", ["jpeg", "sr"])
def test_round_trip(tmp_path: Path, task: str) -> None:
    path, original = tmp_path / "net.safetensors", tiny_network(task)
    card = {"photos": 12, "curve": [[1, 2.5]], "licence": "Ü"}
    save_weights(path, original, task, card)
    loaded, its_card = load_weights(path, task)
    assert its_card == card
    assert type(loaded) is type(original)
    assert loaded.settings == original.settings
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    for name, value in original.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[name], value.half().float())
    assert path.stat().st_size < 2 * sum(p.numel() for p in original.parameters()) + 4096
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_what_cannot_be_read_is_told_in_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, pipe = file.with_name("folder.safetensors"), file.with_name("pipe.safetensors")
    folder.mkdir()
    os.mkfifo(pipe)
    cases = {
        file.with_name("nothing.safetensors"): "no such weight file",
        folder: "is a folder; name a weight file",
        pipe: "is not a file",
        file / "below.safetensors": "no such weight file",
        file.with_name("long" * 100 + ".safetensors"): "cannot be read: File name too long",
    }

    def check() -> None:
        for path, message in cases.items():
            for ask in (lambda path: load_weights(path, "sr"), task_of, file_digest):
                with pytest.raises(DataError, match=message) as caught:
                    ask(path)
                assert "\n" not in str(caught.value)

    check()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # file modes do not bind every user
    cases = {file: r"sr\.safetensors: cannot be read: Permission denied"}
    check()


def test_the_task_of_a_file(file: Path, tmp_path: Path) -> None:
    assert task_of(file) == "sr"
    assert task_of(tmp_path / "other.pth") is None
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    assert task_of(tmp_path / "other.safetensors") is None


def test_a_file_that_names_no_task(file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        header = dict(opened.metadata())
    del header["task"]
    save_file(load_file(file), file, header)
    with pytest.raises(DataError, match="does not name the task of its weights"):
        task_of(file)
    with pytest.raises(DataError, match="for the task None, needed is 'sr'"):
        load_weights(file, "sr")


def test_the_wrong_task(file: Path) -> None:
    with pytest.raises(DataError, match="for the task 'sr', needed is 'jpeg'"):
        load_weights(file, "jpeg")


def test_removers_are_loaded_as_strong_as_asked_for(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "jpeg.safetensors"
    save_weights(path, tiny_network("jpeg"), "jpeg", {})
    plain = load_weights(path, "jpeg")[0]
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    none, half, whole = (load_remover(path, strength) for strength in (0.0, 0.5, 1.0))
    assert not half.training
    assert torch.equal(none(x), x)
    assert torch.equal(whole(x), plain(x))
    torch.testing.assert_close(half(x), (x + plain(x)) / 2, rtol=0, atol=1e-6)
    with pytest.raises(DataError, match="for the task 'sr', needed is 'jpeg'"):
        load_remover(file, 1.0)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 0.5, -1])
def test_truncated_files(file: Path, kept: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(DataError, match="damaged or not a weight file"):
        load_weights(file, "sr")


@pytest.mark.parametrize("position", [0, 3, 7, 8, 20, 60, 200])
def test_damaged_headers_are_an_error_or_harmless(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 0x5A
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"sr\.safetensors"):
        load_weights(file, "sr")


@pytest.mark.parametrize("content", [b"text, no weights", b"\x89PNG\r\n\x1a\n" + bytes(64), b"\xff" * 64, bytes(64)])
def test_other_kinds_of_file(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match="damaged or not a weight file"):
        load_weights(file, "sr")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "it is a web page, not the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"),
        (pickle.dumps({"weight": 1}), "it is a pickle"),
    ],
)
def test_what_the_file_is_instead_is_named(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    for ask in (task_of, lambda path: load_weights(path, "sr")):
        with pytest.raises(DataError, match=f"damaged or not a weight file: {message}"):
            ask(file)


def rewrite(path: Path, changed: dict[str, str] | None = None, **tensors: torch.Tensor) -> None:
    """The same file with other metadata or tensors."""
    with safe_open(path, framework="pt") as opened:
        header = dict(opened.metadata())
    save_file(load_file(path) | tensors, path, header | (changed or {}))


def test_somebody_elses_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    for header in (None, {"format": "pt"}):
        save_file({"conv.weight": torch.zeros(3, 3)}, path, header)
        with pytest.raises(DataError, match="not a weight file of these networks"):
            load_weights(path, "sr")


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": "{"},
        {"settings": "[]"},
        {"settings": "null"},
        {"settings": json.dumps({"channels": 7, "blocks": 2})},
        {"settings": json.dumps({"channels": 6, "blocks": 3})},
        {"settings": json.dumps({"channels": "6", "blocks": 2})},
        {"settings": json.dumps({"channels": -6, "blocks": 2})},
        {"settings": json.dumps({"colour": "red"})},
        {"settings": json.dumps({"channels": 0, "blocks": 1})},
        {"card": "no JSON"},
        {"card": "[]"},
        {"card": "null"},
    ],
    ids=str,
)
def test_headers_that_do_not_fit(file: Path, changed: dict[str, str]) -> None:
    rewrite(file, changed)
    with pytest.raises(DataError, match="do not fit the network in the file") as caught:
        load_weights(file, "sr")
    assert "\n" not in str(caught.value)


def test_complex_weights(file: Path) -> None:
    rewrite(file, **{name: value.to(torch.complex64) for name, value in load_file(file).items()})
    with pytest.raises(DataError, match="do not fit the network in the file: weights are real numbers"):
        load_weights(file, "sr")


REMOVER = {"channels": [6, 8], "blocks": [1, 1]}
RESOLVER = {"channels": 6, "blocks": 2}


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        *[("jpeg", REMOVER | {"channels": channels}) for channels in ([0, 8], [6, 0])],
        *[("jpeg", REMOVER | {"blocks": blocks}) for blocks in ([1], [], 1)],
        *[("sr", RESOLVER | {"blocks": blocks}) for blocks in ([1], [])],
        *[("jpeg", REMOVER | {"turns": count}) for count in (0, 3, 8, 2.0, [1], [2], True)],
        *[("sr", RESOLVER | {"self_ensemble": count}) for count in (0, 3, 8, 2.0, [1], [2], True)],
    ],
    ids=str,
)
def test_settings_that_no_network_has(task: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """They would be message by the first picture, or not at all."""
    path = tmp_path / "net.safetensors"
    save_weights(path, tiny_network(task), task, {})
    rewrite(path, {"settings": json.dumps(settings)})
    with pytest.raises(DataError, match="do not fit the network in the file") as caught:
        load_weights(path, task)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["self_ensemble", "turns"])
def test_the_self_ensemble_is_read_by_its_old_name_too(name: str, file: Path) -> None:
    rewrite(file, {"settings": json.dumps(RESOLVER | {name: 4})})
    network, _ = load_weights(file, "sr")
    assert network.self_ensemble == 4
    assert network.settings == RESOLVER | {"texture": 0, "self_ensemble": 4}


@pytest.mark.parametrize("settings", [{"channels": 10**6, "blocks": 2}, {"channels": 6, "blocks": 10**9}])
def test_settings_of_a_giant_are_refused_at_once(file: Path, settings: dict[str, Any]) -> None:
    """Before memory for terabytes is asked for, or a billion blocks are built."""
    rewrite(file, {"settings": json.dumps(settings)})
    with pytest.raises(DataError, match="do not fit"):
        load_weights(file, "sr")


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    """A file's digest says whether pixels may differ."""
    for name in ("a", "b"):
        save_weights(tmp_path / name, tiny_network("sr"), "sr", {"steps": 7})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_that_do_not_fit(file: Path) -> None:
    rewrite(file, None, stranger=torch.zeros(3))
    with pytest.raises(DataError, match="do not fit the network in the file"):
        load_weights(file, "sr")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(file: Path, value: float) -> None:
    bias = torch.zeros(6, dtype=torch.float16)
    bias[3] = value
    rewrite(file, None, **{"after.bias": bias})
    with pytest.raises(DataError, match="not finite"):
        load_weights(file, "sr")


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("writer", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_a_pickle_is_refused_and_not_run(file: Path, tmp_path: Path, writer: Any) -> None:
    mark = tmp_path / "executed"
    writer({"weight": Bomb(mark)}, file)
    with pytest.raises(DataError, match="damaged or not a weight file"):
        load_weights(file, "sr")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()  # it would have gone off


def test_large_files_are_not_even_opened(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="larger than any weight file"):
        load_weights(file, "sr")


def test_the_format_is_named_in_the_file(file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    assert header["format"] == FORMAT
    assert header["task"] == "sr"
    rewrite(file, {"format": "celebahq-restorer 2"})
    with pytest.raises(DataError, match="celebahq-restorer 2"):
        load_weights(file, "sr")
