"""The dataset plug-in interface: everything a source holds, found item by item."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample


class UnreadableImage(Exception):
    """A picture that cannot be used; ``str(error)`` says why in words a person understands."""


@dataclass(frozen=True)
class Picture:
    """A decoded source picture.

    Attributes:
        pixels: ``(H, W)`` or ``(H, W, 3)`` uint8, at the source's own resolution.
        sha256: of the source file's bytes.
    """

    pixels: np.ndarray
    sha256: str


class DatasetAdapter(ABC):
    """Finds every item of one source and reads its pictures.

    A subclass names its options in a frozen keyword-only dataclass ``Options``; it is constructed
    with an instance of it. Construction reads tables, not pictures.

    Attributes:
        label_names: names of the labels every sample carries.
        channels: 1 if pictures are kept grey, 3 if in colour.
    """

    Options: ClassVar[type[Any]]
    channels: Literal[1, 3] = 1
    label_names: tuple[str, ...] = CHEXPERT_LABELS

    @abstractmethod
    def __init__(self, options: Any) -> None: ...  # noqa: ANN401 - an instance of self.Options

    @abstractmethod
    def items(self) -> Iterator[Sample | Exclusion]:
        """Every item found, in an order that never changes, as a sample or an exclusion.

        Samples have distinct keys; an item that would repeat one is an exclusion
        (``duplicate-key``).
        """

    @abstractmethod
    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture.

        Raises:
            UnreadableImage: if it is missing, broken, or not a picture.
        """


@dataclass(frozen=True, kw_only=True)
class RootOptions:
    """What every adapter of a folder needs.

    Attributes:
        root: the dataset's folder.
    """

    root: Path
