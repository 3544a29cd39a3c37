"""The teacher plug-in interface: a frozen visual foundation model that training aligns to."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from arra_med.errors import RequestError
from arra_med.store import PreparedFolder
from arra_med.teachers.preprocess import to_pictures

Aggregation = Literal["cls", "mean", "cls+mean"]
NOT_STATED = "not stated (set the option 'trained_on')"
"""``trained_on`` of encoders that only their user knows."""


@dataclass(frozen=True, kw_only=True)
class TeacherInfo:
    """What evaluation and the feature cache must know of a teacher.

    Attributes:
        dimension: length of its ``cls`` vector and of the mean of its patch vectors.
        input_size: side of the square input it sees, in pixels.
        aggregations: which of ``cls`` and ``mean`` it offers.
        trained_on: what it was trained on, in words, data sets by name (``"PMC-15M figure-caption
            pairs"``): evaluation refuses to call a metric independent of data named here.
        normalization: how pixel values are scaled, in words.
        num_layers: blocks whose outputs can be asked for by number, 1 to ``num_layers``; 0 if it
            cannot give them.
        layer_dimension: length of a token after a block; the last projection or norm may change it.
        repository: where its weights are published, ``owner/name`` on the Hugging Face hub.
        licence: of those weights, as published.
    """

    dimension: int
    input_size: int
    aggregations: tuple[Literal["cls", "mean"], ...]
    trained_on: str
    normalization: str = ""
    num_layers: int = 0
    layer_dimension: int = 0
    repository: str = ""
    licence: str = ""

    def width(self, aggregation: Aggregation, layers: Sequence[int] | None = None) -> int:
        """Length of the vector that ``aggregation`` gives, of the output or of several blocks.

        Raises:
            RequestError: if the teacher does not offer it.
        """
        names = aggregation.split("+")
        if any(name not in self.aggregations for name in names):
            raise RequestError(
                f"features.aggregation is {aggregation!r}, but this teacher with these options "
                f"offers {' and '.join(map(repr, self.aggregations))}"
            )
        if layers is None:
            return self.dimension * len(names)
        self.check_layers(layers)
        return self.layer_dimension * len(layers) * len(names)

    def check_layers(self, layers: Sequence[int]) -> None:
        """Check that these blocks' outputs can be had.

        Raises:
            RequestError: if the teacher gives none, or a number is out of range or there twice.
        """
        if not self.num_layers:
            raise RequestError(
                f"layers {list(layers)} are asked for, but this teacher with these options gives "
                "its final output alone: leave 'layers' out"
            )
        wrong = [number for number in layers if not 1 <= number <= self.num_layers]
        if wrong or not layers or len(set(layers)) != len(layers):
            raise RequestError(
                f"layers are {list(layers)}: expected one or more different numbers from 1 to "
                f"{self.num_layers}, 1 being the first block"
            )


class Teacher(nn.Module, ABC):
    """A frozen encoder. Only construction loads weights.

    A subclass names its options in a frozen keyword-only dataclass ``Options`` and is constructed
    with an instance of it; it sets ``info`` and ``transform`` there.

    Attributes:
        info: what :meth:`describe` gives for its options.
        transform: one picture of any mode that :func:`~arra_med.teachers.preprocess.to_picture`
            takes to ``(3, S, S)`` float32, as the teacher was trained. It holds no weights and can
            be pickled, so that processes that decode pictures can apply it too.
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
        ``preprocessing``; which aggregation and layers are asked for is the caller's to add.

        Raises:
            FileNotFoundError: if weights are missing: which, where they were looked for, and how
                to bring them to a machine without internet.
        """

    def preprocess(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8, C = 1 or 3, to ``(B, 3, S, S)`` float32 on the same device."""
        transformed = [self.transform(picture) for picture in to_pictures(images)]
        return torch.stack(transformed).to(images.device)

    @abstractmethod
    def forward(self, pixels: Tensor, layers: Sequence[int] | None = None) -> Mapping[str, Tensor]:
        """Vectors of preprocessed pictures.

        Args:
            pixels: ``(B, 3, S, S)`` float32.
            layers: block numbers, 1 being the first block; without them the final output, after
                the last norm. A block's output is taken as it leaves the block: the last norm is
                not applied, not even to the last block's.

        Returns:
            ``{"cls": (B, D), "mean": (B, D)}``, those it offers; with L layers ``(B, L·D')``, one
            layer after the other in the order asked, D' being ``info.layer_dimension``.

        Raises:
            RequestError: if it cannot give those layers.
        """


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


def pool(tokens_BND: Tensor, num_prefix: int, *, class_token: bool) -> dict[str, Tensor]:
    """A token sequence to vectors.

    Args:
        tokens_BND: ``(B, N, D)``: prefix tokens (the class token first, registers), then patches.
        num_prefix: how many are no patches.
        class_token: whether the first one is a class token.

    Returns:
        ``mean``, ``(B, D)``, over the patches, and ``cls`` if there is a class token.
    """
    vectors = {"cls": tokens_BND[:, 0]} if class_token else {}
    return vectors | {"mean": tokens_BND[:, num_prefix:].mean(dim=1)}


def concatenate(layers: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Vectors of several layers, ``(B, D)`` each, to ``(B, L·D)``, in the order given."""
    return {name: torch.cat([layer[name] for layer in layers], dim=1) for name in layers[0]}


def aggregate(vectors: Mapping[str, Tensor], aggregation: Aggregation) -> Tensor:
    """Pick or concatenate a teacher's vectors.

    Returns:
        ``(B, D)``, or ``(B, 2·D)`` for ``cls+mean``; of L layers ``(B, L·D)`` or ``(B, 2·L·D)``,
        the class tokens of all layers before the means.

    Raises:
        RequestError: if the teacher does not offer what is asked.
    """
    names = aggregation.split("+")
    missing = [name for name in names if name not in vectors]
    if missing:
        raise RequestError(f"this teacher offers {sorted(vectors)}, not {' and '.join(missing)}")
    return torch.cat([vectors[name] for name in names], dim=1)
