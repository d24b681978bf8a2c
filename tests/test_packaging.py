"""What an installed copy consists of: a wheel that works without the checkout, and commands that name themselves."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.builds import HANGS, environment
from tests.support.paths import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCRIPTS = sorted(SETTINGS["project"]["scripts"])
PACKAGES = sorted(SETTINGS["tool"]["setuptools"]["package-data"])
BUILT_FROM = ("pyproject.toml", "setup.py", "README.md", "LICENSE")

ALL_HELP = """
import contextlib, io, pathlib, runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    print(pathlib.Path(script).name, output.getvalue().split("\\n")[0])
"""


def run(*command: object, cwd: Path) -> str:
    """Run a command in a folder without the checkout in Python's path; return what it prints."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=clean, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, made from a copy, so that nothing is left in it."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "*.partial"))
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--wheel-dir", source / "wheels", source),
        cwd=source,
    )
    (made,) = (source / "wheels").glob("celebahq-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment: the wheel, and the libraries of the one that runs the tests."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    # a line adds a folder, but not what its own .pth files add: an editable install there stays out of sight
    libraries = [path for path in sys.path if path.endswith("-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--ignore-installed", wheel, cwd=folder)
    return python.parent


def test_the_wheel_has_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.split("/")[0] in PACKAGES}
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".partial")
    }
    assert {"pggan/py.typed", "pggan/model/data/faces-32.safetensors", "datatools/report/report.html"} <= files
    assert packed == files


def test_the_image_has_what_the_wheel_is_made_of() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert copied == {*BUILT_FROM, *PACKAGES, "constraints.txt"}
    ignored, *kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored == "*"
    assert {name[1:] for name in kept if name.startswith("!")} == copied
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', "\n".join(lines))
    assert {*extras.split(",")} <= SETTINGS["project"]["optional-dependencies"].keys()


def test_contributors_get_every_extra_in_a_pinned_version() -> None:
    extras = dict(SETTINGS["project"]["optional-dependencies"])
    (listed,) = re.findall(r"celebahq\[([\w,]+)\]", extras["dev"].pop(0))
    assert sorted(listed.split(",")) == sorted(extras.keys() - {"dev"})
    requirements = [*SETTINGS["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonical(line) for line in lines if re.search(r"==[\d.]+", line)}
    assert {canonical(requirement) for requirement in requirements} - pinned == set()


def canonical(requirement: str) -> str:
    """Return the name of the package as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", re.split("[<>=]", requirement)[0]).lower()


def test_commands_run_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    python = installed / "python"
    found = run(python, "-c", "import datatools, pipelines, pggan; print(*map(str, pggan.__path__))", cwd=tmp_path)
    assert found.startswith(str(installed.parent))
    printed = run(python, "-c", ALL_HELP, *(installed / name for name in SCRIPTS), cwd=tmp_path).splitlines()
    assert [line.split()[:3] for line in printed] == [[name, "Usage:", name] for name in SCRIPTS]
    builds = run(python, "-m", "luigi", "--module", "pipelines", "BuildCelebAHQ", "--help", cwd=tmp_path)
    assert "--celeba-dir" in builds


def test_the_bundled_model_is_installed(installed: Path, tmp_path: Path) -> None:
    model = ("--model", "faces-32", "--out", "pictures", "--seeds", "0-3", "--device", "cpu")
    assert "4 files of 4 pictures of 32 x 32 pixels" in run(installed / "celebahq-generate", *model, cwd=tmp_path)
    run(installed / "celebahq-h5", "from-folder", "pictures", "faces.h5", "--resolution", 32, cwd=tmp_path)
    assert "whole and unchanged" in run(installed / "celebahq-h5", "verify", "faces.h5", cwd=tmp_path)


@pytest.mark.parametrize(
    "module",
    [
        "datatools.download",
        "datatools.h5tool",
        "datatools.restore.fit",
        "datatools.restore.evaluate",
        "pggan.convert",
        "pggan.export",
        "pggan.project",
        "pggan.report",
        "pggan.train",
    ],
)
def test_a_documented_command_names_itself(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.stdout.startswith(f"Usage: python -m {module} [OPTIONS]"), done.stdout + done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("module", ["datatools.restore.fit", "datatools.restore.evaluate", "pggan.report"])
def test_a_full_console_does_not_end_a_package_command(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
