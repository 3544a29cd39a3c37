"""Folders and patterns of pictures as tables: every file an item, headers through a whitelist."""

import gzip
import logging
import os
import shutil

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from arra_med.datasets.base import Excluded, UnreadableImage
from arra_med.datasets.dicom_folder import PictureFiles, read_header
from arra_med.datasets.paths import key_from_path, walk_files, without_suffix
from arra_med.datasets.table import Table
from arra_med.errors import RequestError, WorkError
from arra_med.schema import Exclusion, Sample

COLUMNS = {"view": "ViewPosition", "patient": "PatientID", "study": "StudyInstanceUID"}


def film(path, *, patient="P1", view="PA", syntax=ExplicitVRLittleEndian, **tags):
    """A small film as a DICOM file."""
    dataset = Dataset()
    dataset.PatientID, dataset.PatientName = patient, "Meyer^Eva"
    dataset.ViewPosition, dataset.Modality = view, "DX"
    dataset.StudyInstanceUID, dataset.SOPInstanceUID = f"1.2.{len(patient)}", generate_uid()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = np.arange(64, dtype=np.uint8).tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def png(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)


def text(path, content="IMPRESSION: Clear.\n"):
    path.write_text(content)


def table(file, **options):
    return Table(Table.Options(file=file, **({"report_suffix": ".txt"} | options)))


def completed(adapter):
    for item in adapter.items():
        try:
            yield adapter.complete(item, str) if isinstance(item, Sample) else item
        except Excluded as error:
            yield Exclusion(
                item=item.key, source=item.source, reason=error.reason, detail=error.detail
            )


def outcomes(adapter):
    return {i.source: getattr(i, "reason", "sample") for i in completed(adapter)}


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "archive"
    film(root / "p1" / "b.dcm", patient="P1")
    film(root / "p1" / "a.dcm", patient="P1", view="LL")
    film(root / "p2" / "1.2.840.7", patient="P22")  # as a PACS exports it
    film(root / "p2" / "1.2.840.8", patient="P22")
    for name in ("p1/b", "p1/a", "p2/1.2.840.7", "p2/1.2.840.8"):
        text(root / f"{name}.txt")
    return root


def test_every_file_of_a_folder_is_a_sample_or_an_exclusion(archive):
    film(archive / "p3" / "no report.dcm")
    text(archive / "p3" / "no picture.txt")
    (archive / "p3" / "page.dcm").write_text("<html>failed</html>" * 20)
    (archive / "p3" / "list.xlsx").write_bytes(b"PK\x03\x04")
    (archive / "p3" / "empty.dcm").touch()
    (archive / "p3" / "scan.gz").write_bytes(gzip.compress((archive / "p1/b.dcm").read_bytes()))
    text(archive / "p3" / "scan.gz.txt")
    (archive / "p3" / "other.gz").write_bytes(gzip.compress(b"x" * 500)[:20])
    film(archive / "p3" / "nobody.dcm", patient="")
    text(archive / "p3" / "nobody.txt")
    film(archive / "p3" / "odd.dcm", view="SIDEWAYS")
    adapter = table(archive, **COLUMNS)
    assert outcomes(adapter) == {
        "p1/a.dcm": "sample",
        "p1/b.dcm": "sample",
        "p2/1.2.840.7": "sample",
        "p2/1.2.840.8": "sample",
        "p3/empty.dcm": "unreadable-image",
        "p3/list.xlsx": "not-a-picture",
        "p3/no picture.txt": "report-without-image",
        "p3/no report.dcm": "missing-report",
        "p3/nobody.dcm": "no-patient",
        "p3/odd.dcm": "unknown-view",
        "p3/other.gz": "not-a-picture",
        "p3/scan.gz": "sample",
        "p3/page.dcm": "unreadable-image",
    }
    assert adapter.num_items() == 13
    first = next(completed(adapter))
    assert (first.key, first.patient_id, first.study_id) == ("p1/a", "P1", "1.2.2")
    assert first.prompt == "lateral view chest x-ray image, Clear."
    assert (first.source, first.text_source) == ("p1/a.dcm", "p1/a.txt")
    assert np.array_equal(adapter.read(first).pixels.argsort(axis=None), np.arange(64))


def test_a_pattern_takes_the_files_it_matches(archive):
    adapter = table(archive / "**" / "*.dcm", **COLUMNS)
    assert outcomes(adapter) == {"p1/a.dcm": "sample", "p1/b.dcm": "sample"}
    narrower = table(archive / "p1" / "[ab].dcm", image_root=archive, **COLUMNS)
    assert [i.source for i in narrower.items()] == ["p1/a.dcm", "p1/b.dcm"]
    assert [i.source for i in table(archive / "p2" / "*", **COLUMNS).items()] == [
        "1.2.840.7", "1.2.840.8",
    ]  # fmt: skip
    with pytest.raises(RequestError, match="no file at"):
        table(archive / "**" / "*.png", **COLUMNS)
    with pytest.raises(RequestError, match="does not hold every file"):
        table(archive / "**" / "*.dcm", image_root=archive / "p2", **COLUMNS)


def test_plain_pictures_with_texts_beside_them(tmp_path):
    for split in ("train", "val", "test"):
        for index, label in enumerate(("cat", "dog")):
            png(tmp_path / split / label / f"{index}.png")
            text(tmp_path / split / label / f"{index}.txt", f"A {label}.")
    adapter = Table(
        Table.Options(
            file=tmp_path / "*" / "*" / "*.png",
            text_suffix=".txt",
            split="top_folder",
            label_column="folder",
            label_separators=("train/", "val/", "test/"),
            patient="stem",
            modality="animal",
        )
    )
    found = {i.key: i for i in completed(adapter)}
    assert {key: i.split for key, i in found.items()} == {
        "train/cat/0": "train", "train/dog/1": "train", "val/cat/0": "validate",
        "val/dog/1": "validate", "test/cat/0": "test", "test/dog/1": "test",
    }  # fmt: skip
    assert found["val/dog/1"].prompt == "animal image, A dog."
    assert found["val/dog/1"].labels == {"cat": 0, "dog": 1}
    assert found["val/dog/1"].patient_id == "1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patient": "PatientName"}, r"patient: PatientName is not on the list.*allow_tags"),
        ({"patient": "PatientId"}, r"no DICOM keyword.*did you mean PatientID\?"),
        ({"patient": "Folder"}, r"did you mean folder\?"),
        ({"text": "StudyDescription", "report_suffix": None}, "text: StudyDescription is not on"),
        ({"view": "ViewCodeSequence"}, "holds no text"),
        ({"text": "PatientID", "report_suffix": None}, "may only be patient, study, key"),
        ({"allow_tags": ("StationName",)}, "allow_tags names StationName, which no option uses"),
        ({"image": "file"}, "'image' does nothing to a folder"),
        ({"delimiter": ";"}, "'delimiter' does nothing to a folder"),
        ({"views": ("PAA",), "view": "ViewPosition"}, "PAA"),
    ],
)
def test_tags_that_may_identify_a_person_are_refused(archive, options, message):
    with pytest.raises(RequestError, match=message):
        table(archive, **options)


def test_a_tag_the_user_answers_for_is_read(tmp_path):
    film(tmp_path / "a.dcm", StudyDescription="Chest, no effusion")
    adapter = table(
        tmp_path, report_suffix=None, text="StudyDescription", allow_tags=("StudyDescription",)
    )
    assert next(completed(adapter)).prompt == "chest x-ray image, Chest, no effusion"


def test_headers_of_every_container(tmp_path):
    plain = film(tmp_path / "a.dcm", view="AP", ImageType=["ORIGINAL", "PRIMARY"])
    zipped = tmp_path / "b.dcm.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    deflated = film(tmp_path / "c.dcm", view="AP", syntax=DeflatedExplicitVRLittleEndian)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(plain.read_bytes()[:-60])  # within the pixels: the header is whole
    png(tmp_path / "d.png")
    for path in (plain, zipped, cut):
        assert read_header(path, ["ViewPosition", "ImageType", "Laterality"]) == {
            "ViewPosition": "AP", "ImageType": "ORIGINAL\\PRIMARY", "Laterality": "",
        }  # fmt: skip
    assert read_header(deflated, ["ViewPosition"]) == {"ViewPosition": "AP"}
    assert read_header(tmp_path / "d.png", ["ViewPosition"]) == {"ViewPosition": ""}
    zipped.write_bytes(zipped.read_bytes()[:100])
    for path in (zipped, tmp_path / "gone.dcm"):
        with pytest.raises(UnreadableImage):
            read_header(path, ["ViewPosition"])


def test_a_bomb_is_inflated_only_so_far(tmp_path, monkeypatch):
    for module in ("dicom_folder", "dicom_header"):
        monkeypatch.setattr(f"arra_med.datasets.{module}.MAX_HEADER", 4096)
    film(tmp_path / "a.dcm", view="AP", syntax=DeflatedExplicitVRLittleEndian)
    path = tmp_path / "a.dcm"
    assert read_header(path, ["ViewPosition"]) == {"ViewPosition": "AP"}
    bomb = tmp_path / "b.dcm.gz"
    bomb.write_bytes(gzip.compress(b"\0" * 50_000_000))
    with pytest.raises(UnreadableImage, match="'DICM' mark is missing"):
        read_header(bomb, ["ViewPosition"])


def test_links_names_and_order(archive, tmp_path, caplog):
    (archive / "again").symlink_to(archive / "p1")
    (archive / "p1" / "loop").symlink_to(archive)
    odd = os.fsdecode(b"caf\xe9.dcm")
    shutil.copy(archive / "p1" / "a.dcm", archive / "p1" / odd)
    names = list(walk_files(archive))
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert f"again/{odd}" in names
    assert not any("loop" in name for name in names)
    adapter = table(archive, **COLUMNS)
    items = list(adapter.items())
    assert len(items) == adapter.num_items() == 8
    assert len({i.key for i in items}) == 8


def test_a_folder_that_cannot_be_listed_stops_the_run(tmp_path, monkeypatch):
    png(tmp_path / "a.png")
    real = os.scandir

    def failing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(WorkError, match="cannot be listed: Permission denied"):
        list(walk_files(tmp_path))


def test_suffixes_and_keys():
    assert [without_suffix(name) for name in ("a.dcm.gz", "1.2.840.7", "b/.png", "x.PNG")] == [
        "a", "1.2.840.7", "b/.png", "x",
    ]  # fmt: skip
    assert key_from_path("p/1.2.840.7") != key_from_path("p/1.2.840.8")


def test_headers_are_read_one_by_one_and_say_nothing(archive, monkeypatch, caplog, recwarn):
    film(archive / "p1" / "z.dcm", patient="P1", view="P\\A")
    with pydicom.config.disable_value_validation():
        film(archive / "p1" / "y.dcm", PatientBirthDate="Meyer's", view="x" * 40)
    read = []
    real = read_header
    monkeypatch.setattr(
        "arra_med.datasets.dicom_folder.read_header",
        lambda path, keywords: read.append(path) or real(path, keywords),
    )
    files = PictureFiles(archive, ["PatientID"])
    assert read == []
    with caplog.at_level(logging.DEBUG):
        next(iter(files.lines()))
        assert len(read) == 1
        list(table(archive, **COLUMNS).items())
    assert "Meyer" not in caplog.text + "".join(str(one.message) for one in recwarn)


@pytest.mark.real_data
def test_real_dicom_files_are_all_accounted_for(real_data):
    root = real_data / "dicom"
    files = sorted(path for path in root.rglob("*") if path.is_file())
    adapter = table(root, view="ViewPosition", missing_view="prompt-without-view")
    found = list(completed(adapter))
    assert len(found) == adapter.num_items() == len(files)
    assert all(i.reason and i.detail for i in found)  # none has a report beside it
    headers = list(PictureFiles(root, ["ViewPosition"]).lines())
    views = {line.row["ViewPosition"] for line in headers if line.row is not None}
    assert {"PA", "LL", ""} == views
