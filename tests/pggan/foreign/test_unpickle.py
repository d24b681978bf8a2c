"""Pickles are read without running what they name, and damaged or hostile ones are refused in one line."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datatools.errors import DataError
from pggan.config.settings import NetworkConfig
from pggan.foreign.containers import read_pickled
from pggan.foreign.unpickle import WeightUnpickler, as_array
from pggan.models import load_model
from tests.support import foreign
from tests.support.foreign import SMALL, random_model, torch_bytes

TINY = NetworkConfig(8, fmap_base=8, fmap_max=4, latent_size=4, down_step="unfused", g_first_bias="position")


def refused(path: Path, content: bytes | None = None) -> str:
    """The one line with which a file is refused."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


class Runs:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = (function, arguments)

    def __reduce__(self) -> Any:
        return self.called


def evil_files(path: Path) -> dict[str, bytes]:
    """Files that would create `path` where Python's or PyTorch's own loaders read them."""
    runs = Runs(os.system, f"touch {path}")
    files = {f"protocol {protocol}": pickle.dumps(runs, protocol) for protocol in (2, 3, 4, 5)}
    for name, call in (("eval", Runs(eval, f"open({str(path)!r}, 'w')")), ("open", Runs(open, str(path), "w"))):
        files[name] = pickle.dumps(call, 4)
    files["in a list"] = pickle.dumps([np.zeros(3), {"variables": [("lod", runs)]}], 4)
    files["in torch's file"] = torch_bytes({"generator": OrderedDict(a=torch.zeros(2), b=runs)})
    files["in torch's old file"] = torch_bytes({"generator": OrderedDict(a=torch.zeros(2), b=runs)}, legacy=True)
    return files


@pytest.mark.parametrize("name", evil_files(Path("x")))
def test_nothing_that_a_pickle_names_is_run(name: str, tmp_path: Path) -> None:
    written = tmp_path / "written"
    content = evil_files(written)[name]
    message = refused(tmp_path / "file", content)
    assert "is not on the list of what may be read; nothing of it was run" in message
    assert not written.exists()
    if name.startswith("protocol"):  # the file is what it claims to be
        pickle.loads(content)
        assert written.exists()


@pytest.mark.parametrize("name", ["argparse.Action", "torch_utils.persistence.X", "dnnlib.tflib.network.Other"])
def test_classes_of_other_projects_are_named(name: str, tmp_path: Path) -> None:
    with foreign.foreign_class(name) as kind:
        content = pickle.dumps((kind(), kind(), kind()), 4)
    assert f"its pickle names '{name}'" in refused(tmp_path / "file", content)


def test_only_the_listed_globals_are_known() -> None:
    names = set(WeightUnpickler(io.BytesIO()).known)
    assert names == {
        *(f"numpy.{core}.multiarray {name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *("numpy ndarray", "numpy dtype", "collections OrderedDict", "torch._utils _rebuild_tensor_v2"),
        *(f"torch {kind}Storage" for kind in ("Half", "Float", "Double", "Int", "Long")),
    }


def operations(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def named(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


NETWORK, ARRAY = named("tfutil", "Network"), named("numpy.core.multiarray", "_reconstruct")
HOSTILE = {
    "state for a function": operations(ARRAY, b"N}\x8c\x08__code__NsK\x00\x86b"),
    "state for a class": operations(NETWORK, b"}\x8c\x01aK\x01sb"),
    "state for a dictionary": operations(b"}}\x8c\x01aK\x01sb"),
    "attributes that are a number": operations(NETWORK, b")\x81K\x01b"),
    "call of a text": operations(b"\x8c\x04evilK\x01\x85R"),
    "call of an object": operations(NETWORK, b")\x81)R"),
    "call of a class's method": operations(named("tfutil", "Network.set_state"), b")R"),
    "arguments that are a list": operations(NETWORK, b"]R"),
    "extension registry": operations(b"\x82\x01"),
    "old instance": operations(b"(itfutil\nNetwork\n"),
    "new object with keywords": operations(NETWORK, b")}\x92"),
    "persistent text": operations(b"Pfile\n"),
    "persistent number": operations(b"K\x01Q"),
    "persistent tuple": operations(b"\x8c\x07storageK\x01K\x02\x87Q"),
    "memo that is not there": operations(b"h\x07"),
    "memo far away": operations(b"K\x01r\xff\xff\xff\xff"),
    "text of 2^60 bytes": operations(b"\x8d", struct.pack("<Q", 1 << 60)),
    "bytes of 2^60 bytes": operations(b"\x8e", struct.pack("<Q", 1 << 60)),
    "frame of 2^60 bytes": operations(b"\x95", struct.pack("<Q", 1 << 60)),
    "number of 2^31 bytes": operations(b"\x8b", struct.pack("<i", (1 << 31) - 1)),
    "deep tuples as a key": operations(b"})", b"\x85" * 100_000, b"K\x01s"),
    "deep tuples in a set": operations(b"(", b")", b"\x85" * 100_000, b"\x91"),
    "empty stack": operations(b"R"),
    "no marks": operations(b"u"),
    "an opcode that is not there": operations(b"\xff"),
    "no end": operations()[:-1],
    "a number": operations(b"K\x01"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name: str, tmp_path: Path) -> None:
    refused(tmp_path / "file", HOSTILE[name])


def array_pickle(shape: tuple[int, ...], kind: str, data: bytes, order: bytes = b"\x8c\x01<") -> bytes:
    """A pickle of one array that claims the shape and the type."""
    sizes = b"(" + b"".join(b"\x8a\x09" + size.to_bytes(9, "little", signed=True) for size in shape) + b"t"
    dtype = named("numpy", "dtype") + b"\x8c" + bytes([len(kind)]) + kind.encode() + b"\x85R"
    dtype += b"(K\x03" + order + b"NNNK\x00K\x00K\x00tb"
    return operations(ARRAY, b")R(K\x01", sizes, dtype, b"\x89C", bytes([len(data)]), data, b"tb")


def test_arrays_are_what_numpy_reads(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for array in (np.arange(6.0).reshape(2, 3), np.arange(6, dtype=">i4"), np.asfortranarray(np.eye(3, 2, dtype="f4"))):
        path.write_bytes(pickle.dumps({"a": array, "b": array[0]}, 4))
        content = read_pickled(path, {})
        np.testing.assert_array_equal(as_array(content["a"]), array)
        np.testing.assert_array_equal(as_array(content["b"]), array[0])
    path.write_bytes(array_pickle((2,), "f4", np.float32([1, 2]).tobytes()))
    np.testing.assert_array_equal(as_array(read_pickled(path, {})), [1, 2])


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_what_torch_reads(tmp_path: Path, legacy: bool) -> None:
    shared = torch.arange(24.0)
    content = {
        "view": shared.view(4, 6)[1:3, ::2],
        "turned": shared.view(2, 3, 4).permute(2, 0, 1),
        "number": torch.tensor(7, dtype=torch.int64),
        "half": torch.ones(3, dtype=torch.float16),
    }
    path = tmp_path / "file"
    path.write_bytes(torch_bytes(content, legacy=legacy))
    read = read_pickled(path, {})
    assert read.keys() == content.keys()
    for name, tensor in content.items():
        np.testing.assert_array_equal(as_array(read[name]), tensor.numpy())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (array_pickle((1 << 40,), "f4", b"1234"), "an array of shape (1099511627776,) and other bytes"),
        (array_pickle((1 << 40, 0), "f4", b""), "is not a weight file that can be read"),
        (array_pickle((-1,), "f4", b"1234"), "an array of the shape (-1,)"),
        (array_pickle((1,), "O8", b"12345678"), "an array of the type 'O8', which are not numbers"),
        (array_pickle((1,), "f4", b"1234", b"\x8c\x01?"), "numbers in the byte order '?'"),
    ],
)
def test_claims_about_arrays(content: bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path / "file", content)


def test_tensors_that_repeat_a_few_numbers(tmp_path: Path) -> None:
    state = foreign.genforce_state(random_model(SMALL).ema)
    state["layer0.bias"] = torch.zeros(1).expand(1 << 40)
    content = {"generator": state, "discriminator": state, "generator_smooth": state}
    message = refused(tmp_path / "file", torch_bytes(content))
    assert "a tensor of shape (1099511627776,) on 1 numbers" in message


def rewritten(content: bytes, change: Callable[[str, bytes], bytes | None], **options: Any) -> bytes:
    """A zip archive whose parts were changed; None leaves one out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", **options) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return stream.getvalue()


def test_archives_that_are_not_torchs(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    foreign.genforce(path, random_model(SMALL))
    whole = path.read_bytes()
    load_model(path)
    compressed = rewritten(whole, lambda _, data: data, compression=zipfile.ZIP_DEFLATED)
    assert "a compressed archive" in refused(path, compressed)
    without = rewritten(whole, lambda name, data: None if name.endswith("/data/3") else data)
    assert "it lacks the numbers of the storage '3'" in refused(path, without)
    short = rewritten(whole, lambda name, data: data[:-4] if name.endswith("/data/3") else data)
    assert "and other bytes than that needs" in refused(path, short)
    swapped = rewritten(whole, lambda name, data: b"big" if name.endswith("byteorder") else data)
    assert "its numbers are big-endian" in refused(path, swapped)
    other = rewritten(whole, lambda name, data: None if name.endswith("data.pkl") else data)
    assert "a zip archive, but not one of PyTorch's" in refused(path, other)


def test_files_that_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "file"
    model = random_model(TINY)
    for write in (
        lambda: foreign.gan_zoo(path, model, legacy=True),
        lambda: foreign.gan_zoo(path, model),
        lambda: foreign.nvidia2018(path, model, fused=False),
    ):
        write()
        whole = path.read_bytes()
        for share in (0.0005, 0.01, 0.3, 0.7, 0.999):
            message = refused(path, whole[: int(len(whole) * share)])
            assert "cut off" in message or "damaged" in message or "cannot be read as a model file" in message


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_files_are_refused_or_read(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    foreign.gan_zoo(path, random_model(TINY), legacy=True)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(DataError):
        assert all(torch.isfinite(parameter).all() for parameter in load_model(path).ema.parameters())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_back(protocol: int, tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, True, -300, 1 << 70], "b": ("text", (), ("x",) * 9), "c": {"d": {}}, 5: []}
    (tmp_path / "file").write_bytes(pickle.dumps(content, protocol))
    assert read_pickled(tmp_path / "file", {}) == content
