"""The image-tokenizer plug-in interface: pictures to a grid of codes and back."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


class ImageTokenizer(nn.Module, ABC):
    """Turns pictures into a grid of discrete codes and codes into pictures.

    Attributes:
        num_codes: size of the codebook; codes are ``0 … num_codes - 1``.
        image_size: side of the square pictures, in pixels.
        grid: ``(rows, columns)`` of codes of one picture.
        channels: 1 or 3.
    """

    Options: ClassVar[type[Any]]
    num_codes: int
    image_size: int
    grid: tuple[int, int]
    channels: int

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 pictures to ``(B, rows, columns)`` int64 codes."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """``(B, rows, columns)`` int64 codes to ``(B, C, H, W)`` uint8 pictures."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write ``config.json`` (with the plug-in's ``name``) and ``model.safetensors``."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: naming the missing file.
        """

    @property
    def codes_per_image(self) -> int:
        """``rows · columns``."""
        return self.grid[0] * self.grid[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
