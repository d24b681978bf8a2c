"""Sets side by side: the metrics' own numbers, the floor, and what is kept about reals for the same question only."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datatools.errors import DataError
from pggan import evaluate
from pggan.metrics import compare as measure_module
from pggan.metrics.compare import Levels, measure
from pggan.metrics.image_sets import PyramidSet
from pggan.metrics.lpips import Lpips
from pggan.metrics.ms_ssim import ms_ssim
from pggan.metrics.options import Options
from pggan.metrics.swd import Descriptors, swd
from tests.support.extractors import write_lpips
from tests.support.metrics_reference import clouds, soften
from tests.support.pggan_runs import write_pyramid

SIDE = 32
OPTIONS = Options(count=24, patches=16, repeats=2, directions=16)


class ArraySet:
    """Images in memory."""

    def __init__(self, images: NDArray[np.uint8], digest: str | None = "a", name: str = "images") -> None:
        self.images, self.digest, self.name = images, digest, name
        self.count, self.resolution = len(images), images.shape[2]
        self.settings = {"resolution": self.resolution}
        self.read = 0

    def batches(self, count: int, size: int, *, start: int = 0, mirror_seed: int | None = None) -> Any:
        for first in range(start, start + count, size):
            part = slice(first, min(first + size, start + count))
            some = (self.images if mirror_seed is None else mirrored(self.images))[part]
            self.read += len(some)
            yield some.copy()


def similarity(images: NDArray[np.uint8]) -> float:
    """MS-SSIM of images 2k and 2k + 1."""
    return float(ms_ssim(images[0::2], images[1::2]).mean())


def mirrored(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every other image mirrored: pairs would not differ if all of them were."""
    return np.where(np.arange(len(images))[:, None, None, None] % 2, images[..., ::-1], images)


class Extractor:
    """Means of the channels, and of the halves."""

    def __init__(self, weights: str = "none") -> None:
        self.recipe = {"network": "means", "weights_sha256": weights}

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert images.dtype == torch.uint8
        halves = images.float().unflatten(3, (2, -1)).mean(dim=(2, 4)).flatten(1) / 25
        return halves, halves[:, :4]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def fakes() -> ArraySet:
    return ArraySet(soften(clouds(30, SIDE, 1)), digest=None, name="fakes")


@pytest.fixture
def reals() -> ArraySet:
    return ArraySet(clouds(60, SIDE, 2), name="reals")


def distance(a: NDArray[np.uint8], b: NDArray[np.uint8], seeds: tuple[int, int, int]) -> dict[int, float]:
    sets = []
    for images, seed in ((a, seeds[0]), (b, seeds[1])):
        gathered = Descriptors(len(images), SIDE, seed, patches=16)
        gathered.add(images)
        sets.append(gathered)
    return swd(sets[0], sets[1], seeds[2], 2, 16)


def test_numbers_are_those_of_the_metrics(fakes: ArraySet, reals: ArraySet) -> None:
    found = measure(fakes, reals, ["swd", "ms-ssim"], OPTIONS)
    expected = distance(fakes.images[:24], reals.images[:24], (0, 1, 0))
    assert found.swd == Levels(expected)
    assert found.swd.average == pytest.approx(np.mean(list(expected.values())))
    assert found.floor == Levels(distance(reals.images[:24], reals.images[24:48], (1, 2, 0)))
    assert found.pairs["ms-ssim"] == pytest.approx(similarity(fakes.images[:24]), rel=1e-12)
    assert found.pairs_reals["ms-ssim"] == pytest.approx(similarity(reals.images[:24]), rel=1e-12)
    assert found.notes == ()
    assert 1.2 * found.floor.by_size[32] < found.swd.by_size[32]


def test_batches_do_not_matter(fakes: ArraySet, reals: ArraySet, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(fakes, reals, ["swd", "ms-ssim"], replace(OPTIONS, count=23))
    monkeypatch.setattr(measure_module, "LARGEST_BATCH", 4)
    monkeypatch.setattr(measure_module, "IN_MEMORY", 0)  # by way of temporary files
    again = measure(fakes, reals, ["swd", "ms-ssim"], replace(OPTIONS, count=23))
    assert again.swd is not None
    assert found.swd is not None
    assert again.swd.by_size == pytest.approx(found.swd.by_size, rel=1e-6)
    assert again.pairs["ms-ssim"] == pytest.approx(found.pairs["ms-ssim"], rel=1e-12)


def test_progress_goes_on_while_distances_are_found(fakes: ArraySet, reals: ArraySet) -> None:
    reported: dict[str, list[tuple[int, int]]] = {}

    def tell(what: str, done: int, total: int) -> None:
        reported.setdefault(what, []).append((done, total))

    measure(fakes, reals, ["swd"], OPTIONS, tell)
    assert reported["distance of reals"] == [(0, 4)] + [(1, 4)] * 4  # two levels, two repeats
    for steps in reported.values():
        assert sum(done for done, _ in steps) == steps[0][1]


def test_json(fakes: ArraySet, reals: ArraySet) -> None:
    found = json.loads(json.dumps(measure(fakes, reals, ["swd", "ms-ssim"], OPTIONS).to_json()))
    assert sorted(found["swd"]) == ["average", "floor", "levels"]
    assert sorted(found["swd"]["levels"]) == sorted(found["swd"]["floor"]["levels"]) == ["16", "32"]
    assert found["swd"]["average"] == pytest.approx(np.mean(list(found["swd"]["levels"].values())))
    assert 0 <= found["ms_ssim"] <= 1
    only = measure(fakes, reals, ["ms-ssim"], OPTIONS).to_json()
    assert only["swd"] is None


def test_no_floor_without_twice_as_many_reals(fakes: ArraySet, reals: ArraySet) -> None:
    few = ArraySet(reals.images[:47], name="few.h5")
    found = measure(fakes, few, ["swd"], OPTIONS)
    assert found.floor is None
    assert found.to_json()["swd"]["floor"] is None
    assert found.notes == ("no floor of SWD: few.h5 has 47 images, fewer than twice 24; with 23 there is one",)
    assert measure(fakes, ArraySet(reals.images[:48]), ["swd"], OPTIONS).floor is not None
    quiet = measure(fakes, reals, ["swd", "ms-ssim"], replace(OPTIONS, floor=False))
    assert (quiet.floor, quiet.pairs_reals, quiet.notes) == (None, {}, ())
    assert quiet.swd == measure(fakes, reals, ["swd"], OPTIONS).swd


def test_usual_settings_are_the_papers() -> None:
    """Section 5 of the paper: 128 patches per image, 4 times 128 directions."""
    usual = Options(count=2)
    assert (usual.patches, usual.repeats, usual.directions, evaluate.DEFAULT_IMAGES) == (128, 4, 128, 16_384)


def test_reals_are_mirrored_and_fakes_are_not(fakes: ArraySet, reals: ArraySet) -> None:
    options = replace(OPTIONS, mirror=True, extractors={"inception": Extractor()})
    found = measure(fakes, reals, ["swd", "ms-ssim", "fid"], options)
    seen = mirrored(reals.images)
    assert found.swd == Levels(distance(fakes.images[:24], seen[:24], (0, 1, 0)))
    assert found.floor == Levels(distance(seen[:24], seen[24:48], (1, 2, 0)))
    assert found.pairs["ms-ssim"] == pytest.approx(similarity(fakes.images[:24]), rel=1e-12)
    assert found.pairs_reals["ms-ssim"] == pytest.approx(similarity(seen[:24]), rel=1e-12)
    assert found.pairs_reals["ms-ssim"] != pytest.approx(similarity(reals.images[:24]), rel=1e-3)
    plain = replace(options, mirror=False)
    assert found.figures == measure(fakes, ArraySet(seen), ["fid"], plain).figures
    assert found.figures != measure(fakes, reals, ["fid"], plain).figures


def test_what_is_known_about_reals_is_not_found_again(fakes: ArraySet, reals: ArraySet, tmp_path: Path) -> None:
    options = replace(OPTIONS, cache=tmp_path / "cache")
    first = measure(fakes, reals, ["swd", "ms-ssim"], options)
    assert reals.read == 48
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert measure(fakes, reals, ["swd", "ms-ssim"], options) == first
    assert reals.read == 72  # once more, for the distance to the fakes
    measure(fakes, reals, ["ms-ssim"], options)
    assert reals.read == 72


@pytest.mark.parametrize(
    "changes",
    [{"count": 22}, {"seed": 1}, {"mirror": True}, {"patches": 8}, {"repeats": 1}, {"directions": 8}],
    ids=lambda changes: next(iter(changes)),
)
def test_other_settings_are_another_question(
    changes: dict[str, Any], fakes: ArraySet, reals: ArraySet, tmp_path: Path
) -> None:
    measure(fakes, reals, ["swd"], replace(OPTIONS, cache=tmp_path))
    found = measure(fakes, reals, ["swd"], replace(OPTIONS, cache=tmp_path, **changes))
    assert found.floor == measure(fakes, reals, ["swd"], replace(OPTIONS, **changes)).floor
    assert len(list(tmp_path.iterdir())) == 2


def test_other_data_are_another_question(fakes: ArraySet, reals: ArraySet, tmp_path: Path) -> None:
    options = replace(OPTIONS, cache=tmp_path)
    measure(fakes, reals, ["swd"], options)
    for other in (ArraySet(clouds(60, SIDE, 3), "b"), ArraySet(clouds(60, SIDE, 3), None)):
        assert measure(fakes, other, ["swd"], options).floor == measure(fakes, other, ["swd"], OPTIONS).floor
    assert len(list(tmp_path.iterdir())) == 2  # data without a digest are never kept
    half_faded = ArraySet(clouds(60, SIDE, 4), "a")
    half_faded.settings["fading"] = 0.5
    assert measure(fakes, half_faded, ["swd"], options).floor == measure(fakes, half_faded, ["swd"], OPTIONS).floor


def test_a_file_moved_to_another_question_is_no_answer(fakes: ArraySet, reals: ArraySet, tmp_path: Path) -> None:
    options = replace(OPTIONS, cache=tmp_path)
    first = measure(fakes, reals, ["swd"], options)
    (path,) = tmp_path.iterdir()
    other = ArraySet(clouds(60, SIDE, 3), "b")
    measure(fakes, other, ["swd"], options)
    (theirs,) = set(tmp_path.iterdir()) - {path}
    theirs.replace(path)
    assert measure(fakes, reals, ["swd"], options).floor == first.floor
    for damaged in ("", "{", "[]", '{"question": 3}', "null"):
        path.write_text(damaged)
        assert measure(fakes, reals, ["swd"], options).floor == first.floor
        with np.load(path) as kept:
            assert np.mean([kept["32"], kept["16"]]) == pytest.approx(first.floor.average)  # type: ignore[union-attr]


def test_a_cache_that_cannot_be_written_is_told(fakes: ArraySet, reals: ArraySet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = measure(fakes, reals, ["swd", "ms-ssim"], replace(OPTIONS, cache=tmp_path / "file"))
    assert found.floor is not None
    (note,) = found.notes
    assert "nothing can be kept there" in note
    assert "another folder" in note


def test_figures_of_an_extractor(fakes: ArraySet, reals: ArraySet, tmp_path: Path) -> None:
    if not find_spec("torch_fidelity"):
        pytest.skip("torch_fidelity is not installed")
    options = replace(OPTIONS, cache=tmp_path, extractors={"inception": Extractor()})
    found = measure(fakes, reals, ["fid", "is", "pr"], options)
    assert sorted(found.figures) == ["fid24", "is24", "pr24"]
    assert found.figures["fid24"]["network"] == "means"


def test_fid_takes_all_reals_and_keeps_their_features(fakes: ArraySet, reals: ArraySet, tmp_path: Path) -> None:
    options = replace(OPTIONS, cache=tmp_path, extractors={"inception": Extractor()})
    found = measure(fakes, reals, ["fid"], options)
    record = found.to_json()["fid24"]
    assert (record["images"], record["reals"], record["weights_sha256"]) == (24, 60, "none")
    assert record["value"] > 0
    assert reals.read == 60
    assert measure(fakes, reals, ["fid"], options) == found
    assert reals.read == 60
    measure(fakes, reals, ["fid"], replace(options, extractors={"inception": Extractor("others")}))
    assert reals.read == 120
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert measure(fakes, reals, ["fid"], options) == found
    with pytest.raises(ValueError, match="no extractor"):
        measure(fakes, reals, ["fid"], OPTIONS)


def test_lpips_of_pairs_and_of_reals(fakes: ArraySet, reals: ArraySet, tmp_path: Path) -> None:
    network = Lpips(write_lpips(tmp_path / "lpips.pth"))
    options = replace(OPTIONS, cache=tmp_path / "cache", lpips=network)
    found = measure(fakes, reals, ["ms-ssim", "lpips"], options)
    expected = [float(network(images[0:24:2], images[1:24:2]).mean()) for images in (fakes.images, reals.images)]
    assert found.pairs["lpips"] == pytest.approx(expected[0], rel=1e-5)
    assert found.pairs_reals["lpips"] == pytest.approx(expected[1], rel=1e-5)
    assert found.pairs["ms-ssim"] == pytest.approx(similarity(fakes.images[:24]), rel=1e-12)
    assert {"ms_ssim", "ms_ssim_reals", "lpips", "lpips_reals"} <= found.to_json().keys()
    read = reals.read
    assert measure(fakes, reals, ["ms-ssim", "lpips"], options) == found
    assert reals.read == read
    other = replace(options, lpips=Lpips(write_lpips(tmp_path / "other.pth", seed=2)))
    assert measure(fakes, reals, ["lpips"], other).pairs_reals["lpips"] != found.pairs_reals["lpips"]
    with pytest.raises(ValueError, match="no network for lpips"):
        measure(fakes, reals, ["lpips"], OPTIONS)


def test_progress_adds_up(fakes: ArraySet, reals: ArraySet) -> None:
    done: dict[str, list[int]] = {}
    measure(fakes, reals, ["swd", "ms-ssim"], OPTIONS, lambda what, n, total: done.setdefault(what, [total]).append(n))
    assert list(done) == ["reals", "other reals", "distance of reals", "images", "distance"]
    assert all(total == sum(steps) for total, *steps in done.values())


@pytest.mark.parametrize(
    ("metrics", "changes", "message"),
    [
        (["swd"], {"count": 61}, "fakes has 30 images, 61 are to be measured: measure fewer"),
        (["swd"], {"count": 31}, "fakes has 30 images, 31 are to be measured"),
        (["ms-ssim"], {"count": 1}, "1 image is too few for ms-ssim: at least 2"),
        (["is"], {"count": 9}, "at least 10"),
        (["pr"], {"count": 3}, "at least 4"),
        (
            ["nonsense"],
            {},
            "unknown metric 'nonsense'; choose from swd, ms-ssim, lpips, fid, is, pr, kid, dc, fd-dinov2",
        ),
        ([], {}, "no metric was named"),
    ],
)
def test_impossible_questions(
    metrics: Any, changes: dict[str, Any], message: str, fakes: ArraySet, reals: ArraySet
) -> None:
    with pytest.raises(DataError, match=message):
        measure(fakes, reals, metrics, replace(OPTIONS, **changes))
    assert fakes.read == reals.read == 0


@pytest.mark.parametrize(("metric", "least"), [("swd", 2), ("ms-ssim", 2), ("fid", 2), ("pr", 4)])
def test_too_few_reals(metric: Any, least: int, fakes: ArraySet, reals: ArraySet) -> None:
    few = ArraySet(reals.images[: least - 1], name="few.h5")
    with pytest.raises(DataError, match=rf"few\.h5 has too few images for {metric}: .*at least {least} .*larger set"):
        measure(fakes, few, ["is", metric], replace(OPTIONS, extractors={"inception": Extractor()}))
    assert fakes.read == few.read == 0


def test_the_processor_measures_for_devices_without_float64(fakes: ArraySet, reals: ArraySet) -> None:
    expected = measure(fakes, reals, ["swd", "ms-ssim"], OPTIONS)
    assert measure(fakes, reals, ["swd", "ms-ssim"], replace(OPTIONS, device="mps")) == expected


def test_there_must_be_room_for_both_sets(fakes: ArraySet, reals: ArraySet, monkeypatch: pytest.MonkeyPatch) -> None:
    both = 2 * 24 * 16 * 147 * 4 * 2  # sets, images, patches, values, bytes, levels
    monkeypatch.setattr(measure_module, "IN_MEMORY", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=both))
    assert measure(fakes, reals, ["swd"], OPTIONS).floor is not None
    fakes.read = reals.read = 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=both - 1))
    with pytest.raises(DataError, match=r"descriptors need .* are free; set TMPDIR to a folder"):
        measure(fakes, reals, ["swd"], OPTIONS)
    assert fakes.read == reals.read == 0


def test_sizes_that_cannot_be_measured(fakes: ArraySet, tmp_path: Path) -> None:
    pyramid = write_pyramid(tmp_path / "ramps.h5", 30)
    with pytest.raises(DataError, match=r"fakes has images of 32 x 32 pixels, .*ramps\.h5 of 16 x 16"):
        measure(fakes, PyramidSet(pyramid), ["swd"], OPTIONS)
    small = PyramidSet(pyramid, 8)
    with pytest.raises(DataError, match=r"8 x 8 pixels have no sliced Wasserstein distance.*at least 16"):
        measure(small, small, ["swd"], OPTIONS)
    with pytest.raises(DataError, match="8 x 8 pixels: MS-SSIM needs"):
        measure(small, small, ["ms-ssim"], OPTIONS)
