"""The command that trains restoration networks: options, files and messages."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from matplotlib.figure import Figure

from datatools.errors import DataError
from datatools.images import read_rgb
from datatools.restore.fit import train as command
from datatools.restore.fit import training
from datatools.restore.fit.dataset import picture_files, split
from datatools.restore.fit.train import settings_from, torch_device
from datatools.restore.weights import load_weights

pytestmark = pytest.mark.usefixtures("small_critic")


def options(**changes: Any) -> dict[str, Any]:
    """What the command hands over when only these options are given, and --task."""
    return {"task": "sr", "blocks": None} | changes


def test_settings_from_options() -> None:
    assert settings_from(options()).patch == 48
    assert settings_from(options(task="jpeg")).patch == 96
    chosen = settings_from(options(patch=32, init_from="a", degrade_with="b", variant="perceptual"))
    assert (chosen.patch, chosen.init_from, chosen.degrade_with, chosen.degrade_strength) == (32, "a", "b", 1.0)
    chosen = settings_from(options(degrade_with="b", degrade_strength=0.0, teacher="teacher.pth"))
    assert (chosen.degrade_with, chosen.degrade_strength, chosen.teacher) == ("b", 0.0, "teacher.pth")
    assert (chosen.network, settings_from(options(blocks=18)).network) == ({}, {"blocks": 18})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patch": 50}, "patch 50 is not a multiple of 4"),
        ({"task": "jpeg", "variant": "perceptual", "init_from": "a"}, "only for --task sr"),
        ({"task": "jpeg", "degrade_with": "a"}, "only for --task sr"),
        ({"variant": "perceptual"}, "--init-from"),
        ({"task": "jpeg", "blocks": 18}, "blocks is only for --task sr"),
        ({"task": "jpeg", "teacher": "teacher.pth"}, "teacher is only for --task sr"),
        (
            {"variant": "perceptual", "init_from": "a", "teacher": "teacher.pth"},
            "teacher is only for --variant distortion",
        ),
        ({"texture_weight": 3.0}, "texture_weight is only for --variant perceptual"),
        ({"task": "jpeg", "texture_strength": 0.2}, "texture_strength is only for --variant perceptual"),
        ({"task": "jpeg", "bicubic": 0.1}, "bicubic is only for --task sr"),
        ({"ground_truth_weight": 0.5}, "ground_truth_weight is only for --teacher FILE"),
        ({"degrade_strength": 0.5}, "degrade_strength is only for --degrade-with FILE"),
    ],
)
def test_options_that_do_not_go_together(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        settings_from(options(**changes))


def test_devices() -> None:
    assert torch_device("cpu").type == "cpu"
    assert torch_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    missing = ["cuda:99", "nonsense", "hpu", "privateuseone", *([] if torch.backends.mps.is_available() else ["mps"])]
    for name in missing:
        with pytest.raises(DataError, match=f"--device {name} is not available") as error:
            torch_device(name)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 300


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
    assert "cannot be read as a folder" in line_of(call("--photos", tmp_path / "nowhere"))
    assert "matches no photo" in line_of(call("--exclude", "*.gif"))
    assert "x.safetensors: cannot be written: No such file" in line_of(
        call("--out", tmp_path / "nowhere" / "x.safetensors")
    )
    assert "not a multiple of 4" in line_of(call("--patch", 30))
    assert "--init-from" in line_of(call("--variant", "perceptual"))
    assert "is not available" in line_of(call("--device", "cuda:99"))
    assert "pixels wide and high" in line_of(call("--patch", 512))
    assert "is not in the range" in line_of(call("--steps", 0))
    assert "--learning-rate: nan is not a finite number" in line_of(call("--learning-rate", "nan"))
    assert "is not in the range" in line_of(call("--seed", 2**32))
    assert "--keep-size *.gif matches no photo" in line_of(call("--keep-size", "*.gif"))
    (tmp_path / "curve.safetensors.png").mkdir()
    assert "curve.safetensors.png: cannot be written" in line_of(call("--out", tmp_path / "curve.safetensors"))
    (tmp_path / "sr.safetensors.state").write_text("text")
    assert "delete it to start again" in line_of(call())


def test_a_run_resumes_only_with_its_own_photos(call: Any, folder: Path, tmp_path: Path) -> None:
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


def test_files_that_cannot_be_the_result_are_refused(call: Any, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    assert "is not a regular file" in line_of(call("--out", tmp_path / "folder.safetensors"))
    assert "has to end in .safetensors" in line_of(call("--out", tmp_path))
    for name in ("net", "net.pth", "net.safetensors.bak"):
        assert f"{name} has to end in .safetensors" in line_of(call("--out", tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.safetensors"]


def no_space(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["sr.safetensors.state", "sr.safetensors", "sr.safetensors.png"])
def test_a_full_disk_is_reported_in_one_line(
    name: str, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert "--degrade-strength is only for --degrade-with FILE" in line_of(call("--degrade-strength", 0.5))
    assert "is not in the range" in line_of(call("--degrade-with", distortion["jpeg"], "--degrade-strength", 1.5))
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_reported_before_the_teacher_runs(
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


def test_mistaken_networks_and_settings_are_reported_before_the_teacher_runs(
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
    assert call(*teacher).exit_code == 0  # nothing is left to be with_teacher
    assert (tmp_path / "sr.safetensors").is_file()
    assert calls == []


def test_the_card_has_the_removers_share(call: Any, tmp_path: Path, distortion: dict[str, Path]) -> None:
    out = tmp_path / "sr.safetensors"
    after = ("--degrade-with", distortion["jpeg"], "--steps", 2)
    assert call(*after, "--degrade-strength", 0.25).exit_code == 0
    assert load_weights(out, "sr")[1]["degrade_strength"] == 0.25
    assert "has degrade_strength 0.25, the options say 1.0" in line_of(call(*after))
    out.with_name("sr.safetensors.state").unlink()
    assert call(*after).exit_code == 0
    assert load_weights(out, "sr")[1]["degrade_strength"] == 1
