"""Source pictures of any kind: DICOM, and what Pillow reads, told apart by content."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION as _PHOTOMETRIC
from PIL.TiffImagePlugin import TiffImageFile

from arra_med.datasets import dicom
from arra_med.datasets.base import Identifier, Picture, UnreadableImage
from arra_med.datasets.dicom_checks import GZIP, quiet, quotable, reasons
from arra_med.datasets.dicom_header import whatever_header
from arra_med.datasets.grayscale import look_up
from arra_med.datasets.privacy.identifiers import dicom_identifiers, image_identifiers
from arra_med.datasets.source_files import is_passing, read_start
from arra_med.store import sha256_bytes

FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "WEBP", "GIF")
"""Formats that are decoded, whatever a file's suffix says."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jp2", ".tif", ".tiff", ".bmp", ".webp", ".gif")
DICOM_SUFFIXES = (".dcm", ".dcm.gz", ".dicom")


def read_picture(
    path: Path, *, channels: Literal[1, 3], rendering: dicom.Rendering = "clinical"
) -> Picture:
    """Read one source file.

    Args:
        path: a DICOM file or a plain image; its content decides, not its suffix.
        channels: 1 for ``(H, W)``, 3 for ``(H, W, 3)``.
        rendering: of DICOM files.

    Returns:
        The picture, with what identifies a person in the file's header.

    Raises:
        UnreadableImage: if it cannot be read or shows nothing, saying why.
    """
    data = dicom.read_bytes(path)
    if _is_dicom(data, path):
        dataset = dicom.parse(data)
        grey = dicom.render_dataset(dataset, rendering)
        pixels = grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
        with reasons("its header cannot be searched for identifiers"):
            identifiers = dicom_identifiers(dataset)
    else:
        with _opened(data) as picture:
            identifiers = image_identifiers(picture)  # before the pixels: see image_texts
            pixels = _to_array(picture, channels)
    if pixels.min() == pixels.max():
        raise UnreadableImage("every pixel has the same value: a blank film")
    return Picture(pixels=pixels, sha256=sha256_bytes(data), identifiers=identifiers)


def header_identifiers(path: Path) -> tuple[Identifier, ...]:
    """What identifies a person in a file's header, whatever is wrong with the file otherwise.

    Only what stands before a DICOM file's pixels is read, 64 MiB at most.

    Returns:
        As :func:`read_picture` gives them; nothing where there is no header that can be read.

    Raises:
        WorkError: if the file cannot be read at the moment.
    """
    try:
        if _is_dicom(read_start(path, 132), path):
            return dicom_identifiers(whatever_header(path))
        with _header(read_start(path, dicom.MAX_BYTES)) as picture:
            return image_identifiers(picture)
    except Exception as error:  # the boundary of one item, which is excluded already
        if is_passing(error):
            raise
        return ()


def read_image(path: Path, *, channels: Literal[1, 3]) -> np.ndarray:
    """A plain image file as ``(H, W)`` or ``(H, W, 3)`` uint8; see :func:`decode_image`."""
    return decode_image(dicom.read_bytes(path), channels=channels)


def decode_image(data: bytes, *, channels: Literal[1, 3]) -> np.ndarray:
    """Decode a plain image.

    Its EXIF orientation is applied, transparency is laid over black, palettes are resolved, and
    grey values of more than 8 bits are stretched from their smallest to their largest, because
    such files do not say how they want to be shown.

    Args:
        data: a file's content.
        channels: 1 for ``(H, W)`` (luma of colour pictures, ITU-R 601), 3 for ``(H, W, 3)``.

    Returns:
        uint8 array.

    Raises:
        UnreadableImage: if it is no picture, broken, too large, or an animation.
    """
    with _opened(data) as picture:
        return _to_array(picture, channels)


def _is_dicom(start: bytes, path: Path) -> bool:
    named = path.name.lower().endswith(DICOM_SUFFIXES)
    return named or start[128:132] == b"DICM" or start.startswith(GZIP)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """One picture of a size that can be decoded, not decoded yet; see :func:`_header`."""
    with _header(data) as picture:
        width, height = picture.size
        if width * height > dicom.MAX_PIXELS:
            raise UnreadableImage(
                f"declares {width} × {height} pixels (limit: {dicom.MAX_PIXELS} in all)"
            )
        if getattr(picture, "n_frames", 1) != 1:
            raise UnreadableImage("it holds several frames, expected one picture")
        yield picture


@contextmanager
def _header(data: bytes) -> Iterator[Image.Image]:
    """A picture of which only the header was read; what goes wrong meanwhile becomes a reason."""
    if data[:512].lstrip()[:1] == b"<":
        raise UnreadableImage("a web page or XML file, not a picture (a failed download?)")
    try:
        with quiet("PIL"):
            yield Image.open(io.BytesIO(data), formats=FORMATS)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"not one of the formats {', '.join(FORMATS)}") from error
    except Exception as error:  # the boundary of one item: Pillow's codecs raise many classes
        if is_passing(error):
            raise
        said = quotable(error)
        raise UnreadableImage(f"broken picture ({type(error).__name__}: {said})") from error


def _to_array(picture: Image.Image, channels: Literal[1, 3]) -> np.ndarray:
    white_is_zero = isinstance(picture, TiffImageFile) and picture.tag_v2.get(_PHOTOMETRIC) == 0
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        shown = _stretched(np.asarray(picture))
        picture = Image.fromarray(255 - shown if white_is_zero else shown)  # Pillow turns 8 bits
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    if channels == 1:
        return np.asarray(picture.convert("RGB").convert("L") if picture.mode != "L" else picture)
    return np.asarray(picture.convert("RGB"))


def _stretched(values: np.ndarray) -> np.ndarray:
    """Deep grey values to uint8, the smallest to 0 and the largest to 255."""
    if not np.isfinite(values).all():
        raise UnreadableImage("it holds values that are not numbers")
    low, high = float(values.min()), float(values.max())
    if high == low:
        return np.zeros(values.shape, np.uint8)
    if values.dtype.kind != "f" and low >= 0 and high < 2**16:
        table = _between(np.arange(2**16), low, high)
        return look_up(table, values.astype(np.uint16, copy=False))
    picture = np.empty(values.shape, np.uint8)
    for row, shown in zip(values, picture, strict=True):  # a whole float64 picture has 256 MB
        shown[:] = _between(row, low, high)
    return picture


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    shown = (values.astype(np.float64) - low) / (high - low) * 255
    return np.asarray(np.rint(shown.clip(0, 255)), np.uint8)
