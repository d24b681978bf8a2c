"""The whole way from photos to celebahq.h5, through the command line, on a tiny tree of rendered portraits."""

import csv
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from datatools.pyramid import Pyramid, verify
from datatools.sources.published import KNOWN_FLAWS, celebahq_index_by_file, published_files
from tests.faults.trees import ATTRIBUTES
from tests.support.builds import (
    CHOSEN,
    HANGS,
    Photo,
    build,
    datasets,
    digest,
    environment,
    file_names,
    file_states,
    make_tree,
    run,
)

RESULTS = {"celebahq.h5", "ranking.csv", "rejected.csv", "report/index.html"}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_leaves_the_results_and_says_where_they_are(finished_build: Path) -> None:
    names = file_names(finished_build)
    assert names >= RESULTS
    assert {name.split("/")[0] for name in names} == {"celebahq.h5", "ranking.csv", "rejected.csv", "report", "work"}
    assert not [name for name in names if name.endswith((".partial", ".rgb")) or name.startswith("work/build")]
    assert verify(finished_build / "celebahq.h5") == []


def test_the_report_says_what_is_on_the_disk(finished_build: Path) -> None:
    page = (finished_build / "report" / "index.html").read_text(encoding="utf-8")
    files = [path for path in finished_build.rglob("*") if path.is_file()]
    work = sum(path.stat().st_size for path in files if path.is_relative_to(finished_build / "work"))
    assert f'work/</th><td class="number">{work:,}</td>' in page
    assert f'Total</th><td class="number">{sum(path.stat().st_size for path in files):,}</td>' in page


def test_levels_and_provenance_of_the_file(finished_build: Path, photos: Mapping[str, Photo]) -> None:
    ranking = {row["file_name"]: row for row in table(finished_build / "ranking.csv")}
    assert set(ranking) == set(photos)
    chosen = [row for row in ranking.values() if row["chosen"] == "1"]
    with Pyramid(finished_build / "celebahq.h5") as faces:
        assert len(faces) == CHOSEN == len(chosen)
        assert faces.levels == (256, 128, 64, 32, 16, 8, 4)
        assert faces[256].shape == (CHOSEN, 3, 256, 256)
        names = list(faces.provenance("file_name"))
        assert names == [row["file_name"] for row in chosen]  # best first
        assert faces.provenance("score") == pytest.approx([float(row["score"]) for row in chosen], abs=1e-6)
        assert faces.provenance("rank").tolist() == [int(row["rank"]) for row in chosen] == [1, 2, 3, 4]
        index = celebahq_index_by_file()
        assert faces.provenance("celebahq_index").tolist() == [index.get(name, -1) for name in names]
        for i, name in enumerate(names):
            landmarks = np.array(photos[name].row.split()[1:], dtype=float).reshape(5, 2)
            assert faces.provenance("landmarks")[i].tolist() == landmarks.tolist()
            assert faces.provenance("source_md5")[i] == hashlib.md5(photos[name].data).hexdigest()
        rows = sorted(photos)
        assert faces.provenance("identity").tolist() == [100 + rows.index(name) for name in names]
        assert faces.provenance("split").tolist() == [rows.index(name) % 3 for name in names]
        assert faces.attribute_names == ATTRIBUTES
        assert faces.settings["resolution"] == 256
        assert faces.settings["restore"] == "none"


def test_tables(finished_build: Path) -> None:
    ranking = table(finished_build / "ranking.csv")
    scores = [float(row["score"]) for row in ranking]
    assert scores == sorted(scores, reverse=True)
    assert [row["rank"] for row in ranking] == [str(rank) for rank in range(1, 9)]
    assert [row["reason"] for row in ranking] == [""] * CHOSEN + [f"score below the best {CHOSEN}"] * CHOSEN
    assert (finished_build / "rejected.csv").read_text() == "file_name,stage,reason,kind\n"


def test_the_same_command_again_does_nothing(finished_build: Path, tiny_tree: Path) -> None:
    before = file_states(finished_build)
    again = build(tiny_tree, finished_build, "--count", CHOSEN)
    assert file_states(finished_build) == before
    assert "Did not run any tasks" in again.stderr


@pytest.mark.parametrize("options", [("--workers", 2), ("--workers", 2, "--jobs", 2), ("--jobs", 2)])
def test_workers_and_jobs_do_not_change_a_byte(
    options: tuple[object, ...], finished_build: Path, tiny_tree: Path, tmp_path: Path
) -> None:
    build(tiny_tree, tmp_path, "--count", CHOSEN, *options, task="Verify")
    for name in ("celebahq.h5", "ranking.csv", "rejected.csv"):
        assert digest(tmp_path / name) == digest(finished_build / name), name


def test_changed_settings_in_the_same_folder(finished_build: Path, tiny_tree: Path, tmp_path: Path) -> None:
    """Few of many, so that faces are made twice; then the reference's settings on its scores; nothing stale stays."""
    build(tiny_tree, tmp_path, "--count", 2, "--compression", "gzip")
    scores = {name: state for name, state in file_states(tmp_path).items() if name.startswith("work/scores")}
    with Pyramid(tmp_path / "celebahq.h5") as few, Pyramid(finished_build / "celebahq.h5") as more:
        assert few.compression == "gzip"
        assert np.array_equal(few[256][:], more[256][:2])
    build(tiny_tree, tmp_path, "--count", CHOSEN)
    assert digest(tmp_path / "celebahq.h5") == digest(finished_build / "celebahq.h5")
    assert file_names(tmp_path) == file_names(finished_build)
    assert scores.items() <= file_states(tmp_path).items()


def test_everything_in_the_order_of_the_source_and_all_layouts(
    tiny_tree: Path, photos: Mapping[str, Photo], finished_build: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_build / "work" / "scores", tmp_path / "work" / "scores")
    options = ("--selection", "all", "--order", "source", "--min-level", 1)
    contents = []
    for compression in ("none", "gzip", "lzf"):
        build(tiny_tree, tmp_path, *options, "--compression", compression, task="Verify")
        contents.append(datasets(tmp_path / "celebahq.h5"))
        with Pyramid(tmp_path / "celebahq.h5") as faces:
            assert faces.levels == (256, 128, 64, 32, 16, 8, 4, 2, 1)
            assert faces.compression == compression
    assert contents[0] == contents[1] == contents[2]
    with Pyramid(tmp_path / "celebahq.h5") as faces, Pyramid(finished_build / "celebahq.h5") as best:
        names = faces.provenance("file_name").tolist()
        assert names == list(photos)
        same = [names.index(name) for name in best.provenance("file_name")]
        assert np.array_equal(faces[256][same], best[256][:])


def test_official_selection(tiny_tree: Path, tmp_path: Path) -> None:
    build(tiny_tree, tmp_path, "--selection", "official", "--count", 3, task="Verify")
    with Pyramid(tmp_path / "celebahq.h5") as faces:
        assert faces.provenance("celebahq_index").tolist() == [5, 11, 20]
        assert faces.provenance("file_name").tolist() == [published_files()[index] for index in (5, 11, 20)]
        assert sorted(faces.provenance("rank")) == [1, 2, 3]  # among the published ones
    rows = {row["file_name"]: row for row in table(tmp_path / "ranking.csv")}
    assert {name for name, row in rows.items() if row["chosen"] == "1"} == {
        published_files()[index] for index in (5, 11, 20)
    }
    assert len(rows) == 8
    assert {row["reason"] for row in rows.values() if row["chosen"] == "0"} == {"not in the published set"}


def test_known_flaws_are_left_out_when_asked_for(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    flawed = published_files()[min(KNOWN_FLAWS)]
    first = next(iter(photos))
    tree = make_tree(
        tmp_path / "CelebA",
        {**photos, flawed: Photo(photos[first].data, photos[first].row.replace(first, flawed))},
    )
    build(tree, tmp_path / "out", "--selection", "official", "--count", 3, "--exclude", "known-flaws", task="Verify")
    with Pyramid(tmp_path / "out" / "celebahq.h5") as faces:
        assert flawed not in faces.provenance("file_name")
    assert [(row["file_name"], row["stage"]) for row in table(tmp_path / "out" / "rejected.csv")] == [
        (flawed, "excluded")
    ]


def test_exclusions_duplicates_and_the_papers_filter(
    tiny_tree: Path, photos: Mapping[str, Photo], finished_build: Path, tmp_path: Path
) -> None:
    names = list(photos)
    unwanted = tmp_path / "unwanted.txt"
    unwanted.write_text(f"# no good\n{names[1]}\n")
    out = tmp_path / "out"
    options = ("--exclude", unwanted, "--duplicates", "drop", "--final-filter", "box")
    build(tiny_tree, out, "--selection", "all", *options, task="Verify")
    rows = {row["file_name"]: row for row in table(out / "ranking.csv")}
    assert rows[names[1]]["reason"] == "excluded: listed in unwanted.txt"
    worse, better = sorted((rows[names[0]], rows["900004.jpg"]), key=lambda row: float(row["score"]))
    assert (worse["kind"], rows[names[1]]["kind"]) == ("duplicate", "excluded")
    assert worse["reason"] == f"duplicate of {better['file_name']}"
    assert (worse["chosen"], better["chosen"]) == ("0", "1")
    with Pyramid(out / "celebahq.h5") as faces, Pyramid(finished_build / "celebahq.h5") as lanczos:
        kept = faces.provenance("file_name").tolist()
        assert sorted(kept) == sorted(set(names) - {names[1], worse["file_name"]})
        assert faces.settings["final_filter"] == "box"
        common = lanczos.provenance("file_name").tolist()
        name = next(name for name in common if name in kept)
        assert not np.array_equal(faces[256][kept.index(name)], lanczos[256][common.index(name)])


def test_only_listed_photos_with_a_score_that_is_good_enough(
    tiny_tree: Path, photos: Mapping[str, Photo], finished_build: Path, tmp_path: Path
) -> None:
    scores = {row["file_name"]: float(row["score"]) for row in table(finished_build / "ranking.csv")}
    listed = list(photos)[1:6]
    ordered = sorted(listed, key=lambda name: -scores[name])
    wanted, out = tmp_path / "names.txt", tmp_path / "out"
    wanted.write_text("\n".join([*listed, "nobody.jpg"]))
    least = (scores[ordered[2]] + scores[ordered[3]]) / 2
    done = build(tiny_tree, out, "--ids", wanted, "--min-score", least, task="Verify")  # --count is a maximum
    assert "3 images instead of 5: 0 photos could not be used (rejected.csv)" in done.stderr
    assert f"2 faces below --min-score {least:g}" in done.stderr
    with Pyramid(out / "celebahq.h5") as faces:
        assert faces.provenance("file_name").tolist() == ordered[:3]
        assert (faces.settings["ids"], faces.settings["min_score"]) == ("names.txt", least)
    rows = {row["file_name"]: row for row in table(out / "ranking.csv")}
    assert {name: rows[name]["kind"] for name in rows} == {
        name: "" if name in ordered[:3] else "low-score" if name in listed else "not-listed" for name in photos
    }
    assert rows[ordered[3]]["reason"] == f"score below {least:g}"
    assert rows[next(iter(photos))]["reason"] == "not listed in names.txt"


def test_dry_run_writes_nothing_and_tells_the_plan(tiny_tree: Path, tmp_path: Path) -> None:
    done = build(tiny_tree, tmp_path / "out", "--count", CHOSEN, "--dry-run")
    assert not (tmp_path / "out").exists()
    for word in ("8 photos", "4 to be chosen", "disk", "free", "time"):
        assert word in done.stdout
    assert "Traceback" not in done.stderr


def test_what_was_deleted_is_made_again(tiny_tree: Path, finished_build: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished_build, out)
    for name in sorted(RESULTS - {"rejected.csv"}):
        (out / name).unlink()
        if name.startswith("report"):
            shutil.rmtree(out / "report")
        build(tiny_tree, out, "--count", CHOSEN)
        assert file_names(out) == file_names(finished_build), name
        if not name.startswith("report"):
            assert digest(out / name) == digest(finished_build / name)
    assert verify(out / "celebahq.h5") == []


def test_a_build_that_another_one_has_begun_to_replace(tiny_tree: Path, finished_build: Path, tmp_path: Path) -> None:
    """Other settings got as far as the join, and replaced tables and file; then the first command comes back."""
    out = tmp_path / "out"
    shutil.copytree(finished_build, out)
    build(tiny_tree, out, "--count", 2, task="Join")
    assert digest(out / "ranking.csv") != digest(finished_build / "ranking.csv")
    assert digest(out / "celebahq.h5") != digest(finished_build / "celebahq.h5")
    build(tiny_tree, out, "--count", CHOSEN)
    for name in ("celebahq.h5", "ranking.csv", "rejected.csv"):
        assert digest(out / name) == digest(finished_build / name), name
    assert file_names(out) == file_names(finished_build)


def test_files_of_the_user_in_a_folder_called_work_stay(tiny_tree: Path, tmp_path: Path) -> None:
    own = [tmp_path / "work" / name for name in ("thesis.txt", "build/program.c", "faces/me.rgb", "times/monday.csv")]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    build(tiny_tree, tmp_path, "--count", CHOSEN)
    assert [path.read_text() for path in own] == ["mine"] * 4


def test_a_damaged_shard_is_built_again(tiny_tree: Path, finished_build: Path, tmp_path: Path) -> None:
    """A truncated one before the join, one with a changed pixel after the verification found it."""
    build(tiny_tree, tmp_path, "--count", CHOSEN, "--index", 0, task="BuildShard")
    (shard,) = (tmp_path / "work" / "build").iterdir()
    shard.write_bytes(shard.read_bytes()[:100_000])
    build(tiny_tree, tmp_path, "--count", CHOSEN, "--index", 0, task="BuildShard")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    found = run(tiny_tree, tmp_path, "--count", CHOSEN)
    assert found.returncode != 0
    assert "did not read back as written" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "celebahq.h5").exists()
    build(tiny_tree, tmp_path, "--count", CHOSEN)
    assert digest(tmp_path / "celebahq.h5") == digest(finished_build / "celebahq.h5")


def test_runs_where_no_configuration_is_and_in_the_current_folder(tiny_tree: Path, tmp_path: Path) -> None:
    luigi = str(Path(sys.executable).with_name("luigi"))
    (tmp_path / "CelebA").symlink_to(tiny_tree)
    bare = [luigi, "--module", "pipelines", "BuildCelebAHQ"]
    options = ["--count", "3", "--resolution", "256"]
    done = subprocess.run(
        bare + options, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=HANGS
    )
    assert done.returncode == 0, done.stderr
    assert file_names(tmp_path) >= RESULTS
