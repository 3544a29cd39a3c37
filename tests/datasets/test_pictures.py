import gzip
import io
import tracemalloc

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.pictures import (
    decode_image,
    header_identifiers,
    read_image,
    read_picture,
)
from tests.datasets.films import film, films, ramp, written


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)


def test_grey_and_colour_as_asked():
    grey, colour = encoded(Image.fromarray(GREY)), encoded(Image.fromarray(COLOUR))
    np.testing.assert_array_equal(decode_image(grey, channels=1), GREY)
    np.testing.assert_array_equal(decode_image(grey, channels=3), np.stack([GREY] * 3, axis=2))
    np.testing.assert_array_equal(decode_image(colour, channels=3), COLOUR)
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert abs(decode_image(colour, channels=1) - luma).max() <= 1


def test_a_png_named_jpg_is_read_and_hashed(tmp_path):
    path = tmp_path / "it's a film.jpg"
    path.write_bytes(encoded(Image.fromarray(GREY)))
    picture = read_picture(path, channels=1)
    np.testing.assert_array_equal(picture.pixels, GREY)
    assert len(picture.sha256) == 64
    np.testing.assert_array_equal(read_image(path, channels=1), GREY)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    data = encoded(Image.fromarray(GREY), exif=exif.tobytes())
    np.testing.assert_array_equal(decode_image(data, channels=1), np.rot90(GREY, -1))


def test_transparency_lies_over_black():
    layer = np.dstack([COLOUR, np.full(GREY.shape, 255, np.uint8)])
    layer[0, :, 3] = 0
    shown = decode_image(encoded(Image.fromarray(layer)), channels=3)
    assert not shown[0].any()
    np.testing.assert_array_equal(shown[1:], COLOUR[1:])


def test_palettes_are_resolved():
    data = encoded(Image.fromarray(COLOUR).quantize(48))
    assert abs(decode_image(data, channels=3).astype(int) - COLOUR).max() <= 8


def test_deep_grey_values_are_stretched():
    deep = np.array([[100, 1100, 2100]], np.uint16)
    assert decode_image(encoded(Image.fromarray(deep)), channels=1).tolist() == [[0, 128, 255]]
    constant = np.full((2, 2), 4000, np.uint16)
    assert decode_image(encoded(Image.fromarray(constant)), channels=1).tolist() == [[0, 0], [0, 0]]


def test_deep_values_of_any_kind_are_stretched_alike():
    rng = np.random.default_rng(1)
    deep = rng.integers(300, 4000, (70, 90)).astype(np.uint16)
    low, high = float(deep.min()), float(deep.max())
    expected = np.rint((deep - low) / (high - low) * 255)
    wide, real = encoded(Image.fromarray(deep.astype(np.int32)), "TIFF"), deep.astype(np.float32)
    for data in (encoded(Image.fromarray(deep)), wide, encoded(Image.fromarray(real), "TIFF")):
        np.testing.assert_array_equal(decode_image(data, channels=1), expected)
    real[3, 3] = np.nan
    with pytest.raises(UnreadableImage, match="not numbers"):
        decode_image(encoded(Image.fromarray(real), "TIFF"), channels=1)


def test_white_is_zero_where_a_tiff_says_so():
    values = np.array([[100, 1100, 2100]], np.uint16)
    plain = encoded(Image.fromarray(values), "TIFF")
    turned = plain.replace(b"\x06\x01\x03\0\x01\0\0\0\x01\0", b"\x06\x01\x03\0\x01\0\0\0\0\0")
    assert turned != plain
    assert decode_image(plain, channels=1).tolist() == [[0, 128, 255]]
    assert decode_image(turned, channels=1).tolist() == [[255, 127, 0]]


def test_a_palette_with_transparency_lies_over_black():
    layer = Image.fromarray(GREY).quantize(16)
    layer.info["transparency"] = 0
    shown = decode_image(encoded(layer, transparency=0), channels=1)
    assert set(shown[np.asarray(layer) == 0].reshape(-1)) <= {0}


@pytest.mark.parametrize("blank", ["png", "dicom"])
def test_a_blank_film_is_no_picture(tmp_path, blank):
    values = np.full((8, 8), 9, np.uint8)
    path = tmp_path / "film"
    path.write_bytes(film(values) if blank == "dicom" else encoded(Image.fromarray(values)))
    with pytest.raises(UnreadableImage, match="a blank film"):
        read_picture(path, channels=1)


def test_identifiers_of_the_header_come_with_the_picture(tmp_path):
    path = tmp_path / "film"
    path.write_bytes(film(ramp()))
    found = {(item.tag, item.value) for item in read_picture(path, channels=1).identifiers}
    assert ("PatientName", "Planted^Name") in found
    exif = Image.Exif()
    exif[0x013B] = "Planted Artist"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("PatientName", "Planted Text")
    for kind, options, planted in (
        ("JPEG", {"exif": exif.tobytes()}, "Planted Artist"),
        ("PNG", {"exif": exif.tobytes()}, "Planted Artist"),
        ("PNG", {"pnginfo": texts}, "Planted Text"),
        ("WEBP", {"exif": exif.tobytes()}, "Planted Artist"),
        ("TIFF", {"tiffinfo": {0x013B: "Planted Artist"}}, "Planted Artist"),
    ):
        path.write_bytes(encoded(Image.fromarray(GREY), kind, **options))
        found = [item.value for item in read_picture(path, channels=3).identifiers]
        assert any(planted in value for value in found), kind


def names(path):
    return {item.value for item in header_identifiers(path)}


@pytest.mark.parametrize("name", sorted(films()))
def test_a_header_is_searched_in_every_container(tmp_path, name):
    path = tmp_path / "film.dcm"
    path.write_bytes(films()[name])
    assert "Planted^Name" in names(path)


def test_a_header_is_searched_whatever_is_wrong_with_the_rest(tmp_path, monkeypatch):
    whole, path = film(ramp()), tmp_path / "film.dcm"
    zipped = gzip.compress(film(np.random.default_rng(0).integers(0, 2**16, (99, 99), np.uint16)))
    for data in (whole[:-99], whole[132:], zipped[:-99], film(ramp(), NumberOfFrames=7)):
        path.write_bytes(data)
        with pytest.raises(UnreadableImage):
            read_picture(path, channels=1)
        assert "Planted^Name" in names(path)
    monkeypatch.setattr("arra_med.datasets.dicom.MAX_BYTES", len(whole) - 1)
    path.write_bytes(whole)
    assert "Planted^Name" in names(path)
    path.write_bytes(b"")
    assert names(path) == set()


def test_a_name_far_back_in_a_header_is_found(tmp_path, monkeypatch):
    path = tmp_path / "film"
    path.write_bytes(film(ramp(), PixelPaddingValue=0, PatientComments="x" * 5000,
                          RequestingPhysician="Planted^Physician"))  # fmt: skip
    monkeypatch.setattr("arra_med.datasets.dicom_header._FIRST", 1000)
    assert {"Planted^Name", "Planted^Physician"} <= names(path)


@pytest.mark.parametrize("kind", ["deflated", "gzipped"])
def test_the_search_of_a_header_inflates_only_so_far(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("arra_med.datasets.dicom_header.MAX_HEADER", 2**21)
    syntax = DeflatedExplicitVRLittleEndian if kind == "deflated" else ExplicitVRLittleEndian
    dataset = pydicom.dcmread(io.BytesIO(film(ramp(), syntax=syntax)))
    dataset.add_new(0x00110010, "LO", "OURS")
    dataset.add_new(0x00111010, "OB", bytes(2**26))
    path, data = tmp_path / "bomb.dcm", written(dataset)
    path.write_bytes(data if kind == "deflated" else gzip.compress(data))
    assert path.stat().st_size < 2**18
    del data, dataset
    tracemalloc.start()
    try:
        assert "Planted^Name" in names(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_file_of_zeros_is_no_header(tmp_path):
    path = tmp_path / "film.dcm"
    for data in (bytes(2**26), gzip.compress(bytes(2**26))):
        path.write_bytes(data)
        assert names(path) == set()


def test_pictures_that_are_not_taken_are_searched_too(tmp_path, monkeypatch):
    exif, path = Image.Exif(), tmp_path / "a.jpg"
    exif[0x013B] = "Planted Artist"
    photo = encoded(Image.fromarray(np.tile(COLOUR, (9, 9, 1))), "JPEG", exif=exif.tobytes())
    path.write_bytes(photo[:-40])
    with pytest.raises(UnreadableImage, match="broken picture"):
        read_picture(path, channels=3)
    assert names(path) == {"Planted Artist"}
    monkeypatch.setattr("arra_med.datasets.dicom.MAX_PIXELS", 47)
    path.write_bytes(photo)
    assert names(path) == {"Planted Artist"}
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    path.write_bytes(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:],
                             tiffinfo={0x013B: "Planted Artist"}))  # fmt: skip
    assert names(path) == {"Planted Artist"}
    path.write_bytes(b"<html>")
    assert names(path) == set()


def test_what_pillow_logs_about_a_header_goes_nowhere(tmp_path, caplog):
    caplog.set_level("DEBUG")
    exif, path = Image.Exif(), tmp_path / "a.jpg"
    exif[0x013B] = "Planted Artist"
    path.write_bytes(encoded(Image.fromarray(COLOUR), "JPEG", exif=exif.tobytes()))
    caplog.clear()
    assert read_picture(path, channels=3).identifiers == header_identifiers(path) != ()
    assert caplog.text == ""


@pytest.mark.parametrize("channels", [1, 3])
def test_a_dicom_file_has_the_channels_asked_for(tmp_path, channels):
    path = tmp_path / "film.png"
    path.write_bytes(film(ramp()))
    pixels = read_picture(path, channels=channels, rendering="mimic-jpg").pixels
    assert pixels.shape == ((37, 53), (37, 53, 3))[channels == 3]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html>not found</html>", "web page"),
        (b"%PDF-1.4", "not one of the formats"),
        (encoded(Image.fromarray(COLOUR), "JPEG")[:-40], "broken picture"),
        (
            encoded(
                Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(COLOUR)]
            ),
            "several frames",
        ),
    ],
)
def test_what_is_no_picture_is_refused(data, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode_image(data, channels=3)


def test_declared_size_is_checked_before_decoding(monkeypatch):
    monkeypatch.setattr("arra_med.datasets.dicom.MAX_PIXELS", 47)
    with pytest.raises(UnreadableImage, match="8 × 6 pixels"):
        decode_image(encoded(Image.fromarray(GREY)), channels=1)
