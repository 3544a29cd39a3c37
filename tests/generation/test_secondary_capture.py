"""DICOM output: complete, honest about being synthetic, and the same pixels as the PNG.

The tables of attributes are written from DICOM PS3.3-2024: A.8.1 (SC Image IOD) and the sections
of its mandatory modules. pydicom's own dictionary says which value representation each has.
"""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.datadict import dictionary_VR
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from tests.generation.conftest import Run, write_tiny_export

NOT_EMPTY = {  # type 1
    "General Study (C.7.2.1)": ["StudyInstanceUID"],
    "General Series (C.7.3.1)": ["Modality", "SeriesInstanceUID"],
    "SC Equipment (C.8.6.1)": ["ConversionType"],
    "Image Pixel (C.7.6.3)": [
        "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    ],
    "SOP Common (C.12.1)": ["SOPClassUID", "SOPInstanceUID", "SpecificCharacterSet"],  # last: 1C
}  # fmt: skip
THERE = {  # type 2: there, perhaps empty
    "Patient (C.7.1.1)": ["PatientName", "PatientID", "PatientBirthDate", "PatientSex"],
    "General Study (C.7.2.1)": [
        "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
    ],
    "General Series (C.7.3.1)": ["SeriesNumber"],
    "General Equipment (C.7.5.1)": ["Manufacturer"],
    "General Image (C.7.6.1)": ["InstanceNumber", "PatientOrientation"],  # the last: 2C
}  # fmt: skip


@pytest.fixture
def files(run: Run, export: Path, tmp_path: Path) -> list[Path]:
    run("g", prompt="zebra effusion.", dicom=True)
    return [tmp_path / "g" / "dicom" / f"prompt-00001-{i}.dcm" for i in range(2)]


def test_other_prompts_of_one_key_are_other_patients_and_pictures(
    run: Run, files: list[Path], tmp_path: Path
) -> None:
    run("h", prompt="no effusion.", dicom=True)
    both = [pydicom.dcmread(path) for path in (files[0], tmp_path / "h" / "dicom" / files[0].name)]
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert both[0][name].value != both[1][name].value


def test_every_mandatory_attribute_is_there(files: list[Path]) -> None:
    dataset = pydicom.dcmread(files[0])
    assert dataset.file_meta.MediaStorageSOPClassUID == SecondaryCaptureImageStorage
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert dataset.SOPClassUID == SecondaryCaptureImageStorage == "1.2.840.10008.5.1.4.1.1.7"
    for module, names in NOT_EMPTY.items():
        empty = [name for name in names if dataset.get(name) in (None, "", b"")]
        assert not empty, module
    for module, names in THERE.items():
        assert not [name for name in names if name not in dataset], module
    for element in dataset:
        if element.keyword != "PixelData":
            assert dictionary_VR(element.tag) == element.VR, element.keyword
        assert element.tag.is_private is False


def test_it_is_valid_by_the_rules_of_value_representations(files: list[Path]) -> None:
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(files[0])
    before = pydicom.config.settings.reading_validation_mode
    pydicom.config.settings.reading_validation_mode = pydicom.config.RAISE
    try:
        assert len(list(pydicom.dcmread(files[0]).iterall())) == len(list(dataset.iterall()))
    finally:
        pydicom.config.settings.reading_validation_mode = before


def test_it_says_that_it_is_synthetic_and_nobody_s(files: list[Path]) -> None:
    dataset = pydicom.dcmread(files[0])
    assert dataset.SyntheticData == "YES"
    assert dataset.ImageType == ["DERIVED", "SECONDARY"]
    assert dataset.ConversionType == "SYN"
    assert str(dataset.PatientName).startswith("SYNTHETIC^")
    assert dataset.PatientID.startswith("SYNTHETIC-")
    assert (dataset.PatientBirthDate, dataset.PatientSex, dataset.StudyDate) == ("", "", "")
    assert dataset.BurnedInAnnotation == "NO"
    assert dataset.ContentQualification == "RESEARCH"
    assert dataset.LossyImageCompression == "00"
    assert "Not a picture of a patient" in dataset.ImageComments
    assert "llama-arra-tiny" in dataset.DerivationDescription
    assert "seed 0" in dataset.DerivationDescription
    text = files[0].read_bytes()
    assert b"zebra" not in text
    assert b"prompt-00001" not in text


def test_pixels_equal_those_of_the_png(files: list[Path], tmp_path: Path) -> None:
    for file in files:
        png = tmp_path / "g" / "images" / f"{file.stem}.png"
        dataset = pydicom.dcmread(file)
        assert dataset.PhotometricInterpretation == "MONOCHROME2"
        assert np.array_equal(dataset.pixel_array, np.asarray(Image.open(png)))


def test_colour_pixels_equal_those_of_the_png(run: Run, tmp_path: Path) -> None:
    colour = write_tiny_export(tmp_path / "colour", channels=3)
    run("c", export=colour, prompt="clear.", dicom=True)
    dataset = pydicom.dcmread(tmp_path / "c" / "dicom" / "prompt-00001-0.dcm")
    assert (dataset.PhotometricInterpretation, dataset.PlanarConfiguration) == ("RGB", 0)
    png = Image.open(tmp_path / "c" / "images" / "prompt-00001-0.png")
    assert np.array_equal(dataset.pixel_array, np.asarray(png))


def test_uids_belong_to_one_picture(files: list[Path], run: Run, tmp_path: Path) -> None:
    first, second = (pydicom.dcmread(file) for file in files)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    run("same", prompt="zebra effusion.", dicom=True)
    again = tmp_path / "same" / "dicom" / files[0].name
    assert again.read_bytes() == files[0].read_bytes()
    run("other", prompt="zebra effusion.", dicom=True, guidance=3.0)
    run("seed", prompt="zebra effusion.", dicom=True, seed=1)
    for folder in ("other", "seed"):
        other = pydicom.dcmread(tmp_path / folder / "dicom" / files[0].name)
        for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            assert other[name].value != first[name].value


def test_odd_sizes_are_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from arra_med.generation.backend import Request
    from arra_med.generation.prompts import Prompt
    from arra_med.generation.secondary_capture import secondary_capture

    backend = SimpleNamespace(
        model={"name": "m", "content_hash": "0" * 64}, hash12="0" * 12, settings=dict
    )
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5, 1)
    data = secondary_capture(pixels, backend, Request(Prompt("k", "t"), 0, 0), {})
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert len(dataset.PixelData) == 16
    assert np.array_equal(dataset.pixel_array, pixels[..., 0])
