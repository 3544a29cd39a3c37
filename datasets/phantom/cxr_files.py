"""A drawn chest study as the files MIMIC-CXR would hold: DICOM, report, rows of the tables."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from arra_med.datasets.phantom.chest import draw_chest
from arra_med.datasets.phantom.cxr_plan import PlannedPicture, PlannedStudy
from arra_med.schema import CHEXPERT_LABELS

BITS = 12
LARGEST = 2**BITS - 1

_ROOT = "1.2.826.0.1.3680043.8.498."  # pydicom's own, free for anybody's use
_IMPLEMENTATION = UID(_ROOT + "1.7072301")
_VIEW_MEANING = {"PA": "postero-anterior", "AP": "antero-posterior", "lateral": "lateral"}


def is_monochrome1(picture: PlannedPicture) -> bool:
    """Whether a picture is stored bright-is-low; true for about half."""
    return int(picture.dicom_id[0], 16) % 2 == 1


def view_position(picture: PlannedPicture) -> str:
    """The view as MIMIC-CXR spells it; laterals are ``LATERAL`` or ``LL``."""
    if picture.view != "lateral":
        return picture.view
    return "LL" if int(picture.dicom_id[1], 16) < 5 else "LATERAL"


def stored_pixels(study: PlannedStudy, picture: PlannedPicture, size: int) -> np.ndarray:
    """Draw a picture: ``(size, size)`` uint16, 0 to 4095, inverted if it is MONOCHROME1."""
    spec = replace(study.spec, view=picture.view)
    rng = study.generator("picture", picture.number)
    film = draw_chest(spec, size, rng, study.anatomy)
    values = np.rint(film * LARGEST).astype(np.uint16)
    return np.asarray(LARGEST - values if is_monochrome1(picture) else values, np.uint16)


def dicom_bytes(study: PlannedStudy, picture: PlannedPicture, size: int) -> bytes:
    """A whole DICOM file: CR for portable films, DX for the others; 12 bits stored in 16."""
    portable = picture.view == "AP"
    kind = ComputedRadiographyImageStorage if portable else DigitalXRayImageStorageForPresentation
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = _uid("instance", picture.dicom_id)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = "ARRA_MED_PHANTOM"
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SOPClassUID = kind
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyDate = study.when.strftime("%Y%m%d")
    ds.StudyTime = study.when.strftime("%H%M%S.") + f"{study.when.microsecond // 1000:03d}"
    ds.AccessionNumber = ""
    ds.Modality = "CR" if portable else "DX"
    ds.Manufacturer = "arra_med phantom"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = _procedure(study)
    ds.PatientName = ""
    ds.PatientID = study.subject_id
    ds.PatientBirthDate = ""
    ds.PatientSex = "F" if study.spec.habitus.breasts else "M"
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "drawn, not a person"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = view_position(picture)
    ds.PatientOrientation = ["A", "F"] if picture.view == "lateral" else ["L", "F"]
    ds.StudyInstanceUID = _uid("study", study.study_id, str(study.seed))
    ds.SeriesInstanceUID = _uid("series", picture.dicom_id)
    ds.StudyID = study.study_id
    ds.SeriesNumber = picture.number + 1
    ds.InstanceNumber = 1
    if not portable:
        ds.PresentationIntentType = "FOR PRESENTATION"
    pixels = stored_pixels(study, picture, size)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if is_monochrome1(picture) else "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, BITS, BITS - 1, 0
    ds.WindowCenter, ds.WindowWidth = 2 ** (BITS - 1), 2**BITS
    ds.PresentationLUTShape = "INVERSE" if is_monochrome1(picture) else "IDENTITY"
    ds.BurnedInAnnotation = "NO"
    ds.PixelData = pixels.astype("<u2").tobytes()
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def study_files(study: PlannedStudy, size: int) -> dict[str, bytes]:
    """Every file of a study by its path below the collection's root."""
    files = {
        f"{study.folder}/{picture.dicom_id}.dcm": dicom_bytes(study, picture, size)
        for picture in study.pictures
    }
    files[f"{study.folder}.txt"] = study.report.text.encode("ascii")
    return files


def tables(studies: Sequence[PlannedStudy], size: int) -> dict[str, bytes]:
    """MIMIC-CXR's tables: metadata, split, CheXpert labels, record and study lists."""
    pictures = [(study, picture) for study in studies for picture in study.pictures]
    return {
        "cxr-record-list.csv": _csv(
            ("subject_id", "study_id", "dicom_id", "path"),
            (
                (s.subject_id, s.study_id, p.dicom_id, f"{s.folder}/{p.dicom_id}.dcm")
                for s, p in pictures
            ),
        ),
        "cxr-study-list.csv": _csv(
            ("subject_id", "study_id", "path"),
            ((s.subject_id, s.study_id, f"{s.folder}.txt") for s in studies),
        ),
        "mimic-cxr-2.0.0-metadata.csv": _csv(
            ("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription",
             "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime",
             "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
             "PatientOrientationCodeSequence_CodeMeaning"),
            (_metadata_row(s, p, size) for s, p in pictures),
        ),
        "mimic-cxr-2.0.0-split.csv": _csv(
            ("dicom_id", "study_id", "subject_id", "split"),
            ((p.dicom_id, s.study_id, s.subject_id, s.split) for s, p in pictures),
        ),
        "mimic-cxr-2.0.0-chexpert.csv": _csv(
            ("subject_id", "study_id", *CHEXPERT_LABELS),
            ((s.subject_id, s.study_id, *_label_row(s)) for s in studies),
        ),
    }  # fmt: skip


def _metadata_row(study: PlannedStudy, picture: PlannedPicture, size: int) -> tuple[str, ...]:
    time = float(study.when.strftime("%H%M%S.%f"))  # a number, as in MIMIC: leading zeros are lost
    return (
        picture.dicom_id, study.subject_id, study.study_id, _procedure(study),
        view_position(picture), str(size), str(size), study.when.strftime("%Y%m%d"), str(time),
        _procedure(study), _VIEW_MEANING[picture.view],
        "Recumbent" if picture.view == "AP" else "Erect",
    )  # fmt: skip


def _label_row(study: PlannedStudy) -> list[str]:
    labels = study.report.labels
    return [f"{labels[name]:.1f}" if name in labels else "" for name in CHEXPERT_LABELS]


def _procedure(study: PlannedStudy) -> str:
    if study.spec.view == "AP":
        return "CHEST (PORTABLE AP)"
    return "CHEST (PA AND LAT)" if len(study.pictures) > 1 else "CHEST (PA)"


def _uid(*sources: str) -> UID:
    return generate_uid(prefix=_ROOT, entropy_srcs=["arra_med phantom", *sources])


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode("ascii")
