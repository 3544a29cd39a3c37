"""The teacher plug-in interface: a frozen visual foundation model that training aligns to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

Aggregation = Literal["cls", "mean", "cls+mean"]


@dataclass(frozen=True, kw_only=True)
class TeacherInfo:
    """What evaluation and the feature cache must know of a teacher.

    Attributes:
        dimension: length of its ``cls`` vector and of each patch vector.
        input_size: side of the square input it sees, in pixels.
        aggregations: which of ``cls`` and ``mean`` it offers.
        trained_on: what it was trained on, in words (``"PMC-15M figure-caption pairs"``).
    """

    dimension: int
    input_size: int
    aggregations: tuple[Literal["cls", "mean"], ...]
    trained_on: str


class Teacher(nn.Module, ABC):
    """A frozen encoder. Construction loads weights; :meth:`identity` only hashes them.

    A subclass names its options in a frozen keyword-only dataclass ``Options``.
    """

    Options: ClassVar[type[Any]]
    info: TeacherInfo

    @classmethod
    @abstractmethod
    def identity(cls, options: Any) -> dict[str, Any]:  # noqa: ANN401 - an instance of Options
        """JSON of all that its vectors depend on: weights' SHA-256, input size, normalisation.

        Raises:
            FileNotFoundError: if weights are missing: which, where they were looked for, and how
                to bring them to a machine without internet.
        """

    @abstractmethod
    def preprocess(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 to ``(B, 3, S, S)`` float32, as the teacher was trained."""

    @abstractmethod
    def forward(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """``(B, 3, S, S)`` float32 to ``{"cls": (B, D), "mean": (B, D)}``, those it offers."""


def aggregate(vectors: Mapping[str, Tensor], aggregation: Aggregation) -> Tensor:
    """Pick or concatenate a teacher's vectors.

    Returns:
        ``(B, D)``, or ``(B, 2·D)`` for ``cls+mean``.

    Raises:
        ValueError: if the teacher does not offer what is asked.
    """
    names = aggregation.split("+")
    missing = [name for name in names if name not in vectors]
    if missing:
        raise ValueError(f"this teacher offers {sorted(vectors)}, not {' and '.join(missing)}")
    return torch.cat([vectors[name] for name in names], dim=1)
