"""What a tokenizer gives to the terms of the training loss that look at its pictures."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from arra_med.tokenizers.base import TrainableTokenizer


@dataclass(frozen=True)
class Reconstruction:
    """A batch, what the tokenizer makes of it, and how far that is off.

    Attributes:
        pixels: ``(B, C, H, W)`` float32 in [-1, 1], the pictures.
        decoded: the same shape, their reconstruction through the codes, with gradient; beyond
            [-1, 1] where the decoder overshoots.
        loss: the tokenizer's own loss, a number with gradient.
        terms: its parts by name, for the log.
    """

    pixels: Tensor
    decoded: Tensor
    loss: Tensor
    terms: dict[str, Tensor]


class ReconstructingTokenizer(TrainableTokenizer):
    """One whose loss may have perceptual and adversarial terms beside its own."""

    @abstractmethod
    def learn(self, images: Tensor, generator: torch.Generator) -> Reconstruction:
        """Reconstruct ``(B, C, H, W)`` uint8 pictures; the codebook may be updated."""

    def training_loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The tokenizer's own loss of one batch."""
        return self.learn(images, generator).loss
