"""Style-based networks of other projects give the pictures and scores that those projects' own code gave."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datatools.errors import DataError
from pggan.config.style import StyleConfig
from pggan.foreign import LAYOUTS
from pggan.model.files import Model
from pggan.model.style import StyleGenerator
from pggan.model.style_discriminator import StyleDiscriminator
from pggan.models import load_model
from tests.support import foreign
from tests.support.foreign import FILTER, STYLE, Persistent, foreign_class, random_model, torch_bytes

Writer = Callable[[Path, Model], None]
LABELS = replace(STYLE, classes=3, label_layers=3, d_architecture="orig", stddev_group=8)


def write(name: str, **options: Any) -> Writer:
    return lambda path, model: getattr(foreign, name)(path, model, **options)


LAYOUTS_WRITTEN: dict[str, tuple[Writer, StyleConfig]] = {
    "TensorFlow": (write("stylegan2"), STYLE),
    "TensorFlow, others of table 2": (
        write("stylegan2", mbstd_group_size=2),
        replace(STYLE, g_architecture="resnet", d_architecture="skip", stddev_group=2),
    ),
    "TensorFlow, plain": (write("stylegan2"), replace(STYLE, g_architecture="orig", d_architecture="orig")),
    "ADA": (write("stylegan2_ada"), STYLE),
    "ADA, protocol 3": (write("stylegan2_ada", protocol=3), replace(STYLE, mapping_layers=3)),
    "ADA, labels": (write("stylegan2_ada"), LABELS),
    "rosinality": (write("rosinality"), STYLE),
    "rosinality, training": (write("rosinality", training=True), STYLE),
}


@pytest.mark.parametrize("layout", LAYOUTS_WRITTEN)
def test_networks_come_back(layout: str, tmp_path: Path) -> None:
    writer, config = LAYOUTS_WRITTEN[layout]
    saved = random_model(config)
    writer(tmp_path / "file", saved)
    model = load_model(tmp_path / "file")
    assert model.config == config
    assert (model.lod, model.images, model.untrained) == (0.0, 0, ())
    for name, network in model.stored.items():
        for key, value in network.state_dict().items():
            if key == "w_average" and "rosinality" in layout:
                continue  # the file has one for both generators, or none
            torch.testing.assert_close(value, saved.stored[name].state_dict()[key], msg=f"{name} {key}")
    if layout == "rosinality":
        torch.testing.assert_close(model.ema.get_buffer("w_average"), saved.ema.get_buffer("w_average"))


def test_the_average_of_w_that_a_training_run_does_not_store(tmp_path: Path) -> None:
    foreign.rosinality(tmp_path / "file", random_model(STYLE), training=True)
    model = load_model(tmp_path / "file")
    for network in (model.ema, model.generator):
        assert isinstance(network, StyleGenerator)
        w = network.map(torch.randn(4096, 6, generator=torch.Generator().manual_seed(1)))
        error = (network.w_average - w.mean(dim=0)).abs()
        assert (error < 0.15 * w.std(dim=0)).all()
        assert (error > 0).any()


def test_an_average_alone(tmp_path: Path) -> None:
    foreign.rosinality(tmp_path / "file", random_model(STYLE))
    content = torch.load(tmp_path / "file", weights_only=True)
    torch.save({name: content[name] for name in ("g_ema", "latent_avg")}, tmp_path / "file")
    model = load_model(tmp_path / "file")
    assert model.untrained == ("discriminator",)
    assert model.pictures([1]).shape == (1, 16, 16, 3)


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(DataError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("stylegan2", {"function": "G_synthesis_stylegan_revised"}, "the function 'G_synthesis_stylegan_revised'; "),
        ("stylegan2", {"label_size": 10}, "its networks have label_size 10; 0 can be read"),
        ("stylegan2", {"nonlinearity": "relu"}, "its networks have nonlinearity relu; lrelu can be read"),
        ("stylegan2", {"resample_kernel": [1, 2, 1]}, "its networks have resample_kernel [1, 2, 1]; [1, 3, 3, 1] can"),
        ("stylegan2_ada", {"num_channels": 2}, "its discriminator lacks the deviation within groups as one more map"),
        ("stylegan2_ada", {"group_size": None}, "its discriminator lacks the deviation within groups"),
        (
            "stylegan2_ada",
            {"changes": {"G.synthesis.b8.conv0": {"activation": "relu"}}},
            "its synthesis.b8.conv0 has the activation relu; lrelu can be read",
        ),
        (
            "stylegan2_ada",
            {"changes": {"G.mapping.fc1": {"bias_gain": 0.1}}},
            "its mapping has the rate 0.1; 0.01 can be read",
        ),
        ("rosinality", {"taps": FILTER.T**2}, "is not that of [1, 3, 3, 1], the only one that can be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_networks_that_ours_cannot_hold(name: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    getattr(foreign, name)(tmp_path / "file", random_model(STYLE), **options)
    assert message in refused(tmp_path / "file")


WEIGHT, BIAS = "convs.2.conv.weight", "convs.2.activate.bias"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({WEIGHT: None}, f"g_ema lacks {WEIGHT}"),
        ({"convs.9.conv.weight": torch.zeros(2)}, "g_ema also has convs.9.conv.weight"),
        ({WEIGHT: torch.zeros(1, 4, 7, 3, 3)}, f"{WEIGHT} of g_ema has the shape (1, 4, 7, 3, 3), which does not fit"),
        ({WEIGHT: torch.zeros(4)}, f"{WEIGHT} of g_ema has the shape (4,), which does not fit"),
        ({WEIGHT: torch.full((1, 4, 8, 3, 3), torch.inf)}, f"{WEIGHT} of g_ema has values that are not finite"),
        ({"convs.1.activate.bias": torch.zeros(9)}, "its feature maps by level (8 at 4, 9 at 8, 4 at 16, 8 at 2) are"),
        ({"style.1.bias": torch.zeros(1 << 20)}, "which does not fit the others"),
        ({"style.1.weight": "text"}, "it has str where numbers are expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_do_not_fit(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    foreign.rosinality(path, random_model(STYLE))
    content = torch.load(path, weights_only=True)
    changed = {**content["g_ema"], **changes}
    content["g_ema"] = {name: value for name, value in changed.items() if value is not None}
    torch.save(content, path)
    assert message in refused(path)


def ada_file(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, 4))


def test_what_ada_files_may_name_stays_harmless(tmp_path: Path) -> None:
    path, written = tmp_path / "file", tmp_path / "written"
    evil = pickle.dumps(Evil(written), 2)
    load_from_bytes = torch.storage._load_from_bytes
    for name, data in {
        "a pickle": evil,
        "torch's file": torch_bytes([Evil(written)], legacy=True),
        "a file within": pickle.dumps(Persistent(load_from_bytes, b"x"), 2),
    }.items():
        ada_file(path, Persistent(load_from_bytes, data))
        assert "is not on the list of what may be read; nothing of it was run" in refused(path), name
    for data in ("text", pickle.dumps(1, 2), torch_bytes([torch.zeros(2)], legacy=True)):
        ada_file(path, Persistent(load_from_bytes, data))
        assert "it has bytes that are not a storage of PyTorch" in refused(path)
    assert not written.exists()


class Evil:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def test_modules_that_never_end(tmp_path: Path) -> None:
    with foreign_class("torch_utils.persistence._reconstruct_persistent_obj", lambda meta: meta) as function:

        def module(children: dict[str, Any]) -> Any:
            return Persistent(
                function, {"state": {"_parameters": {}, "_buffers": {}, "_modules": children, "activation": "linear"}}
            )

        doubled = module({})
        for _ in range(60):  # 2^60 modules, each but once in the file
            doubled = module({"a": doubled, "b": doubled})
        inside: dict[str, Any] = {}
        itself = module(inside)
        inside["again"] = itself
        for network in (doubled, itself):
            ada_file(tmp_path / "file", {"before": inside, "G": network, "D": network, "G_ema": network})
            assert "it has more than 1000 modules" in refused(tmp_path / "file")
        ada_file(tmp_path / "file", {"G": Persistent(function, 3)})
        assert "it has a module without attributes" in refused(tmp_path / "file")
        ada_file(tmp_path / "file", {"G": module({"a": 1}), "D": module({}), "G_ema": module({"a": 1})})
        assert "its a. is not a module" in refused(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"\x80\x03cbuiltins\nset\n](K\x01e\x85R.")
    assert "it has a set that is not empty" in refused(tmp_path / "file")


def test_each_layout_names_what_its_files_need() -> None:
    names = {layout.name: set(layout.globals) for layout in LAYOUTS if layout.globals}
    assert names["stylegan2 (TensorFlow)"] == {"dnnlib.tflib.network Network"}
    assert names["rosinality's stylegan2-pytorch"] == {"argparse Namespace"}
    assert names["stylegan2-ada-pytorch"] == {
        *("torch_utils.persistence _reconstruct_persistent_obj", "dnnlib.util EasyDict", "builtins set"),
        *("torch._utils _rebuild_parameter", "torch.storage _load_from_bytes"),
    }


def test_a_file_that_names_what_another_project_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with foreign_class("tfutil.Network") as kind:
        foreign.stylegan2(path, random_model(STYLE), more=kind())
    message = refused(path)
    assert "its pickle names 'tfutil.Network', which no file of stylegan2 (TensorFlow) does" in message


def test_labels_choose_the_pictures_and_weigh_the_scores() -> None:
    model = random_model(LABELS)
    first, second = model.pictures([5], label=0), model.pictures([5], label=1)
    assert (first != second).any()
    assert (first == model.pictures([5, 6], label=0)[:1]).all()
    images, classes = torch.randn(3, 3, 16, 16), torch.eye(3)
    assert isinstance(model.discriminator, StyleDiscriminator)
    scores, _ = model.discriminator(images[:1].expand(3, -1, -1, -1), labels=classes)
    assert len(set(scores.tolist())) == 3
    with pytest.raises(ValueError, match=r"labels of shape None: the network has 3 classes"):
        model.discriminator(images)
    with pytest.raises(ValueError, match=r"labels of shape \(2, 2\): the network has 3 classes"):
        model.ema(model.latents([1, 2]), torch.eye(2))


AUTHENTIC = {
    "stylegan2.pkl": ("stylegan2", "Gs", "G", "D"),
    "stylegan2-ada-pytorch.pkl": ("stylegan2_ada", "G_ema", "G", "D"),
    "stylegan2-ada-pytorch-labels.pkl": ("stylegan2_ada_labels", "G_ema", "G", "D"),
    "rosinality-converted.pt": ("rosinality", "g_ema", "g", "d"),
    "rosinality-train.pt": ("rosinality", "g_ema", "g", "d"),
}
"""Files that the projects' own code wrote, how `expected.npz` calls them, the average, generator and discriminator."""


@pytest.mark.parametrize("name", AUTHENTIC)
@torch.no_grad()
def test_files_that_the_projects_wrote(name: str, sample_data: Path) -> None:
    folder = sample_data.parent / "oracles" / "foreign"
    tag, average, generator, discriminator = AUTHENTIC[name]
    with np.load(folder / "expected.npz") as arrays:
        expected = {key.removeprefix(f"{tag}."): torch.from_numpy(arrays[key]) for key in arrays if f"{tag}." in key}
    model = load_model(folder / name)
    labels = expected.get("labels")
    of_latents = None if labels is None else labels[:4]
    compared = 0
    for key, output in expected.items():
        parts = key.split(".")
        if discriminator in parts:
            scores, _ = model.discriminator(expected["reals"], labels=labels)
            torch.testing.assert_close(scores[:, None], output, atol=1e-5, rtol=0)
        elif average in parts or generator in parts:
            network = model.ema if average in parts else model.generator
            assert isinstance(network, StyleGenerator)
            if parts[-1] == "w":
                torch.testing.assert_close(network.map(expected["latents"], of_latents), output, atol=1e-5, rtol=0)
            elif key.startswith("psi1.0") or name != "rosinality-train.pt":  # which has no average to truncate to
                psi = float(".".join(parts[:2]).removeprefix("psi"))
                pictures = network(expected["latents"], of_latents, psi=psi, noise="fixed")
                torch.testing.assert_close(pictures, output, atol=2e-4, rtol=0)
            else:
                continue
        else:
            continue
        compared += 1
    assert compared >= 5
