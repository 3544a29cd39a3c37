"""Ids (record, accession, study and phone numbers), found in text as whole tokens."""

import re
from collections.abc import Collection, Sequence

from arra_med.datasets.base import Identifier
from arra_med.datasets.privacy.everyday_words import EVERYDAY, PLACEHOLDERS
from arra_med.datasets.privacy.tokens import Span, Token, drop_zeros, tokenise

LABELS = frozenset("p s id pid pat patient mrn acc accession no nr study subject case uid".split())  # noqa: SIM905
"""What may stand glued before a number without being part of it: ``p10000032``, ``MRN1234567``."""

_GROUPED, _GROUPED_LETTERS = 6, 5  # a number, or an id with letters, this long may be in groups
_GLUED = 5  # digits that may touch letters: 1234567PA
_ID_GAP = re.compile(r"[-_/.\s:#]?")
_PHONE_GAP = re.compile(r"[-_/.\s()+]{0,3}")


def id_forms(identifier: Identifier) -> frozenset[str]:
    """An id as :func:`canonical_id` and without its label; nothing if it could be any word.

    Ids of fewer than four characters, of zeros, and placeholders tell nothing; neither do words
    other than a patient's id, nor years as a study's or a procedure's number.
    """
    tag = identifier.tag.rpartition(".")[2]
    tokens = tokenise(identifier.value)
    joined = drop_zeros("".join(token.text for token in tokens))
    numbered = any(c.isdigit() for c in joined)
    if len(joined) < 4 or not joined.strip("0") or joined in PLACEHOLDERS:
        return frozenset()
    if not numbered and ("PatientID" not in tag or joined in EVERYDAY or len(tokens) > 1):
        return frozenset()
    if not tag.startswith(("PatientID", "OtherPatientID")) and re.fullmatch("(19|20)..", joined):
        return frozenset()
    forms = {joined}
    label = re.fullmatch(r"(\D+)(\d{5,})", joined)
    if label and label[1] in LABELS:
        forms.add(drop_zeros(label[2]))
    if "Telephone" in tag or "Phone" in tag:
        digits = re.sub(r"\D", "", identifier.value)
        forms |= {drop_zeros(digits[-n:]) for n in (7, 8, 9, 10, 11) if len(digits) >= n}
    return frozenset(forms)


class IdMatcher:
    """Finds an id.

    Args:
        value: as written.
        forms: its canonical forms.
    """

    def __init__(self, value: str, forms: Collection[str]) -> None:
        self._value = value.casefold()
        self._forms = frozenset(forms)
        self._longest = max(map(len, forms))
        phone = re.search(r"[()+]", value)
        self._gap = _PHONE_GAP if phone else _ID_GAP

    def spans(self, text: str, tokens: Sequence[Token]) -> list[Span]:
        """Where it stands in ``text``, whose tokens are ``tokens``."""
        found = []
        free = 0
        for first in range(len(tokens)):
            if first >= free:
                last = self._last(text, tokens, first)
                if last is not None:
                    found.append((tokens[first].start, tokens[last].end))
                    free = last + 1
        return found

    def _last(self, text: str, tokens: Sequence[Token], first: int) -> int | None:
        joined = ""
        for last in range(first, len(tokens)):
            if last > first and not self._gap.fullmatch(
                text, tokens[last - 1].end, tokens[last].start
            ):
                return None
            joined += tokens[last].text
            form = drop_zeros(joined)
            if len(form) > self._longest:
                return None
            if form in self._forms and self._is_whole(text, tokens, first, last, joined):
                return last
        return None

    def _is_whole(
        self, text: str, tokens: Sequence[Token], first: int, last: int, joined: str
    ) -> bool:
        start, end = tokens[first].start, tokens[last].end
        glued = joined.isdigit() and len(joined) >= _GLUED
        before = tokens[first - 1] if first and tokens[first - 1].end == start else None
        after = last + 1 < len(tokens) and tokens[last + 1].start == end
        if after and not glued:
            return False
        if before is not None and not (glued or before.text in LABELS):
            return False
        grouped = any(
            one.end < two.start
            for one, two in zip(tokens[first:last], tokens[first + 1 : last + 1], strict=True)
        )
        long = len(joined) >= (_GROUPED if joined.isdigit() else _GROUPED_LETTERS)
        return not grouped or long or text[start:end].casefold() == self._value
