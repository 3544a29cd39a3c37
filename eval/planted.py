"""Copies of training pictures, faithful and disguised: what a memorisation test has to find."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
"""``(H, W, 1 or 3)`` uint8."""

MUST_FIND = ("exact", "two levels", "jpeg")
"""Kinds of copies of which a test that is to be believed finds :data:`LEAST_FOUND`."""
LEAST_FOUND = 0.95

_JPEG_QUALITY = 75
_CROP, _SHIFT = 0.05, 0.04  # of the height and width: cut from each side, moved by
_BRIGHTER = 1.15


def planted_copies(
    pictures: Sequence[Picture], *, generator: np.random.Generator
) -> dict[str, list[Picture]]:
    """Each picture copied in each way: exactly, ±2 grey levels of noise, JPEG, cropped and scaled
    back, mirrored, shifted, brighter.

    Args:
        pictures: training pictures, ``(H, W, 1 or 3)`` uint8.
        generator: draws the noise.

    Returns:
        kind → copies in the order of ``pictures``, of the same shapes.

    Raises:
        ValueError: on other shapes or types.
    """
    for picture in pictures:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
            raise ValueError(
                f"expected (H, W, 1 or 3) uint8 pictures, got {picture.shape} {picture.dtype}"
            )

    def two_levels(picture: Picture) -> Picture:
        noise = generator.integers(-2, 3, size=picture.shape)
        return np.asarray(np.clip(picture + noise, 0, 255), dtype=np.uint8)

    ways: dict[str, Callable[[Picture], Picture]] = {
        "exact": lambda picture: picture.copy(),
        "two levels": two_levels,
        "jpeg": _jpeg,
        "crop": _crop,
        "flip": lambda picture: picture[:, ::-1].copy(),
        "shift": _shift,
        "brighter": lambda picture: np.asarray(np.clip(picture * _BRIGHTER, 0, 255), np.uint8),
    }
    return {kind: [way(picture) for picture in pictures] for kind, way in ways.items()}


def _jpeg(picture: Picture) -> Picture:
    buffer = io.BytesIO()
    _image(picture).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return np.asarray(Image.open(buffer)).reshape(picture.shape)


def _crop(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    top, left = round(_CROP * height), round(_CROP * width)
    inner = _image(picture[top : height - top, left : width - left])
    scaled = inner.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(scaled).reshape(picture.shape)


def _shift(picture: Picture) -> Picture:
    """To the right and down; the edge that is left is repeated."""
    down, right = (max(1, round(_SHIFT * side)) for side in picture.shape[:2])
    padded = np.pad(picture, ((down, 0), (right, 0), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded[: picture.shape[0], : picture.shape[1]])


def _image(picture: Picture) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
