import csv
import gzip
import io

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from arra_med.datasets.dicom import render
from arra_med.datasets.mimic_cxr import MimicCxr
from arra_med.errors import RequestError
from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample

# dicom id, subject, study, split, ViewPosition, PerformedProcedureStepDescription
ROWS = [
    ("a1", "10000032", "50000001", "train", "PA", "CHEST (PA AND LAT)"),
    ("a2", "10000032", "50000001", "train", "LL", "CHEST (PA AND LAT)"),
    ("b1", "10000764", "50000002", "validate", "", "CHEST (PORTABLE AP)"),
    ("c1", "11000011", "50000003", "test", "", "CHEST (SINGLE VIEW)"),
    ("c2", "11000011", "50000003", "test", "SWIMMERS", "C-SPINE"),
    ("d1", "11000012", "50000004", "train", "AP", ""),
    ("e1", "11000013", "50000005", "train", "AP", ""),
    ("f1", "11000014", "50000006", None, "PA", ""),
    ("g1", "11000015", "50000007", "train", "PA", ""),
]
REPORTS = {
    ("10000032", "50000001"): " FINAL REPORT\n IMPRESSION: No acute\n  process.\n",
    ("10000764", "50000002"): " FINAL REPORT\n FINDINGS: Small left effusion.\n",
    ("11000011", "50000003"): " FINAL REPORT\n IMPRESSION: Clear.\n",
    ("11000013", "50000005"): " FINAL REPORT\n HISTORY: cough\n",
    ("11000014", "50000006"): " FINAL REPORT\n IMPRESSION: Clear.\n",
    ("11000015", "50000007"): " FINAL REPORT\n IMPRESSION: Clear.\n",
}
WITHOUT_FILE = "g1"


def write_table(path, header, rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_dicom(path, value):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    pixels = (np.arange(20 * 30).reshape(20, 30) * value % 4096).astype(np.uint16)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)


def release(root, *, files="files/", suffix=".dcm", tables=".csv", reports=None):
    """A tiny MIMIC-CXR in the given shape."""
    root.mkdir(exist_ok=True)
    for index, (dicom, subject, study, *_) in enumerate(ROWS):
        folder = root / f"{files}p{subject[:2]}/p{subject}/s{study}"
        folder.mkdir(parents=True, exist_ok=True)
        if dicom == WITHOUT_FILE:
            continue
        path = folder / f"{dicom}{suffix}"
        if suffix == ".jpg":
            Image.fromarray(np.full((20, 30), index, np.uint8)).save(path)
        else:
            write_dicom(folder / f"{dicom}.dcm", index + 1)
            if suffix == ".dcm.gz":
                path.write_bytes(gzip.compress((folder / f"{dicom}.dcm").read_bytes()))
                (folder / f"{dicom}.dcm").unlink()
    texts = root / files if reports is None else reports
    for (subject, study), text in REPORTS.items():
        path = texts / f"p{subject[:2]}/p{subject}/s{study}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    name = "mimic-cxr-2.0.0-"
    write_table(
        root / f"{name}metadata{tables}",
        ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription",
         "ViewPosition", "Rows"],
        [(d, p, s, text, view, 20) for d, p, s, _, view, text in ROWS],
    )  # fmt: skip
    write_table(
        root / f"{name}split{tables}",
        ["dicom_id", "study_id", "subject_id", "split"],
        [(d, s, p, split) for d, p, s, split, *_ in ROWS if split],
    )
    values = {"Atelectasis": "1.0", "Edema": "0.0", "Pneumonia": "-1.0"}
    for table in ("chexpert", "negbio"):
        write_table(
            root / f"{name}{table}{tables}",
            ["subject_id", "study_id", *CHEXPERT_LABELS],
            [["10000032", "50000001", *(values.get(label, "") for label in CHEXPERT_LABELS)]],
        )
    return root


def items(root, **options):
    return list(MimicCxr(MimicCxr.Options(root=root, **options)).items())


def reasons(found):
    return {
        item.item.rpartition("/")[2]: item.reason for item in found if isinstance(item, Exclusion)
    }


def samples(found):
    return {item.key.rpartition("/")[2]: item for item in found if isinstance(item, Sample)}


def test_every_picture_is_one_sample_or_exclusion(tmp_path):
    found = items(release(tmp_path))
    assert list(samples(found)) == ["a1", "a2", "b1"]
    assert reasons(found) == {
        "c1": "no-view",
        "c2": "view-not-wanted",
        "d1": "no-report",
        "e1": "no-prompt",
        "f1": "not-in-split-table",
        "g1": "missing-image",
    }
    sample = found[1]
    assert sample.key == "p10000032/s50000001/a2"
    assert (sample.patient_id, sample.study_id, sample.split) == ("10000032", "50000001", "train")
    assert sample.view == "lateral"
    assert sample.prompt == "lateral view chest x-ray image, No acute process."
    assert sample.prompt_source == "impression"
    assert sample.source == "files/p10/p10000032/s50000001/a2.dcm"
    assert samples(found)["b1"].view == "AP"  # repaired from the procedure description
    assert samples(found)["b1"].split == "validate"


def test_labels_are_the_study_s_and_blank_is_unknown(tmp_path):
    found = samples(items(release(tmp_path)))
    labels = found["a1"].labels
    assert found["a2"].labels == labels
    assert {name for name, value in labels.items() if value is not None} == {
        "Atelectasis", "Edema", "Pneumonia",
    }  # fmt: skip
    assert (labels["Atelectasis"], labels["Edema"], labels["Pneumonia"]) == (1, 0, -1)
    assert set(found["b1"].labels.values()) == {None}  # no row in the table
    assert samples(items(tmp_path, labels="negbio"))["a1"].labels == labels
    assert set(samples(items(tmp_path, labels="none"))["a1"].labels.values()) == {None}


@pytest.mark.parametrize("files", ["files/", "", "mimic-cxr/files/"])
@pytest.mark.parametrize("tables", [".csv", ".csv.gz"])
@pytest.mark.parametrize("suffix", [".dcm", ".dcm.gz", ".jpg"])
def test_all_layouts_give_the_same_items(tmp_path, files, suffix, tables):
    plain = items(release(tmp_path / "plain"))
    other = items(release(tmp_path / "other", files=files, suffix=suffix, tables=tables))
    assert reasons(other) == reasons(plain)
    assert [s.prompt for s in samples(other).values()] == [
        s.prompt for s in samples(plain).values()
    ]
    adapter = MimicCxr(MimicCxr.Options(root=tmp_path / "other"))
    assert all(adapter.read(s).pixels.shape == (20, 30) for s in samples(other).values())


@pytest.mark.parametrize("below", ["", "files", "mimic-cxr-reports/files", "mimic-cxr-reports"])
def test_reports_are_found_however_they_were_unpacked(tmp_path, below):
    elsewhere = tmp_path / "texts"
    inside = items(release(tmp_path / "a", reports=tmp_path / "a" / below))
    outside = items(release(tmp_path / "b", reports=elsewhere / below), reports=elsewhere)
    assert len(samples(inside)) == len(samples(outside)) == 3


def test_missing_views_can_be_prompted_without_one(tmp_path):
    found = samples(items(release(tmp_path), missing_view="prompt-without-view"))
    assert found["c1"].view is None
    assert found["c1"].prompt == "chest x-ray image, Clear."
    for sample in found.values():
        assert "nan" not in sample.prompt.lower().split()
        assert "none" not in sample.prompt.lower().split()


def test_views_sources_and_splits_are_configuration(tmp_path):
    release(tmp_path)
    found = items(tmp_path, views=("LL", "swimmers"), prompt_sources=("impression",))
    assert list(samples(found)) == ["a2", "c2"]
    found = items(tmp_path, splits="by-patient", split_shares=(0.0, 0.0, 1.0))
    assert {s.split for s in samples(found).values()} == {"test"}
    assert "f1" in samples(found)  # the split table is not asked


def test_pictures_only_on_disk_and_rows_twice(tmp_path):
    root = release(tmp_path)
    stray = root / "files/p10/p10000032/s50000001/zz.dcm"
    write_dicom(stray, 3)
    write_dicom(root / "loose.dcm", 3)
    (root / "files/p10/p10000032/s50000001/a1.jpg").write_bytes(b"the same picture again")
    table = root / "mimic-cxr-2.0.0-metadata.csv"
    table.write_text(table.read_text() + "a1,10000032,50000001,,PA,20\n")
    found = items(root)
    assert len(found) == len(ROWS) + 1 + 2
    assert reasons(found)["zz"] == reasons(found)["loose.dcm"] == "not-in-metadata"
    assert [i.reason for i in found if isinstance(i, Exclusion) and i.item.endswith("/a1")] == [
        "duplicate-key"
    ]
    assert samples(found)["a1"].source.endswith("a1.dcm")


def test_the_rendering_is_the_one_asked_for(tmp_path):
    root = release(tmp_path)
    for style in ("clinical", "mimic-jpg"):
        adapter = MimicCxr(MimicCxr.Options(root=root, rendering=style))
        sample = next(iter(adapter.items()))
        np.testing.assert_array_equal(
            adapter.read(sample).pixels, render(root / sample.source, style)
        )


def test_missing_and_ambiguous_tables_are_named(tmp_path):
    root = release(tmp_path)
    (root / "mimic-cxr-2.0.0-split.csv").rename(root / "split.csv")
    with pytest.raises(FileNotFoundError, match=r"2\.0\.0-split\.csv .*splits: by-patient"):
        items(root)
    table = root / "mimic-cxr-2.0.0-metadata.csv"
    (root / "mimic-cxr-2.1.0-metadata.csv").write_bytes(table.read_bytes())
    with pytest.raises(RequestError, match="keep one"):
        items(root, splits="by-patient")
    with pytest.raises(FileNotFoundError, match="no MIMIC-CXR folder"):
        items(root / "nowhere")


def test_a_broken_table_names_the_line(tmp_path):
    root = release(tmp_path)
    table = root / "mimic-cxr-2.0.0-split.csv"
    text = table.read_text()
    table.write_text(text.replace("validate", "validat"))
    with pytest.raises(RequestError, match=r"line 4: expected train"):
        items(root)
    table.write_text(text.replace("subject_id", "subject"))
    with pytest.raises(RequestError, match=r"no column 'subject_id': did you mean 'subject'\?"):
        items(root)
    table.write_text(text)
    labels = root / "mimic-cxr-2.0.0-chexpert.csv"
    labels.write_text(labels.read_text().replace("-1.0", "maybe"))
    with pytest.raises(RequestError, match=r"line 2, column 'Pneumonia': 'maybe' is not a label"):
        items(root)
