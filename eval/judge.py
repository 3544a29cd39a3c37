"""The judge plug-in interface: a frozen classifier that says which findings a picture shows."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from arra_med.eval.extractor import EvaluatorInfo


class Judge(nn.Module, ABC):
    """A frozen multi-label classifier, never the teacher of the run it judges.

    Attributes:
        findings: the label names it judges, in the order of its outputs.
        not_judged: label names it was meant to judge and does not, each with the reason.
    """

    Options: ClassVar[type[Any]]
    info: EvaluatorInfo
    findings: tuple[str, ...]
    not_judged: Mapping[str, str] = MappingProxyType({})

    @classmethod
    @abstractmethod
    def identity(cls, options: Any) -> dict[str, Any]:  # noqa: ANN401 - an instance of Options
        """JSON of all that its verdicts depend on, weights' SHA-256 included.

        Raises:
            FileNotFoundError: if weights are missing, saying which, where and how to get them.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 pictures in [0, 255] to ``(B, F)`` float32 probabilities.

        Raises:
            ValueError: on every batch that is not uint8 or not a picture.
        """
