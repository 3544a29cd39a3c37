"""Finding an identifier's value in text, by what kind of thing it is.

Names: :mod:`arra_med.datasets.privacy.names`. Ids: whole tokens, also grouped otherwise
(``12-34 567``), with other leading zeros, or behind a label (``MRN1234567``). Birth dates: every
usual order and spelling. UIDs: literally. Phrases (addresses, institutions): word for word. Free
text (comments): the names, ids and birth dates that it marks as such.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from arra_med.datasets.base import Identifier
from arra_med.datasets.privacy.dates import DateMatcher, birth_dates
from arra_med.datasets.privacy.everyday_words import EVERYDAY, PLACEHOLDERS
from arra_med.datasets.privacy.identifiers import kind_of
from arra_med.datasets.privacy.ids import IdMatcher, id_forms
from arra_med.datasets.privacy.names import NameMatcher
from arra_med.datasets.privacy.tokens import Span, Token, canonical_id, tokenise

_UID = re.compile(r"[0-2](?:\.\d+){4,}")
_MARKED_ID = 5  # a shorter one in a comment is taken for something else
_WORD_GAP = re.compile(r"(?!\W*_{3})[\W_]{0,3}")
_FREE_NAME = re.compile(
    r"[^\W\d_][^\W\d_'’\-]*\^[^\W\d_][^\W\d_'’\-^]*"
    r"|(?<=name:)[^,;:\n\d]{3,60}|(?<=name=)[^,;:\n\d]{3,60}|(?<=patient:)[^,;:\n\d]{3,60}",
    re.IGNORECASE,
)
_FREE_DATE = re.compile(
    r"(?:dob|birth|born|geb|naiss|nac)[^\d]{0,20}(\d{1,4}[-/. ]?\d{1,2}[-/. ]?\d{2,4})",
    re.IGNORECASE,
)
_FREE_ID = re.compile(
    r"(?:mrn|patient ?id|pid|\bid|accession|acc)\W{0,3}([^\W_]*\d[^\W_]*)", re.IGNORECASE
)


class Matcher(Protocol):
    """Finds one identifier."""

    def spans(self, text: str, tokens: Sequence[Token]) -> list[Span]:
        """Where it stands in ``text``, whose tokens are ``tokens``."""
        ...


def matchers(
    identifiers: Iterable[Identifier], allow: Collection[str]
) -> list[tuple[str, Matcher]]:
    """A matcher and its tag for each identifier that can be told from ordinary text.

    Args:
        identifiers: of one picture.
        allow: tags that may stand; their values may also stand where other tags repeat them.
    """
    return [
        (one.tag, matcher) for one in relevant(identifiers, allow) for matcher in _matchers_of(one)
    ]


def is_uid(value: str) -> bool:
    """Whether a value is a DICOM UID, whatever its tag."""
    return _UID.fullmatch(value) is not None


def relevant(identifiers: Iterable[Identifier], allow: Collection[str]) -> list[Identifier]:
    """The identifiers that are not allowed, neither by their tag nor by their value."""
    listed = list(identifiers)
    allowed = {canonical_id(one.value) for one in listed if one.tag in allow}
    return [
        one for one in listed if one.tag not in allow and canonical_id(one.value) not in allowed
    ]


def _matchers_of(identifier: Identifier) -> list[Matcher]:
    kind, value = kind_of(identifier.tag), identifier.value
    if is_uid(value):
        return [UidMatcher(value)]
    found: list[Matcher] = []
    if kind == "name":
        names = NameMatcher(value)
        found += [names] if names else []
        found += [IdMatcher(value, ids)] if (ids := id_forms(identifier)) else []
    elif kind == "id":
        found += [IdMatcher(value, ids)] if (ids := id_forms(identifier)) else []
    elif kind == "date":
        found += [DateMatcher(day) for day in birth_dates(value)]
    elif kind == "phrase":
        found += [PhraseMatcher(words) for words in _phrases(value)]
    elif kind == "free":
        found += _marked(value)
    return found


def _marked(value: str) -> list[Matcher]:
    """What a free text marks as a name, an id or a birth date."""
    found: list[Matcher] = []
    for text in _FREE_NAME.findall(value):
        names = NameMatcher(text, alone="^" in text)
        found += [names] if names else []
    for text in _FREE_ID.findall(value):
        forms = id_forms(Identifier("PatientID", text))
        found += [IdMatcher(text, forms)] if forms and len(text) >= _MARKED_ID else []
    for text in _FREE_DATE.findall(value):
        found += [DateMatcher(day) for day in birth_dates(text)]
    return found


class UidMatcher:
    """Finds a UID, literally and whole."""

    def __init__(self, value: str) -> None:
        self._pattern = re.compile(rf"(?<![\d.]){re.escape(value)}(?!\d|\.\d)")

    def spans(self, text: str, tokens: Sequence[Token]) -> list[Span]:
        """Where it stands in ``text``."""
        return [found.span() for found in self._pattern.finditer(text)]


class PhraseMatcher:
    """Finds words in their order.

    Args:
        words: folded.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)

    def spans(self, text: str, tokens: Sequence[Token]) -> list[Span]:
        """Where they stand in ``text``, whose tokens are ``tokens``."""
        number = len(self._words)
        return [
            (tokens[first].start, tokens[first + number - 1].end)
            for first in range(len(tokens) - number + 1)
            if [token.text for token in tokens[first : first + number]] == self._words
            and all(
                _WORD_GAP.fullmatch(text, one.end, two.start)
                for one, two in zip(
                    tokens[first : first + number - 1],
                    tokens[first + 1 : first + number],
                    strict=True,
                )
            )
        ]


def _phrases(value: str) -> list[list[str]]:
    """Parts of an address or a name of an institution that are not everyday words only."""
    found = []
    for piece in re.split(r"[\^,;=\\\n]", value):
        words = [token.text for token in tokenise(piece)]
        telling = [w for w in words if w not in EVERYDAY and w not in PLACEHOLDERS and len(w) > 2]
        if telling and (len(words) > 1 or len(words[0]) >= 5):
            found.append(words)
    return found
