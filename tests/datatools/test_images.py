"""datatools.images: every file gives sensible RGB or a reason; nothing is filled up, turned or clipped in silence."""

import errno
import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from datatools import images
from datatools.errors import DataError
from datatools.images import (
    ImageError,
    decode_rgb,
    decode_upright,
    image_size,
    read_rgb,
    save_jpeg,
    save_png,
    turn_upright,
)
from tests.faults import pictures


def mean_error(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize("name", pictures.BAD)
def test_bad_files_are_refused_with_a_reason_of_one_line(name: str) -> None:
    make, word = pictures.BAD[name]
    with pytest.raises(ImageError, match=word) as caught:
        decode_rgb(make())
    assert "\n" not in str(caught.value)
    kinds = {"zero bytes": "empty-photo", "text": "unknown-format", "binary": "unknown-format"}
    expected = "too-large" if "bomb" in name else kinds.get(name, "damaged-photo")
    assert (caught.value.fault, pickle.loads(pickle.dumps(caught.value)).fault) == (expected, expected)


@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_truncation_is_noticed_at_every_scale(reduce: int) -> None:
    for progressive in (False, True):
        with pytest.raises(ImageError, match="truncated"):
            decode_rgb(pictures.truncated_jpeg(progressive=progressive), reduce=reduce)


@pytest.mark.parametrize("name", pictures.ODD)
def test_odd_files_give_the_right_colours(name: str) -> None:
    data = pictures.ODD[name]()
    array = decode_rgb(data)
    assert array.dtype == np.uint8
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert image_size(data) == (array.shape[1], array.shape[0])
    assert mean_error(array, pictures.scene()) < 3


def test_lossless_formats_give_the_very_pixels() -> None:
    for name in ("WebP", "PNG", "PNG with alpha", "16-bit PNG", "BMP", "TIFF", "TIFF, LZW", "PPM"):
        np.testing.assert_array_equal(decode_rgb(pictures.ODD[name]()), pictures.scene(), err_msg=name)


def test_grey_becomes_three_equal_channels() -> None:
    array = decode_rgb(pictures.grey_jpeg())
    np.testing.assert_array_equal(array[..., 0], array[..., 1])
    np.testing.assert_array_equal(array[..., 0], array[..., 2])
    assert mean_error(array[..., 0], np.asarray(Image.fromarray(pictures.scene()).convert("L"))) < 2


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    array = decode_rgb(pictures.grey16_png())
    np.testing.assert_array_equal(array[..., 1], np.tile(np.arange(120, dtype=np.uint8), (90, 1)))


def test_one_bit_pictures_are_black_and_white() -> None:
    pattern = np.indices((20, 30)).sum(axis=0) % 2 == 0
    for file_format in ("PNG", "TIFF", "BMP"):
        array = decode_rgb(pictures.encode(Image.fromarray(pattern), file_format))
        np.testing.assert_array_equal(array[..., 2], np.where(pattern, 255, 0), err_msg=file_format)


def test_transparent_pixels_lie_over_white() -> None:
    array = decode_rgb(pictures.palette_alpha_png())
    assert array[30, 15].tolist() == [255, 0, 0]
    assert array[30, 45].tolist() == pytest.approx([127, 127, 255], abs=1)
    assert array[30, 75].tolist() == [255, 255, 255]
    grey = np.dstack([np.full((8, 8), 100, np.uint8), np.full((8, 8), 0, np.uint8)])
    assert decode_rgb(pictures.encode(Image.fromarray(grey, mode="LA"), "PNG"))[0, 0].tolist() == [255, 255, 255]


def test_one_colour_may_be_declared_transparent() -> None:
    data = pictures.encode(np.full((4, 4, 3), 7, np.uint8), "PNG", transparency=(7, 7, 7))
    assert decode_rgb(data).min() == 255


def test_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    array = decode_rgb(pictures.encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert array.shape == (10, 20, 3)
    assert (array == [255, 0, 0]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WebP", "TIFF"])
def test_pictures_are_turned_as_exif_asks(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WebP": {"lossless": True}}.get(file_format, {})
    data = pictures.encode(pictures.scene(), file_format, exif=exif, **options)
    found, asked = decode_upright(data)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(found, np.asarray(ImageOps.exif_transpose(image)))
    assert found.shape == ((120, 90, 3) if orientation > 4 else (90, 120, 3))
    assert found.flags.c_contiguous
    if file_format != "TIFF":  # which Pillow turns by itself
        assert asked == orientation
        np.testing.assert_array_equal(turn_upright(decode_rgb(data), orientation), found)


@pytest.mark.parametrize("value", [0, 9, 65535, -1])
def test_other_orientations_count_as_none(value: int) -> None:
    exif = Image.Exif()
    exif[274] = value & 0xFFFF
    data = pictures.jpeg(exif=exif)
    found, asked = decode_upright(data)
    assert asked == 1
    np.testing.assert_array_equal(found, decode_rgb(data))


def test_damaged_exif_data_turn_nothing() -> None:
    whole = pictures.exif_rotated_jpeg()
    start = whole.index(b"Exif\0\0") + 6
    for damaged in (
        whole[:start] + b"\xff" * 12 + whole[start + 12 :],
        whole[: start + 4] + b"\xff\xff\xff\xff" + whole[start + 8 :],  # the list of tags lies nowhere
        whole[: start + 12] + b"\0\2\0\0\0\4" + whole[start + 18 :],  # the orientation is a text
        whole[: start + 12] + b"\0\5\0\0\0\1\x7f\xff\xff\xff" + whole[start + 22 :],  # a fraction that lies nowhere
    ):
        found, asked = decode_upright(damaged)
        assert asked == 1
        np.testing.assert_array_equal(found, decode_rgb(pictures.jpeg()))


def test_exif_rotation_and_colour_profiles_are_ignored() -> None:
    plain = decode_rgb(pictures.jpeg())
    np.testing.assert_array_equal(decode_rgb(pictures.exif_rotated_jpeg()), plain)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(decode_rgb(pictures.jpeg(icc_profile=profile)), plain)


def test_floating_point_and_wide_integers_are_refused() -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    with pytest.raises(ImageError, match="floating-point"):
        decode_rgb(pictures.encode(values, "TIFF"))
    with pytest.raises(ImageError, match="32-bit"):
        decode_rgb(pictures.encode((values * 1e6).astype(np.int32), "TIFF"))


def test_modes_that_pillow_cannot_convert_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Image.Image, mode: str) -> Image.Image:
        raise ValueError(f"conversion from {self.mode} to {mode} not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(ImageError, match="pictures of mode L cannot be turned into RGB"):
        decode_rgb(pictures.encode(np.zeros((4, 4), np.uint8), "PNG"))


def test_60_megapixels_are_accepted_and_the_limit_is_exact() -> None:
    assert image_size(pictures.jpeg_bomb(10_000, 6_000)) == (10_000, 6_000)
    assert image_size(pictures.jpeg_bomb(15_000, 10_000)) == (15_000, 10_000)
    with pytest.raises(ImageError, match="megapixels"):
        image_size(pictures.jpeg_bomb(15_001, 10_000))


def test_pillows_own_limit_neither_warns_nor_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for make in (pictures.jpeg, pictures.palette_alpha_png, pictures.grey16_png):
            assert decode_rgb(make()).size > 3_000


@settings(deadline=None, max_examples=200)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    reduce=st.sampled_from([1, 2, 4, 8]),
    file_format=st.sampled_from(["JPEG", "PNG"]),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_reduced_size_is_exact_and_a_box_is_a_part_of_the_whole(
    width: int, height: int, reduce: int, file_format: str, corner: tuple[float, float, float, float]
) -> None:
    data = pictures.encode(pictures.scene(width, height), file_format)
    whole = decode_rgb(data, reduce=reduce)
    columns, rows = -(-width // reduce), -(-height // reduce)
    assert whole.shape == (rows, columns, 3)
    left, top = int(corner[0] * (columns - 1)), int(corner[1] * (rows - 1))
    right, bottom = left + 1 + int(corner[2] * (columns - left - 1)), top + 1 + int(corner[3] * (rows - top - 1))
    part = decode_rgb(data, reduce=reduce, box=(left, top, right, bottom))
    np.testing.assert_array_equal(part, whole[top:bottom, left:right])


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (pictures.jpeg, lambda: pictures.encode(pictures.scene(), "PNG"), pictures.palette_alpha_png):
        for reduce in (1, 4):
            data = make()
            whole = decode_rgb(data, reduce=reduce)
            with monkeypatch.context() as patch:
                patch.setattr(images, "BAND_PIXELS", 700)
                np.testing.assert_array_equal(decode_rgb(data, reduce=reduce), whole)


def test_pictures_smaller_than_the_reduction() -> None:
    for size in ((2, 9), (9, 2), (1, 1), (3, 3)):
        assert decode_rgb(pictures.jpeg(pictures.scene(*size)), reduce=4).shape == (
            -(-size[1] // 4),
            -(-size[0] // 4),
            3,
        )


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_reduced_pictures_look_like_box_averages(file_format: str) -> None:
    data = pictures.encode(pictures.scene(240, 160), file_format)
    for reduce in (2, 4, 8):
        expected = (
            decode_rgb(data).astype(float).reshape(160 // reduce, reduce, 240 // reduce, reduce, 3).mean(axis=(1, 3))
        )
        assert mean_error(decode_rgb(data, reduce=reduce), expected) < 1.5


def test_wrong_arguments_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="reduce"):
        decode_rgb(pictures.jpeg(), reduce=3)
    for box in ((0, 0, 121, 90), (-1, 0, 10, 10), (5, 5, 5, 10)):
        with pytest.raises(ValueError, match="box"):
            decode_rgb(pictures.jpeg(), box=box)


def test_unreadable_files_are_image_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_rgb(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        read_rgb(tmp_path)


def test_a_disk_that_fails_is_no_fault_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataError, match="cannot be read: Stale file handle; fix that") as caught:
        read_rgb(tmp_path / "a.jpg")
    assert not isinstance(caught.value, ImageError)


def test_saved_pictures_come_back(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", pictures.scene())
    save_jpeg(tmp_path / "a.jpg", pictures.scene(), quality=95)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), pictures.scene())
    assert mean_error(read_rgb(tmp_path / "a.jpg"), pictures.scene()) < 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.png"]
    with pytest.raises(ValueError, match="uint8"):
        save_png(tmp_path / "b.png", np.zeros((4, 4, 3)))
    with pytest.raises(FileNotFoundError):
        save_png(tmp_path / "no" / "b.png", pictures.scene())


@settings(deadline=None, max_examples=150)
@given(data=st.data(), name=st.sampled_from(sorted(pictures.ODD)))
def test_damage_anywhere_gives_a_picture_or_a_reason(data: st.DataObject, name: str) -> None:
    blob = bytearray(pictures.ODD[name]())
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0, min(len(blob), 3000) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            array = decode_rgb(bytes(blob))
        except ImageError as error:
            reason = str(error)
        else:
            reason = ""
            assert array.ndim == 3
    assert reason.count("\n") == 0


PEAK = r"""
import re, sys
from datatools.images import decode_rgb
array = decode_rgb(open(sys.argv[1], "rb").read(), reduce=int(sys.argv[2]), box=eval(sys.argv[3]))
# Not getrusage(): its peak is inherited from the process that called exec.
print(array.shape, int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("progressive", [False, True])
def test_memory_of_60_megapixels(tmp_path: Path, progressive: bool) -> None:
    tile = pictures.scene(500, 400)
    path = tmp_path / "large.jpg"
    path.write_bytes(pictures.jpeg(np.tile(tile, (15, 20, 1)), quality=85, subsampling=2, progressive=progressive))

    def peak(reduce: int, box: str) -> int:
        command = [sys.executable, "-c", PEAK, str(path), str(reduce), box]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])

    assert peak(1, "(2000, 1000, 6000, 5000)") < 700
    assert peak(4, "None") < (400 if progressive else 200)
