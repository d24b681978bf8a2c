"""datatools.sources.own_pictures: pictures of one's own come out upright and in sRGB, whatever they are stored as."""

import io
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from datatools.images import ImageError, decode_rgb, decode_upright
from datatools.sources.own_pictures import OwnPicture, decode_own
from tests.faults import pictures
from tests.support.profiles import DISPLAY_P3, SRGB, cmyk_profile, grey_profile, rgb_profile, srgb_of

P3 = rgb_profile("Display P3", DISPLAY_P3, 2.2)
WIDE = pictures.scene()


def distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(float) - other.astype(float)).max())


@pytest.mark.parametrize("name", pictures.ODD)
def test_without_a_profile_pixels_are_those_of_decode_upright(name: str) -> None:
    data = pictures.ODD[name]()
    picture = OwnPicture(data)
    expected, orientation = decode_upright(data)
    np.testing.assert_array_equal(picture.decode(), expected)
    assert (picture.orientation, picture.profile, picture.size) == (orientation, "", expected.shape[1::-1])


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_display_p3_becomes_srgb(file_format: str) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100}}
    data = pictures.encode(WIDE, file_format, icc_profile=P3, **options.get(file_format, {}))
    found = decode_own(data)
    expected = srgb_of(decode_rgb(data), DISPLAY_P3, 2.2)
    assert distance(found, expected) < 2
    assert distance(found, WIDE) > 15  # there was something to convert
    assert OwnPicture(data).profile == "Display P3"


def test_pixels_of_srgb_profiles_stay_as_they_are() -> None:
    built_in = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = pictures.encode(WIDE, "PNG", icc_profile=built_in)
    np.testing.assert_array_equal(decode_own(data), WIDE)
    assert OwnPicture(data).profile == ""
    gamma = pictures.encode(WIDE, "PNG", icc_profile=rgb_profile("nearly", SRGB, 2.2))
    assert OwnPicture(gamma).profile == "nearly"  # darks differ from sRGB's curve by more than rounding


@pytest.mark.parametrize("profile", [b"no profile", P3[:200], P3[:132] + b"\xff" * (len(P3) - 132), b"\0" * 500])
def test_damaged_profiles_are_ignored(profile: bytes) -> None:
    data = pictures.encode(WIDE, "PNG", icc_profile=profile)
    np.testing.assert_array_equal(decode_own(data), WIDE)
    assert OwnPicture(data).profile == ""


def test_profiles_of_another_kind_of_picture_are_ignored() -> None:
    grey = Image.fromarray(WIDE).convert("L")
    for image, profile in ((grey, P3), (Image.fromarray(WIDE), grey_profile("grey", 1.0))):
        data = pictures.encode(image, "PNG", icc_profile=profile)
        np.testing.assert_array_equal(decode_own(data), decode_rgb(data))
        assert OwnPicture(data).profile == ""


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_pictures_are_converted_by_their_profile(mode: str) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    image = Image.fromarray(ramp.astype(np.uint16) << 8) if mode == "I;16" else Image.fromarray(ramp).convert(mode)
    found = decode_own(pictures.encode(image, "PNG", icc_profile=grey_profile("linear", 1.0)))
    expected = srgb_of(np.repeat(ramp[..., None], 3, axis=2), SRGB, 1.0)
    assert distance(found, expected) < 2
    assert found[0, 64, 0] > 130  # a quarter of the light


def test_inks_are_converted_by_their_profile() -> None:
    cmyk = np.zeros((4, 3, 4), np.uint8)
    cmyk[:, 1] = 128
    cmyk[:, 2] = 255
    data = pictures.encode(Image.fromarray(cmyk, mode="CMYK"), "TIFF", icc_profile=cmyk_profile("four greys"))
    found = decode_own(data)[0]
    assert np.ptp(found.astype(int), axis=1).max() <= 2  # neutral
    assert found[:, 0].tolist() == pytest.approx([255, 119, 0], abs=4)  # lightness 100, 50, 0
    assert OwnPicture(data).profile == "four greys"
    plain = pictures.encode(Image.fromarray(cmyk, mode="CMYK"), "TIFF")
    np.testing.assert_array_equal(decode_own(plain), decode_rgb(plain))


def test_transparent_pixels_lie_over_white_after_the_conversion() -> None:
    alpha = np.full(WIDE.shape[:2], 255, np.uint8)
    alpha[:, :40] = 0
    image = Image.fromarray(np.dstack([WIDE, alpha]))
    found = decode_own(pictures.encode(image, "PNG", icc_profile=P3))
    assert (found[:, :40] == 255).all()
    assert distance(found[:, 40:], srgb_of(WIDE[:, 40:], DISPLAY_P3, 2.2)) < 2
    palette = Image.fromarray(WIDE).quantize(8)
    coloured = np.asarray(palette.convert("RGB"))
    found = decode_own(pictures.encode(palette, "PNG", icc_profile=P3, transparency=0))
    kept = np.asarray(palette) != 0
    assert (found[~kept] == 255).all()
    assert distance(found[kept], srgb_of(coloured[kept], DISPLAY_P3, 2.2)) < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(48, 32), (45, 34)])
@pytest.mark.parametrize("reduce", [1, 4])
def test_boxes_and_reductions_refer_to_the_upright_picture(
    orientation: int, size: tuple[int, int], reduce: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = pictures.encode(pictures.scene(*size), "PNG", exif=exif)
    picture = OwnPicture(data)
    upright = picture.decode()
    assert picture.size == upright.shape[1::-1]
    assert picture.stored_size == size
    whole = picture.decode(reduce=reduce)
    np.testing.assert_array_equal(whole, np.asarray(Image.fromarray(upright).reduce(reduce)))
    found = picture.decode(reduce=reduce, box=(2, 1, 7, 5))
    np.testing.assert_array_equal(found, whole[1:5, 2:7])
    assert found.flags.c_contiguous


def test_an_orientation_after_the_pixels_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = pictures.encode(WIDE, "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    length = 12 + int.from_bytes(data[start : start + 4], "big")
    chunk = data[start : start + length]
    moved = data[:start] + data[start + length : -12] + chunk + data[-12:]
    assert moved.index(b"eXIf") > moved.index(b"IDAT")
    assert OwnPicture(moved).orientation == 6
    np.testing.assert_array_equal(decode_own(moved), decode_own(data))


def test_avif_is_read_and_turned() -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = pictures.encode(WIDE, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    picture = OwnPicture(data)
    assert (picture.stored_size, picture.size, picture.orientation) == ((120, 90), (90, 120), 6)
    assert distance(picture.decode(), np.rot90(WIDE, -1)) < 6
    for length in (30, 200, len(data) - 50):
        with pytest.raises(ImageError, match=r"damaged header|cannot be decoded"):
            decode_own(data[:length])


def test_heic_is_read_with_pillow_heif_and_stands_upright() -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    exif = Image.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    heif.from_pillow(Image.fromarray(WIDE)).save(stream, quality=95, exif=exif.tobytes(), icc_profile=P3)
    picture = OwnPicture(stream.getvalue())
    assert (picture.size, picture.orientation) == ((90, 120), 1)
    turned = np.rot90(WIDE, -1)
    assert np.abs(picture.decode() - srgb_of(turned, DISPLAY_P3, 2.2)).mean() < 3
    assert picture.decode(reduce=2).shape == (60, 45, 3)


def test_without_pillow_heif_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brands in (b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic"):
        with pytest.raises(ImageError, match=r"pip install 'celebahq\[heic\]'"):
            OwnPicture(b"\0\0\0\x18ftyp" + brands + b"\0" * 100)
    with pytest.raises(ImageError, match="not a picture of a known format"):
        OwnPicture(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"\0" * 100)
