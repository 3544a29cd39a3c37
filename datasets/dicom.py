"""DICOM files to 8-bit pictures.

``mimic-jpg`` is what the authors of MIMIC-CXR-JPG did (Johnson et al., arXiv 1901.07042), for
comparability; ``clinical`` is what a viewer shows. Real archives and hostile files lie in their
headers, so everything a decoder would trust is checked before a pixel is allocated, and whatever
is wrong with a file becomes one :class:`UnreadableImage` with a reason.
"""

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from arra_med.datasets.base import UnreadableImage

Rendering = Literal["mimic-jpg", "clinical"]

MAX_PIXELS = 32_000_000
"""Largest picture: twice the largest chest film; bounds the memory of a rendering to 2 GiB."""
MAX_BYTES = 512 * 2**20
"""Largest file, also after decompression."""


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        UnreadableImage: if it is missing, empty, too large or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UnreadableImage(f"{size} bytes are more than a picture needs ({MAX_BYTES})")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableImage("the file is missing") from error
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"the file cannot be read ({type(error).__name__})") from error
    if not data:
        raise UnreadableImage("the file is empty")
    return data


def render(path: Path, style: Rendering = "clinical") -> np.ndarray:
    """Read a DICOM file (also gzipped) and render it.

    Args:
        path: the file.
        style: ``mimic-jpg`` or ``clinical``.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        UnreadableImage: if it cannot be, saying why.
    """
    return render_bytes(read_bytes(path), style)


def render_bytes(data: bytes, style: Rendering = "clinical") -> np.ndarray:
    """:func:`render` of a file's content."""
    with _reasons("its header cannot be parsed"):
        dataset = pydicom.dcmread(io.BytesIO(_checked_container(data)))
    with _reasons("its header cannot be interpreted"):
        _check_header(dataset)
    with _reasons("its pixels cannot be decoded", quote=True):
        stored = dataset.pixel_array
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise UnreadableImage(
            f"decoded to shape {stored.shape}, its header says {(dataset.Rows, dataset.Columns)}"
        )
    with _reasons("its grey-scale tables cannot be applied"):
        return mimic_jpg(dataset, stored) if style == "mimic-jpg" else clinical(dataset, stored)


def mimic_jpg(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """MIMIC-CXR-JPG's procedure up to JPEG encoding.

    Stored values minus their minimum, over the maximum, times 255, truncated; inverted if
    MONOCHROME1; histogram equalised. A constant picture stays constant.

    Args:
        dataset: the header.
        stored: ``(H, W)`` stored values, signed or not.

    Returns:
        ``(H, W)`` uint8.
    """
    values = stored.astype(np.float64)
    values -= values.min()
    largest = values.max()
    if largest > 0:
        values /= largest
    values *= 255
    picture = values.astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        picture = 255 - picture
    return equalize_histogram(picture)


def equalize_histogram(picture: np.ndarray) -> np.ndarray:
    """Histogram equalisation as OpenCV's ``equalizeHist`` computes it: float32 scale, rounded.

    Args:
        picture: ``(H, W)`` uint8.

    Returns:
        ``(H, W)`` uint8.
    """
    counts = np.bincount(picture.reshape(-1), minlength=256)
    darkest = int(np.flatnonzero(counts)[0])
    rest = picture.size - int(counts[darkest])
    if rest == 0:
        return picture.copy()
    counts[darkest] = 0
    scale = np.float32(255) / np.float32(rest)
    levels = np.rint(np.cumsum(counts).astype(np.float32) * scale)
    return np.asarray(levels.clip(0, 255).astype(np.uint8)[picture])


def clinical(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """What a viewer shows: modality LUT, VOI LUT or first window, inverted once if at all.

    Without VOI LUT and window the range of the values is stretched, padding pixels set aside.
    MONOCHROME1 and a presentation LUT shape INVERSE mean the same inversion.

    Args:
        dataset: the header.
        stored: ``(H, W)`` stored values, signed or not.

    Returns:
        ``(H, W)`` uint8.
    """
    values = np.asarray(apply_modality_lut(stored, dataset), np.float64)
    window = _window(dataset)
    if dataset.get("VOILUTSequence"):
        depth = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        shown = apply_voi(np.rint(values).astype(np.int64), dataset).astype(np.float64) / (
            2**depth - 1
        )
    elif window is not None:
        shown = _windowed(values, *window)
    else:
        padding = dataset.get("PixelPaddingValue")
        visible = values if padding is None else values[stored != padding]
        low, high = (visible.min(), visible.max()) if visible.size else (0.0, 0.0)
        shown = (values - low) / (high - low) if high > low else np.zeros_like(values)
    picture: np.ndarray = np.rint(shown.clip(0, 1) * 255).astype(np.uint8)
    inverted = (
        dataset.PhotometricInterpretation == "MONOCHROME1"
        or dataset.get("PresentationLUTShape") == "INVERSE"
    )
    return 255 - picture if inverted else picture


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; ``None`` if there is none that is valid."""
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if center is None or width is None or width < (1 if function == "LINEAR" else 1e-9):
        return None
    return center, width, function


def _windowed(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Values to [0, 1] (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp((-4 * (values - center) / width).clip(-700, 700))))
    if function == "LINEAR_EXACT":
        return ((values - center) / width + 0.5).clip(0, 1)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return ((values - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)


def _first(value: Any) -> float | None:  # noqa: ANN401 - a DICOM value of any multiplicity
    if value is None or value == "":
        return None
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        return _first(value[0]) if len(value) else None
    number = float(value)
    return number if np.isfinite(number) else None


def _checked_container(data: bytes) -> bytes:
    """The DICOM bytes of a file, unzipped if need be, refused if they could swell in memory."""
    if data[:2] == b"\x1f\x8b":
        data = _inflated(data, 31)
    if data[128:132] != b"DICM":
        web = data.lstrip()[:1] == b"<"
        raise UnreadableImage(
            "a web page or XML file, not DICOM (a failed download?)"
            if web
            else "not a DICOM file: its 128-byte preamble and 'DICM' mark are missing"
        )
    stream = io.BytesIO(data)
    stream.seek(132)
    meta = read_dataset(stream, False, True, stop_when=_beyond_file_meta)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _inflated(data[stream.tell() :], -15)
    return data


def _beyond_file_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group != 2


def _inflated(data: bytes, window_bits: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    content = inflater.decompress(data, MAX_BYTES)
    if inflater.unconsumed_tail:
        raise UnreadableImage(f"it inflates to more than {MAX_BYTES} bytes")
    if not inflater.eof:
        raise UnreadableImage("its compressed data are cut off")
    return content


def _check_header(dataset: Dataset) -> None:
    """Refuse headers that no single grey-scale picture has, before pixels are allocated."""
    if "PixelData" not in dataset:
        raise UnreadableImage(f"it holds no pixels (modality: {_code(dataset, 'Modality')})")
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
        raise UnreadableImage(f"declares {rows} × {columns} pixels (limit: {MAX_PIXELS} in all)")
    photometric = str(dataset.get("PhotometricInterpretation"))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        shown = _code(dataset, "PhotometricInterpretation")
        raise UnreadableImage(f"photometric interpretation {shown} is not grey-scale")
    samples = _whole(dataset, "SamplesPerPixel", 1)
    frames = _whole(dataset, "NumberOfFrames", 1)
    if samples != 1 or frames != 1:
        raise UnreadableImage(f"{samples} samples a pixel and {frames} frames; expected 1 and 1")
    allocated, stored = _whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored")
    high = _whole(dataset, "HighBit", stored - 1)
    signed = _whole(dataset, "PixelRepresentation")
    if allocated not in (8, 16) or not 1 <= stored <= allocated or high != stored - 1:
        raise UnreadableImage(
            f"bits allocated {allocated}, stored {stored}, high bit {high} do not fit together "
            "(expected 8 or 16 allocated, high bit = stored - 1)"
        )
    if signed not in (0, 1):
        raise UnreadableImage(f"pixel representation {signed} is neither 0 nor 1")
    _check_buffer(dataset, rows * columns * allocated // 8)


def _check_buffer(dataset: Dataset, expected: int) -> None:
    meta = getattr(dataset, "file_meta", None)
    syntax = None if meta is None else meta.get("TransferSyntaxUID")
    if syntax is None:
        raise UnreadableImage("it does not say in which transfer syntax its pixels are written")
    length = len(dataset.PixelData or b"")
    if not syntax.is_private and syntax.is_compressed and not syntax.is_deflated:
        if length == 0:
            raise UnreadableImage("its pixel data are empty")
        if not get_decoder(syntax).is_available:
            raise UnreadableImage(
                f"no installed decoder reads {syntax.name}: install pylibjpeg with its plug-ins, "
                "or convert the file"
            )
    elif length < expected:
        raise UnreadableImage(f"its pixel data are cut off: {length} of {expected} bytes")
    elif length >= 2 * expected:
        raise UnreadableImage(f"{length} bytes of pixels where one picture takes {expected}")


def _whole(dataset: Dataset, name: str, default: int | None = None) -> int:
    value = dataset.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        raise UnreadableImage(f"its header has no {name}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnreadableImage(f"its {name} is not one whole number")
    return int(value)


def _code(dataset: Dataset, name: str) -> str:
    """A coded value for a message; anything that is no code could be a person's name."""
    text = str(dataset.get(name) or "not given")
    return (
        text
        if re.fullmatch(r"[A-Z_]{2,8}\d?|[A-Z]{3}_[A-Z_]+\d*|not given", text)
        else "no known code"
    )


@contextmanager
def _reasons(problem: str, *, quote: bool = False) -> Iterator[None]:
    """Turn whatever a parser or decoder raises into a reason.

    pydicom and its decoders raise at least eight unrelated exception classes on broken files;
    this is the boundary of one item, so all of them are caught. Only decoders are quoted: a parser
    may repeat header values, which may be a patient's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableImage:
        raise
    except Exception as error:  # the boundary of one item
        said = f": {quotable(error)}" if quote else ""
        raise UnreadableImage(f"{problem} ({type(error).__name__}{said})") from error


def quotable(error: Exception) -> str:
    """A decoder's message on one line, without memory addresses, which differ from run to run."""
    return re.sub(r"<[^<>]*>", "the data", " ".join(str(error).split()))[:160]
