"""Planted identifiers are found in DICOM headers, EXIF, XMP, PNG chunks and comments."""

import io
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from arra_med.datasets.base import Identifier
from arra_med.datasets.privacy import Redactor, Watch, identifiers
from arra_med.datasets.privacy.folder_scan import foreign_chunk
from arra_med.datasets.privacy.identifiers import (
    ID_TAGS,
    WHITELIST,
    dicom_identifiers,
    image_identifiers,
    kind_of,
)
from arra_med.datasets.privacy.png_chunks import pixels_only

NAME, MRN, BORN = "DOE^JANE", "4711234", "19610412"


def header() -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5.6.7"
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = "1.2.3.4.5.6.7"
    ds.PatientName = NAME
    ds.PatientID = MRN
    ds.PatientBirthDate = BORN
    ds.Modality = "DX"
    ds.StudyDescription = "CHEST PA"
    ds.InstitutionName = "Saint Elsewhere"
    ds.OperatorsName = ["ROE^RICHARD", "POE^EDGAR"]
    other = Dataset()
    other.PatientID = "OLD-998877"
    other.add_new(0x00100010, "PN", "DOE-SMITH^JANE")
    ds.OtherPatientIDsSequence = [other]
    nested, deeper = Dataset(), Dataset()
    deeper.VerifyingObserverName = "GREY^MEREDITH"
    nested.ContentSequence = [deeper]
    ds.ContentSequence = [nested]
    block = ds.private_block(0x0011, "ACME", create=True)
    block.add_new(0x01, "PN", "PRIVATE^PERSON")
    block.add_new(0x02, "LO", "HIDDEN^NAME")
    block.add_new(0x03, "LO", "plain text")
    ds.Rows = ds.Columns = 2
    ds.BitsAllocated = 16
    ds.PixelData = b"\0" * 8
    return ds


def by_tag(found: tuple[Identifier, ...]) -> dict[str, set[str]]:
    tags: dict[str, set[str]] = {}
    for one in found:
        tags.setdefault(one.tag, set()).add(one.value)
    return tags


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_dicom_header_after_a_round_trip(syntax: str) -> None:
    ds = header()
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    found = by_tag(dicom_identifiers(pydicom.dcmread(io.BytesIO(buffer.getvalue()))))
    assert found["PatientName"] == {NAME}
    assert found["PatientID"] == {MRN}
    assert found["PatientBirthDate"] == {BORN}
    assert found["OperatorsName"] == {"ROE^RICHARD", "POE^EDGAR"}
    assert found["OtherPatientIDsSequence.PatientID"] == {"OLD-998877"}
    assert found["OtherPatientIDsSequence.PatientName"] == {"DOE-SMITH^JANE"}
    assert found["ContentSequence.VerifyingObserverName"] == {"GREY^MEREDITH"}
    assert found["SOPInstanceUID"] == {"1.2.3.4.5.6.7"}
    assert found["InstitutionName"] == {"Saint Elsewhere"}
    private = {tag: values for tag, values in found.items() if tag.startswith("private")}
    assert private["private (0011,1002)"] == {"HIDDEN^NAME"}
    assert private["private (0011,1001)"] == {"PRIVATE^PERSON"}  # implicit VR: by its looks
    assert "private (0011,1003)" not in private
    assert not {"Modality", "StudyDescription", "SOPClassUID"} & set(found)


def test_unicode_names_are_decoded() -> None:
    ds = header()
    ds.PatientName = "Müller^Jürgen=山田^太郎"
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    found = by_tag(dicom_identifiers(pydicom.dcmread(io.BytesIO(buffer.getvalue()))))
    assert found["PatientName"] == {"Müller^Jürgen=山田^太郎"}


def written(name: str, encoding: str, charset: str | None) -> Dataset:
    """A header whose name stands there in ``encoding``, and declares ``charset``."""
    raw = name.encode(encoding)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if charset is not None:
        ds.SpecificCharacterSet = charset
    ds.PatientName = ds.InstitutionName = "x" * len(raw)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    data = buffer.getvalue().replace(b"x" * len(raw), raw)
    return pydicom.dcmread(io.BytesIO(data), force=True)


@pytest.mark.parametrize("charset", [None, "ISO_IR 6", "ISO_IR 100", "ISO_IR 192"])
@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("Müller^Jörg", "utf-8"),
        ("Müller^Jörg", "cp1252"),
        ("Schäfer^Šárka", "cp1250"),
        ("Yıldız^Göğüş", "cp1254"),
        ("Иванов^Иван", "utf-8"),
        ("Иванов^Иван", "cp1251"),
        ("ИВАНОВ^ИВАН", "cp1251"),
        ("Иванов^Иван", "koi8_r"),
        ("山田^太郎", "utf-8"),
        ("山田^太郎", "iso2022_jp"),
    ],
)
def test_a_name_in_another_encoding_than_declared(name: str, encoding: str, charset: str) -> None:
    ds = written(name, encoding, charset)
    found = dicom_identifiers(ds)
    assert {name} <= by_tag(found)["PatientName"] & by_tag(found)["InstitutionName"]
    text = f"{name.replace('^', ', ')}: no effusion"
    assert Redactor(found)(text) == "___: no effusion"
    watch = Watch(b"salt")
    watch.add(found)
    assert len(name) < 6 or watch.find(text)


def test_what_the_wrong_encoding_makes_of_a_name_is_nobody() -> None:
    for name, encoding, text in (
        ("Schäfer^Jäger", "utf-8", "fer, ger"),
        ("Бор^Сид", "cp1251", "aid and nea"),
    ):
        found = dicom_identifiers(written(name, encoding, None))
        assert Redactor(found)(text) == text
    assert {one.value for one in dicom_identifiers(written("Müller^Jörg", "cp1252", None))} == {
        "Müller^Jörg"
    }


def test_several_names_in_another_encoding() -> None:
    found = by_tag(dicom_identifiers(written("Müller^Jörg\\Weiß^Änne", "utf-8", None)))
    assert {"Müller^Jörg", "Weiß^Änne"} <= found["PatientName"]


def test_utf8_that_exif_has_as_latin1() -> None:
    tags = Image.Exif()
    tags[0x013B] = "Jürgen Müller".encode()
    assert "Jürgen Müller" in by_tag(image_identifiers(opened("JPEG", exif=tags)))["EXIF Artist"]


def test_nothing_is_logged_or_warned(caplog: pytest.LogCaptureFixture) -> None:
    ds = header()
    for raw in (
        pydicom.dataelem.RawDataElement(tag, vr, len(value), value, 0, False, True)
        for tag, vr, value in (
            (pydicom.tag.Tag(0x0020000D), "UI", b"DOE^JANE"),
            (pydicom.tag.Tag(0x00100030), "DA", b"DOE^JANE"),
        )
    ):
        ds._dict[raw.tag] = raw
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = by_tag(dicom_identifiers(ds))
    assert found["PatientBirthDate"] == {"DOE^JANE"}
    assert caplog.text == ""


def test_broken_elements_are_skipped_and_huge_ones_not_read() -> None:
    ds = header()
    broken = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(0x00081048), "PN", 4, 12345, 0, False, True  # type: ignore[arg-type]
    )  # fmt: skip
    ds._dict[broken.tag] = broken
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds._dict[pydicom.tag.Tag(0x00102154)] = DataElement(0x00102154, "SH", "1" * 5000)
    found = by_tag(dicom_identifiers(ds))
    assert found["PatientName"] == {NAME}
    assert "PatientTelephoneNumbers" not in found


def test_depth_is_bounded() -> None:
    ds = innermost = Dataset()
    for _ in range(40):
        item = Dataset()
        innermost.ContentSequence = [item]
        innermost = item
    innermost.PatientName = NAME
    assert dicom_identifiers(ds) == ()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=40))
def test_a_mutated_header_never_raises(changes: list[tuple[int, int]]) -> None:
    buffer = io.BytesIO()
    header().save_as(buffer, enforce_file_format=True)
    data = bytearray(buffer.getvalue())
    for where, value in changes:
        data[132 + where % (len(data) - 132)] = value
    try:
        ds = pydicom.dcmread(io.BytesIO(bytes(data)), force=True)
    except Exception:  # noqa: BLE001 - not what is tested
        return
    found = dicom_identifiers(ds)
    for one in found:
        assert one.tag
        assert 0 < len(one.value) <= 1024


def test_every_keyword_exists_and_nothing_identifying_is_whitelisted() -> None:
    keyword_sets = [getattr(identifiers, name) for name in ("_ID", "_DATE", "_PHRASE", "_UID")]
    for keyword in WHITELIST | ID_TAGS | identifiers._FREE | frozenset().union(*keyword_sets):
        assert tag_for_keyword(keyword) is not None, keyword
    assert not any(WHITELIST & keywords for keywords in [*keyword_sets, ID_TAGS])
    names = {k for k in WHITELIST if pydicom.datadict.dictionary_VR(tag_for_keyword(k)) == "PN"}
    assert names == set()
    assert not any(word in keyword for keyword in WHITELIST for word in ("Date", "Age", "Comment"))


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("PatientName", "name"),
        ("OtherPatientIDsSequence.PatientID", "id"),
        ("private (0011,1001)", "name"),
        ("PatientBirthDate", "date"),
        ("StudyInstanceUID", "uid"),
        ("InstitutionName", "phrase"),
        ("EXIF Artist", "name"),
        ("EXIF ImageDescription", "free"),
        ("PNG Author", "name"),
        ("XMP creator", "name"),
        ("JPEG comment", "free"),
    ],
)
def test_kinds(tag: str, kind: str) -> None:
    assert kind_of(tag) == kind


def opened(picture_format: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(buffer, picture_format, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x013B] = "Jane Doe"
    tags[0x010E] = "Patient: Doe, MRN 4711234"
    tags[0x9C9D] = "Jürgen Müller\0".encode("utf-16-le")
    tags[0x010F] = "Topcon"  # the camera's maker
    tags.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0born 1961-04-12"
    return tags


XMP = (
    b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF><rdf:Description><dc:creator><rdf:Seq>"
    b"<rdf:li>Jane Doe</rdf:li><rdf:li>Richard Roe</rdf:li></rdf:Seq></dc:creator>"
    b"<photoshop:Credit>Ann Poe</photoshop:Credit></rdf:Description></rdf:RDF></x:xmpmeta>"
)


@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif(picture_format: str) -> None:
    found = by_tag(image_identifiers(opened(picture_format, exif=exif())))
    assert found["EXIF Artist"] == {"Jane Doe"}
    assert found["EXIF ImageDescription"] == {"Patient: Doe, MRN 4711234"}
    assert found["EXIF XPAuthor"] == {"Jürgen Müller"}
    if picture_format != "TIFF":  # Pillow writes no Exif block into TIFF files
        assert found["EXIF UserComment"] == {"born 1961-04-12"}
    assert not any("Topcon" in values for values in found.values())


def test_user_comment_in_utf16() -> None:
    tags = Image.Exif()
    tags.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "Jürgen".encode("utf-16-le")
    found = by_tag(image_identifiers(opened("JPEG", exif=tags)))
    assert found["EXIF UserComment"] == {"Jürgen"}


def test_jpeg_comment_and_xmp() -> None:
    found = by_tag(image_identifiers(opened("JPEG", comment=b"Doe, Jane", xmp=XMP)))
    assert found["JPEG comment"] == {"Doe, Jane"}
    assert found["XMP creator"] == {"Jane Doe", "Richard Roe"}
    assert found["XMP Credit"] == {"Ann Poe"}


def png_with_texts() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Jane Doe")
    info.add_text("Description", "MRN: 4711234", zip=True)
    info.add_itxt("Comment", "Müller", zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    info.add_text("Jane Doe 4711234", "keyword")
    buffer = io.BytesIO()
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def test_png_chunks_without_decoding_and_the_picture_still_loads() -> None:
    picture = Image.open(io.BytesIO(png_with_texts()))
    found = by_tag(image_identifiers(picture))
    assert found["PNG Author"] == {"Jane Doe"}
    assert found["PNG Description"] == {"MRN: 4711234"}
    assert found["PNG Comment"] == {"Müller"}
    assert found["XMP creator"] == {"Jane Doe", "Richard Roe"}
    assert found["PNG text"] == {"keyword"}  # a keyword could be a name: not repeated
    assert picture.getpixel((3, 2)) == 11


def test_a_png_of_pixels_only() -> None:
    bare = pixels_only(png_with_texts() + b"Jane Doe behind the end")
    assert not image_identifiers(picture := Image.open(io.BytesIO(bare)))
    assert picture.getpixel((3, 2)) == 11
    assert foreign_chunk(bare) is None
    assert pixels_only(bare) == bare


def test_png_text_after_the_pixels_is_found() -> None:
    plain = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(plain, "PNG")
    data = plain.getvalue()
    text = b"tEXtAuthor\0Jane Doe"
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    picture = Image.open(io.BytesIO(data[:-12] + chunk + data[-12:]))
    assert by_tag(image_identifiers(picture))["PNG Author"] == {"Jane Doe"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(8, 5_000), st.integers(0, 255)), max_size=20))
def test_a_mutated_png_never_raises(changes: list[tuple[int, int]]) -> None:
    data = bytearray(png_with_texts())
    for where, value in changes:
        data[8 + where % (len(data) - 8)] = value
    try:
        picture = Image.open(io.BytesIO(bytes(data)))
    except Exception:  # noqa: BLE001 - not what is tested
        return
    image_identifiers(picture)


@pytest.mark.real_data
def test_real_headers_never_raise(real_data: Path) -> None:
    found = 0
    for path in sorted((real_data / "dicom").rglob("*.dcm")):
        try:
            ds = pydicom.dcmread(path)
        except Exception:  # noqa: BLE001 - not what is tested
            continue
        tags = by_tag(dicom_identifiers(ds))
        if isinstance(ds.get("PatientID"), str) and ds.PatientID.strip():
            assert tags["PatientID"] == {ds.PatientID.strip()}
            found += 1
    assert found > 40
