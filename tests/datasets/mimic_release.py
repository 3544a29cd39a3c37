"""A small MIMIC-CXR release, in every layout that users unpack, and what its adapter gives."""

import csv
import gzip
import io
import pickle

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from arra_med.datasets.base import Excluded
from arra_med.datasets.mimic_cxr import MimicCxr
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
            Image.fromarray((np.arange(600) + index).reshape(20, 30).astype(np.uint8)).save(path)
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


def adapter(root, **options):
    return MimicCxr(MimicCxr.Options(root=root, **options))


def items(root, *, redact=str, **options):
    """Every item as it ends, pickled to a worker on its way as ingest does it."""
    found = adapter(root, **options)
    worker = pickle.loads(pickle.dumps(found))
    outcomes = []
    for item in found.items():
        try:
            outcomes.append(worker.complete(item, redact) if isinstance(item, Sample) else item)
        except Excluded as error:
            outcomes.append(
                Exclusion(
                    item=item.key, source=item.source, reason=error.reason, detail=error.detail
                )
            )
    assert len(outcomes) == found.num_items()
    return outcomes


def reasons(found):
    return {
        item.item.rpartition("/")[2]: item.reason for item in found if isinstance(item, Exclusion)
    }


def samples(found):
    return {item.key.rpartition("/")[2]: item for item in found if isinstance(item, Sample)}
