import gzip
import io
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom import equalize_histogram, render, render_bytes

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("ARRA_MED_REAL_DATA", ROOT.parent / "shared/data"))


def film(pixels, **changes):
    """A small DICOM file's bytes with the given stored values."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = changes.pop("syntax", ExplicitVRLittleEndian)
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientName = "Planted^Name"
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = changes.pop("bits", dataset.BitsAllocated)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def ramp(dtype=np.uint16, bits=12, low=0):
    rng = np.random.default_rng(0)
    return (low + rng.integers(0, 2**bits, (37, 53))).astype(dtype)


def opencv_equalize(picture):
    """cv2.equalizeHist, written out pixel count by pixel count."""
    counts = [int((picture == value).sum()) for value in range(256)]
    first = next(value for value in range(256) if counts[value])
    if counts[first] == picture.size:
        return picture
    scale = np.float32(255.0) / np.float32(picture.size - counts[first])
    table, total = [0] * 256, 0
    for value in range(first + 1, 256):
        total += counts[value]
        table[value] = min(255, round(float(np.float32(total) * scale)))
    return np.array([[table[value] for value in row] for row in picture], np.uint8)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "pixels",
    [ramp(), ramp(np.uint8, 8), ramp(np.int16, 12, low=-3000), ramp(np.uint16, 16)],
    ids=["12 in 16", "8", "signed", "16"],
)
def test_mimic_jpg_is_the_published_procedure(pixels, photometric):
    image = pixels.astype(np.float64) - float(pixels.min())
    image = (image / image.max() * 255).astype(np.uint8)
    if photometric == "MONOCHROME1":
        image = 255 - image
    data = film(pixels, PhotometricInterpretation=photometric)
    np.testing.assert_array_equal(render_bytes(data, "mimic-jpg"), opencv_equalize(image))


def test_mimic_jpg_knows_no_window():
    plain, windowed = film(ramp()), film(ramp(), WindowCenter=100, WindowWidth=50)
    np.testing.assert_array_equal(
        render_bytes(plain, "mimic-jpg"), render_bytes(windowed, "mimic-jpg")
    )


def test_equalisation_by_hand():
    picture = np.array([[10, 10, 20, 30]], np.uint8)
    # darkest level has 2 of 4; 20 → round(255/2 · 1) = 128 (half to even), 30 → 255
    assert equalize_histogram(picture).tolist() == [[0, 0, 128, 255]]


@pytest.mark.parametrize("style", ["mimic-jpg", "clinical"])
@pytest.mark.parametrize("value", [-32768, 0, 32767])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_constant_pictures_stay_constant(style, value, photometric):
    data = film(np.full((8, 9), value, np.int16), PhotometricInterpretation=photometric)
    picture = render_bytes(data, style)
    expected = 255 if photometric == "MONOCHROME1" else 0
    assert picture.shape == (8, 9)
    assert set(picture.reshape(-1)) == {expected}


def test_signed_extremes_do_not_overflow():
    data = film(np.array([[-32768, 32767]], np.int16))
    assert render_bytes(data, "mimic-jpg").tolist() == [[0, 255]]
    assert render_bytes(data, "clinical").tolist() == [[0, 255]]


def test_clinical_window_by_the_standard():
    values = np.array([[0, 25, 74, 75, 100, 124, 125, 4095]], np.uint16)
    shown = render_bytes(film(values, bits=12, WindowCenter=100, WindowWidth=50))
    # PS3.3 C.11.2.1.2: x ≤ 75 (c - .5 - (w-1)/2) → 0; x > 124 → 1; else (x - 99.5)/49 + .5
    expected = [0, 0, 0, 0, round(255 * (0.5 / 49 + 0.5)), 255, 255, 255]
    assert shown.tolist() == [expected]


def test_clinical_applies_rescale_before_the_window():
    values = ramp(bits=10)
    plain = render_bytes(film(values, WindowCenter=400, WindowWidth=300))
    rescaled = film(
        values, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=700, WindowWidth=599
    )
    difference = plain.astype(int) - render_bytes(rescaled).astype(int)
    assert abs(difference).max() <= 1  # (2·300 - 1) / 2 ≈ 299 + rounding


def test_clinical_looks_values_up_in_the_voi_lut_before_any_window():
    lut = Dataset()
    lut.LUTDescriptor = [256, 0, 16]
    curve = (np.linspace(0, 1, 256) ** 2 * 65535).astype(np.uint16)
    lut.add_new("LUTData", "US", curve.tolist())
    values = ramp(np.uint8, 8)
    data = film(values, VOILUTSequence=[lut], WindowCenter=10, WindowWidth=5)
    expected = np.rint(curve[values] / 65535 * 255)
    np.testing.assert_array_equal(render_bytes(data), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_clinical_inverts_once(changes):
    values = ramp()
    np.testing.assert_array_equal(
        render_bytes(film(values, **changes)), 255 - render_bytes(film(values))
    )


def test_padding_does_not_set_the_range():
    values = np.array([[0, 1000, 1500, 2000]], np.uint16)
    assert render_bytes(film(values, PixelPaddingValue=0)).tolist() == [[0, 0, 128, 255]]


def test_several_windows_and_impossible_ones():
    values = ramp()
    first = render_bytes(film(values, WindowCenter=[500, 9], WindowWidth=[300, 9]))
    np.testing.assert_array_equal(
        first, render_bytes(film(values, WindowCenter=500, WindowWidth=300))
    )
    np.testing.assert_array_equal(
        render_bytes(film(values, WindowCenter=500, WindowWidth=0)), render_bytes(film(values))
    )


def test_rle_deflated_and_gzipped_files_read_the_same(tmp_path):
    values = ramp()
    plain = render_bytes(film(values))
    dataset = pydicom.dcmread(io.BytesIO(film(values)))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "rle.dcm")
    (tmp_path / "deflated.dcm").write_bytes(film(values, syntax=DeflatedExplicitVRLittleEndian))
    (tmp_path / "film.dcm.gz").write_bytes(gzip.compress(film(values)))
    for name in ("rle.dcm", "deflated.dcm", "film.dcm.gz"):
        np.testing.assert_array_equal(render(tmp_path / name), plain)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "65535 × 65535 pixels"),
        ({"Rows": 0}, "declares 0 × 53"),
        ({"Rows": None}, "no Rows"),
        ({"Rows": 38}, "cut off"),
        ({"Rows": 18}, "where one picture takes"),
        ({"SamplesPerPixel": 3}, "3 samples"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"NumberOfFrames": 0}, "0 frames"),
        ({"PhotometricInterpretation": "RGB"}, "RGB is not grey-scale"),
        ({"PhotometricInterpretation": "DOE^JOHN"}, "no known code is not grey-scale"),
        ({"BitsStored": 17, "HighBit": 16}, "do not fit together"),
        ({"HighBit": 3}, "do not fit together"),
        ({"BitsAllocated": 32}, "do not fit together"),
        ({"PixelRepresentation": 2}, "pixel representation 2"),
        ({"PixelData": None}, r"no pixels \(modality: CR\)"),
        ({"PixelData": b""}, "cut off"),
    ],
)
def test_lying_headers_are_refused_with_a_reason(changes, reason):
    with pytest.raises(UnreadableImage, match=reason) as caught:
        render_bytes(film(ramp(), **changes))
    assert "Planted" not in str(caught.value)


def test_a_missing_decoder_is_named():
    dataset = pydicom.dcmread(io.BytesIO(film(ramp())))
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    with pytest.raises(UnreadableImage, match=r"JPEG-LS|cannot be decoded"):
        render_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "not a DICOM file"),
        (bytes(128) + b"DICM", "no pixels|header"),
        (b"\x1f\x8b" + bytes(40), "cannot be parsed"),
    ],
)
def test_other_files_are_refused(tmp_path, data, reason):
    path = tmp_path / "x.dcm"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match=reason):
        render(path)


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(UnreadableImage, match="missing"):
        render(tmp_path / "none.dcm")


def test_bombs_are_refused_before_they_swell(monkeypatch):
    monkeypatch.setattr("arra_med.datasets.dicom.MAX_BYTES", 2**20)
    zeros = bytes(2**22)
    with pytest.raises(UnreadableImage, match="inflates"):
        render_bytes(gzip.compress(zeros))
    deflated = film(ramp(), syntax=DeflatedExplicitVRLittleEndian)
    start = deflated.index(b"DICM")
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = body.compress(zeros) + body.flush()
    meta_end = start + 4 + 12 + int.from_bytes(deflated[start + 12 : start + 16], "little")
    with pytest.raises(UnreadableImage, match="inflates"):
        render_bytes(deflated[:meta_end] + bomb)


def test_seeded_mutations_raise_nothing_else():
    rng = np.random.default_rng(5)
    original = film(ramp(), WindowCenter=500, WindowWidth=300)
    for _ in range(300):
        data = bytearray(original[: rng.integers(100, len(original) + 1)])
        for place in rng.integers(128, min(len(data), 700) + 29, rng.integers(1, 8)):
            if place < len(data):
                data[place] = rng.integers(256)
        try:
            picture = render_bytes(bytes(data), rng.choice(["mimic-jpg", "clinical"]))
        except UnreadableImage:
            continue
        assert picture.dtype == np.uint8
        assert picture.ndim == 2


CHILD = """
import sys, time, resource
from pathlib import Path
from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom import render
rendered = refused = 0
files = [p for p in Path(sys.argv[1]).rglob("*") if p.is_file() and p.name != "index.csv"]
for path in sorted(files):
    for style in ("clinical", "mimic-jpg"):
        start = time.monotonic()
        try:
            picture = render(path, style)
            assert picture.dtype.name == "uint8" and picture.ndim == 2, path
            rendered += 1
        except UnreadableImage as error:
            assert str(error) and "0x" not in str(error), path
            refused += 1
        assert time.monotonic() - start < 20, path
print(rendered, refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.real_data
def test_every_real_file_is_rendered_or_refused():
    folder = REAL / "dicom"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (ARRA_MED_REAL_DATA)")
    # Without an allocation above 2 GiB, and in an own process, whose peak memory is known.
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rendered, refused, peak_kib = map(int, done.stdout.split())
    assert rendered + refused == 2 * 99
    assert rendered >= 2 * 50
    assert peak_kib < 2 * 2**20
