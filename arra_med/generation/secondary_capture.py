"""A drawn picture as DICOM: Secondary Capture Image Storage, marked as synthetic throughout.

Made so that a viewer opens it and nobody takes it for a patient's. Its UIDs follow from all that
the picture depends on: an interrupted run writes the same bytes, and no two pictures share one.
Modules and types of attributes: DICOM PS3.3, A.8.1 and the sections it names.
"""

import io
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from arra_med._version import __version__
from arra_med.generation.backend import Backend, Request
from arra_med.store import canonical_json, sha256_bytes

WARNING = "Synthetic image, drawn by a model. Not a picture of a patient. Not for diagnosis."


def secondary_capture(
    pixels: np.ndarray, backend: Backend, request: Request, settings: dict[str, Any]
) -> bytes:
    """The bytes of a DICOM file.

    Neither prompt nor key stand in it: a key may be an examination's pseudonym.

    Args:
        pixels: ``(H, W, 1)`` or ``(H, W, 3)`` uint8.
        backend: what drew it.
        request: whose picture it is.
        settings: all that the picture depends on beside model, key, index and seed.
    """
    model, key = str(backend.model["content_hash"]), request.prompt.key
    prompt = sha256_bytes(request.prompt.text.encode())
    told_apart_by = {"settings": settings, "seed": request.seed, "model": model, "prompt": prompt}
    run = canonical_json(told_apart_by | {"decoder": backend.model.get("decoded_with")})
    subject = sha256_bytes(f"{model}\n{key}\n{prompt}".encode())[:16]
    sop_uid = generate_uid(entropy_srcs=[run, "\nimage\n", key, f"\n{request.index}"])

    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = sop_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = "ARRA_MED"
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    told = ", ".join(f"{name} {value}" for name, value in backend.settings().items())
    values: dict[str, Any] = {
        # SOP Common
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": SecondaryCaptureImageStorage,
        "SOPInstanceUID": sop_uid,
        "SyntheticData": "YES",
        # Patient
        "PatientName": "SYNTHETIC^NOT A PATIENT",
        "PatientID": f"SYNTHETIC-{subject}",
        "PatientBirthDate": "",
        "PatientSex": "",
        "PatientComments": WARNING,
        # General Study
        "StudyInstanceUID": generate_uid(entropy_srcs=[run, "\nstudy\n", key]),
        "StudyDate": "",
        "StudyTime": "",
        "ReferringPhysicianName": "",
        "StudyID": "SYNTHETIC",
        "AccessionNumber": "",
        "StudyDescription": "Synthetic images",
        # General Series
        "Modality": "OT",
        "SeriesInstanceUID": generate_uid(entropy_srcs=[run, "\nseries\n", key]),
        "SeriesNumber": 1,
        "SeriesDescription": "Synthetic images of one prompt",
        # SC Equipment, General Equipment
        "ConversionType": "SYN",
        "Manufacturer": "arra_med",
        "ManufacturerModelName": str(backend.model["name"])[:64],
        "SoftwareVersions": __version__,
        # General Image
        "InstanceNumber": request.index + 1,
        "PatientOrientation": "",
        "ImageType": ["DERIVED", "SECONDARY"],
        "DerivationDescription": (
            f"Drawn by arra_med {__version__} with the model {backend.model['name']} "
            f"({backend.hash12}) from a text: seed {request.seed}, {told}."
        )[:1024],
        "ImageComments": WARNING,
        "BurnedInAnnotation": "NO",
        "RecognizableVisualFeatures": "NO",
        "LossyImageCompression": "00",
        "ContentQualification": "RESEARCH",
        # Image Pixel
        "SamplesPerPixel": pixels.shape[2],
        "PhotometricInterpretation": "MONOCHROME2" if pixels.shape[2] == 1 else "RGB",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
    }
    if pixels.shape[2] == 3:
        values["PlanarConfiguration"] = 0
    for name, value in values.items():
        setattr(file, name, value)
    data = pixels.tobytes()
    file.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
    buffer = io.BytesIO()
    dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()
