"""Source pictures of any kind: DICOM, and what Pillow reads, told apart by content."""

import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from arra_med.datasets import dicom
from arra_med.datasets.base import Picture, UnreadableImage
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

    Raises:
        UnreadableImage: if it cannot be read, saying why.
    """
    data = dicom.read_bytes(path)
    is_dicom = data[128:132] == b"DICM" or path.name.lower().endswith(DICOM_SUFFIXES)
    if is_dicom or data[:2] == b"\x1f\x8b":
        grey = dicom.render_bytes(data, rendering)
        pixels = grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
    else:
        pixels = decode_image(data, channels=channels)
    return Picture(pixels=pixels, sha256=sha256_bytes(data))


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
    if data.lstrip()[:1] == b"<":
        raise UnreadableImage("a web page or XML file, not a picture (a failed download?)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = picture.size
            if width * height > dicom.MAX_PIXELS:
                raise UnreadableImage(
                    f"declares {width} × {height} pixels (limit: {dicom.MAX_PIXELS} in all)"
                )
            if getattr(picture, "n_frames", 1) != 1:
                raise UnreadableImage("it holds several frames, expected one picture")
            picture.load()
            return _to_array(ImageOps.exif_transpose(picture), channels)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"not one of the formats {', '.join(FORMATS)}") from error
    except Exception as error:  # the boundary of one item: Pillow's codecs raise many classes
        said = dicom.quotable(error)
        raise UnreadableImage(f"broken picture ({type(error).__name__}: {said})") from error


def _to_array(picture: Image.Image, channels: Literal[1, 3]) -> np.ndarray:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        picture = Image.fromarray(_stretched(np.asarray(picture)))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    if channels == 1:
        return np.asarray(picture.convert("RGB").convert("L") if picture.mode != "L" else picture)
    return np.asarray(picture.convert("RGB"))


def _stretched(values: np.ndarray) -> np.ndarray:
    """Deep grey values to uint8, the smallest to 0 and the largest to 255."""
    deep = values.astype(np.float64)
    if not np.isfinite(deep).all():
        raise UnreadableImage("it holds values that are not numbers")
    low, high = deep.min(), deep.max()
    if high == low:
        return np.zeros(deep.shape, np.uint8)
    return np.asarray(np.rint((deep - low) / (high - low) * 255), np.uint8)
