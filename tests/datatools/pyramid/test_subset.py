"""datatools.pyramid.subset and `h5tool subset`: which images are taken, and that they are the same bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from datatools.errors import DataError
from datatools.h5tool.__main__ import main
from datatools.pyramid import Pyramid, PyramidWriter, verify
from datatools.pyramid.subset import Criteria, select, write_subset
from tests.support.pyramid_samples import NAMES, face, row, write

COUNT = 12
SETTINGS = {"restore": "none", "seed": 7, "gain": 0.5}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("whole") / "whole.h5", range(COUNT))


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({}, list(range(COUNT))),
        ({"indices": [7, 2, 2]}, [2, 7]),
        ({"ranks": range(3, 6)}, [3, 4, 5]),
        ({"min_score": 0.25}, [0, 1, 2, 3]),
        ({"splits": [1]}, [1, 4, 7, 10]),
        ({"splits": [0, 1]}, [0, 1, 3, 4, 6, 7, 9, 10]),
        ({"identities": [104, 110, 999]}, [4, 10]),
        ({"attributes": ["Young"]}, [1, 3, 7, 9]),
        ({"without": ["Young"]}, [0, 4, 6, 10]),  # every third one is not known
        ({"attributes": ["Young"], "without": ["Smiling"], "splits": [0]}, [3, 9]),
        ({"names": {"000003.jpg", "été_4.jpg", "nobody.jpg"}}, [3, 4]),
        ({"min_score": 0.1, "count": 3}, [0, 1, 2]),
        ({"ranks": []}, []),
    ],
)
def test_selection(whole: Path, criteria: dict[str, Any], expected: list[int]) -> None:
    assert select(Pyramid(whole), Criteria(**criteria)).tolist() == expected


def test_an_unknown_attribute_is_named(whole: Path) -> None:
    with pytest.raises(DataError, match="no attribute 'Smile', did you mean 'Smiling'"):
        select(Pyramid(whole), Criteria(attributes=["Smile"]))


@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
@pytest.mark.parametrize("before", ["none", "gzip"])
def test_a_subset_has_the_bytes_of_a_writer_of_its_faces(before: str, compression: str, tmp_path: Path) -> None:
    indices = [7, 1, 5]
    source = Pyramid(write(tmp_path / "whole.h5", range(COUNT), side=256, compression=before))
    write_subset(source, tmp_path / "part.h5", indices, description="mine", compression=compression)
    assert verify(tmp_path / "part.h5") == []
    settings = {**SETTINGS, "subset": "mine", "subset_of": source.digest(256)[:16]}
    with PyramidWriter(
        tmp_path / "written.h5", 3, resolution=256, compression=compression, attribute_names=NAMES, settings=settings
    ) as writer:
        for index in indices:
            writer.append(face(index, 256), row(index))
    assert (tmp_path / "part.h5").read_bytes() == (tmp_path / "written.h5").read_bytes()


def test_a_damaged_image_stays_damaged(whole: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.h5"
    data = bytearray(whole.read_bytes())
    place = data.find(np.ascontiguousarray(face(5).transpose(2, 0, 1)).tobytes())
    data[place + 9] ^= 0xFF
    damaged.write_bytes(data)
    write_subset(Pyramid(damaged), tmp_path / "part.h5", [4, 5], description="")
    assert any("data32x32: changed since it was written" in problem for problem in verify(tmp_path / "part.h5"))


def test_the_digest_of_a_build_becomes_the_origin(tmp_path: Path) -> None:
    source = write(tmp_path / "whole.h5", range(4), settings={"build_digest": "abc", "seed": 1})
    write_subset(Pyramid(source), tmp_path / "part.h5", [2], description="one")
    assert Pyramid(tmp_path / "part.h5").settings == {"seed": 1, "subset": "one", "subset_of": "abc"}


def test_labels_come_along(whole: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine.h5"
    source.write_bytes(whole.read_bytes())
    labels = np.eye(COUNT, dtype=np.float32)
    np.save(tmp_path / "mine-labels.npy", labels)
    write_subset(Pyramid(source), tmp_path / "part.h5", [3, 0], description="")
    assert np.array_equal(np.load(tmp_path / "part-labels.npy"), labels[[3, 0]])
    np.save(tmp_path / "mine-labels.npy", labels[:5])
    with pytest.raises(DataError, match=r"mine-labels.npy: the labels cannot be used \(they are 5 for 12 images\)"):
        write_subset(Pyramid(source), tmp_path / "other.h5", [3], description="")
    assert not (tmp_path / "other.h5").exists()


@pytest.mark.parametrize(
    ("indices", "message"),
    [([], "no image of .* is chosen"), ([3, 12], "holds images 0 to 11, not 3 to 12"), ([-1], "not -1 to -1")],
)
def test_impossible_indices_are_refused(whole: Path, tmp_path: Path, indices: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_subset(Pyramid(whole), tmp_path / "part.h5", indices, description="")
    assert list(tmp_path.iterdir()) == []


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["subset", *map(str, arguments)])


def test_the_command_says_what_it_took(whole: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("000001.jpg\n000003.jpg,because\n# no more\nété_4.jpg\n000009.jpg\n", encoding="utf-8")
    out = tmp_path / "part.h5"
    options = ("--ids", names, "--min-score", 0.15, "--split", "train", "--split", "validation", "--rank", "1-8")
    done = run(whole, out, *options, "--without", "Smiling", "--count", 2)
    assert (done.exit_code, done.output) == (0, f"{out}: 2 of 12 images\n")
    assert Pyramid(out).provenance("file_name").tolist() == ["000001.jpg", "000003.jpg"]
    assert Pyramid(out).settings["subset"] == (
        "ranks 1-8; min_score 0.15; splits train, validation; without Smiling; ids names.txt; count 2"
    )
    again = run(whole, out, "--indices", "10-")
    assert again.exit_code == 1
    assert again.output == f"Error: {out}: exists; --overwrite replaces it\n"
    assert run(whole, out, "--indices", "10-", "--overwrite").exit_code == 0
    assert len(Pyramid(out)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--attribute", "Smile"), "no attribute 'Smile'"),
        (("--indices", "11-12"), "--indices: 11-12 does not lie in 0-11"),
        (("--rank", "best"), "--rank: 'best' is neither a number nor a range"),
        (("--min-score", "7", "--split", "test"), "none of its 12 images meets min_score 7.0; splits test"),
        (("--ids", "NAMES"), "--ids"),
        (("--min-score", "nan"), "nan is not a finite number"),
        (("--split", "dev"), "'dev' is not one of 'train', 'validation', 'test'"),
    ],
)
def test_mistakes_end_in_one_line(whole: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    (tmp_path / "names.txt").write_text("a/b.jpg\n")
    done = run(whole, tmp_path / "part.h5", *(str(tmp_path / "names.txt") if o == "NAMES" else o for o in options))
    assert done.exit_code != 0
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "part.h5").exists()


def test_a_file_is_never_its_own_subset(whole: Path) -> None:
    before = whole.read_bytes()
    done = run(whole, whole, "--count", 2, "--overwrite")
    assert done.output == f"Error: {whole}: is the file to take images from\n"
    assert whole.read_bytes() == before
