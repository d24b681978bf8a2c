"""datatools.sources.cifar10: binary and Python batches give the same pictures, and no code is run."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.sources.cifar10 import CLASSES, Cifar10, read_batch
from datatools.sources.pictures import SourcePicture
from tests.support.datasets import cifar10_arrays, make_cifar10


def pictures(source: Cifar10, start: int = 0, stop: int = 10**6) -> list[SourcePicture]:
    return [entry for entry in source.entries(start, stop) if isinstance(entry, SourcePicture)]


@pytest.mark.parametrize("kind", ["bin", "py"])
def test_pictures_labels_and_names(kind: str, tmp_path: Path) -> None:
    source = Cifar10(make_cifar10(tmp_path, 8, kind))
    assert (source.count, source.resolution, source.classes) == (40, 32, CLASSES)
    found = pictures(source)
    expected = np.concatenate([data for data, _ in cifar10_arrays(8)]).reshape(-1, 3, 32, 32)
    assert np.array_equal([each.pixels for each in found], expected.transpose(0, 2, 3, 1))
    assert [each.label for each in found] == np.concatenate([labels for _, labels in cifar10_arrays(8)]).tolist()
    assert [found[0].file_name, found[39].file_name] == ["data_batch_1-00000", "data_batch_5-00007"]
    assert found[0].split == 0
    part = pictures(source, 7, 9)
    assert [each.file_name for each in part] == ["data_batch_1-00007", "data_batch_2-00000"]


def test_both_kinds_are_the_same_data_set(tmp_path: Path) -> None:
    binary, python = Cifar10(make_cifar10(tmp_path / "a", 5)), Cifar10(make_cifar10(tmp_path / "b", 5, "py"))
    assert binary.digest == python.digest
    assert binary.digest != Cifar10(make_cifar10(tmp_path / "c", 6)).digest
    for one, other in zip(pictures(binary), pictures(python), strict=True):
        assert (one.file_name, one.md5, one.label) == (other.file_name, other.md5, other.label)


def test_the_batches_folder_itself_can_be_named(tmp_path: Path) -> None:
    make_cifar10(tmp_path)
    assert Cifar10(tmp_path / "cifar-10-batches-bin").count == 40


class Harm:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("payload", [Harm(), np.array([Harm()], object), {b"data": Harm()}])
def test_a_pickle_cannot_run_code(payload: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(payload, protocol=2))
    with pytest.raises(DataError, match=r"data_batch_1: is not a Python batch of CIFAR-10 \(it asks for .*system\)"):
        read_batch(tmp_path / "data_batch_1")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("data_batch_1.bin", b"\x01" * 3072, "its 3,072 bytes are not a multiple of 3073"),
        ("data_batch_1.bin", b"", "it is empty"),
        ("data_batch_1.bin", b"<!doctype html>", "it is a web page"),
        ("data_batch_1.bin", b"\x0a" * 3073, "has the label 10, CIFAR-10 has 10 classes"),
        ("data_batch_1", b"\x80\x02]q\x00", "is not a Python batch"),
        ("data_batch_1", b"<html>", "it is a web page"),
        ("data_batch_1", pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]}, 2), r"are \(2, 3\)"),
        ("data_batch_1", pickle.dumps([1], 2), "is not a Python batch"),
    ],
)
def test_other_files_are_refused_in_one_line(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_batch(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no data_batch_1.bin and no data_batch_1; get it with: python -m"):
        Cifar10(tmp_path)
    (tmp_path / "cifar-10-binary.tar.gz").touch()
    with pytest.raises(
        DataError, match=r"cifar-10-binary.tar.gz: is not unpacked: python -m datatools.download cifar10"
    ):
        Cifar10(tmp_path)
    make_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3.bin: no such file, though data_batch_1.bin is there"):
        Cifar10(tmp_path)
    shutil.rmtree(tmp_path / "cifar-10-batches-bin")
    with pytest.raises(DataError, match="holds no data_batch_1"):
        Cifar10(tmp_path / "nowhere")
