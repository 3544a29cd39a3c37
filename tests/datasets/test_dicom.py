import csv
import gzip
import io
import logging
import subprocess
import sys
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom import render, render_bytes
from tests.datasets.films import film, ramp, written


def test_containers_and_byte_orders_read_the_same(tmp_path):
    values = ramp()
    plain = render_bytes(film(values))
    swapped = film(values, syntax=ExplicitVRBigEndian, PixelData=values.astype(">u2").tobytes())
    (tmp_path / "big.dcm").write_bytes(swapped)
    (tmp_path / "deflated.dcm").write_bytes(film(values, syntax=DeflatedExplicitVRLittleEndian))
    (tmp_path / "film.dcm.gz").write_bytes(gzip.compress(film(values)))
    for name in ("big.dcm", "deflated.dcm", "film.dcm.gz"):
        np.testing.assert_array_equal(render(tmp_path / name), plain)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_odd_numbers_of_bytes_and_trailing_padding_are_read(dtype):
    values = np.array([[1, 2, 3]], dtype)
    assert render_bytes(film(values)).tolist() == [[0, 128, 255]]
    longer = film(values, PixelData=values.tobytes() + b"\0")
    assert render_bytes(longer).tolist() == [[0, 128, 255]]


def test_what_pydicom_logs_about_a_header_goes_nowhere(caplog):
    dataset = pydicom.dcmread(io.BytesIO(film(ramp())))
    dataset.StudyDate = "20200101"
    data = written(dataset).replace(b"20200101", b"Planted!").replace(b"CR\n", b"\xff\xff\n")
    caplog.set_level(logging.DEBUG)
    render_bytes(data)
    assert not caplog.records
    assert logging.getLogger("pydicom").propagate


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
        ({"BitsAllocated": 32}, "32 bits allocated"),
        ({"BitsAllocated": 1}, "1 bits allocated"),
        ({"HighBit": 15, "BitsStored": 12}, "do not fit together"),
        ({"BitsStored": 10, "HighBit": 9}, r"values from \d to 4\d+, its header promises 10 bits"),
        ({"PixelRepresentation": 2}, "pixel representation 2"),
        ({"PixelData": None}, r"no pixels \(modality: CR\)"),
        ({"PixelData": b""}, "cut off"),
    ],
)
def test_lying_headers_are_refused_with_a_reason(changes, reason):
    with pytest.raises(UnreadableImage, match=reason) as caught:
        render_bytes(film(ramp(), **changes))
    assert "Planted" not in str(caught.value)


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


CHILD = """
import re, resource, sys, time
from pathlib import Path
from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom import render
now = int(re.search(r"VmSize:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + 2 * 2**30, now + 2 * 2**30))
rendered = 0
files = [p for p in Path(sys.argv[1]).rglob("*") if p.is_file() and p.name != "index.csv"]
for path in sorted(files):
    for style in ("clinical", "mimic-jpg"):
        start = time.monotonic()
        try:
            picture = render(path, style)
            assert picture.dtype.name == "uint8" and picture.ndim == 2, path
            rendered += 1
        except UnreadableImage as error:
            assert str(error) and "0x" not in str(error) and "Memory" not in str(error), path
            print(f"{path.name}: {error}")
        assert time.monotonic() - start < 20, path
# not ru_maxrss, which a child has from the process that started it
print(rendered, re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.real_data
def test_every_real_file_is_rendered_or_refused(real_data):
    folder = real_data / "dicom"
    with (folder / "index.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    # Without an allocation above 2 GiB, and in an own process, whose peak memory is known.
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    *refusals, last = done.stdout.splitlines()
    rendered, peak_kib = map(int, last.split())
    assert rendered + len(refusals) == 2 * len(paths)
    assert rendered == 2 * 58
    assert peak_kib < 2**20  # the interpreter and its libraries have about 150 MiB of it
    reasons = dict(line.split(": ", 1) for line in refusals)
    for name, words in {
        "no_meta.dcm": "not a DICOM file",
        "MR_truncated.dcm": "cut off: 8130 of 8192 bytes",
        "test-SR.dcm": "holds no pixels (modality: SR)",
        "SC_rgb_small_odd.dcm": "RGB is not grey-scale",
        "JPEG2000-embedded-sequence-delimiter.dcm": "compressed picture is 1024 × 3722445056",
        "orthanc_2026-05-26-oob-monochrome-46341.dcm": "declares 46341 × 46341 pixels",
        "TC0289_buf_10x.dcm": "81920 bytes of pixels where one picture takes 8192",
        "TC0307_bits_ba_one.dcm": "1 bits allocated",
        "TC0337_mf_nf_zero.dcm": "0 frames",
    }.items():
        assert words in reasons[name], name
