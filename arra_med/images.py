"""Pictures as arrays: one resize and crop for every stage, PNG in and out, contact sheets."""

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

Crop = Literal["center-crop", "pad", "squash"]


def fit(image: np.ndarray, size: int, crop: Crop) -> np.ndarray:
    """Bring a picture to ``size`` × ``size`` with an anti-aliased bicubic resize.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8.
        size: side of the square result, in pixels.
        crop: ``center-crop`` (shorter side to ``size``, middle kept), ``pad`` (longer side to
            ``size``, black around) or ``squash`` (both sides, aspect ratio lost).

    Returns:
        ``(size, size)`` or ``(size, size, 3)`` uint8.

    Raises:
        ValueError: if the array is not a uint8 picture.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"expected a uint8 picture, got {image.dtype} of shape {image.shape}")
    picture = Image.fromarray(image)
    kernel = Image.Resampling.BICUBIC
    if crop == "center-crop":
        picture = ImageOps.fit(picture, (size, size), kernel)
    elif crop == "pad":
        picture = ImageOps.pad(picture, (size, size), kernel)
    else:
        picture = picture.resize((size, size), kernel)
    return np.asarray(picture)


def encode_png(image: np.ndarray) -> bytes:
    """PNG bytes of an ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` uint8 array, no metadata."""
    buffer = io.BytesIO()
    squeezed = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    Image.fromarray(squeezed).save(buffer, format="PNG")
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """``(H, W, C)`` uint8 array of PNG bytes, C = 1 for grey and 3 for colour."""
    array = np.asarray(Image.open(io.BytesIO(data)))
    return array[..., None] if array.ndim == 2 else array


def contact_sheet(images: Sequence[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """Tile equally large ``(H, W, C)`` uint8 pictures, row by row, on a white ground.

    Returns:
        ``(H', W', C)`` uint8.
    """
    height, width, channels = images[0].shape
    rows = -(-len(images) // columns)
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8
    )
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet
