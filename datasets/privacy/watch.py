"""Identifiers of every picture of an ingest, remembered for the scan of the finished folder.

Never in clear: 64 bits of salted SHA-256 of a name's words or of an id. Whoever holds the hashes
and the salt can still try out short numbers, so they are scratch and go away with the ingest.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

from arra_med.datasets.base import Identifier
from arra_med.datasets.privacy.identifiers import kind_of
from arra_med.datasets.privacy.ids import LABELS, id_forms
from arra_med.datasets.privacy.matching import is_uid, relevant
from arra_med.datasets.privacy.names import full_names
from arra_med.datasets.privacy.tokens import drop_zeros, pieces, tokenise

SHORTEST_ID = 5
"""Characters of the shortest id that is searched for in other pictures' outputs."""

_MOST_TOKENS = 4  # groups in which an id may be written
_ASCII_WORD = re.compile(r"[a-z]{2,}")
_ID_GAPS = frozenset({"", "-", "_", ".", "/", " "})
_DIGITS = re.compile(r"\d+")


@dataclass
class Sighting:
    """What a text holds of a :class:`Watch`.

    Attributes:
        tags: of names, and of ids with letters in them.
        numbers: tags of ids that are numbers only, which another number can equal by chance.
        seen: number of digits → how many numbers of that length the text holds.
    """

    tags: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    seen: dict[int, int] = field(default_factory=dict)


class Watch:
    """Full names and longer ids of many pictures.

    Single names, dates (a birth date may be another picture's study date), UIDs and ids of fewer
    than five characters or without a digit are not kept: in other people's texts they stand by
    chance. Costs about 150 bytes of memory and 25 of JSON a spelling: one for an id, up to six
    for a name; equal values count once.

    Args:
        salt: hashed along; watches that are to be merged need the same.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = hashlib.sha256(b"arra_med watch" + salt).digest()
        self._forget()

    def _forget(self) -> None:
        self._names: dict[int, tuple[str, int]] = {}  # hash → tag, number of words
        self._starts: set[int] = set()  # hashes of the names' first words
        self._ids: dict[int, tuple[str, int]] = {}  # hash → tag, digits (0: letters, too)
        self._name_lengths: list[int] = []
        self._id_lengths: set[int] = set()
        self._numbers_only = True
        self._density: dict[int, float] = {}
        # A vocabulary is small and a hash slow.
        self._is_start = lru_cache(maxsize=1 << 17)(self._hashes_to_start)

    def __len__(self) -> int:
        return len(self._names) + len(self._ids)

    def add(self, identifiers: Iterable[Identifier], allow: Collection[str] = ()) -> None:
        """Remember one picture's identifiers, but for those whose tags are allowed."""
        for one in relevant(identifiers, allow):
            kind = kind_of(one.tag)
            if is_uid(one.value) or kind not in ("name", "id"):
                continue
            if kind == "name":
                for words in full_names(one.value):
                    self._add_name(one.tag, words)
            for form in id_forms(one):
                if len(form) >= SHORTEST_ID and any(c.isdigit() for c in form):
                    self._add_id(one.tag, form)

    def _add_name(self, tag: str, words: tuple[str, ...]) -> None:
        self._names.setdefault(self._hash("name", " ".join(words)), (tag, len(words)))
        self._starts.add(self._hash("start", words[0]))
        self._changed()

    def _add_id(self, tag: str, form: str) -> None:
        digits = len(form) if form.isdigit() else 0
        self._ids.setdefault(self._hash("id", form), (tag, digits))
        self._numbers_only &= digits > 0
        self._id_lengths.add(len(form))
        self._changed()

    def _changed(self) -> None:
        self._name_lengths, self._density = [], {}
        self._is_start.cache_clear()

    def find(self, text: str) -> set[str]:
        """Tags of the identifiers that stand in ``text``."""
        sighting = self.look(text)
        return sighting.tags | sighting.numbers

    def look(self, text: str) -> Sighting:
        """What stands in ``text``, numbers apart."""
        sighting = Sighting()
        if self._names:
            self._look_for_names(text, sighting)
        if self._ids:
            for segment in _with_digits(text):
                self._look_for_ids(segment, sighting)
        return sighting

    def density(self, digits: int) -> float:
        """Which part of all numbers with so many digits are known ids."""
        if not self._density:
            for _, length in self._ids.values():
                if length:
                    self._density[length] = self._density.get(length, 0) + 1
            self._density = {n: count / (9 * 10 ** (n - 1)) for n, count in self._density.items()}
        return self._density.get(digits, 0.0)

    def _look_for_names(self, text: str, sighting: Sighting) -> None:
        if not self._name_lengths:
            self._name_lengths = sorted({length for _, length in self._names.values()})
        for words in words_of(text):
            for first, word in enumerate(words):
                if not self._is_start(word):
                    continue
                for length in self._name_lengths:
                    if first + length > len(words):
                        break
                    known = self._names.get(
                        self._hash("name", " ".join(words[first : first + length]))
                    )
                    if known is not None:
                        sighting.tags.add(known[0])

    def _look_for_ids(self, text: str, sighting: Sighting) -> None:
        tokens = pieces(text)
        longest, lengths = max(self._id_lengths), self._id_lengths
        number = len(tokens)
        for first, (word, start, _) in enumerate(tokens):
            if self._numbers_only and not word[0].isdigit():
                continue
            if first and tokens[first - 1][2] == start and tokens[first - 1][0] not in LABELS:
                continue
            joined, last = word, first
            while len(form := drop_zeros(joined)) <= longest:
                end = tokens[last][2]
                gap = text[end : tokens[last + 1][1]] if last + 1 < number else None
                if gap != "" and len(form) in lengths:
                    self._compare_id(form, sighting)
                if gap not in _ID_GAPS or last + 1 - first == _MOST_TOKENS:
                    break
                last += 1
                joined += tokens[last][0]

    def _compare_id(self, form: str, sighting: Sighting) -> None:
        number = form.isdigit()
        if number:
            sighting.seen[len(form)] = sighting.seen.get(len(form), 0) + 1
        elif not any(c.isdigit() for c in form):
            return
        known = self._ids.get(self._hash("id", form))
        if known is not None:
            (sighting.numbers if number else sighting.tags).add(known[0])

    def _hashes_to_start(self, word: str) -> bool:
        return self._hash("start", word) in self._starts

    def _hash(self, kind: str, text: str) -> int:
        digest = hashlib.sha256(self._salt + f"{kind}:{text}".encode("utf-8", "replace")).digest()
        return int.from_bytes(digest[:8], "big")

    def merge(self, other: "Watch") -> None:
        """Take over what another watch remembers.

        Raises:
            ValueError: if it was made with another salt.
        """
        if other._salt != self._salt:
            raise ValueError("the watches to merge were made with different salts")
        for mine, theirs in ((self._names, other._names), (self._ids, other._ids)):
            for digest, known in theirs.items():
                mine.setdefault(digest, known)
        self._starts |= other._starts
        self._id_lengths |= other._id_lengths
        self._numbers_only &= other._numbers_only
        self._changed()

    def to_json(self) -> dict[str, Any]:
        """Everything remembered, for :meth:`from_json`; equal content gives equal JSON."""
        return {
            "salt": self._salt.hex(),
            "names": _grouped(self._names),
            "starts": sorted(self._starts),
            "ids": _grouped(self._ids),
            "id_lengths": sorted(self._id_lengths),
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Self:
        """The watch whose :meth:`to_json` gave ``tree``."""
        watch = cls(b"")
        watch._salt = bytes.fromhex(tree["salt"])
        watch._names = _ungrouped(tree["names"])
        watch._starts = set(tree["starts"])
        watch._ids = _ungrouped(tree["ids"])
        watch._id_lengths = set(tree["id_lengths"])
        watch._numbers_only = all(digits for _, digits, _ in tree["ids"])
        return watch


def words_of(text: str) -> list[list[str]]:
    """A text's words, folded, single letters left out; twice if umlauts can be spelled out."""
    if text.isascii():
        return [_ASCII_WORD.findall(text.lower())]
    tokens = [
        token
        for token in tokenise(text)
        if token.kind == "character" or (token.kind == "letters" and len(token.text) > 1)
    ]
    words, others = [token.text for token in tokens], [token.other for token in tokens]
    return [words] if words == others else [words, others]


def _with_digits(text: str) -> Iterator[str]:
    """The stretches of a text that hold digits, each with the word before (``AB 00123``)."""
    spaced = text.replace("\n", " ").replace("\t", " ")
    begin = end = 0
    for found in _DIGITS.finditer(spaced):
        if found.start() < end:
            continue
        space = spaced.rfind(" ", 0, found.start())
        start = spaced.rfind(" ", 0, max(space, 0)) + 1
        if start > end and end > begin:
            yield text[begin:end]
        begin = begin if start <= end and end > begin else start
        stop = spaced.find(" ", found.end())
        end = len(text) if stop < 0 else stop
    if end > begin:
        yield text[begin:end]


def _grouped(known: Mapping[int, tuple[str, int]]) -> list[list[Any]]:
    groups: dict[tuple[str, int], list[int]] = {}
    for digest, group in known.items():
        groups.setdefault(group, []).append(digest)
    return [[*group, sorted(groups[group])] for group in sorted(groups)]


def _ungrouped(groups: Iterable[list[Any]]) -> dict[int, tuple[str, int]]:
    known: dict[int, tuple[str, int]] = {}
    for tag, number, digests in groups:
        known |= dict.fromkeys(digests, (tag, number))
    return known
