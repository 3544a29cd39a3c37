"""Pictures as arrays: one resize and crop for every stage, PNG in and out, contact sheets."""

import io
import struct
import zlib
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
    """PNG bytes of an ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` uint8 array, no metadata.

    Written out, because Pillow takes ten times as long. For real films at 512 × 512, one core:
    Pillow's defaults 31 to 40 ms and 72 to 128 KiB, its fastest setting 6 to 8 ms and 87 to 148
    KiB; one filter for all rows and run-length coding (zlib finds few longer repetitions in
    noise) 2.5 to 3.4 ms and 69 to 130 KiB.

    Raises:
        ValueError: if the array is not a uint8 picture.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in _PNG_COLOUR:
        raise ValueError(f"expected a uint8 picture, got {image.dtype} of shape {image.shape}")
    height, width = image.shape[:2]
    if not (height and width):
        raise ValueError(f"expected a picture, got shape {image.shape}")
    channels = image.shape[2] if image.ndim == 3 else 1
    pixels = image.reshape(height, width * channels)
    above, left = np.zeros_like(pixels), np.zeros_like(pixels)
    above[1:], left[:, channels:] = pixels[:-1], pixels[:, :-channels]
    rows = np.full((height, 1 + width * channels), 3, np.uint8)  # 3: filter "average"
    # (above + left) // 2 without a ninth bit
    np.subtract(pixels, (above & left) + ((above ^ left) >> 1), out=rows[:, 1:])
    deflate = zlib.compressobj(strategy=zlib.Z_RLE, memLevel=9)
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOUR[image.shape[2:]], 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _png_chunk(b"IHDR", header),
            _png_chunk(b"IDAT", deflate.compress(rows.tobytes()) + deflate.flush()),
            _png_chunk(b"IEND", b""),
        )
    )


_PNG_COLOUR = {(): 0, (1,): 0, (3,): 2}
"""PNG's colour type by what follows height and width in an array's shape."""


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return len(content).to_bytes(4, "big") + kind + content + check.to_bytes(4, "big")


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
