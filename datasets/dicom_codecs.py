"""Stored pixels of a checked header: one decoder for each transfer syntax, never 'any installed'.

Which and why, tried on the real files of ``shared/data`` (where several read a file, they agree to
the last bit; 12-bit JPEG: to 1 of 4,095):

==========================  =============  ========================================================
syntax                      decoder        why
==========================  =============  ========================================================
JPEG baseline, extended,    imagecodecs    libjpeg-turbo 3 for 8, 12 and 16 bits and all predictors;
lossless                                   BSD. GDCM's pictures are the same but take four times as
                                           long, and it ends the process on a damaged stream;
                                           pylibjpeg-libjpeg is under the GPL and refuses three of
                                           the four real 12-bit files; Pillow reads 8 bits only
JPEG-LS                     pyjpegls       CharLS; GDCM takes twice as long
JPEG 2000, also             pylibjpeg      OpenJPEG, as in Pillow, which shifts bits to and fro and
high-throughput                            fails on one real file
RLE                         pylibjpeg      in Rust; pydicom's own reads the same in Python
==========================  =============  ========================================================
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from arra_med.datasets.base import UnreadableImage

NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
DECODERS = {
    JPEGBaseline8Bit: "imagecodecs",
    JPEGExtended12Bit: "imagecodecs",
    JPEGLossless: "imagecodecs",
    JPEGLosslessSV1: "imagecodecs",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "pylibjpeg",
}
# pydicom would copy uncompressed pixels, and shift every one to and fro to clear unused bits
_AS_IT_IS: Any = {"view_only": True, "correct_unused_bits": False}
_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)


def check_pixel_data(dataset: Dataset) -> None:
    """Hold what the pixel data are against what the header says, before they are decoded.

    Raises:
        UnreadableImage: if nobody reads their syntax, or they are another picture than declared.
    """
    meta = getattr(dataset, "file_meta", None)
    syntax = None if meta is None else meta.get("TransferSyntaxUID")
    if not isinstance(syntax, UID):
        raise UnreadableImage("it does not say in which transfer syntax its pixels are written")
    if syntax not in NATIVE and syntax not in DECODERS:
        known = syntax.type == "Transfer Syntax"
        name = syntax.name if known else "this transfer syntax, which is not DICOM's own"
        raise UnreadableImage(f"no decoder reads {name}: convert the file")
    length = len(dataset.PixelData or b"")
    expected = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    if syntax in NATIVE:
        if length < expected:
            raise UnreadableImage(f"its pixel data are cut off: {length} of {expected} bytes")
        if length >= 2 * expected and length > expected + 2:
            raise UnreadableImage(f"{length} bytes of pixels where one picture takes {expected}")
        return
    if length == 0:
        raise UnreadableImage("its pixel data are empty")
    if length > 2 * expected + 2**16:  # no codec makes pictures larger than that
        raise UnreadableImage(f"{length} compressed bytes where one picture takes {expected}")
    if syntax != RLELossless:
        frame = _frame(dataset)
        rows, columns, samples = _frame_header(frame, syntax)
        if (rows, columns, samples) != (dataset.Rows, dataset.Columns, 1):
            raise UnreadableImage(
                f"its compressed picture is {rows} × {columns} with {samples} samples a pixel, "
                f"its header says {dataset.Rows} × {dataset.Columns} with 1"
            )
        # libjpeg would fill the rest with grey and say nothing
        if not frame.rstrip(b"\x00\xff").endswith(b"\xff\xd9"):
            raise UnreadableImage("its compressed picture is cut off: its end mark is missing")


def decode(dataset: Dataset) -> np.ndarray:
    """The stored values of a checked file.

    Returns:
        ``(Rows, Columns)`` uint8, int8, uint16 or int16 in the machine's byte order; perhaps
        read-only. Bits above the stored ones are gone.

    Raises:
        UnreadableImage: if the picture is another one than declared. Decoders raise others.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    if syntax in NATIVE:
        stored, _ = decoder.as_array(dataset, **_AS_IT_IS)
    elif DECODERS[syntax] == "imagecodecs":  # no plug-in of pydicom's
        kind = "i" if dataset.PixelRepresentation else "u"
        samples = imagecodecs.jpeg8_decode(_frame(dataset))
        unsigned = samples.astype(f"u{dataset.BitsAllocated // 8}", casting="same_kind", copy=False)
        stored = unsigned.view(f"{kind}{unsigned.itemsize}")
    else:
        with _panics():
            stored, _ = decoder.as_array(dataset, decoding_plugin=DECODERS[syntax], **_AS_IT_IS)
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise UnreadableImage(
            f"decoded to shape {stored.shape}, its header says {(dataset.Rows, dataset.Columns)}"
        )
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return _stored_bits(stored, dataset, lossy=syntax in _LOSSY)


@contextmanager
def _panics() -> Iterator[None]:
    """Make a decoder written in Rust fail like others: its panics are no ``Exception``."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise UnreadableImage("its pixels cannot be decoded: they are damaged") from error


def _stored_bits(stored: np.ndarray, dataset: Dataset, *, lossy: bool) -> np.ndarray:
    """The values without what else the bits above the stored ones may hold."""
    bits, signed = int(dataset.BitsStored), stored.dtype.kind == "i"
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    low, high = int(stored.min()), int(stored.max())
    if lowest <= low and high <= highest:
        return stored
    if lossy:  # a steep edge overshoots
        return stored.clip(lowest, highest)
    # the sign is not always repeated above the stored bits (PS3.5, 8.1.1)
    if _has_overlay_in_pixels(dataset) or (signed and low >= 0 and high < 2**bits):
        unused = stored.dtype.itemsize * 8 - bits
        return np.asarray((stored << unused) >> unused)
    raise UnreadableImage(f"it holds values from {low} to {high}, its header promises {bits} bits")


def _has_overlay_in_pixels(dataset: Dataset) -> bool:
    """Whether an overlay's bits lie among the pixels' (a practice retired in 2004)."""
    return any(
        (group, 0x0102) in dataset and dataset[group, 0x0102].value
        for group in range(0x6000, 0x6020, 2)
    )


def _frame(dataset: Dataset) -> bytes:
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


def _frame_header(frame: bytes, syntax: UID) -> tuple[int, int, int]:
    """Rows, columns and samples a pixel that a codestream declares of itself."""
    if syntax in (JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL):
        start = frame.find(b"\xff\x4f\xff\x51")  # ISO/IEC 15444-1 A.5.1; may lie in a JP2 box
        if start >= 0 and len(frame) >= start + 42:
            right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
            (samples,) = struct.unpack_from(">H", frame, start + 40)
            return bottom - top, right - left, samples
        raise UnreadableImage("its compressed pixels are not JPEG 2000")
    place = 2
    while frame[:2] == b"\xff\xd8" and place + 10 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns, samples = struct.unpack_from(">HHB", frame, place + 5)
            return rows, columns, samples
        # a fill byte, or a segment with its length
        place += 1 if marker == 0xFF else 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    raise UnreadableImage("its compressed pixels are not JPEG")
