"""h5tool from-folder on trees and archives: labels, CelebA-HQ's names, several processes, and runs that were killed."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from datatools.h5tool.__main__ import main
from datatools.images import save_png
from datatools.pyramid import Pyramid, folder_parts, verify
from datatools.pyramid.labels import read_labels
from datatools.sources.published import published_files
from tests.faults import pictures
from tests.support.builds import environment
from tests.support.profiles import DISPLAY_P3, rgb_profile, srgb_of
from tests.support.stuck import kill_when


def picture(seed: int, width: int = 16, height: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["from-folder", *map(str, arguments), "--resolution", "16"])


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Pictures of two classes in subfolders, with names that repeat."""
    root = tmp_path / "tree"
    for seed, name in enumerate(("dogs/1.png", "dogs/2.png", "dogs/10.png", "cats/1.png", "cats/ü 2.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save_png(root / name, picture(seed))
    (root / "dogs" / "small.png").write_bytes(pictures.encode(picture(9, 8, 8), "PNG"))
    return root


NAMES = ["cats/1.png", "cats/ü 2.png", "dogs/1.png", "dogs/2.png", "dogs/10.png"]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_parts, "PART_ENTRIES", 2)


@pytest.mark.usefixtures("small_parts")
def test_a_tree_its_archive_and_any_number_of_processes_give_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "tree.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        for path in tree.rglob("*.png"):
            stream.write(path, path.relative_to(tree))
    output = done(tree, tmp_path / "one.h5", "--jobs", 1)
    assert "skipped dogs/small.png: 8 x 8 pixels, smaller than 16" in output
    assert "5 images of 16 x 16 pixels, 1 file left out" in output
    done(tree, tmp_path / "two.h5", "--jobs", 2)
    done(archive, tmp_path / "zip.h5", "--jobs", 2)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "zip.h5").read_bytes()
    pyramid = Pyramid(tmp_path / "one.h5")
    assert verify(tmp_path / "one.h5") == []
    assert pyramid.provenance("file_name").tolist() == NAMES
    assert pyramid.provenance("rank").tolist() == [1, 2, 3, 4, 5]
    assert np.array_equal(pyramid.image(4), picture(2))
    assert pyramid.settings == {"source": "folder", "filter": "box"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.h5", "tree", "tree.zip", "two.h5", "zip.h5"]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_the_first_images_are_those_of_the_whole(tree: Path, tmp_path: Path, count: int) -> None:
    (tree / "cats" / "0.png").write_bytes(b"no picture")
    done(tree, tmp_path / "all.h5")
    output = done(tree, tmp_path / "first.h5", "--max-images", count, "--jobs", 2)
    first, whole = Pyramid(tmp_path / "first.h5"), Pyramid(tmp_path / "all.h5")
    assert len(first) == min(count, 5)
    assert np.array_equal(first[16][:], whole[16][: len(first)])
    assert first.provenance("source_md5").tolist() == whole.provenance("source_md5")[: len(first)].tolist()
    assert f"{1 if count <= 5 else 2} file" in output.splitlines()[-1]
    assert verify(tmp_path / "first.h5") == []


def test_crop_and_filter_are_recorded(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    save_png(tmp_path / "photos" / "a.png", picture(1, 40, 30))
    assert "none of its 1 file is a square picture" in run(tmp_path / "photos", tmp_path / "a.h5").output
    done(tmp_path / "photos", tmp_path / "a.h5", "--crop", "center", "--resize-filter", "lanczos")
    pyramid = Pyramid(tmp_path / "a.h5")
    assert pyramid.settings == {"source": "folder", "filter": "lanczos", "crop": "center"}
    middle = Image.fromarray(picture(1, 40, 30)[:, 5:35])
    assert np.array_equal(pyramid.image(0), np.asarray(middle.resize((16, 16), Image.Resampling.LANCZOS)))
    assert pyramid.provenance("quad")[0].tolist() == [[5, 0], [5, 30], [35, 30], [35, 0]]
    done(tmp_path / "photos", tmp_path / "wide.h5", "--crop", "wide")
    assert Pyramid(tmp_path / "wide.h5").settings["crop"] == "wide"


def test_colours_are_converted_to_srgb(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    data = pictures.encode(picture(1), "PNG", icc_profile=rgb_profile("Display P3", DISPLAY_P3, 2.2))
    (tmp_path / "photos" / "a.png").write_bytes(data)
    done(tmp_path / "photos", tmp_path / "a.h5")
    expected = srgb_of(picture(1), DISPLAY_P3, 2.2)
    assert np.abs(Pyramid(tmp_path / "a.h5").image(0) - expected).max() < 2


def test_labels_of_folders(tree: Path, tmp_path: Path) -> None:
    save_png(tree / "loose.png", picture(7))
    output = done(tree, tmp_path / "a.h5", "--labels", "folders")
    assert "skipped loose.png: no label in --labels folders" in output
    assert f"{tmp_path / 'a-labels.npy'}: 2 classes" in output
    labels = read_labels(Pyramid(tmp_path / "a.h5"), "file")
    assert labels is not None
    assert labels.argmax(axis=1).tolist() == [0, 0, 1, 1, 1]
    assert json.loads(str(Pyramid(tmp_path / "a.h5").settings["classes"])) == ["cats", "dogs"]
    refused = run(tree, tmp_path / "b.h5", "--labels", "json")
    assert "dataset.json: cannot be read" in refused.output
    (tmp_path / "a.h5").unlink()
    assert "a-labels.npy: exists; --overwrite replaces it" in run(tree, tmp_path / "a.h5", "--labels", "folders").output


def test_labels_of_files_choose_pictures_and_their_order_does_not_matter(tree: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file_name,label\ndogs/10.png,old\ncats/1.png,young\ndogs/small.png,old\n")
    output = done(tree, tmp_path / "a.h5", "--labels", table)
    assert Pyramid(tmp_path / "a.h5").provenance("file_name").tolist() == ["cats/1.png", "dogs/10.png"]
    assert np.load(tmp_path / "a-labels.npy").tolist() == [[0, 1], [1, 0]]
    assert "skipped 3 files, such as cats/ü 2.png: no label in" in output
    (tree / "dataset.json").write_text(json.dumps({"labels": [[name, len(name) % 3] for name in NAMES]}))
    done(tree, tmp_path / "b.h5", "--labels", "json")
    assert np.load(tmp_path / "b-labels.npy").argmax(axis=1).tolist() == [len(name) % 3 for name in NAMES]
    table.write_text("file_name,label\nx.png,old\ny.png,young\n")
    refused = run(tree, tmp_path / "c.h5", "--labels", table)
    assert "none of the 6 pictures" in refused.output
    assert "have names such as cats/1.png, the labels x.png" in refused.output


def test_celebahq_pictures_get_index_and_annotations(tmp_path: Path) -> None:
    folder, photos = tmp_path / "CelebA-HQ-img", published_files()
    folder.mkdir()
    for index in (0, 2, 10):
        save_png(folder / f"{index}.png", picture(index))
    anno = tmp_path / "Anno"
    anno.mkdir()
    (anno / "list_attr_celeba.txt").write_text(f"1\nSmiling Young\n{photos[2]} -1 1\n")
    (anno / "identity_CelebA.txt").write_text(f"{photos[10]} 5\n")
    (anno / "list_eval_partition.txt").write_text(f"{photos[0]} 2\n")
    done(folder, tmp_path / "plain.h5")
    assert Pyramid(tmp_path / "plain.h5").provenance("celebahq_index").tolist() == [-1, -1, -1]
    output = done(folder, tmp_path / "a.h5", "--celeba-dir", tmp_path)
    assert "3 pictures of CelebA-HQ by name, since --celeba-dir is given" in output
    pyramid = Pyramid(tmp_path / "a.h5")
    assert verify(tmp_path / "a.h5") == []
    assert pyramid.provenance("celebahq_index").tolist() == [0, 2, 10]
    assert pyramid.provenance("attributes").tolist() == [[0, 0], [-1, 1], [0, 0]]
    assert pyramid.attribute("Young").tolist() == [0, 1, 0]
    assert pyramid.provenance("identity").tolist() == [-1, -1, 5]
    assert pyramid.provenance("split").tolist() == [2, -1, -1]
    done(folder, tmp_path / "b.h5", "--celebahq")
    assert Pyramid(tmp_path / "b.h5").provenance("celebahq_index").tolist() == [0, 2, 10]
    assert Pyramid(tmp_path / "b.h5").attribute_names == ()


def test_the_size_is_announced_and_a_full_disk_is_noticed_first(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datatools.h5tool.from_folder.ESTIMATED_BYTES", 1000)
    output = done(tree, tmp_path / "a.h5")
    assert output.startswith("up to 6 images, 6.05 kB, and twice that while building; ")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=9_000))
    refused = run(tree, tmp_path / "b.h5")
    assert "the disk is too full: about 10.1 kB needed while building, half of that afterwards" in refused.output
    assert not (tmp_path / ".b.h5.parts").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=11_000))  # enough for those of good size
    assert "5 images" in done(tree, tmp_path / "b.h5")


@pytest.mark.usefixtures("small_parts")
def test_finished_parts_are_used_again_unless_something_changed(tree: Path, tmp_path: Path) -> None:
    out, kept = tmp_path / "a.h5", tmp_path / "kept"
    expected = done(tree, out, "--jobs", 1)
    whole = out.read_bytes()

    def interrupted() -> None:
        """Leave the parts of the first four pictures, as a killed run does."""
        out.unlink(missing_ok=True)
        folder_parts.parts_folder(out).mkdir()
        for path in sorted(kept.glob("0*"))[:4]:
            shutil.copy(path, folder_parts.parts_folder(out) / path.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datatools.pyramid.from_folder.remove_parts", lambda folder: folder.rename(kept))
        done(tree, out, "--overwrite")
    assert len({path.stem for path in kept.glob("0*")}) == 3
    interrupted()
    resumed = done(tree, out, "--jobs", 1)
    assert "resuming: 4 of 6 pictures are done" in resumed
    assert out.read_bytes() == whole
    assert expected in resumed
    interrupted()
    assert "resuming" not in done(tree, out, "--crop", "center")
    interrupted()
    save_png(tree / "cats" / "1.png", picture(50))
    assert "resuming: 2 of 6 pictures are done" in done(tree, out)
    assert np.array_equal(Pyramid(out).image(0), picture(50))


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(1100):  # five parts
        (folder / f"{number}.png").write_bytes(pictures.encode(picture(number, 32, 32), "PNG"))
    out, undisturbed = tmp_path / "out.h5", tmp_path / "undisturbed.h5"
    command = [sys.executable, "-m", "datatools.h5tool", "from-folder", str(folder)]
    options = ["--resolution", "32", "--jobs", "2"]
    subprocess.run([*command, str(undisturbed), *options], env=environment(), check=True, capture_output=True)
    parts = folder_parts.parts_folder(out)

    def a_part_is_finished() -> bool:
        return any(parts.glob("*.json"))

    words = ["datatools.h5tool", "from-folder", str(folder), str(out), *options]
    kill_when(a_part_is_finished, "datatools.pyramid.folder_parts:read_entry", "1099.png", words)
    assert not out.exists()
    assert list(parts.glob("*.json"))
    done_again = subprocess.run([*command, str(out), *options], env=environment(), check=True, capture_output=True)
    assert b"resuming: " in done_again.stdout
    assert out.read_bytes() == undisturbed.read_bytes()
    assert not parts.exists()


def test_ctrl_c_says_how_to_resume(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(root: Path, name: str) -> bytes:
        if name.startswith("dogs"):
            raise KeyboardInterrupt
        return (root / name).read_bytes()

    monkeypatch.setattr(folder_parts, "PART_ENTRIES", 2)
    with monkeypatch.context() as patch:
        patch.setattr(folder_parts, "read_entry", interrupt)
        result = run(tree, tmp_path / "a.h5", "--jobs", 1)
    assert result.exit_code == 130
    assert result.stderr == "interrupted; run the same command again to resume\n"
    assert "resuming: 2 of 6 pictures are done" in done(tree, tmp_path / "a.h5", "--jobs", 1)
