"""Pixels as a feature space: coarse grey pictures, which need no weights and no licence."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from arra_med.picture_loader import Transform

SIZE = 32
"""Height and width that pictures are averaged down to."""


def pixel_features(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Grey values in [0, 1], box-averaged to 32 × 32: near for copies, blind to fine detail.

    Args:
        pictures: N of ``(H, W, 1 or 3)`` uint8.

    Returns:
        ``(N, 1024)`` float32.

    Raises:
        ValueError: on other types.
    """
    rows = np.zeros((len(pictures), SIZE * SIZE), dtype=np.float32)
    for row, picture in zip(rows, pictures, strict=True):
        if picture.dtype != np.uint8:
            raise ValueError(f"expected uint8 pictures, got {picture.dtype}")
        grey = picture.astype(np.float32).mean(axis=2)
        small = Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BOX)
        row[:] = np.asarray(small).ravel() / 255
    return rows


def _thumbnail(picture: Image.Image) -> Tensor:
    """``(1, 32, 32)`` float32 in [0, 1]."""
    pixels = np.asarray(picture)
    [features] = pixel_features([pixels if pixels.ndim == 3 else pixels[..., None]])
    return torch.from_numpy(features).reshape(1, SIZE, SIZE)


class PixelExtractor(nn.Module):
    """The same for :func:`~arra_med.eval.inference.predict`: worker processes do it all."""

    transform: Transform = staticmethod(_thumbnail)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 1, 32, 32)`` float32 to ``(B, 1024)``.

        Raises:
            ValueError: on other shapes or types.
        """
        if images.shape[1:] != (1, SIZE, SIZE) or images.dtype != torch.float32:
            raise ValueError(
                f"expected (B, 1, {SIZE}, {SIZE}) float32, got {tuple(images.shape)} {images.dtype}"
            )
        return images.flatten(1)
