"""Every layout, read by the library that defines it, or by a plain reader where that cannot be installed."""

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datatools.exports import ExportOptions, plan_export, write_export
from datatools.pyramid import Pyramid
from tests.support.exports import Pixels, decode, read_class_folders, read_stylegan_zip
from tests.support.pyramid_samples import NAMES, write

CHOSEN = [1, 3, 4, 7, 9, 10]  # images whose attributes, identity and split are known
LEVEL = 16
Export = Callable[..., Path]


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    return Pyramid(write(tmp_path_factory.mktemp("pyramid") / "a.h5", range(12)))


@pytest.fixture
def export(pyramid: Pyramid, tmp_path: Path) -> Export:
    def write_it(to: Any, **options: Any) -> Path:
        out = tmp_path / ("out.zip" if to == "stylegan-zip" else "out")
        write_export(plan_export(pyramid, out, CHOSEN, ExportOptions(to, LEVEL, **options), selection="some"))
        return out

    return write_it


def expected(pyramid: Pyramid, index: int) -> Pixels:
    return pyramid[LEVEL][index].transpose(1, 2, 0)


def assert_pictures(pyramid: Pyramid, pictures: list[Pixels]) -> None:
    assert np.array_equal(np.stack(pictures), np.stack([expected(pyramid, index) for index in CHOSEN]))


def read_rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def test_folder(pyramid: Pyramid, export: Export) -> None:
    out = export("folder")
    rows = read_rows(out)
    assert [row["file_name"] for row in rows] == [f"{index:05}.png" for index in CHOSEN]
    assert_pictures(pyramid, [decode((out / row["file_name"]).read_bytes()) for row in rows])
    about = json.loads((out / "export.json").read_bytes())
    assert about["level_filter"] == "box: rounded mean of 2 x 2 pixels of the top level"
    assert (about["level"], about["count"], about["selection"]) == (LEVEL, len(CHOSEN), "some")
    assert about["source_digest"] == pyramid.digest(LEVEL)


def test_folder_with_names_of_photos_and_csv(pyramid: Pyramid, export: Export) -> None:
    out = export("folder", names="source", metadata="csv")
    with (out / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file_name"] for row in rows][:3] == ["000001.png", "000003.png", "été_4.png"]
    assert_pictures(pyramid, [decode((out / row["file_name"]).read_bytes()) for row in rows])
    assert [float(row["score"]) for row in rows] == pyramid.provenance("score")[CHOSEN].tolist()
    assert np.array_equal([json.loads(row["quad"]) for row in rows], pyramid.provenance("quad")[CHOSEN])
    assert [int(row["attributes.Young"]) for row in rows] == pyramid.attribute("Young")[CHOSEN].tolist()


@pytest.mark.parametrize("picture_format", ["jpeg", "webp"])
def test_lossy_pictures(pyramid: Pyramid, export: Export, picture_format: str) -> None:
    out = export("folder", picture_format=picture_format, quality=100)
    paths = [out / row["file_name"] for row in read_rows(out)]
    assert [path.suffix for path in paths] == [{"jpeg": ".jpg", "webp": ".webp"}[picture_format]] * len(CHOSEN)
    differences = [
        np.abs(decode(path.read_bytes()) - expected(pyramid, index).astype(float)).mean()
        for index, path in zip(CHOSEN, paths, strict=True)
    ]
    assert 0 < max(differences) < 40  # noise, whose colours either format averages


def test_imagefolder(pyramid: Pyramid, export: Export) -> None:
    out = export("imagefolder", labels="Young")
    classes, samples = read_class_folders(out)
    assert classes == ["0-not_Young", "1-Young"]
    young = {index: int(pyramid.attribute("Young")[index] > 0) for index in CHOSEN}
    order = sorted(CHOSEN, key=lambda index: (young[index], index))
    assert [number for _, number in samples] == [young[index] for index in order]
    for (picture, _), index in zip(samples, order, strict=True):
        assert np.array_equal(picture, expected(pyramid, index))


@pytest.mark.parametrize("labels", ["none", "identity", "Young"])
def test_stylegan_zip(pyramid: Pyramid, export: Export, labels: str) -> None:
    names, pictures, found = read_stylegan_zip(export("stylegan-zip", labels=labels))
    assert names == [f"00000/img{index:08}.png" for index in CHOSEN]
    assert_pictures(pyramid, pictures)
    if labels == "none":
        assert found is None
    elif labels == "identity":
        assert found is not None
        assert found.tolist() == list(range(len(CHOSEN)))
    else:
        assert found is not None
        assert found.tolist() == (pyramid.attribute("Young")[CHOSEN] > 0).tolist()


def test_webdataset(pyramid: Pyramid, export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    monkeypatch.setattr("datatools.exports.webdataset.WebDataset.part_images", 4)
    out = export("webdataset", labels="Young", names="source")
    shards = sorted(map(str, out.glob("*.tar")))
    assert len(shards) == 2
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert_pictures(pyramid, [sample["png"] for sample in samples])
    assert [sample["json"] for sample in samples] == read_rows(out)
    assert [sample["cls"] for sample in samples] == (pyramid.attribute("Young")[CHOSEN] > 0).tolist()
    assert [sample["__key__"] for sample in samples][:3] == ["000001", "000003", "été_4"]


def test_tfrecord(pyramid: Pyramid, export: Export) -> None:
    pytest.importorskip("tfrecord", reason="tfrecord is not installed")
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
    from tfrecord.reader import tfrecord_loader

    out = export("tfrecord", labels="identity")
    path = out / "faces-00000-of-00001.tfrecord"
    examples = list(tfrecord_loader(str(path), None))
    assert_pictures(pyramid, [decode(example["image/encoded"]) for example in examples])
    assert [example["photo"].decode() for example in examples] == pyramid.provenance("file_name")[CHOSEN].tolist()
    assert np.array_equal([example["quad"].reshape(4, 2) for example in examples], pyramid.provenance("quad")[CHOSEN])
    assert [example["attributes.Young"].item() for example in examples] == pyramid.attribute("Young")[CHOSEN].tolist()
    assert {example["image/height"].item() for example in examples} == {LEVEL}
    reader = PyRecordReader_New(str(path))  # checks the sums of length and data, which tfrecord does not
    for example in examples:
        reader.GetNext()
        assert example["image/encoded"] in reader.record()


def test_lmdb(pyramid: Pyramid, export: Export) -> None:
    lmdb = pytest.importorskip("lmdb", reason="lmdb is not installed")
    out = export("lmdb")
    with lmdb.open(str(out), readonly=True, lock=False) as database, database.begin() as reading:
        count = int(reading.get(b"length"))
        pictures = [decode(reading.get(f"{LEVEL}-{position:05}".encode())) for position in range(count)]
    assert_pictures(pyramid, pictures)
    assert [row["index"] for row in read_rows(out)] == CHOSEN
    assert sum(path.stat().st_size for path in out.iterdir()) < 100_000


@pytest.fixture
def load_dataset(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(folder / "home"))
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    return partial(datasets.load_dataset, cache_dir=str(folder / "cache"))


def test_huggingface(pyramid: Pyramid, export: Export, load_dataset: Callable[..., Any]) -> None:
    faces = load_dataset(str(export("huggingface", labels="Young")))["train"]
    assert_pictures(pyramid, [np.asarray(picture) for picture in faces["image"]])
    assert faces.features["label"].names == ["not_Young", "Young"]
    assert np.array_equal(faces["landmarks"], pyramid.provenance("landmarks")[CHOSEN])
    assert faces["photo"][:] == pyramid.provenance("file_name")[CHOSEN].tolist()
    table = np.array([[row[name] for name in NAMES] for row in faces["attributes"]])
    assert np.array_equal(table, pyramid.provenance("attributes")[CHOSEN])


def test_huggingface_reads_a_folder_with_its_metadata(
    pyramid: Pyramid, export: Export, load_dataset: Callable[..., Any]
) -> None:
    faces = load_dataset("imagefolder", data_dir=str(export("imagefolder", labels="identity")))["train"].sort("index")
    assert faces["index"][:] == CHOSEN
    assert_pictures(pyramid, [np.asarray(picture) for picture in faces["image"]])
    assert faces["identity"][:] == pyramid.provenance("identity")[CHOSEN].tolist()
