"""Shared fixtures. Real photos are read only from the folder that CELEBAHQ_TEST_DATA names."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.builds import CHOSEN, Photo, build, make_photos, make_tree
from tests.support.tries import FULL, PROPERTY, Tries

SLOW = (
    "tests/datatools/exports/test_layouts.py",
    "tests/datatools/faces/test_duplicates.py",
    "tests/datatools/faces/test_memory.py",
    "tests/datatools/faces/test_recipe.py",
    "tests/datatools/landmarks/test_fan.py",
    "tests/datatools/landmarks/test_sample.py",
    "tests/datatools/pyramid/test_from_folder_runs.py::test_a_killed_run",
    "tests/datatools/pyramid/test_join_freeing.py::test_killed_at_any_point_and_resumed",
    "tests/datatools/pyramid/test_reader.py::test_worker_processes",
    "tests/datatools/pyramid/test_writer.py::test_memory_stays_bounded",
    "tests/datatools/report/test_page.py",
    "tests/datatools/restore/fit/test_faces.py",
    "tests/datatools/restore/fit/test_train.py",
    "tests/datatools/restore/fit/test_training.py",
    "tests/datatools/restore/test_bundled.py",
    "tests/datatools/restore/test_pretend_device.py",
    "tests/datatools/restore/test_restored_builds.py",
    "tests/datatools/restore/test_restored_parts.py",
    "tests/datatools/restore/test_restorers.py",
    "tests/datatools/test_console.py",
    "tests/datatools/test_images.py::test_memory_of_60_megapixels",
    "tests/datatools/test_progress.py",
    "tests/datatools/test_sample.py",
    "tests/faults/test_builds.py",
    "tests/faults/test_damaged_pictures.py",
    "tests/faults/test_damaged_shards.py",
    "tests/faults/test_disks.py",
    "tests/faults/test_storage.py",
    "tests/pggan/config/test_schedule.py",
    "tests/pggan/metrics/test_swd.py",
    "tests/pggan/model/test_style_oracle.py::test_growing_networks_meet_all_numbers",
    "tests/pggan/model/test_style_oracle.py::test_pair_meets_all_numbers",
    "tests/pggan/report/test_page.py",
    "tests/pggan/test_evaluate.py",
    "tests/pggan/test_export.py",
    "tests/pggan/test_generate.py",
    "tests/pggan/test_gpu_benchmark.py",
    "tests/pggan/test_project.py",
    "tests/pggan/test_train.py",
    "tests/pggan/training/test_augmented_runs.py",
    "tests/pggan/training/test_averages.py",
    "tests/pggan/training/test_distributed.py",
    "tests/pggan/training/test_kill.py",
    "tests/pggan/training/test_loop.py",
    "tests/pggan/training/test_metrics.py",
    "tests/pggan/training/test_pretend_device.py",
    "tests/pggan/training/test_run.py",
    "tests/pggan/training/test_saving.py",
    "tests/pggan/training/test_step.py",
    "tests/pggan/training/test_style_runs.py",
    "tests/pggan/training/test_threads.py",
    "tests/pipelines/test_build.py",
    "tests/pipelines/test_build_faults.py",
    "tests/pipelines/test_build_kill.py",
    "tests/pipelines/test_choose.py",
    "tests/pipelines/test_cluster.py",
    "tests/pipelines/test_dask.py",
    "tests/pipelines/test_datasets.py",
    "tests/pipelines/test_dry_run.py",
    "tests/pipelines/test_excluding.py",
    "tests/pipelines/test_freshness.py",
    "tests/pipelines/test_from_folder.py",
    "tests/pipelines/test_landmark_check.py::test_a_build_repairs",
    "tests/pipelines/test_landmark_check.py::test_mistakes",
    "tests/pipelines/test_parameters.py",
    "tests/pipelines/test_preflight.py",
    "tests/pipelines/test_scale_benchmark.py",
    "tests/pipelines/test_score_on.py",
    "tests/pipelines/test_shards.py",
    "tests/test_benchmarks.py::test_progressive_growing",
    "tests/test_examples.py",
    "tests/test_packaging.py",
)
"""Test files, or tests, that build, train, start many processes or compute for long; all others are `quick`."""

# What an example takes depends on what else the machine does.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.nodeid.startswith(SLOW):
            item.add_marker("quick")
        if "tries" in getattr(item, "fixturenames", ()):
            item.add_marker("faults")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of `make faults`."""
    reports = terminalreporter.stats.get("passed", []) if FULL else []
    rows = {row for report in reports for name, row in report.user_properties if name == PROPERTY}
    for line in ("| fault | tries | outcome |", "|---|---|---|", *sorted(rows)) if rows else ():
        terminalreporter.write_line(line)


@pytest.fixture
def tries(record_property: Callable[[str, object], None]) -> Tries:
    """How often to try a fault, and where to note what came of it."""
    return Tries(record_property)


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Folder with `celeba_sample/`, `celebahq_published/` ...; the test is skipped where there is none."""
    folder = os.environ.get("CELEBAHQ_TEST_DATA")
    if not folder:
        pytest.skip("CELEBAHQ_TEST_DATA is not set: no sample photos on this machine")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"CELEBAHQ_TEST_DATA={folder} is not a folder")
    return path


@pytest.fixture(scope="session")
def photos() -> Mapping[str, Photo]:
    """The photos of `tiny_tree` by name, in the order of their rows."""
    return make_photos()


@pytest.fixture(scope="session")
def tiny_tree(photos: Mapping[str, Photo], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CelebA tree of eight rendered portraits; not to be changed."""
    return make_tree(tmp_path_factory.mktemp("celeba") / "CelebA", photos)


@pytest.fixture(scope="session")
def finished_build(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of an undisturbed build of `tiny_tree` with `--count 4`; not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "out"
    build(tiny_tree, out, "--count", CHOSEN)
    return out
