"""What a DICOM file must say about itself before anything trusts it with memory.

Real archives and hostile files lie in their headers. Whatever is wrong becomes one
:class:`UnreadableImage` whose text never holds a header's free text, which may be a patient's.
"""

import io
import logging
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.source_files import is_passing

GZIP = b"\x1f\x8b"
"""How gzip data begin."""
MAX_PIXELS = 32_000_000
"""Largest picture: twice the largest chest film."""
MAX_BYTES = 256 * 2**20
"""Largest file, also after decompression: four times the largest picture. A file is in memory at
most three times (as read, inflated, its pixel data), so that 2 GiB are never needed."""


def checked_container(data: bytes, max_bytes: int) -> bytes:
    """The DICOM bytes of a file, unzipped if need be, refused if they could swell in memory.

    Args:
        data: a file's content.
        max_bytes: the most it may inflate to.

    Raises:
        UnreadableImage: if it is no DICOM file, inflates to more, or is cut off.
    """
    if data.startswith(GZIP):
        data = _inflated(data, 31, max_bytes)
    if data[128:132] != b"DICM":
        web = data[:512].lstrip()[:1] == b"<"
        raise UnreadableImage(
            "a web page or XML file, not DICOM (a failed download?)"
            if web
            else "not a DICOM file: its 128-byte preamble and 'DICM' mark are missing"
        )
    stream = io.BytesIO(data)
    stream.seek(132)
    meta = read_dataset(stream, False, True, stop_when=beyond_file_meta)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _inflated(data[stream.tell() :], -15, max_bytes)
    return data


def beyond_file_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    """Stops a reader behind group 2."""
    return tag.group != 2


def _inflated(data: bytes, window_bits: int, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    content = inflater.decompress(data, max_bytes)
    if inflater.unconsumed_tail:
        raise UnreadableImage(f"it inflates to more than {max_bytes} bytes")
    if not inflater.eof:
        raise UnreadableImage("its compressed data are cut off")
    return content


def check_header(dataset: Dataset, max_pixels: int) -> None:
    """Refuse headers that no single grey-scale picture has, before pixels are allocated.

    Raises:
        UnreadableImage: if it is not one 8- or 16-bit grey picture of at most ``max_pixels``.
    """
    if "PixelData" not in dataset:
        kind = "floating-point pixels" if "FloatPixelData" in dataset else "no pixels"
        raise UnreadableImage(f"it holds {kind} (modality: {code(dataset, 'Modality')})")
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    if rows < 1 or columns < 1 or rows * columns > max_pixels:
        raise UnreadableImage(f"declares {rows} × {columns} pixels (limit: {max_pixels} in all)")
    photometric = str(dataset.get("PhotometricInterpretation"))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        shown = code(dataset, "PhotometricInterpretation")
        raise UnreadableImage(f"photometric interpretation {shown} is not grey-scale")
    samples = whole(dataset, "SamplesPerPixel", 1)
    frames = whole(dataset, "NumberOfFrames", 1)
    if samples != 1 or frames != 1:
        raise UnreadableImage(f"{samples} samples a pixel and {frames} frames; expected 1 and 1")
    allocated, stored = whole(dataset, "BitsAllocated"), whole(dataset, "BitsStored")
    high = whole(dataset, "HighBit", stored - 1)
    signed = whole(dataset, "PixelRepresentation")
    if allocated not in (8, 16):
        raise UnreadableImage(f"{allocated} bits allocated a pixel; a film has 8 or 16")
    if not 1 <= stored <= allocated or high != stored - 1:
        raise UnreadableImage(
            f"bits allocated {allocated}, stored {stored}, high bit {high} do not fit together "
            "(expected stored ≤ allocated, high bit = stored - 1)"
        )
    if signed not in (0, 1):
        raise UnreadableImage(f"pixel representation {signed} is neither 0 nor 1")


def whole(dataset: Dataset, name: str, default: int | None = None) -> int:
    """One whole number of a header.

    Raises:
        UnreadableImage: if it is missing and has no default, or is something else.
    """
    value = dataset.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        raise UnreadableImage(f"its header has no {name}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnreadableImage(f"its {name} is not one whole number")
    return int(value)


def code(dataset: Dataset, name: str) -> str:
    """A coded value for a message; anything that is no code could be a person's name."""
    text = str(dataset.get(name) or "not given")
    known = re.fullmatch(r"[A-Z_]{2,8}\d?|[A-Z]{3}_[A-Z_]+\d*|not given", text)
    return text if known else "no known code"


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings and log messages away; see :func:`quiet`."""
    with quiet("pydicom"):
        yield


@contextmanager
def quiet(library: str) -> Iterator[None]:
    """Keep warnings and a library's log messages away, which may quote a patient's header."""
    log, nowhere = logging.getLogger(library), logging.NullHandler()
    propagated, log.propagate = log.propagate, False
    log.addHandler(nowhere)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(nowhere)
        log.propagate = propagated


@contextmanager
def reasons(problem: str, *, quote: bool = False) -> Iterator[None]:
    """Turn whatever a parser or decoder raises into a reason.

    pydicom and its decoders raise at least eight unrelated exception classes on broken files;
    this is the boundary of one item, so all of them are caught but those that say nothing of the
    file (see :func:`is_passing`). Only decoders are quoted: a parser may repeat header values.
    """
    try:
        with quiet_pydicom():
            yield
    except UnreadableImage:
        raise
    except Exception as error:  # the boundary of one item
        if is_passing(error):
            raise
        said = f": {quotable(error)}" if quote else ""
        raise UnreadableImage(f"{problem} ({type(error).__name__}{said})") from error


def quotable(error: Exception) -> str:
    """A decoder's message on one line, without memory addresses, which differ from run to run."""
    said = " ".join(str(error).split())
    said = said.removeprefix(
        "Unable to decode as exceptions were raised by all available plugins: "
    )
    return re.sub(r"<[^<>]*>", "the data", said)[:160]
