"""What extractors and judges share: declared origin, identity, fitting on real data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from arra_med.picture_loader import Transform
from arra_med.store import PreparedFolder


@dataclass(frozen=True, kw_only=True)
class EvaluatorInfo:
    """What a report must say of an extractor or a judge.

    Attributes:
        name: name with version (``"cnn-64"``); distances under different names do not compare. An
            evaluation makes it differ from the names of its other networks.
        trained_on: what it was trained on, in words.
        input_size: side of the square picture it sees, in pixels.
        preprocessing: resize and range, in words.
        saw: dataset adapters (``"mimic-cxr"``) whose pictures, of whatever split, it was trained
            on.
    """

    name: str
    trained_on: str
    input_size: int
    preprocessing: str
    saw: tuple[str, ...] = ()


def as_uint8(picture: Image.Image) -> Tensor:
    """A grey or RGB picture as ``(1 or 3, H, W)`` uint8."""
    pixels = np.array(picture)  # torch wants memory it may write to
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


@dataclass(frozen=True, kw_only=True)
class FittedOptions:
    """Where a fitted network is kept and what it is fitted on.

    Attributes:
        weights: folder of ``model.safetensors`` and ``config.json``; written by the first
            ``evaluate``.
        fit_on: another prepared folder, on whose training split it is fitted in place of the
            evaluated folder's; not needed any more once the weights are there.
    """

    weights: Path
    fit_on: Path | None = None

    def fitted_on_words(self, config: Mapping[str, Any], what: str) -> str:
        """What a report says of it: the training split, of which folder, and ``what`` it holds."""
        folder = "this" if self.fit_on is None else f"another ({config['dataset']})"
        return f"the training split of {folder} prepared folder ({config['train_pictures']} {what})"


class Fitted(ABC):
    """Mixed into an extractor or a judge that learns from a prepared folder.

    Its identity says so: ``fitted_on`` is the content hash of that folder and ``fitted_splits``
    the splits it saw.
    """

    @classmethod
    @abstractmethod
    def is_fitted(cls, options: Any) -> bool:  # noqa: ANN401 - an instance of Options
        """Whether its weights are there."""

    @classmethod
    @abstractmethod
    def fit(cls, options: Any, prepared: PreparedFolder, device: torch.device) -> None:  # noqa: ANN401
        """Train on the split ``train`` alone and save the weights atomically."""


class Evaluator(nn.Module, ABC):
    """A frozen network that looks at pictures.

    A subclass names its options in a frozen keyword-only dataclass ``Options`` and is constructed
    with an instance of it.
    """

    Options: ClassVar[type[Any]]
    info: EvaluatorInfo

    @classmethod
    @abstractmethod
    def identity(cls, options: Any) -> dict[str, Any]:  # noqa: ANN401 - an instance of Options
        """JSON of all that its outputs depend on, weights' SHA-256 included.

        Raises:
            FileNotFoundError: if weights are missing, saying which, where and how to get them.
        """

    @property
    def transform(self) -> Transform:
        """What worker processes do with each picture: a PIL picture (``L`` or ``RGB``) to the
        tensor of which :meth:`forward` takes a batch; it must pickle.

        By default ``(C, H, W)`` uint8, resized by nobody: then :meth:`forward` does that.
        """
        return as_uint8

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` of :attr:`transform`, by default uint8 in [0, 255], to ``(B, K)``
        float32.

        Raises:
            ValueError: on every batch of another type, shape or scale.
        """
