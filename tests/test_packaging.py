"""What an installed copy consists of: console scripts that start, and the data files that the packages read."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.builds import environment
from tests.support.paths import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCRIPTS = SETTINGS["project"]["scripts"]
PACKAGE_DATA = SETTINGS["tool"]["setuptools"]["package-data"]


def data_files(package: str) -> Iterator[Path]:
    """Files of a package, relative to its folder, that are no Python."""
    folder = ROOT / package
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".partial"):
            yield path.relative_to(folder)


def is_packaged(path: Path, pattern: str) -> bool:
    return fnmatch(str(path), pattern) or (pattern.startswith("**/") and fnmatch(str(path), pattern[3:]))


@pytest.mark.parametrize("package", sorted(PACKAGE_DATA))
def test_every_data_file_is_packaged(package: str) -> None:
    files = list(data_files(package))
    assert Path("py.typed") in files
    missing = [path for path in files if not any(is_packaged(path, pattern) for pattern in PACKAGE_DATA[package])]
    assert missing == []


def test_documented_scripts_exist() -> None:
    assert sorted(SCRIPTS) == [
        "celebahq-convert",
        "celebahq-evaluate",
        "celebahq-export",
        "celebahq-generate",
        "celebahq-h5",
        "celebahq-report",
        "celebahq-train",
    ]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_starts_its_command_line(name: str) -> None:
    module, function = SCRIPTS[name].split(":")
    code = f"import sys; sys.argv = [{name!r}, '--help']; from {module} import {function}; {function}()"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize(
    "module",
    [
        "datatools.download",
        "datatools.h5tool",
        "datatools.restore.fit",
        "datatools.restore.evaluate",
        "pggan.convert",
        "pggan.export",
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
