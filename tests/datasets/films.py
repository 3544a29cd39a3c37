"""Small DICOM files for tests, in every transfer syntax that somebody here can write."""

import gzip
import io

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)


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
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OW"
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return written(dataset)


def written(dataset):
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def ramp(dtype=np.uint16, bits=12, low=0):
    rng = np.random.default_rng(0)
    return (low + rng.integers(0, 2**bits, (37, 53))).astype(dtype)


def compressed(data, syntax, frame=None):
    """The same file in another transfer syntax."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    if frame is None and syntax == JPEGLosslessSV1:
        frame = lossless_jpeg(dataset)
    if frame is None:
        dataset.compress(syntax)
    else:
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    return written(dataset)


def lossless_jpeg(dataset):
    """A lossless JPEG stream (ITU-T T.81 process 14, predictor 1), which Pillow cannot write.

    Every difference gets the code of its number of bits, all 17 codes being 5 bits long.
    """
    pixels = dataset.pixel_array.astype(np.int64) & 0xFFFF
    rows, columns = pixels.shape
    precision = int(dataset.BitsStored)
    predicted = np.empty_like(pixels)
    predicted[:, 1:] = pixels[:, :-1]
    predicted[1:, 0] = pixels[:-1, 0]
    predicted[0, 0] = 2 ** (precision - 1)
    bits = []
    for wrapped in ((pixels - predicted).ravel() & 0xFFFF).tolist():
        difference = wrapped - 2**16 if wrapped > 2**15 else wrapped
        size = abs(difference).bit_length()
        bits.append(f"{size:05b}")
        if 0 < size < 16:
            low = difference if difference > 0 else difference + 2**size - 1
            bits.append(f"{low:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")
    counts = bytes([0, 0, 0, 0, 17]) + bytes(11)
    return b"".join(
        (
            b"\xff\xd8\xff\xc3\x00\x0b", bytes([precision]), rows.to_bytes(2, "big"),
            columns.to_bytes(2, "big"), b"\x01\x01\x11\x00",
            b"\xff\xc4\x00\x24\x00", counts, bytes(range(17)),
            b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00", scan, b"\xff\xd9",
        )
    )  # fmt: skip


def films():
    """One small film in each of the syntaxes, by name."""
    deep, flat = ramp(), ramp(np.uint8, 8)
    plain = film(deep, bits=12, WindowCenter=2000, WindowWidth=3000, RescaleSlope="1.5")
    buffer = io.BytesIO()
    Image.fromarray(flat).save(buffer, "JPEG")
    return {
        "explicit": plain,
        "signed": film(ramp(np.int16, 12, -2000), bits=13, PixelPaddingValue=-2000),
        "deflated": film(deep, syntax=DeflatedExplicitVRLittleEndian),
        "gzipped": gzip.compress(plain),
        "rle": compressed(plain, RLELossless),
        "jpeg-ls": compressed(plain, JPEGLSLossless),
        "jpeg-2000": compressed(plain, JPEG2000Lossless),
        "jpeg-lossless": compressed(plain, JPEGLosslessSV1),
        "jpeg": compressed(film(flat), JPEGBaseline8Bit, buffer.getvalue()),
    }
