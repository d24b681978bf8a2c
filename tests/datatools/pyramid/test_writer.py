"""A pyramid file is whole under its name or not there, and its bytes depend on its contents alone."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid import Provenance, Pyramid, PyramidWriter, build_levels, verify
from datatools.pyramid.storage import Storage
from datatools.pyramid.writer import FileLayout
from tests.support.builds import HANGS
from tests.support.pyramid_samples import NAMES, face, row, write

COMPRESSIONS = ("none", "gzip", "lzf")


def test_plain_h5py_reads_the_documented_layout(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "a.h5", range(5), min_level=1)) as file:
        assert {name for name in file if name.startswith("data")} == {f"data{r}x{r}" for r in (32, 16, 8, 4, 2, 1)}
        assert file["data32x32"].shape == (5, 3, 32, 32)
        assert file["data32x32"].dtype == np.uint8
        assert file["data32x32"].chunks is None
        np.testing.assert_array_equal(file["data32x32"][3], face(3).transpose(2, 0, 1))
        assert file["provenance/file_name"].asstr()[...].tolist() == [row(i).file_name for i in range(5)]
        assert file["provenance/attributes"].dtype == np.int8
        assert file["provenance/attributes"][...].tolist() == [
            [1, -1, -1],
            [1, -1, 1],
            [0, 0, 0],
            [1, -1, 1],
            [1, -1, -1],
        ]
        assert file["provenance/attributes"].attrs["names"].tolist() == [name.encode() for name in NAMES]
        assert file["provenance/identity"][...].tolist() == [100, 101, -1, 103, 104]
        assert file["provenance/split"][...].tolist() == [0, 1, -1, 0, 1]
        assert file["provenance/quad"].shape == (5, 4, 2)
        assert file["provenance/landmarks"].shape == (5, 5, 2)
        assert file.attrs["complete"] == 1
        assert dict(file["settings"].attrs) == {"restore": "none", "seed": 7, "gain": 0.5}


def test_without_annotation_files_there_is_no_attribute_table(tmp_path: Path) -> None:
    with PyramidWriter(tmp_path / "a.h5", 1, resolution=8) as writer:
        writer.append(face(0, 8), Provenance("a.jpg", "0" * 32, 0.0, 0, -1, np.zeros((4, 2)), np.zeros((5, 2))))
    with h5py.File(tmp_path / "a.h5") as file:
        assert "attributes" not in file["provenance"]
        assert file["provenance/identity"][...].tolist() == [-1]
    assert verify(tmp_path / "a.h5") == []


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_large_images_are_stored_while_their_levels_are_computed(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "a.h5", range(3), compression=compression, side=512)
    pyramid = Pyramid(path)
    for index in range(3):
        for side, level in build_levels(face(index, 512)).items():
            np.testing.assert_array_equal(pyramid[side][index], level)
    assert verify(path) == []


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_ctrl_c_while_hdf5_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    seek, calls = Storage.seek, 0

    def interrupted(storage: Storage, *arguments: int) -> int:
        nonlocal calls
        calls += 1
        if calls == number:
            signal.raise_signal(signal.SIGINT)
        return seek(storage, *arguments)

    monkeypatch.setattr(Storage, "seek", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for number in (1, 20, 40, 58):
            calls = 0
            with pytest.raises(KeyboardInterrupt):
                write(tmp_path / "a.h5", range(5), compression=compression, side=16)
            assert calls >= number
            assert not list(tmp_path.iterdir())
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no such hints")
@pytest.mark.parametrize("refused", [False, True])
def test_images_are_on_their_way_to_the_disk_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    spans: list[tuple[int, int]] = []

    def advise(_: int, begin: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        spans.append((begin, length))
        if refused:
            raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr("datatools.pyramid.writer.WRITEBACK_BYTES", 2 * 3 * 64 * 64)
    path = write(tmp_path / "a.h5", range(5), side=64)
    with h5py.File(path) as file:
        first = file["data64x64"].id.get_offset()
    assert spans == [(first, 24576), (first + 24576, 24576)]
    assert verify(path) == []


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_two_runs_give_equal_files(tmp_path: Path, compression: str) -> None:
    first = write(tmp_path / "a.h5", range(40), compression=compression).read_bytes()
    time.sleep(1.1)  # time stamps in HDF5 are whole seconds
    (tmp_path / "other").mkdir()
    assert write(tmp_path / "other" / "b.h5", range(40), compression=compression).read_bytes() == first


def test_contents_do_not_depend_on_compression(tmp_path: Path) -> None:
    pyramids = [Pyramid(write(tmp_path / f"{c}.h5", range(30), compression=c, side=128)) for c in COMPRESSIONS]
    for other in pyramids[1:]:
        for level in pyramids[0].levels:
            np.testing.assert_array_equal(other[level][:], pyramids[0][level][:])
        for name in pyramids[0].provenance_names:
            np.testing.assert_array_equal(other.provenance(name), pyramids[0].provenance(name))
        assert verify(other.path) == []


def test_chunks_hold_whole_images(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "a.h5", range(30), compression="gzip", side=256)) as file:
        assert file["data256x256"].chunks == (1, 3, 256, 256)
        assert file["data128x128"].chunks == (2, 3, 128, 128)
        assert file["data64x64"].chunks == (6, 3, 64, 64)
        assert file["data4x4"].chunks == (30, 3, 4, 4)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_no_images_are_a_valid_pyramid(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "a.h5", range(0), compression=compression)
    assert len(Pyramid(path)) == 0
    assert Pyramid(path)[4][:].shape == (0, 3, 4, 4)
    assert Pyramid(path).provenance("file_name").shape == (0,)
    assert verify(path) == []


def test_an_error_inside_leaves_nothing_and_passes_through(tmp_path: Path) -> None:
    def failing() -> None:
        with PyramidWriter(tmp_path / "a.h5", 3, resolution=32) as writer:
            writer.append(face(0), row(2))
            raise FileNotFoundError(2, "no such photo", "000001.jpg")

    with pytest.raises(FileNotFoundError, match="no such photo"):
        failing()
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    before = write(tmp_path / "a.h5", range(2)).read_bytes()
    with pytest.raises(KeyboardInterrupt), PyramidWriter(tmp_path / "a.h5", 3, resolution=32):
        raise KeyboardInterrupt
    assert (tmp_path / "a.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("appended", [0, 2, 4])
def test_another_number_of_faces_than_announced(tmp_path: Path, appended: int) -> None:
    def write_some() -> None:
        with PyramidWriter(tmp_path / "a.h5", 3, resolution=32, attribute_names=NAMES) as writer:
            for index in range(appended):
                writer.append(face(index), row(index))

    with pytest.raises(DataError, match="announced for 3 faces"):
        write_some()
    assert list(tmp_path.iterdir()) == []


def test_faces_and_attributes_of_the_wrong_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="side 32"), PyramidWriter(tmp_path / "a.h5", 1, resolution=32) as writer:
        writer.append(face(0, 64), row(2))
    with (
        pytest.raises(ValueError, match="3 attributes for 0 names"),
        PyramidWriter(tmp_path / "a.h5", 1, resolution=32) as writer,
    ):
        writer.append(face(0), row(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_name": "../a.jpg"}, "base name"),
        ({"file_name": "/dir/a.jpg"}, "base name"),
        ({"file_name": "dir/"}, "base name"),
        ({"file_name": ""}, "base name"),
        ({"source_md5": "123"}, "32 hexadecimal"),
        ({"quad": np.zeros((5, 2))}, r"quad is \(4, 2\)"),
        ({"landmarks": np.zeros(10)}, r"landmarks \(5, 2\)"),
    ],
)
def test_provenance_is_checked(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Provenance(**{**row(0).__dict__, **change})


def test_unusable_arguments(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="compression must be one of none, gzip, lzf, lz4, zstd, not 'zip'"):
        PyramidWriter(tmp_path / "a.h5", 1, resolution=32, compression="zip")
    with pytest.raises(DataError, match="cannot hold -1"):
        FileLayout(-1, (4,), "none")
    with pytest.raises(DataError, match="power of two"):
        PyramidWriter(tmp_path / "a.h5", 1, resolution=300)
    with (
        pytest.raises(DataError, match="longer than"),
        PyramidWriter(tmp_path / "a.h5", 0, resolution=32, settings={"notes": "x" * 70_000}),
    ):
        pass
    with pytest.raises(DataError, match="does not exist"), PyramidWriter(tmp_path / "no" / "a.h5", 0, resolution=32):
        pass
    assert list(tmp_path.iterdir()) == []


def test_too_small_a_disk_is_told_before_work_starts(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"too full.*MB needed.*free some space"),
        PyramidWriter(tmp_path / "a.h5", 10**9, resolution=1024),
    ):
        pytest.fail("started to write")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / ".a.h5.partial").mkdir()  # refused to everyone, root included, as a read-only folder is to others
    with pytest.raises(DataError, match=r"a\.h5: cannot be written: Is a directory"):
        write(tmp_path / "a.h5", range(1))


FULL_DISK = """
import os, resource, signal, sys
from pathlib import Path
from datatools.errors import DataError
from tests.support.pyramid_samples import write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write(Path(sys.argv[1]), range(40), side=256, compression=sys.argv[3])
except DataError as error:
    print(error)
open_files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
print([name for name in open_files if ".h5" in name])
"""


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("limit", [2_000, 3_000_000, 8_000_000])
def test_a_disk_that_fills_up(tmp_path: Path, limit: int, compression: str) -> None:
    """A limit on the size of files makes writes fail as a full disk does; the partial file goes away."""
    path = tmp_path / "a.h5"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(limit), compression],
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    message, held = done.stdout.splitlines()
    assert held == "[]"
    assert message.startswith(f"{path}: cannot be written")
    assert "File too large; free some space or choose another folder" in message
    assert list(tmp_path.iterdir()) == []
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak memory from")
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Writing, joining and checking 600 MB of images takes less than 500 MB, the libraries included."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from datatools.pyramid import join, verify
        from tests.support.pyramid_samples import write
        folder = Path(sys.argv[1])
        write(folder / "part.h5", range(75), side=1024)
        join([folder / "part.h5", folder / "part.h5"], folder / "all.h5")
        assert verify(folder / "all.h5") == []
        # not getrusage's maximum, which begins with that of the process that started this one
        peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
        print(peak, (folder / "all.h5").stat().st_size)
        (folder / "part.h5").unlink()
        (folder / "all.h5").unlink()
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    peak, size = map(int, done.stdout.split())
    assert size > 600e6
    assert peak < 500e6
