"""The dataset plug-in interface: everything a source holds, found item by item."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample


class UnreadableImage(Exception):
    """A picture that cannot be used; ``str(error)`` says why in words a person understands."""


class Excluded(Exception):
    """A sample that cannot become one after all.

    Args:
        reason: a short fixed code, as in :class:`arra_med.schema.Exclusion`.
        detail: one sentence for a person; never report text.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Identifier:
    """A header entry that identifies a person or an examination.

    Attributes:
        tag: DICOM keyword (``PatientName``), or ``EXIF Artist``, ``PNG Author`` …
        value: as written.
    """

    tag: str
    value: str


@dataclass(frozen=True)
class Picture:
    """A decoded source picture.

    Attributes:
        pixels: ``(H, W)`` or ``(H, W, 3)`` uint8, at the source's own resolution.
        sha256: of the source file's bytes.
        identifiers: what its header holds about the patient; never written anywhere.
    """

    pixels: np.ndarray
    sha256: str
    identifiers: tuple[Identifier, ...] = ()


class DatasetAdapter(ABC):
    """Finds every item of one source, and reads texts and pictures item by item.

    A subclass names its options in a frozen keyword-only dataclass ``Options``; it is constructed
    with an instance of it. Construction and :meth:`items` read tables; :meth:`complete` and
    :meth:`read` open the item's own files, in worker processes to which the adapter is pickled.

    Attributes:
        label_names: names of the labels every sample carries.
        channels: 1 if pictures are kept grey, 3 if in colour.
        pseudonymous_tags: header tags whose values are pseudonyms by the source's own publication,
            so that they may stand in outputs.
        id_tags: header tags whose values become patient and study ids and keys as they are.
    """

    Options: ClassVar[type[Any]]
    channels: Literal[1, 3] = 1
    label_names: tuple[str, ...] = CHEXPERT_LABELS
    pseudonymous_tags: ClassVar[frozenset[str]] = frozenset()
    id_tags: frozenset[str] = frozenset()

    @classmethod
    def tables(cls, options: Any) -> Mapping[str, Path]:  # noqa: ANN401 - an instance of Options
        """Files of the user's own that list the items, by what they are: once one changes, what was
        made of it is out of date."""
        return {}

    @abstractmethod
    def __init__(self, options: Any) -> None: ...  # noqa: ANN401 - an instance of self.Options

    @abstractmethod
    def num_items(self) -> int:
        """How many items :meth:`items` gives, counted before they are looked at."""

    @abstractmethod
    def items(self) -> Iterator[Sample | Exclusion]:
        """Every item found, in an order that never changes, as a sample or an exclusion.

        Samples have distinct keys; an item that would repeat one is an exclusion
        (``duplicate-key``). Their prompts are raw text until :meth:`complete`.
        """

    def complete(self, sample: Sample, redact: Callable[[str], str]) -> Sample:
        """Make a sample's prompt.

        Args:
            sample: one that :meth:`items` gave.
            redact: replaces identifiers of the picture's own header; to be applied before anything
                else to what :func:`arra_med.datasets.plain_text.plain_text` makes of the raw text.

        Raises:
            Excluded: if its text is missing or says nothing.
        """
        return replace(sample, prompt=redact(sample.prompt))

    @abstractmethod
    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture.

        Raises:
            UnreadableImage: if it is missing, broken, or not a picture.
        """

    def identifiers(self, source: str) -> tuple[Identifier, ...]:
        """What the header of an excluded item's picture holds about the patient, if anything."""
        return ()


@dataclass(frozen=True, kw_only=True)
class RootOptions:
    """What every adapter of a folder needs.

    Attributes:
        root: the dataset's folder.
    """

    root: Path
