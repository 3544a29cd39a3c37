"""Pictures as teachers take them: tensors to PIL and one plain transform.

Transforms work on PIL pictures, one by one, because the libraries that published the teachers do:
resizing a tensor instead differs by up to 22 of 255 levels on noise.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pictures(images: Tensor) -> list[Image.Image]:
    """A batch as PIL pictures.

    Args:
        images: ``(B, C, H, W)`` uint8, C = 1 (grey) or 3 (RGB).

    Raises:
        ValueError: if the tensor is not such a batch.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"expected (B, 1 or 3, H, W) uint8 pictures, got {tuple(images.shape)} {images.dtype}"
        )
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array[..., 0] if array.shape[2] == 1 else array) for array in arrays]


@dataclass(frozen=True)
class SquashAndScale:
    """Resize to ``size`` × ``size`` (bicubic, anti-aliased), RGB, scaled to [-1, 1]."""

    size: int

    def __call__(self, picture: Image.Image) -> Tensor:
        """One picture to ``(3, size, size)`` float32."""
        resized = picture.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 127.5 - 1
