"""Identifiers of a picture's own header, replaced in its text or reported where they stand."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from arra_med.datasets.base import Identifier
from arra_med.datasets.privacy.matching import matchers
from arra_med.datasets.privacy.tokens import tokenise

REMOVED = "___"
"""What stands for a removed identifier, as in MIMIC."""

_Found = tuple[int, int, str]


@dataclass(frozen=True)
class Leak:
    """An identifier that stands in an output.

    Attributes:
        tag: the header tag it is the value of; never the value.
        where: file, column and number of rows, or a column's name.
        file: in which it stands, where a folder was searched.
        column: of that file, if it has columns.
        rows: of that file, counted from 1; none if it has no rows.
    """

    tag: str
    where: str
    file: str = field(default="", compare=False)
    column: str = field(default="", compare=False)
    rows: Sequence[int] = field(default=(), compare=False)


class Redactor:
    """Replaces identifiers in text by ``___``.

    Names are matched in every usual spelling, birth dates in every usual order, ids as whole
    tokens; single names only if they are no everyday words. The result holds no match any more.

    Args:
        identifiers: of one picture's header.
        allow: tags whose values may stand.

    Attributes:
        counts: how often something was replaced, by tag.
    """

    def __init__(self, identifiers: Iterable[Identifier], allow: Collection[str] = ()) -> None:
        self.counts: dict[str, int] = {}
        self._matchers = matchers(identifiers, allow)

    def __call__(self, text: str) -> str:
        """``text`` with every identifier replaced."""
        # Again until nothing is found: a replacement can free what was glued to it.
        while found := self._find(text):
            for start, end, tag in reversed(found):
                text = text[:start] + REMOVED + text[end:]
                self.counts[tag] = self.counts.get(tag, 0) + 1
        return text

    def tags(self, text: str) -> Counter[str]:
        """Tags of the identifiers that stand in ``text``, and how often."""
        return Counter(tag for _, _, tag in self._find(text))

    def leaks(self, texts: Mapping[str, str]) -> tuple[Leak, ...]:
        """The identifiers that stand in a picture's outputs, which are given by column."""
        return tuple(Leak(tag, where) for where, text in texts.items() for tag in self.tags(text))

    def _find(self, text: str) -> list[_Found]:
        """Where something is to be replaced, in order, overlaps joined."""
        if not self._matchers or not text:
            return []
        tokens = tokenise(text)
        every = sorted(
            (
                (start, end, tag)
                for tag, matcher in self._matchers
                for start, end in matcher.spans(text, tokens)
            ),
            key=lambda found: (found[0], -found[1]),
        )
        joined: list[_Found] = []
        for start, end, tag in every:
            if joined and start < joined[-1][1]:
                first, last, known = joined[-1]
                joined[-1] = (first, max(last, end), known)
            else:
                joined.append((start, end, tag))
        return joined


def own_leaks(
    identifiers: Iterable[Identifier], texts: Mapping[str, str], allow: Collection[str] = ()
) -> tuple[Leak, ...]:
    """Identifiers of a picture's own header that stand in its own outputs.

    Args:
        identifiers: of its header.
        texts: its outputs by column.
        allow: tags whose values may stand.
    """
    return Redactor(identifiers, allow).leaks(texts)
