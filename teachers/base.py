"""The teacher plug-in interface: a frozen visual foundation model that training aligns to."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from arra_med.errors import RequestError
from arra_med.store import PreparedFolder
from arra_med.teachers.preprocess import to_pictures

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

    def width(self, aggregation: Aggregation) -> int:
        """Length of the vector that ``aggregation`` gives.

        Raises:
            RequestError: if the teacher does not offer it.
        """
        names = aggregation.split("+")
        if any(name not in self.aggregations for name in names):
            raise RequestError(
                f"features.aggregation is {aggregation!r}, but this teacher with these options "
                f"offers {' and '.join(map(repr, self.aggregations))}"
            )
        return self.dimension * len(names)


class Teacher(nn.Module, ABC):
    """A frozen encoder. Only construction loads weights.

    A subclass names its options in a frozen keyword-only dataclass ``Options`` and is constructed
    with an instance of it; it sets ``info`` and ``transform`` there.

    Attributes:
        info: what :meth:`describe` gives for its options.
        transform: one picture to ``(3, S, S)`` float32, as the teacher was trained. It holds no
            weights and can be pickled, so that processes that decode pictures can apply it too.
    """

    Options: ClassVar[type[Any]]
    info: TeacherInfo
    transform: Callable[[Image.Image], Tensor]

    @classmethod
    @abstractmethod
    def describe(cls, options: Any) -> TeacherInfo:  # noqa: ANN401 - an instance of Options
        """What the teacher offers with these options, read from its configuration alone.

        Raises:
            FileNotFoundError: as :meth:`identity`.
        """

    @classmethod
    @abstractmethod
    def identity(cls, options: Any) -> dict[str, Any]:  # noqa: ANN401 - an instance of Options
        """JSON of all that its vectors depend on; weights are hashed, not loaded.

        It holds at least ``name``, ``weights_sha256``, ``input_size``, ``dimension`` and
        ``preprocessing``.

        Raises:
            FileNotFoundError: if weights are missing: which, where they were looked for, and how
                to bring them to a machine without internet.
        """

    def preprocess(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8, C = 1 or 3, to ``(B, 3, S, S)`` float32 on the same device."""
        transformed = [self.transform(picture) for picture in to_pictures(images)]
        return torch.stack(transformed).to(images.device)

    @abstractmethod
    def forward(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """``(B, 3, S, S)`` float32 to ``{"cls": (B, D), "mean": (B, D)}``, those it offers."""


class FittedTeacher(Teacher):
    """A teacher that learns from the prepared folder itself before it is frozen."""

    @classmethod
    @abstractmethod
    def is_fitted(cls, options: Any) -> bool:  # noqa: ANN401 - an instance of Options
        """Whether its weights are there."""

    @classmethod
    @abstractmethod
    def fit(cls, options: Any, prepared: PreparedFolder, device: torch.device) -> None:  # noqa: ANN401
        """Train on the split ``train`` alone and save the weights atomically."""


def aggregate(vectors: Mapping[str, Tensor], aggregation: Aggregation) -> Tensor:
    """Pick or concatenate a teacher's vectors.

    Returns:
        ``(B, D)``, or ``(B, 2·D)`` for ``cls+mean``.

    Raises:
        RequestError: if the teacher does not offer what is asked.
    """
    names = aggregation.split("+")
    missing = [name for name in names if name not in vectors]
    if missing:
        raise RequestError(f"this teacher offers {sorted(vectors)}, not {' and '.join(missing)}")
    return torch.cat([vectors[name] for name in names], dim=1)
