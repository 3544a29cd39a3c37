"""Renderings against values worked out by hand and against straightforward code."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom import parse, render_bytes
from arra_med.datasets.dicom_codecs import decode
from arra_med.datasets.grayscale import equalize_histogram, look_up
from tests.datasets.films import film, ramp


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


def published(stored, photometric):
    """MIMIC-CXR-JPG's procedure, line by line, up to the equalisation."""
    image = stored.astype(np.float64)
    image -= image.min()
    image = (image / image.max() * 255).astype(np.uint8)
    return 255 - image if photometric == "MONOCHROME1" else image


def quick_equalize(picture):
    """OpenCV's equalizeHist again, quick enough for whole films."""
    levels, counts = np.unique(picture, return_counts=True)
    sums = np.cumsum(counts) - counts[0]
    scale = np.float32(255.0) / np.float32(picture.size - counts[0])
    table = np.zeros(256)
    table[levels] = np.round(np.float32(sums) * scale)
    return table[picture].astype(np.uint8)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name",
    ["chest/RG1_JLSN.dcm", "chest/nih_DX_implicitVR.dcm", "other_radiographs/RG2_J2KI.dcm",
     "other_radiographs/RG2_JPLY.dcm", "format_edge/6154.dcm",
     "format_edge/J2K_pixelrep_mismatch.dcm", "format_edge/MR_small_bigendian.dcm"],
)  # fmt: skip
def test_mimic_jpg_is_the_published_procedure_on_real_files(real_data, name):
    data = (real_data / "dicom" / name).read_bytes()
    dataset = pydicom.dcmread(real_data / "dicom" / name)
    stored = decode(parse(data)) if "JPLY" in name else dataset.pixel_array
    image = published(stored, dataset.PhotometricInterpretation)
    np.testing.assert_array_equal(render_bytes(data, "mimic-jpg"), quick_equalize(image))


INVERTED = {"PhotometricInterpretation": "MONOCHROME1"}


def table_of(entries, first, depth, kind="US"):
    lut = Dataset()
    lut.LUTDescriptor = [len(entries), first, depth]
    data = np.array(entries, "<u2").tobytes() if kind == "OW" else list(entries)
    lut.add_new("LUTData", kind, data)
    return lut


# Five values over the range, and what is seen of them: the first, a quarter, half, …
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(
    ("dtype", "bits", "values"),
    [
        (np.uint8, 8, [0, 51, 102, 153, 255]),
        (np.int8, 8, [-128, -77, -26, 25, 127]),
        (np.uint16, 10, [100, 200, 300, 400, 600]),
        (np.uint16, 12, [0, 819, 1638, 2457, 4095]),
        (np.int16, 13, [-2048, -1229, -410, 409, 2047]),
        (np.uint16, 14, [1000, 3000, 5000, 7000, 11000]),
        (np.uint16, 15, [0, 6000, 12000, 18000, 30000]),
        (np.uint16, 16, [0, 13107, 26214, 39321, 65535]),
        (np.int16, 16, [-32768, -19661, -6554, 6553, 32767]),
    ],
)
@pytest.mark.parametrize(
    ("tables", "seen"),
    [
        # v = 0, 1/5, 2/5, 3/5, 1 of the range, times 255
        ("stretch", [0, 51, 102, 153, 255]),
        # a slope of -2 turns them round: 1 - v
        ("negative slope", [255, 204, 153, 102, 0]),
        # LINEAR_EXACT over the lower three fifths: v / 0.6
        ("exact", [0, 85, 170, 255, 255]),
        # SIGMOID around 2/5 with width of the range: 255 / (1 + exp(-4 (v - 0.4)))
        ("sigmoid", [43, 79, 128, 176, 234]),
        # LINEAR around v = 0.6, so narrow that it is a threshold: x > c - 0.5 - (w - 1) / 2
        ("threshold", [0, 0, 0, 255, 255]),
    ],
)
def test_depth_sign_and_table(dtype, bits, values, tables, seen, inverted):
    low, span = values[0], values[4] - values[0]
    changes = {
        "stretch": {},
        "negative slope": {"RescaleSlope": -2, "RescaleIntercept": 7},
        "exact": {
            "WindowCenter": f"{low + 0.3 * span:.1f}", "WindowWidth": f"{0.6 * span:.1f}",
            "VOILUTFunction": "LINEAR_EXACT",
        },
        "sigmoid": {
            "WindowCenter": f"{low + 0.4 * span:.1f}", "WindowWidth": str(span),
            "VOILUTFunction": "SIGMOID",
        },
        "threshold": {"WindowCenter": values[3], "WindowWidth": 1},
    }[tables]  # fmt: skip
    shown = render_bytes(
        film(np.array([values], dtype), bits=bits, **changes, **INVERTED if inverted else {})
    ).astype(int)
    expected = 255 - np.array([seen]) if inverted else np.array([seen])
    assert abs(shown - expected).max() <= 1, shown


@pytest.mark.parametrize("kind", ["US", "OW"])
def test_modality_and_voi_tables_follow_each_other(kind):
    modality = table_of([100, 200, 300, 400], 10, 16, kind)
    voi = table_of([0, 1023, 511], 200, 10, kind)
    stored = np.array([[0, 10, 11, 12, 13, 99]], np.uint16)
    data = film(stored, ModalityLUTSequence=[modality], VOILUTSequence=[voi])
    # → 100 100 200 300 400 400 → below, below, first, 300 and more: last entry, 511 of 1023
    assert render_bytes(data).tolist() == [[0, 0, 0, 127, 127, 127]]
    alone = film(stored, ModalityLUTSequence=[modality])
    assert render_bytes(alone).tolist() == [[0, 0, 85, 170, 255, 255]]


def test_tables_of_signed_values_and_of_packed_bytes():
    signed = film(np.array([[-3, -2, -1, 0]], np.int16), bits=12,
                  VOILUTSequence=[table_of([0, 255], -2, 8)])  # fmt: skip
    assert render_bytes(signed).tolist() == [[0, 0, 255, 255]]
    packed = Dataset()
    packed.LUTDescriptor = [4, 0, 8]
    packed.add_new("LUTData", "OW", bytes([10, 20, 30, 250]))  # two entries a word
    values = np.array([[0, 1, 2, 3]], np.uint8)
    assert render_bytes(film(values, VOILUTSequence=[packed])).tolist() == [[10, 20, 30, 250]]


def test_padding_is_black_and_sets_no_range_whatever_the_polarity():
    values = np.array([[0, 1, 2, 1000, 1500, 2000]], np.uint16)
    ranged = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 2}
    assert render_bytes(film(values, **ranged)).tolist() == [[0, 0, 0, 0, 128, 255]]
    turned = 4095 - values
    ranged = {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4093}
    shown = render_bytes(film(turned, bits=12, **ranged, **INVERTED))
    assert shown.tolist() == [[0, 0, 0, 0, 127, 255]]
    windowed = film(values, PixelPaddingValue=2000, WindowCenter=1000, WindowWidth=2000)
    assert render_bytes(windowed)[0, 5] == 0
    signed = np.array([[-2000, 0, 100]], np.int16)  # 63536 means -2000
    data = film(signed, PixelPaddingValue=-2000)
    assert render_bytes(data).tolist() == [[0, 0, 255]]
    everything = film(np.full((2, 2), 7, np.uint16), PixelPaddingValue=7)
    assert not render_bytes(everything).any()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 5}, "rescale slope is 0"),
        ({"VOILUTFunction": "DOE^JOHN", "WindowCenter": 1, "WindowWidth": 2}, "no known code"),
        ({"VOILUTSequence": [table_of([0, 70000 % 2**16], 0, 7)]}, "entries of 7 bits"),
        ({"VOILUTSequence": [table_of([0, 256], 0, 8)]}, "exceed the 8 bits"),
        ({"VOILUTSequence": [Dataset()]}, "grey-scale tables cannot be applied"),
    ],
)
def test_impossible_tables_are_refused_with_a_reason(changes, reason):
    with pytest.raises(UnreadableImage, match=reason) as caught:
        render_bytes(film(ramp(), **changes))
    assert "DOE" not in str(caught.value)


def test_a_short_table_is_refused():
    short = table_of([1, 2, 3], 0, 16)
    short.LUTDescriptor = [4, 0, 16]
    with pytest.raises(UnreadableImage, match="3 entries where it declares 4"):
        render_bytes(film(ramp(), VOILUTSequence=[short]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_looking_up_is_indexing(dtype):
    rng = np.random.default_rng(3)
    info = np.iinfo(dtype)
    stored = rng.integers(info.min, info.max, (300, 700), dtype, endpoint=True)
    table = rng.integers(0, 256, 2**info.bits, np.uint8)
    expected = table[stored.astype(np.int64) % 2**info.bits]
    np.testing.assert_array_equal(look_up(table, stored), expected)
    np.testing.assert_array_equal(look_up(table, stored[:, ::2]), expected[:, ::2])
