"""Training the restoration networks: it learns, it goes on exactly where it was, and it says what is wrong."""

import dataclasses
import itertools
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from datatools.errors import DataError
from datatools.images import read_rgb, save_png
from datatools.restore.fit import initial, losses, training
from datatools.restore.fit import train as command
from datatools.restore.fit.dataset import Photos, matching, picture_files, split, training_pair
from datatools.restore.fit.distillation import TeacherTargets, load_teacher
from datatools.restore.fit.settings import FitSettings
from datatools.restore.fit.train import choose_device, settings_from
from datatools.restore.fit.training import Fit, load_state, run, save_state, state_path
from datatools.restore.fit.validation import Validation
from datatools.restore.networks import Critic, Orientations, SuperResolver
from datatools.restore.weights import NETWORKS, load_weights, save_weights
from datatools.sample_portraits import Portrait, render
from tests.support.restore_samples import TINY, tiny_network

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(5):
        save_png(folder / f"{seed}.png", render(Portrait(seed, size=(180, 160), unit=45, centre=(90, 80))))
    return folder


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return Photos(picture_files([folder])[:4], 128)


@pytest.fixture(scope="module")
def held_out(folder: Path) -> Photos:
    return Photos(picture_files([folder])[4:], 128)


@pytest.fixture(scope="module")
def distortion(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weight files of tiny networks of either task."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {task: folder / f"{task}.safetensors" for task in TINY}
    for task, path in paths.items():
        save_weights(path, tiny_network(task), task, {})
    return paths


@pytest.fixture(autouse=True)
def small_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The critic and the patches cost more than everything else."""
    monkeypatch.setattr(training, "Critic", lambda: Critic(channels=4))
    monkeypatch.setattr(losses, "DIRECTIONS", 8)


def settings(task: str = "sr", **changes: Any) -> FitSettings:
    values = {"task": task, "steps": 4, "minibatch": 2, "patch": 24, "precision": "fp32", "network": TINY[task]}
    return FitSettings(**(values | changes))


def trained(fit: Fit, out: Path, every: int = 3) -> list[dict[str, float]]:
    return list(run(fit, out, every=every, card={"variant": fit.settings.variant}, progress=lambda: None))


def kinds(distortion: dict[str, Path]) -> dict[str, FitSettings]:
    return {
        "jpeg": settings("jpeg"),
        "sr": settings(),
        "after": settings(degrade_with=str(distortion["jpeg"])),
        "perceptual": settings(variant="perceptual", init_from=str(distortion["sr"])),
        "bf16": settings(precision="bf16"),
        "taught": settings(teacher=str(distortion["sr"]), bicubic=0.6),
        "taught after": settings(
            teacher=str(distortion["sr"]), degrade_with=str(distortion["jpeg"]), degrade_strength=0.5, bicubic=0.6
        ),
    }


KINDS = pytest.mark.parametrize("kind", ["jpeg", "sr", "after", "perceptual", "bf16", "taught", "taught after"])


def begun(chosen: FitSettings, photos: Photos, validation: Validation) -> Fit:
    """The run as the command begins it: each process computes the teacher's targets."""
    teacher_targets = None if chosen.teacher is None else TeacherTargets(photos, load_teacher(chosen.teacher), CPU)
    return Fit(chosen, photos, validation, CPU, teacher_targets)


@KINDS
def test_stopped_and_gone_on_equals_straight_on(
    kind: str, photos: Photos, held_out: Photos, distortion: dict[str, Path], tmp_path: Path
) -> None:
    """Bit for bit, wherever it was killed: after the state was saved, or steps later, which are then done again."""
    chosen = kinds(distortion)[kind]
    validation = Validation(chosen.task, held_out)
    straight = begun(chosen, photos, validation)
    rows = trained(straight, tmp_path / "straight", every=2)
    first = begun(chosen, photos, validation)
    list(itertools.islice(run(first, tmp_path / "x", every=2, card={"variant": chosen.variant}, progress=int), 1))
    first.one_step()  # lost: killed before the next save
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - whatever the process did before
    second = begun(chosen, photos, validation)
    state = load_state(state_path(tmp_path / "x"))
    assert state is not None
    second.load_state(state)
    assert second.step == 2
    trained(second, tmp_path / "x", every=2)
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
        assert torch.equal(straight.ema[name], second.ema[name]), name
    plain = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    assert plain == [{k: v for k, v in row.items() if k != "seconds"} for row in second.curve]
    ours, theirs = (load_weights(tmp_path / name, chosen.task)[0] for name in ("straight", "x"))
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


@KINDS
def test_every_kind_writes_a_network_that_loads(
    kind: str, photos: Photos, held_out: Photos, distortion: dict[str, Path], tmp_path: Path
) -> None:
    chosen = kinds(distortion)[kind]
    fit = begun(chosen, photos, Validation(chosen.task, held_out))
    rows = trained(fit, tmp_path / "net", every=3)
    assert [row["step"] for row in rows] == [3, 4]
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    network, card = load_weights(tmp_path / "net", chosen.task)
    assert card == {"variant": chosen.variant, "steps": 4}
    for name, value in fit.ema.items():
        assert torch.equal(network.state_dict()[name], value.half().float())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.state"]


@pytest.mark.parametrize("task", ["jpeg", "sr"])
def test_it_learns(task: str, photos: Photos, held_out: Photos) -> None:
    """A few dozen steps lower the loss on a batch that was never drawn."""
    fit = Fit(settings(task, steps=40, learning_rate=3e-3), photos, Validation(task, held_out), CPU)

    def loss() -> float:
        fit.step, kept = 10_000, fit.step
        inputs, targets, _ = fit.minibatch()
        fit.step = kept
        with torch.no_grad():
            return float((fit.network(inputs) - targets).abs().mean())

    before = loss()
    for _ in range(40):
        fit.one_step()
    assert loss() < 0.9 * before


def test_seeds_differ_and_repeat(photos: Photos, held_out: Photos) -> None:
    validation = Validation("sr", held_out)
    first, again, other = (Fit(settings(seed=seed), photos, validation, CPU) for seed in (0, 0, 1))
    for fit in (first, again, other):
        fit.one_step()
    weights = [fit.network.state_dict()["entry.weight"] for fit in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("task", ["jpeg", "sr"])
def test_pairs(task: str, photos: Photos) -> None:
    chosen = settings(task)
    scale = 4 if task == "sr" else 1
    for seed in range(20):
        given, wanted = training_pair(photos, chosen, np.random.default_rng(seed))
        assert given.shape == (24, 24, 3)
        assert wanted.shape == (24 * scale, 24 * scale, 3)
        assert given.dtype == wanted.dtype == np.uint8
        # the reduced target is about the input: nothing is shifted
        small = wanted.reshape(24, scale, 24, scale, 3).mean(axis=(1, 3))
        assert np.abs(small - given).mean() < 25


def test_super_resolution_pairs_are_in_place(photos: Photos) -> None:
    chosen = settings(bicubic=0.0)
    errors: dict[tuple[int, int], list[float]] = {shift: [] for shift in itertools.product((-1, 0, 1), repeat=2)}
    for seed in range(30):
        given, wanted = training_pair(photos, chosen, np.random.default_rng(seed))
        small = wanted.reshape(24, 4, 24, 4, 3).mean(axis=(1, 3))
        for shift, found in errors.items():
            found.append(float(np.abs(small - np.roll(given, shift, (0, 1)))[2:-2, 2:-2].mean()))
    assert min(errors, key=lambda shift: np.mean(errors[shift])) == (0, 0)


def test_the_rate_rises_and_falls(photos: Photos, held_out: Photos) -> None:
    fit = Fit(settings(steps=1000, learning_rate=0.5), photos, Validation("sr", held_out), CPU)
    rates = []
    for fit.step in range(1000):
        rates.append(fit.learning_rate())
    assert rates[0] < 0.01
    assert 0.4 < max(rates) <= 0.5
    assert rates[-1] < 1e-5
    top = int(np.argmax(rates))
    assert (np.diff(rates[:top]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()


def test_validation_measures(held_out: Photos) -> None:
    validation = Validation("jpeg", held_out)
    fit_like = lambda p: torch.from_numpy(p).permute(0, 3, 1, 2).float() / 255  # noqa: E731
    found = validation.measure(lambda p: p, fit_like)
    assert found["psnr"] == pytest.approx(found["baseline"], abs=1e-3)
    given, clean = validation.pairs[0]
    error = np.mean((given.astype(float) - clean) ** 2)
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


CHANGES: dict[str, Any] = {
    "task": "jpeg",
    "minibatch": 3,
    "patch": 28,
    "learning_rate": 0.1,
    "seed": 5,
    "precision": "bf16",
    "bicubic": 0.1,
    "network": {"channels": 7, "blocks": 1},
    "degrade_strength": 0.5,
    "teacher": "teacher.pth",
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_another_setting_is_refused_by_name(name: str, photos: Photos, held_out: Photos) -> None:
    state = Fit(settings(), photos, Validation("sr", held_out), CPU).state()
    changes = {name: CHANGES[name]} | ({"network": TINY["jpeg"]} if name == "task" else {})
    other = settings(**changes)
    fit = Fit(other, photos, Validation(other.task, held_out), CPU)
    with pytest.raises(DataError, match=rf"has {name} .*the options say .*\.state"):
        fit.load_state(state)


def test_a_state_from_before_a_setting_existed_goes_on(photos: Photos, held_out: Photos) -> None:
    fit = Fit(settings(), photos, Validation("sr", held_out), CPU)
    state = fit.state()
    del state["settings"]["degrade_strength"]
    fit.load_state(state)
    other = Fit(settings(degrade_strength=0.5), photos, Validation("sr", held_out), CPU)
    with pytest.raises(DataError, match=r"has degrade_strength 1\.0, the options say 0\.5"):
        other.load_state(state)


def test_a_run_can_be_made_longer(photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    chosen = settings(steps=2)
    trained(Fit(chosen, photos, Validation("sr", held_out), CPU), tmp_path / "net")
    longer = Fit(dataclasses.replace(chosen, steps=4), photos, Validation("sr", held_out), CPU)
    longer.load_state(load_state(state_path(tmp_path / "net")) or {})
    assert [row["step"] for row in trained(longer, tmp_path / "net", every=10)] == [4]
    assert [row["step"] for row in longer.curve] == [2, 4]


@pytest.mark.parametrize("changes", [{"texture_strength": 0.5}, {"self_ensemble": 4}, {"steps": 9}])
def test_what_says_nothing_about_training_may_change(changes: Any, photos: Photos, held_out: Photos) -> None:
    validation = Validation("sr", held_out)
    begun = Fit(settings(), photos, validation, CPU)
    begun.one_step()
    fit = Fit(settings(**changes), photos, validation, CPU)
    fit.load_state(begun.state())
    assert fit.step == 1


SPOILT: list[dict[str, Any]] = [
    {"settings": None},
    {"settings": [1]},
    {"step": "soon"},
    {"seconds": None},
    {"curve": 7},
    {"curve": [1]},
    {"network": {}},
    {"network": {"entry.weight": torch.zeros(2)}},
    {"network": None},
    {"ema": {}},
    {"ema": {"entry.weight": 1}},
    {"optimizer": {}},
    {"optimizer": {"adam": {}, "muon": None}},
]


@pytest.mark.parametrize("spoilt", SPOILT, ids=lambda spoilt: str(spoilt)[:40])
def test_a_state_that_does_not_fit_is_told_in_one_line(
    spoilt: dict[str, Any], photos: Photos, held_out: Photos
) -> None:
    fit = Fit(settings(), photos, Validation("sr", held_out), CPU)
    with pytest.raises(DataError, match=r"does not fit .*delete its \.state file") as told:
        fit.load_state(fit.state() | spoilt)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("kept", [0, 30, -200])
def test_a_damaged_state_is_named(kept: int, photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    path = tmp_path / "net.state"
    save_state(path, Fit(settings(), photos, Validation("sr", held_out), CPU).state())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"net\.state cannot be read .*delete it"):
        load_state(path)


def test_a_state_of_an_earlier_version_is_refused(photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    """Its settings have other names."""
    state = Fit(settings(), photos, Validation("sr", held_out), CPU).state()
    state["average"] = state.pop("ema")
    save_state(tmp_path / "net.state", state)
    with pytest.raises(DataError, match=r"net\.state was written by an earlier version of the program; delete it"):
        load_state(tmp_path / "net.state")


def test_a_state_is_no_program(tmp_path: Path) -> None:
    torch.save({"settings": Path("/")}, tmp_path / "net.state")  # a class: only tensors and plain values may load
    with pytest.raises(DataError, match="cannot be read"):
        load_state(tmp_path / "net.state")


def test_a_loss_that_is_not_finite_stops(photos: Photos, held_out: Photos) -> None:
    fit = Fit(settings(), photos, Validation("sr", held_out), CPU)
    with torch.no_grad():
        fit.network.entry.bias.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite at step 0; lower --learning-rate"):
        fit.one_step()


def test_weights_to_begin_from_must_fit(
    photos: Photos, held_out: Photos, distortion: dict[str, Path], tmp_path: Path
) -> None:
    validation = Validation("sr", held_out)
    with pytest.raises(DataError, match="needed is 'sr'"):
        Fit(settings(init_from=str(distortion["jpeg"])), photos, validation, CPU)
    with pytest.raises(DataError, match="no such weight file"):
        Fit(settings(init_from=str(tmp_path / "none")), photos, validation, CPU)
    fit = Fit(settings(init_from=str(distortion["sr"])), photos, validation, CPU)
    loaded = load_weights(distortion["sr"], "sr")[0]
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in fit.network.state_dict().items())
    assert all(p.requires_grad for p in fit.network.parameters())


def options(**changes: Any) -> dict[str, Any]:
    return {
        "task": "sr",
        "variant": "distortion",
        "patch": None,
        "init_from": None,
        "degrade_with": None,
        "teacher": None,
        "blocks": None,
        "ground_truth_weight": 1.0,
        "degrade_strength": 1.0,
        "bicubic": FitSettings.bicubic,
        **{name: getattr(FitSettings, name) for name in command.PERCEPTUAL},
    } | changes


def test_settings_from_options() -> None:
    assert settings_from(options()).patch == 48
    assert settings_from(options(task="jpeg")).patch == 96
    chosen = settings_from(options(patch=32, init_from=Path("a"), degrade_with=Path("b"), variant="perceptual"))
    assert (chosen.patch, chosen.init_from, chosen.degrade_with, chosen.degrade_strength) == (32, "a", "b", 1.0)
    chosen = settings_from(options(degrade_with=Path("b"), degrade_strength=0.0, teacher="teacher.pth"))
    assert (chosen.degrade_with, chosen.degrade_strength, chosen.teacher) == ("b", 0.0, "teacher.pth")
    assert (chosen.network, settings_from(options(blocks=18)).network) == ({}, {"blocks": 18})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patch": 50}, "--patch 50 is not a multiple of 4"),
        ({"task": "jpeg", "variant": "perceptual", "init_from": Path("a")}, "only for --task sr"),
        ({"task": "jpeg", "degrade_with": Path("a")}, "only for --task sr"),
        ({"variant": "perceptual"}, "--init-from"),
        ({"task": "jpeg", "blocks": 18}, "--blocks is only for --task sr"),
        ({"task": "jpeg", "teacher": "teacher.pth"}, "--teacher is only for --task sr --variant distortion"),
        (
            {"variant": "perceptual", "init_from": Path("a"), "teacher": "teacher.pth"},
            "--teacher is only for --task sr",
        ),
        ({"texture_weight": 3.0}, "--texture-weight is only for --variant perceptual"),
        ({"task": "jpeg", "texture_strength": 0.2}, "--texture-strength is only for --variant perceptual"),
        ({"task": "jpeg", "bicubic": 0.1}, "--bicubic is only for --task sr"),
        ({"ground_truth_weight": 0.5}, "--ground-truth-weight is relative to the error to a teacher's results"),
        ({"degrade_strength": 0.5}, "--degrade-strength needs the weight file of an artifact remover"),
    ],
)
def test_options_that_do_not_go_together(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        settings_from(options(**changes))


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    missing = ["cuda:99", "nonsense", "hpu", "privateuseone", *([] if torch.backends.mps.is_available() else ["mps"])]
    for name in missing:
        with pytest.raises(DataError, match=f"--device {name} is not available") as told:
            choose_device(name)
        assert "\n" not in str(told.value)
        assert len(str(told.value)) < 300


class Small(SuperResolver):
    def __init__(self, channels: int = 6, blocks: int = 1, texture: int = 0, self_ensemble: Orientations = 1) -> None:
        super().__init__(channels, blocks, texture, self_ensemble)


@pytest.fixture
def call(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command with a small network, on few photos, for few steps."""
    monkeypatch.setitem(NETWORKS, "sr", Small)

    def invoke(*more: object) -> Result:
        base = ["--task", "sr", "--photos", folder, "--out", tmp_path / "sr.safetensors", "--device", "cpu"]
        rest = ["--patch", 24, "--minibatch", 2, "--steps", 4, "--every", 2, "--validation", 1, "--precision", "fp32"]
        return CliRunner().invoke(command.main, [str(a) for a in (*base, *rest, *more)])

    return invoke


def line_of(result: Result) -> str:
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    return result.output.strip().splitlines()[-1]


def test_the_command(call: Any, tmp_path: Path) -> None:
    result = call()
    assert result.exit_code == 0, result.output
    assert "4 photos for training, 1 for validation, cpu" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sr.safetensors",
        "sr.safetensors.png",
        "sr.safetensors.state",
    ]
    assert min(read_rgb(tmp_path / "sr.safetensors.png").shape[:2]) > 200
    _, card = load_weights(tmp_path / "sr.safetensors", "sr")
    assert card == {"variant": "distortion", "photos": 4, "minibatch": 2, "patch": 24, "steps": 4}
    before = (tmp_path / "sr.safetensors").read_bytes()
    again = call()
    assert "resuming from step 4" in again.output
    assert again.exit_code == 0
    assert (tmp_path / "sr.safetensors").read_bytes() == before
    assert "has minibatch 2, the options say 3" in line_of(call("--minibatch", 3))
    assert call("--steps", 6).exit_code == 0
    assert load_weights(tmp_path / "sr.safetensors", "sr")[1]["steps"] == 6


def test_the_commands_mistakes(call: Any, tmp_path: Path) -> None:
    assert "is not a folder" in line_of(call("--photos", tmp_path / "nowhere"))
    assert "matches no photo" in line_of(call("--exclude", "*.gif"))
    assert "does not exist" in line_of(call("--out", tmp_path / "nowhere" / "x"))
    assert "not a multiple of 4" in line_of(call("--patch", 30))
    assert "--init-from" in line_of(call("--variant", "perceptual"))
    assert "is not available" in line_of(call("--device", "cuda:99"))
    assert "pixels wide and high" in line_of(call("--patch", 512))
    assert "is not in the range" in line_of(call("--steps", 0))
    assert "'--learning-rate': nan is no finite number" in line_of(call("--learning-rate", "nan"))
    assert "is not in the range" in line_of(call("--seed", 2**32))
    assert "--keep-size *.gif matches no photo" in line_of(call("--keep-size", "*.gif"))
    (tmp_path / "curve.safetensors.png").mkdir()
    assert "curve.safetensors.png: cannot be written" in line_of(call("--out", tmp_path / "curve.safetensors"))
    (tmp_path / "sr.safetensors.state").write_text("text")
    assert "delete it to start again" in line_of(call())


def test_a_run_goes_on_with_its_own_photos_alone(call: Any, folder: Path, tmp_path: Path) -> None:
    """What was trained on must not be measured on."""
    assert call("--steps", 2).exit_code == 0
    for other in (("--validation", 2), ("--exclude", "*/0.png"), ("--exclude", f"*/{held_out_name(folder)}")):
        assert "the run to resume has other photos" in line_of(call(*other))
    assert call("--seed", 2**32 - 1, "--out", tmp_path / "last.safetensors").exit_code == 0
    result = call()
    assert result.exit_code == 0, result.output
    assert "resuming from step 2" in result.output


def held_out_name(folder: Path) -> str:
    return split(picture_files([folder]), 1)[1][0].name


def test_photos_that_keep_their_size(tmp_path: Path) -> None:
    for name in ("whole", "large"):
        save_png(tmp_path / f"{name}.png", render(Portrait(1, size=(1010, 1004), unit=240, centre=(500, 480))))
    files = picture_files([tmp_path])
    kept = matching(files, ["*/whole.png"], "--keep-size")
    photos = {photo.name: photo for photo in Photos(files, 128, kept).photos}
    assert [picture.shape for picture in photos["whole.png"].versions()] == [(1004, 1010, 3)]
    assert (502, 505, 3) in [picture.shape for picture in photos["large.png"].versions()]


def test_files_that_cannot_be_the_result_are_refused(call: Any, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    assert "is a folder; name the weight file" in line_of(call("--out", tmp_path / "folder.safetensors"))
    assert "is a folder; name the weight file" in line_of(call("--out", tmp_path))
    for name in ("net", "net.pth", "net.safetensors.bak"):
        assert f"{name} has to end in .safetensors" in line_of(call("--out", tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.safetensors"]


def no_space(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["sr.safetensors.state", "sr.safetensors", "sr.safetensors.png"])
def test_a_full_disk_is_told_in_one_line(name: str, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def write_unless_full(path: Path, data: Any) -> int:
        if path.name == f".{name}.partial":
            write(path, bytes(data)[:100])
            no_space()
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_unless_full)
        if name.endswith(".png"):
            patch.setattr(Figure, "savefig", no_space)
        result = call()
    assert isinstance(result.exception, SystemExit), result.exception
    assert f"{name}: cannot be written: No space left on device\n" in result.output
    assert not any(path.name.endswith(".partial") for path in tmp_path.iterdir())
    assert call().exit_code == 0


def test_a_full_disk_is_named_where_it_is_real(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
        with pytest.raises(DataError, match=r"net\.state: cannot be written: File too large$"):
            training.save_state(tmp_path / "net.state", {"values": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_writes_its_weights_again(call: Any, tmp_path: Path) -> None:
    assert call().exit_code == 0
    names = ("sr.safetensors", "sr.safetensors.png")
    before = [(tmp_path / name).read_bytes() for name in names]
    for name in names:
        (tmp_path / name).unlink()
    assert call().exit_code == 0
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_a_run_killed_before_its_last_weights_were_written_ends_well(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_weights", killed)
        assert call("--every", 4).exit_code != 0
    assert [path.name for path in tmp_path.iterdir()] == ["sr.safetensors.state"]
    assert call("--every", 4).exit_code == 0
    assert load_weights(tmp_path / "sr.safetensors", "sr")[1]["steps"] == 4


def test_the_self_ensemble_of_a_finished_run_may_change(call: Any, tmp_path: Path) -> None:
    """Training does not know of them: the same weights, and another average."""
    assert call().exit_code == 0
    before = load_weights(tmp_path / "sr.safetensors", "sr")[0]
    again = call("--self-ensemble", 2)
    assert again.exit_code == 0, again.output
    after = load_weights(tmp_path / "sr.safetensors", "sr")[0]
    assert (before.self_ensemble, after.self_ensemble) == (1, 2)
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())


def test_holding_out_every_photo_is_a_mistake(call: Any) -> None:
    assert "--validation" in line_of(call("--validation", 5))


def test_the_perceptual_variant_trains_texture_alone(
    photos: Photos, held_out: Photos, distortion: dict[str, Path]
) -> None:
    fit = Fit(settings(variant="perceptual", init_from=str(distortion["sr"])), photos, Validation("sr", held_out), CPU)
    loaded, _ = load_weights(distortion["sr"], "sr")
    fit.one_step()
    trained = fit.network.state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, trained[name]), name
    assert fit.network.settings["texture"] == initial.TEXTURE_CHANNELS
    assert any(name.startswith("texture.") for name in trained)


def test_finished_networks_average_over_orientations(photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    plain, turned = (Fit(settings(self_ensemble=n), photos, Validation("sr", held_out), CPU) for n in (1, 4))
    for fit, name in ((plain, "plain"), (turned, "turned")):
        trained(fit, tmp_path / name, every=4)
    first, second = (load_weights(tmp_path / name, "sr")[0] for name in ("plain", "turned"))
    assert (first.settings["self_ensemble"], second.settings["self_ensemble"]) == (1, 4)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_balanced_errors_weigh_bad_pictures_by_the_root() -> None:
    target = torch.zeros(1, 3, 8, 8)
    given = torch.full_like(target, 0.1)
    worse = torch.full_like(target, 0.4)
    same = losses.balanced_error(given, target, given)
    assert float(losses.balanced_error(worse, target, worse) / same) == pytest.approx(2, rel=0.02)
    assert float(losses.balanced_error(target, target, target)) < 0.05  # left alone, and rightly so
    assert float(losses.balanced_error(given, target, target)) > 5 * float(same)  # spoiled


def test_weights_of_another_shape_are_refused(photos: Photos, held_out: Photos, distortion: dict[str, Path]) -> None:
    chosen = settings(init_from=str(distortion["sr"]), network={"channels": 7})
    with pytest.raises(DataError, match="does not fit the requested network"):
        Fit(chosen, photos, Validation("sr", held_out), CPU)


@pytest.mark.parametrize(("blocks", "new"), [(2, []), (3, [1]), (5, [0, 2, 3]), (7, [0, 1, 3, 4, 5])])
def test_new_blocks_change_nothing_before_they_are_trained(
    photos: Photos, held_out: Photos, tmp_path: Path, blocks: int, new: list[int]
) -> None:
    torch.manual_seed(5)
    network = SuperResolver(channels=6, blocks=2)
    save_weights(tmp_path / "two.safetensors", network, "sr", {})
    two, _ = load_weights(tmp_path / "two.safetensors", "sr")
    chosen = settings(init_from=str(tmp_path / "two.safetensors"), network={"blocks": blocks})
    fit = Fit(chosen, photos, Validation("sr", held_out), CPU)
    deep = fit.network
    assert isinstance(deep, SuperResolver)
    x = torch.rand(2, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(deep(x), two(x), atol=1e-6)
    assert [place for place, block in enumerate(deep.body) if not block.second.weight.any()] == new
    fit.one_step()
    assert all(block.second.weight.any() and block.first.weight.grad is not None for block in deep.body)
    trained(fit, tmp_path / "deep.safetensors")
    assert load_weights(tmp_path / "deep.safetensors", "sr")[0].settings["blocks"] == blocks


def test_fewer_blocks_than_there_are_would_leave_some_out(photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    save_weights(tmp_path / "two.safetensors", SuperResolver(channels=6, blocks=2), "sr", {})
    chosen = settings(init_from=str(tmp_path / "two.safetensors"), network={"blocks": 1})
    with pytest.raises(DataError, match=r"two.safetensors has 2 residual blocks, so --blocks 1 is too few"):
        Fit(chosen, photos, Validation("sr", held_out), CPU)


def test_the_finished_network_adds_a_share_of_the_texture(
    photos: Photos, held_out: Photos, distortion: dict[str, Path]
) -> None:
    chosen = settings(variant="perceptual", init_from=str(distortion["sr"]), texture_strength=0.5)
    fit = Fit(chosen, photos, Validation("sr", held_out), CPU)
    fit.one_step()
    half = fit.ema_network().eval()
    fit.settings = dataclasses.replace(chosen, texture_strength=1.0)
    whole = fit.ema_network().eval()
    fit.settings = dataclasses.replace(chosen, texture_strength=0.0)
    none = fit.ema_network().eval()
    x = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(half(x) - none(x), (whole(x) - none(x)) / 2, atol=1e-5)
        assert (whole(x) - none(x)).abs().max() > 1e-4


# --- learning from a teacher -----------------------------------------------------------------------------------------


class Negative(torch.nn.Module):
    """A teacher whose result nobody takes for a photo."""

    scale, margin, grid = 4, 0, 1

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return (1 - pictures).repeat_interleave(4, 2).repeat_interleave(4, 3)


def test_examples_hold_the_teachers_result_where_the_kernel_is_his(photos: Photos, held_out: Photos) -> None:
    teacher_targets = TeacherTargets(photos, Negative(), CPU)
    fit = Fit(settings(bicubic=0.6), photos, Validation("sr", held_out), CPU, teacher_targets)
    taught = 0
    for seed in range(60):
        small, clean, result = fit.example(np.random.default_rng(seed))
        assert small.shape == (24, 24, 3)
        assert clean.shape == result.shape == (96, 96, 3)
        if np.array_equal(clean, result):
            continue
        taught += 1
        assert np.array_equal(result, np.repeat(np.repeat(255 - small, 4, axis=0), 4, axis=1))
    assert taught / 60 == pytest.approx(0.6, abs=0.2)
    inputs, targets, results = fit.minibatch()
    assert inputs.shape == (2, 3, 24, 24)
    assert targets.shape == results.shape == (2, 3, 96, 96)


def test_other_kernels_than_the_teachers_are_never_his(
    photos: Photos, held_out: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What he does not teach is not bicubic again, so that the setting's share is that of both together."""
    shares: list[float] = []

    def pair(photos: Photos, chosen: FitSettings, rng: np.random.Generator) -> Any:
        shares.append(chosen.bicubic)
        return training_pair(photos, chosen, rng)

    monkeypatch.setattr(training, "training_pair", pair)
    validation = Validation("sr", held_out)
    fit = Fit(settings(bicubic=0.6), photos, validation, CPU, TeacherTargets(photos, Negative(), CPU))
    plain = Fit(settings(bicubic=0.6), photos, validation, CPU)
    for seed in range(10):
        fit.example(np.random.default_rng(seed))
    assert set(shares) == {0.0}
    shares.clear()
    given, clean, result = plain.example(np.random.default_rng(0))
    assert shares == [0.6]
    assert np.array_equal(clean, result)
    assert given.shape == (24, 24, 3)


@pytest.mark.parametrize("truth", [1.0, 0.2, 0.0])
def test_students_aim_at_the_photo_and_at_the_teachers_result(photos: Photos, held_out: Photos, truth: float) -> None:
    chosen, validation = settings(bicubic=1.0, ground_truth_weight=truth), Validation("sr", held_out)
    taught = Fit(chosen, photos, validation, CPU, TeacherTargets(photos, Negative(), CPU))
    inputs, targets, results = taught.minibatch()
    with torch.no_grad():
        outputs = taught.network(inputs)
    to_photo, to_teacher = (float(losses.charbonnier(outputs, wanted).mean()) for wanted in (targets, results))
    assert taught.one_step() == pytest.approx(truth * to_photo + to_teacher, rel=1e-4)
    assert min(to_photo, to_teacher) > 0.05
    alone = Fit(chosen, photos, validation, CPU)
    inputs, targets, _ = alone.minibatch()
    with torch.no_grad():
        loss = float(losses.charbonnier(alone.network(inputs), targets).mean())
    assert alone.one_step() == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_inputs_go_through_a_share_of_the_remover(
    strength: float, photos: Photos, held_out: Photos, distortion: dict[str, Path]
) -> None:
    validation, remover = Validation("sr", held_out), str(distortion["jpeg"])
    none, whole, share = (
        Fit(settings(**changes), photos, validation, CPU).minibatch()[0]
        for changes in ({}, {"degrade_with": remover}, {"degrade_with": remover, "degrade_strength": strength})
    )
    assert (whole - none).abs().max() > 0.01
    inside = (whole > 0) & (whole < 1)  # what is clipped cannot be compared
    torch.testing.assert_close(share[inside], none.lerp(whole, strength)[inside], rtol=0, atol=1e-6)


def test_the_command_with_a_teacher(call: Any, tmp_path: Path, distortion: dict[str, Path]) -> None:
    teacher = ("--teacher", distortion["sr"])
    result = call(*teacher, "--steps", 2)
    assert result.exit_code == 0, result.output
    assert "4 photos for training, 1 for validation, cpu" in result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"sr.safetensors{end}" for end in ("", ".png", ".state")]
    again = call(*teacher, "--steps", 4)
    assert again.exit_code == 0, again.output
    assert "resuming from step 2" in again.output
    _, card = load_weights(tmp_path / "sr.safetensors", "sr")
    assert card == {"variant": "distortion", "photos": 4, "minibatch": 2, "patch": 24, "steps": 4}
    assert "has teacher '" in line_of(call())
    other = tmp_path / "other.safetensors"
    assert call("--out", other).exit_code == 0
    ours, theirs = (load_weights(path, "sr")[0].state_dict() for path in (tmp_path / "sr.safetensors", other))
    assert not all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert "has teacher None, the options say '" in line_of(call(*teacher, "--out", other))


def test_the_commands_mistakes_with_teachers(call: Any, tmp_path: Path, distortion: dict[str, Path]) -> None:
    assert "--teacher is only for" in line_of(call("--teacher", "teacher.pth", "--task", "jpeg"))
    perceptual = ("--variant", "perceptual", "--init-from", distortion["sr"])
    assert "--teacher is only for" in line_of(call("--teacher", "teacher.pth", *perceptual))
    assert "no such weight file" in line_of(call("--teacher", tmp_path / "none.safetensors"))
    assert "neither a restorer's name nor a weight file" in line_of(call("--teacher", "nobody"))
    assert "needed is 'sr'" in line_of(call("--teacher", distortion["jpeg"]))
    assert "--degrade-strength needs the weight file" in line_of(call("--degrade-strength", 0.5))
    assert "is not in the range" in line_of(call("--degrade-with", distortion["jpeg"], "--degrade-strength", 1.5))
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_told_before_the_teacher_works(
    call: Any, tmp_path: Path, distortion: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All photos of a large folder take him minutes."""

    def works(*_: object, **__: object) -> None:
        raise AssertionError("the teacher works")

    monkeypatch.setattr(command, "TeacherTargets", works)
    teacher = ("--teacher", distortion["sr"])
    (tmp_path / "sr.safetensors.state").write_text("text")
    assert "delete it to start again" in line_of(call(*teacher))
    (tmp_path / "sr.safetensors.state").unlink()
    monkeypatch.setattr(command, "VALIDATION_LEAST", 1000)
    assert "is 1000 pixels wide and high" in line_of(call(*teacher))


def test_mistaken_networks_and_settings_are_told_before_the_teacher_works(
    call: Any, tmp_path: Path, distortion: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = ("--teacher", distortion["sr"])
    assert call(*teacher).exit_code == 0
    calls: list[object] = []
    monkeypatch.setattr(command, "TeacherTargets", lambda *_, **__: calls.append(1))
    assert "has minibatch 2, the options say 3" in line_of(call(*teacher, "--minibatch", 3))
    other = ("--out", tmp_path / "other.safetensors")
    assert "needed is 'jpeg'" in line_of(call(*teacher, *other, "--degrade-with", distortion["sr"]))
    assert "no such weight file" in line_of(call(*teacher, *other, "--init-from", tmp_path / "none.safetensors"))
    (tmp_path / "sr.safetensors").unlink()
    assert call(*teacher).exit_code == 0  # nothing is left to be taught
    assert (tmp_path / "sr.safetensors").is_file()
    assert calls == []


def test_the_card_tells_the_removers_share(call: Any, tmp_path: Path, distortion: dict[str, Path]) -> None:
    out = tmp_path / "sr.safetensors"
    after = ("--degrade-with", distortion["jpeg"], "--steps", 2)
    assert call(*after, "--degrade-strength", 0.25).exit_code == 0
    assert load_weights(out, "sr")[1]["degrade_strength"] == 0.25
    assert "has degrade_strength 0.25, the options say 1.0" in line_of(call(*after))
    out.with_name("sr.safetensors.state").unlink()
    assert call(*after).exit_code == 0
    assert load_weights(out, "sr")[1]["degrade_strength"] == 1


def _grain(seed: int, *, weave: bool) -> torch.Tensor:
    """Band-passed noise on grey, with power in all directions or near the axes alone."""
    noise = torch.fft.fft2(torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(seed)))
    frequency = torch.fft.fftfreq(128).abs()
    fy, fx = frequency[:, None], frequency[None, :]
    radius = torch.hypot(fy, fx)
    kept = (radius > 0.15) & (radius < 0.45)
    if weave:
        kept &= torch.minimum(fy, fx) < 0.3 * torch.maximum(fy, fx)
    grain = torch.fft.ifft2(noise * kept).real
    return 0.5 + 0.05 * grain / grain.std()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_weave_is_no_grain(seed: int) -> None:
    """The ratio is about 3; along directions that are random in every value it is 1.4, and networks learn a weave."""
    target = _grain(10 + seed, weave=False)
    even, woven = (
        float(losses.sliced_distance(_grain(seed, weave=weave), target, torch.Generator().manual_seed(seed)))
        for weave in (False, True)
    )
    assert woven > 2 * even
