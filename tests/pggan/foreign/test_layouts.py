"""Networks of other projects give the pictures and scores that those projects' own code gave."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from datatools.errors import DataError
from pggan.config.settings import NetworkConfig
from pggan.model.files import Model
from pggan.models import load_model
from tests.support import foreign
from tests.support.foreign import SMALL, random_model

PLAIN = replace(SMALL, stddev_group=16, down_step="unfused")
AFTER = replace(PLAIN, stddev_group=0, label_join="after")
ZOO = replace(PLAIN, stddev_group=4, g_first_bias="position")
UNEVEN = (("fmap_base", 8192), ("fmap_max", 512), ("fmap_by_level", ((2, 7), (4, 7), (8, 5), (16, 4))))

Writer = Callable[[Path, Model], None]


def write(name: str, **options: Any) -> Writer:
    return lambda path, model: getattr(foreign, name)(path, model, **options)


LAYOUTS: dict[str, tuple[Writer, NetworkConfig]] = {
    "2018": (write("nvidia2018", fused=True), SMALL),
    "2018, labels": (write("nvidia2018", fused=True), replace(SMALL, classes=3, stddev_group=8)),
    "2018, unfused": (write("nvidia2018", fused=False), PLAIN),
    "2018, float16": (
        write("nvidia2018", fused=True, dtype="float16", pixelnorm_epsilon=1e-4),
        replace(SMALL, pixel_norm="fp16"),
    ),
    "2018, plain": (
        write(
            "nvidia2018",
            fused=True,
            use_wscale=False,
            use_pixelnorm=False,
            use_leakyrelu=False,
            normalize_latents=False,
            mbstd_group_size=0,
        ),
        replace(
            SMALL,
            weights="he",
            g_norm="none",
            g_activation="relu",
            normalize_latents=False,
            d_statistics="none",
            stddev_group=1,
        ),
    ),
    "2018, 4 pixels": (
        write("nvidia2018", fused=True),
        replace(SMALL, resolution=4, fmap_base=16, down_step="unfused"),
    ),
    "2017": (write("nvidia2017"), AFTER),
    "zoo": (write("gan_zoo"), ZOO),
    "zoo, old container": (write("gan_zoo", legacy=True), ZOO),
    "zoo, labels": (write("gan_zoo"), replace(ZOO, classes=2, **dict(UNEVEN))),  # type: ignore[arg-type]
    "zoo, tanh": (write("gan_zoo", lossCriterion="DCGAN"), replace(ZOO, g_tanh=True)),
    "genforce": (write("genforce"), PLAIN),
    "genforce, fused": (write("genforce", fused=True), PLAIN),
    "InterFaceGAN": (write("interfacegan"), SMALL),
    "InterFaceGAN, fused": (write("interfacegan", fused=True), SMALL),
    "mmgeneration": (write("mmgeneration"), replace(SMALL, pixel_norm="mmgeneration")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_networks_come_back(layout: str, tmp_path: Path) -> None:
    writer, config = LAYOUTS[layout]
    saved = random_model(config)
    writer(tmp_path / "file", saved)
    model = load_model(tmp_path / "file")
    assert model.config == config
    alone = "InterFaceGAN" in layout
    expected = {**saved.stored, "generator": saved.ema if alone else saved.generator}
    for name, network in model.stored.items():
        if name in model.untrained:
            assert name == "discriminator"
            continue
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, expected[name].state_dict()[key], msg=f"{name} {key}")
    assert bool(model.untrained) == (alone or layout == "mmgeneration")


@pytest.mark.parametrize(
    ("layout", "lod"), [("2018", 1.25), ("2017", 1.25), ("zoo", 0.25), ("genforce", 1.25), ("InterFaceGAN", 1.25)]
)
def test_how_far_networks_had_grown_comes_back(layout: str, lod: float, tmp_path: Path) -> None:
    writer, config = LAYOUTS[layout]
    writer(tmp_path / "file", random_model(config, lod))
    assert load_model(tmp_path / "file").lod == lod


def test_a_level_of_mmgeneration_that_fades_in(tmp_path: Path) -> None:
    foreign.mmgeneration(tmp_path / "file", random_model(SMALL), weight=0.75)
    model = load_model(tmp_path / "file")
    assert (model.lod, model.images) == (0.25, 12_000)


Options = dict[str, Any]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "nvidia2018",
            {"pixelnorm_epsilon": 1e-3},
            "its pixel norm has an epsilon of 0.001; 1e-8 and 1e-4 can be read",
        ),
        ("nvidia2017", {"use_batchnorm": True}, "its networks have use_batchnorm, which cannot be read"),
        ("nvidia2017", {"mbstat_avg": "flat"}, "its statistics of the minibatch are averaged by 'flat', not over all"),
        ("nvidia2017", {"func": "G_mnist"}, "its networks were made by 'G_mnist', not by G_paper and D_paper"),
        ("nvidia2017", {"use_wscale": False}, "its generator has 27 arrays, which fits no resolution"),
        ("gan_zoo", {"equalizedlR": False}, "its weights are not scaled (equalizedlR); such networks cannot be read"),
        ("gan_zoo", {"leakyReluLeak": 0.1}, "its leaky ReLU has the slope 0.1; 0.2 can be read"),
        ("gan_zoo", {"alpha": -0.5}, "it has grown to the level of detail -0.5, which must be 0 to 2"),
        ("gan_zoo", {"alpha": "half"}, "is damaged, or of an unknown version: could not convert string to float"),
        ("mmgeneration", {"weight": 1.5}, "it has grown to 16 pixels with the weight 1.5"),
    ],
)
def test_networks_that_ours_cannot_hold(name: str, options: Options, message: str, tmp_path: Path) -> None:
    fused = {"fused": True} if name == "nvidia2018" else {}
    model = random_model(ZOO if name == "gan_zoo" else SMALL)
    getattr(foreign, name)(tmp_path / "file", model, **fused, **options)
    with pytest.raises(DataError) as caught:
        load_model(tmp_path / "file")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


WEIGHT, BIAS = "layer4.conv.weight", "layer4.wscale.bias"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({WEIGHT: None}, "the generator lacks layer4.conv.weight"),
        ({BIAS: None}, "the generator lacks layer4.wscale.bias"),
        ({"lod": None}, "the generator lacks lod"),
        ({"layer9.conv.weight": torch.zeros(2)}, "the generator also has layer9.conv.weight"),
        (
            {WEIGHT: torch.zeros(4, 7, 3, 3)},
            f"{WEIGHT} of the generator has the shape (4, 7, 3, 3), which does not fit",
        ),
        ({WEIGHT: torch.zeros(4)}, f"{WEIGHT} of the generator has the shape (4,), which does not fit"),
        ({"layer0.conv.weight": torch.zeros(8, 6)}, "layer0.conv.weight of the generator has the shape (8, 6)"),
        ({"layer0.conv.weight": torch.zeros(0, 6, 4, 4)}, "it has a tensor of shape (0, 6, 4, 4) on 0 numbers"),
        ({WEIGHT: torch.full((4, 8, 3, 3), torch.nan)}, f"{WEIGHT} of the generator has values that are not finite"),
        ({WEIGHT: OrderedDict()}, "an object of the class StateDict where numbers are expected"),
        ({WEIGHT: "text"}, "it has str where numbers are expected"),
        ({"lod": torch.tensor(torch.nan)}, "it has grown to the level of detail nan"),
        ({"lod": torch.zeros(2)}, "is damaged, or of an unknown version"),
        # a claim of more feature maps than any memory holds
        ({"layer1.wscale.bias": torch.zeros(1 << 20)}, "which does not fit the others"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_do_not_fit(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    foreign.interfacegan(path, random_model(SMALL))
    changed = {**torch.load(path, weights_only=True), **changes}
    torch.save(OrderedDict((name, value) for name, value in changed.items() if value is not None), path)
    with pytest.raises(DataError) as caught:
        load_model(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


AUTHENTIC = {
    "pggan2018-fused.pkl": ("pggan2018_fused", "Gs", "G", "D"),
    "pggan2018-unfused-labels.pkl": ("pggan2018_labels", "Gs", "G", "D"),
    "pggan2018-from-theano.pkl": ("theano2017", "Gs", "G", "D"),
    "pggan2017-theano.pkl": ("theano2017", "Gs", "G", "D"),
    "pgan_zoo-legacy.pth": ("pgan_zoo", "avgG", "netG", "netD"),
    "pgan_zoo-labels.pth": ("pgan_zoo_labels", "avgG", "netG", "netD"),
    "genforce-pggan.pth": ("genforce", "generator_smooth", "generator", "discriminator"),
    "interfacegan-pggan.pth": ("interfacegan", "images", "", ""),
    "interfacegan-pggan-fused.pth": ("interfacegan_fused", "images", "", ""),
    "mmgeneration-pggan.pth": ("mmgen", "generator_ema", "generator", ""),
}
"""Files that the projects' own code wrote, how `expected.npz` calls them, the average, generator and discriminator."""


def lod_of(key: str) -> float:
    """lod of the outputs of a key such as "lod1.3", "alpha0.3" or "weight0.7"."""
    for name in ("lod", "alpha", "weight"):
        if key.startswith(name):
            value = float(".".join(key.split(".")[:2]).removeprefix(name))
            return round(1 - value, 6) if name == "weight" else value
    return 0.0


def enlarged(images: Tensor, resolution: int) -> Tensor:
    return functional.interpolate(images, size=resolution, mode="nearest")


@pytest.mark.parametrize("name", AUTHENTIC)
@torch.no_grad()
def test_files_that_the_projects_wrote(name: str, sample_data: Path) -> None:
    folder = sample_data.parent / "oracles" / "foreign"
    tag, average, generator, discriminator = AUTHENTIC[name]
    with np.load(folder / "expected.npz") as arrays:
        expected = {key.removeprefix(f"{tag}."): torch.from_numpy(arrays[key]) for key in arrays if f"{tag}." in key}
    model = load_model(folder / name)
    resolution = model.config.resolution
    compared = 0
    for key, output in expected.items():
        lod, parts = lod_of(key), key.split(".")
        if average in parts or generator in parts:
            network = model.ema if average in parts else model.generator
            pictures = network(expected["latents"], expected.get("labels"), lod + (parts[-1] == "images_16"))
            if parts[-1] == "images":
                pictures = enlarged(pictures, resolution)
            torch.testing.assert_close(pictures, output, atol=2e-4, rtol=0)
        elif discriminator and discriminator in parts:
            reals = expected["reals"][: len(output)]
            reals = functional.avg_pool2d(reals, 2 ** int(lod))
            # the zoo's groups are runs of four
            runs = len(output) // 4 if "pgan_zoo" in tag else 1
            scores, logits = model.discriminator(reals, lod, batches=runs)
            columns = {"scores": scores[:, None], "labels": logits}
            found = columns.get(parts[-1], torch.cat([scores[:, None], logits], dim=1))
            torch.testing.assert_close(found, output, atol=1e-5, rtol=0)
        else:
            continue
        compared += 1
    assert compared >= (1 if "interfacegan" in tag else 5)
