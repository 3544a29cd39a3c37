import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom import parse, render_bytes
from arra_med.datasets.dicom_codecs import DECODERS, check_pixel_data, decode
from tests.datasets.films import compressed, film, lossless_jpeg, ramp, written

LOSSLESS = [RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1]


def stored(data):
    return decode(parse(data))


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
@pytest.mark.parametrize(
    ("dtype", "bits", "low"),
    [(np.uint8, 8, 0), (np.uint16, 10, 0), (np.uint16, 12, 0), (np.uint16, 16, 0),
     (np.int16, 12, -1000), (np.int16, 16, -32768)],
)  # fmt: skip
def test_lossless_syntaxes_give_back_what_was_stored(syntax, dtype, bits, low):
    values = ramp(dtype, bits, low)
    data = film(values, bits=13 if (dtype, bits) == (np.int16, 12) else bits)
    read = stored(compressed(data, syntax))
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


def test_every_predictor_of_lossless_jpeg_is_read():
    values = ramp()
    data = film(values, bits=12)
    frame = lossless_jpeg(pydicom.dcmread(io.BytesIO(data)))
    np.testing.assert_array_equal(imagecodecs.jpegsof3_decode(frame), values)  # not our decoder
    np.testing.assert_array_equal(stored(compressed(data, JPEGLossless, frame)), values)


def test_baseline_jpeg_is_pillows():
    buffer = io.BytesIO()
    Image.fromarray(ramp(np.uint8, 8)).save(buffer, "JPEG", quality=90)
    data = compressed(film(ramp(np.uint8, 8)), JPEGBaseline8Bit, buffer.getvalue())
    np.testing.assert_array_equal(stored(data), np.asarray(Image.open(buffer)))
    deep = compressed(film(ramp(), bits=8), JPEGBaseline8Bit, buffer.getvalue())
    assert stored(deep).dtype == np.uint16  # 8-bit samples where the header allocates 16
    np.testing.assert_array_equal(stored(deep), np.asarray(Image.open(buffer)))


def test_12_bit_extended_jpeg_is_read():
    smooth = np.add.outer(np.arange(37) * 50, np.arange(53) * 30).astype(np.uint16)
    frame = imagecodecs.jpeg8_encode(smooth, level=98, bitspersample=12)
    data = compressed(film(smooth, bits=12), pydicom.uid.JPEGExtended12Bit, frame)
    assert abs(stored(data).astype(int) - smooth).max() <= 8


def test_lossy_overshoot_is_clipped_to_the_stored_bits():
    edge = np.zeros((32, 32), np.uint16)
    edge[:, 11:] = 1023
    frame = imagecodecs.jpeg8_encode(edge, level=40, bitspersample=12)
    assert imagecodecs.jpeg8_decode(frame).max() > 1023
    read = stored(compressed(film(edge, bits=10), pydicom.uid.JPEGExtended12Bit, frame))
    assert read.max() == 1023


def test_overlays_in_high_bits_are_ignored():
    values = ramp(bits=12)
    drawn = values | np.uint16(0x8000)
    overlay = pydicom.Dataset()
    overlay.add_new((0x6000, 0x0102), "US", 15)
    dataset = pydicom.dcmread(io.BytesIO(film(drawn, bits=12)))
    dataset.update(overlay)
    np.testing.assert_array_equal(stored(written(dataset)), values)
    with pytest.raises(UnreadableImage, match="its header promises 12 bits"):
        stored(film(drawn, bits=12))


def test_a_sign_that_is_not_repeated_is_found():
    values = np.array([[-2048, -1, 0, 2047]], np.int16)
    np.testing.assert_array_equal(stored(film(values & 0xFFF, bits=12)), values)
    np.testing.assert_array_equal(stored(film(values, bits=12)), values)


@pytest.mark.parametrize("syntax", [*LOSSLESS, JPEGBaseline8Bit], ids=lambda uid: uid.name)
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_cut_off_pictures_are_refused(syntax, share):
    buffer = io.BytesIO()
    Image.fromarray(ramp(np.uint8, 8)).save(buffer, "JPEG")
    frame = buffer.getvalue() if syntax == JPEGBaseline8Bit else None
    dataset = pydicom.dcmread(io.BytesIO(compressed(film(ramp(np.uint8, 8)), syntax, frame)))
    whole = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([whole[: int(len(whole) * share)]])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(UnreadableImage, match=r"cut off|cannot be decoded|are not JPEG"):
        render_bytes(written(dataset))


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (encapsulate([b"no codestream"]), "are not JPEG"),
        (encapsulate([b"\xff\xd8\xff\xc3\x00\x0b\x0c\xff\xff\xff\xff\x01\x01\x11\x00"]),
         "65535 × 65535 with 1 samples a pixel, its header says 37 × 53"),
        (encapsulate([bytes(10**6)]), "compressed bytes where one picture takes 3922"),
    ],
)  # fmt: skip
def test_codestreams_that_are_something_else_are_refused(pixels, reason):
    dataset = pydicom.dcmread(io.BytesIO(film(ramp(), bits=12)))
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = pixels
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(UnreadableImage, match=reason):
        render_bytes(written(dataset))


def test_empty_compressed_pixels_are_refused():
    dataset = pydicom.dcmread(io.BytesIO(film(ramp())))
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = b""
    with pytest.raises(UnreadableImage, match="pixel data are empty"):
        check_pixel_data(dataset)


@pytest.mark.parametrize(
    ("uid", "reason"),
    [
        ("1.2.840.10008.1.2.4.100", "no decoder reads MPEG2"),
        ("1.2.826.0.1.3680043.2.1143.107.104.103.115", "which is not DICOM's own"),
    ],
)
def test_a_syntax_that_nobody_reads_is_named(uid, reason):
    dataset = pydicom.dcmread(io.BytesIO(film(ramp())))
    data = written(dataset)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = uid
    dataset.PixelData = encapsulate([b"frame"])
    dataset["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    with pytest.raises(UnreadableImage, match=reason):
        render_bytes(buffer.getvalue())


@pytest.mark.real_data
def test_decoders_agree_on_the_real_files(real_data):
    agreed = 0
    for path in sorted((real_data / "dicom").rglob("*.dcm")):
        try:
            dataset = parse(path.read_bytes())
            ours = decode(dataset)
        except Exception:  # noqa: BLE001 - other tests look at the reasons
            continue
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax not in DECODERS:
            continue
        others = {}
        for plugin in get_decoder(syntax).available_plugins:
            if plugin != DECODERS[syntax] and DECODERS[syntax] != "imagecodecs":
                others[plugin] = get_decoder(syntax).as_array(dataset, decoding_plugin=plugin)[0]
        if syntax in (JPEGLSLossless, JPEGLSNearLossless):
            frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
            others["charls"] = imagecodecs.jpegls_decode(frame).view(ours.dtype)
        for name, theirs in others.items():
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{path.name} {name}")
            agreed += 1
    assert agreed >= 6


@pytest.mark.real_data
def test_12_bit_jpeg_shows_the_film_that_the_lossless_file_holds(real_data):
    folder = real_data / "dicom/other_radiographs"
    lossless = stored((folder / "RG2_J2KR.dcm").read_bytes()).astype(int)
    lossy = stored((folder / "RG2_JPLY.dcm").read_bytes()).astype(int)
    assert abs(lossy - lossless).mean() < 5  # of 1,023
    assert np.corrcoef(lossy.ravel(), lossless.ravel())[0, 1] > 0.999
