"""Items to rows and PNGs at the training size, in this process or in several.

This is also where identifiers of a picture's own header are kept out of its row; see
``arra_med.datasets.privacy``.
"""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from arra_med import images
from arra_med.datasets import privacy
from arra_med.datasets.base import DatasetAdapter, Excluded, Identifier, UnreadableImage
from arra_med.datasets.dicom_checks import quiet_pydicom
from arra_med.datasets.source_files import is_passing, stopped
from arra_med.parallel import map_in_order
from arra_med.schema import Exclusion, Sample, sample_row

logger = logging.getLogger(__name__)

_AHEAD = 4  # pictures a worker that are decoded or wait to be written; bounds the memory
_TEXT_COLUMNS = ("key", "patient_id", "study_id", "view", "prompt", "prompt_source", "source")

Item: TypeAlias = Sample | Exclusion


@dataclass(frozen=True)
class Decoded:
    """A sample whose picture and text were read.

    Attributes:
        row: its row of ``samples.parquet``.
        png: its picture at the training size.
        edits: clean-up of its text and identifiers replaced in it, kind → count.
        identifiers: what its header, and columns of names, hold about the patient, for the scan of
            the folder.
        leaks: those of its own that stand in the row all the same.
    """

    row: dict[str, Any]
    png: bytes
    edits: dict[str, int]
    identifiers: tuple[Identifier, ...]
    leaks: tuple[privacy.Leak, ...]


Outcome: TypeAlias = Decoded | Exclusion


@dataclass(frozen=True)
class Decoder:
    """Decodes single items; a worker process holds one.

    Attributes:
        adapter: reads texts and pictures.
        size: side of the result, in pixels.
        crop: how a picture is brought to a square.
        whitelist: whether identifiers are replaced in texts.
        scan: whether rows are searched for identifiers.
        allow: header tags whose values are pseudonyms.
        key: of the hash that replaces ids, or ``None`` to keep them.
    """

    adapter: DatasetAdapter
    size: int
    crop: images.Crop
    whitelist: bool = True
    scan: bool = True
    allow: frozenset[str] = frozenset()
    key: bytes | None = None

    def __call__(self, item: Item) -> Outcome:
        """Read one item's picture and text, bring the picture to size and encode it.

        Returns:
            The result, or an exclusion that says why there is none.

        Raises:
            WorkError: if memory is short, or a file cannot be read at the moment.
        """
        try:
            return self._outcome(item)
        except Exception as error:
            if is_passing(error):
                raise stopped(error, item.source) from error
            raise

    def _outcome(self, item: Item) -> Outcome:
        if isinstance(item, Exclusion):
            return self._listed(item)
        try:
            with quiet_pydicom():  # an adapter may read DICOM in its own way
                return self._decode(item)
        except UnreadableImage as error:
            reason, detail = "unreadable-image", str(error)
        except Excluded as error:
            reason, detail = error.reason, error.detail
        except Exception as error:  # the boundary of one item
            if is_passing(error):
                raise
            reason, detail = "unreadable-image", f"the reader failed ({type(error).__name__})"
            logger.warning("an item's reader failed with %s", type(error).__name__)
        return self._listed(
            Exclusion(
                item=item.key, source=item.source, reason=reason, detail=detail, names=item.names
            )
        )

    def _decode(self, sample: Sample) -> Decoded:
        picture = self.adapter.read(sample)
        identifiers = (*picture.identifiers, *privacy.column_identifiers(sample.names))
        if self.key is not None:
            identifiers += privacy.own_identifiers(sample)
        redactor = privacy.Redactor(identifiers, self.allow)
        redact: Callable[[str], str] = redactor if self.whitelist else str
        sample = self.adapter.complete(sample, redact)
        if self.key is not None:
            sample = privacy.pseudonymise(sample, self.key)
        height, width = picture.pixels.shape[:2]
        row = sample_row(sample, sha256=picture.sha256, width=width, height=height)
        _refuse_broken_text(row)
        leaks: tuple[privacy.Leak, ...] = ()
        if self.scan:
            texts = {name: str(row[name] or "") for name in _TEXT_COLUMNS}
            leaks = redactor.leaks(texts)
        return Decoded(
            row=row,
            png=images.encode_png(images.fit(picture.pixels, self.size, self.crop)),
            edits={
                **{f"edits.{name}": count for name, count in sample.edits.items()},
                **{f"redacted.{tag}": count for tag, count in redactor.counts.items()},
            },
            identifiers=identifiers if self.scan else (),
            leaks=leaks,
        )

    def _listed(self, exclusion: Exclusion) -> Exclusion:
        """An exclusion whose words and paths name nobody of whom its picture's header, or a column
        of names, tells."""
        if self.scan and (exclusion.source or exclusion.names):
            header = self.adapter.identifiers(exclusion.source) if exclusion.source else ()
            columns = privacy.column_identifiers(exclusion.names)
            redactor = privacy.Redactor((*header, *columns), self.allow)
            exclusion = replace(
                exclusion, item=redactor(exclusion.item), source=redactor(exclusion.source)
            )
        if self.key is None:
            return exclusion
        return privacy.pseudonymise_exclusion(exclusion, self.key)


def _refuse_broken_text(row: dict[str, Any]) -> None:
    """Half of a surrogate pair cannot be stored."""
    try:
        "".join(str(row[name]) for name in _TEXT_COLUMNS).encode()
    except UnicodeEncodeError as error:
        raise Excluded("not-unicode", "its text is not valid Unicode") from error


def decode_in_order(
    decoder: Decoder, items: Iterable[tuple[int, Item]], workers: int
) -> Iterator[tuple[int, Outcome]]:
    """Decode numbered items, with ``workers`` processes; results keep the order and the numbers.

    No more than a few items a worker are held at once, however many there are.

    Raises:
        WorkError: if a worker process dies.
    """
    return map_in_order(functools.partial(_numbered, decoder), items, workers=workers, ahead=_AHEAD)


def _numbered(decoder: Decoder, pair: tuple[int, Item]) -> tuple[int, Outcome]:
    number, item = pair
    return number, decoder(item)


def total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Sums by name."""
    sums: Counter[str] = Counter()
    for one in counts:
        sums.update(one)
    return dict(sums)
