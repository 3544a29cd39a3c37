"""A person's name, found in text in whichever way it was spelled.

A name is a *run* of neighbouring tokens that are all parts of it (``Jane M. Doe``, ``DOE^JANE``,
``doe, jane``), with something in the run that is not an everyday word.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from arra_med.datasets.privacy.everyday_words import (
    EVERYDAY,
    PARTICLES,
    PLACEHOLDERS,
    SUFFIXES,
    TITLES,
)
from arra_med.datasets.privacy.tokens import Span, Token, fold, tokenise

_BETWEEN = re.compile(r"(?!_{3})[\s,.^=_'’ʼ`·・‧\-]{0,3}")
_INSIDE = re.compile(r"[\s'’ʼ`\-]{0,2}")
_AFTER_TITLE = re.compile(r"\.?\s{0,2}")
_SENTENCE_END = re.compile(r"\.\s")
_AFFIXES = SUFFIXES | TITLES
_PAIR_LETTERS = 6  # two everyday words in lower case are a name only if they are this long


@dataclass(frozen=True)
class _Part:
    """A word of a name, or several written as one: where it belongs, how much it tells alone."""

    component: int
    strong: bool
    particle: bool


@dataclass(frozen=True)
class _Hit:
    """A part, or an initial (``part`` is ``None``), at a position of a text.

    ``own``: an initial is one of the name's; another may stand between its parts (Jane M. Doe).
    """

    first: int
    width: int
    part: _Part | None
    own: bool = True


def components(value: str) -> list[list[list[Token]]]:
    """A name's spellings (alphabetic, ideographic, phonetic), each a list of components.

    ``DOE^JANE^M=..`` has its components marked; ``Doe, Jane`` and ``Jane Doe`` are taken apart at
    the comma or the spaces. Titles, suffixes, placeholders and anything glued to digits are left
    out.
    """
    spellings = []
    for group in re.split(r"[=\\;]|\band\b", value):
        filled = [piece for piece in group.split("^")[:3] if piece.strip()]  # then the affixes
        if len(filled) == 1:
            filled = filled[0].split("," if "," in filled[0] else None)
            if len(filled) > 2:  # "Dr. Jane Doe"
                filled = [piece for piece in filled if fold(piece.strip(". "))[0] not in _AFFIXES]
        kept = [_words(piece, alone=len(filled) < 2) for piece in filled]
        spellings += [[words for words in kept if words]]
    return [spelling for spelling in spellings if spelling]


def _words(piece: str, *, alone: bool) -> list[Token]:
    tokens = tokenise(piece)
    glued = {
        token
        for one, two in itertools.pairwise(tokens)
        if one.end == two.start and "digits" in (one.kind, two.kind)
        for token in (one, two)
    }
    words = [
        token
        for token in tokens
        if token.kind in ("letters", "character")
        and token not in glued
        and token.text not in PLACEHOLDERS
    ]
    # A family can be called Do or Med: an affix counts as one only beside something else.
    named = [word for word in words if word.text not in _AFFIXES]
    return named if named or alone else words


class NameMatcher:
    """Finds one person's name.

    Args:
        value: as a header has it.
        alone: whether a part that is no everyday word counts without the rest of the name.
    """

    def __init__(self, value: str, *, alone: bool = True) -> None:
        self._parts: dict[str, _Part] = {}
        self._initials: set[str] = set()
        self._longest = 1
        for number, spelling in enumerate(components(value)):
            for index, words in enumerate(spelling):
                # Components of different spellings differ; 16 is more than a name has.
                self._learn(words, 16 * number + index, alone)
            for one, two in itertools.permutations(spelling[:2], 2):
                self._learn_glued([*one, *two], 16 * number)

    def __bool__(self) -> bool:
        return any(not part.particle for part in self._parts.values())

    def _learn(self, words: Sequence[Token], component: int, alone: bool) -> None:
        unspaced = any(word.kind == "character" for word in words)
        only_particles = all(word.text in PARTICLES for word in words)  # a family called Le or Van
        whole = [("".join(w.text for w in words), "".join(w.other for w in words))]
        single = [] if unspaced else [(word.text, word.other) for word in words]
        for forms in [*whole, *single]:
            for form in forms:
                particle = form in PARTICLES and not only_particles
                known = form in EVERYDAY or form in PARTICLES or not alone
                strong = not known and len(form) >= (2 if unspaced else 3)
                if len(form) >= 2 or unspaced:
                    self._parts.setdefault(form, _Part(component, strong, particle))
        self._longest = max(self._longest, len(words) if unspaced else min(len(words), 6))
        if not unspaced:
            self._initials |= {word.text[0] for word in words}

    def _learn_glued(self, words: Sequence[Token], component: int) -> None:
        """``JaneDoe``, as file names have it."""
        for form in {"".join(w.text for w in words), "".join(w.other for w in words)}:
            if len(form) > _PAIR_LETTERS and form not in EVERYDAY:
                self._parts.setdefault(form, _Part(component, strong=True, particle=False))

    def spans(self, text: str, tokens: Sequence[Token]) -> list[Span]:
        """Where the name stands in ``text``, whose tokens are ``tokens``."""
        found: list[Span] = []
        position = 0
        while position < len(tokens):
            run = self._run(text, tokens, position)
            kept = self._trimmed(text, tokens, run)
            if kept and self._is_name(text, tokens, kept):
                last = kept[-1].first + kept[-1].width - 1
                found.append((tokens[kept[0].first].start, tokens[last].end))
                position = last + 1
            else:
                position += 1
        return found

    def _run(self, text: str, tokens: Sequence[Token], start: int) -> list[_Hit]:
        run: list[_Hit] = []
        position = start
        while position < len(tokens):
            if run and not _BETWEEN.fullmatch(_gap(text, tokens, position - 1)):
                break
            hit = self._hit(text, tokens, position)
            if hit is None:
                break
            run.append(hit)
            position += hit.width
        return run

    def _hit(self, text: str, tokens: Sequence[Token], position: int) -> _Hit | None:
        found = None
        joined = other = ""
        # One more than the name's own words: "Mc Donald" for MCDONALD.
        for width in range(1, max(self._longest, 3) + 1):
            last = position + width - 1
            if last >= len(tokens) or tokens[last].kind not in ("letters", "character"):
                break
            if width > 1 and not _INSIDE.fullmatch(_gap(text, tokens, last - 1)):
                break
            joined, other = joined + tokens[last].text, other + tokens[last].other
            part = self._parts.get(joined) or self._parts.get(other) or self._genitive(joined)
            if part is not None:
                found = _Hit(position, width, part)
        token = tokens[position]
        if found is None and text[token.start].isupper():
            own = token.text in self._initials
            if own or (len(token.text) == 1 and text[token.end : token.end + 1] == "."):
                found = _Hit(position, 1, None, own)
        return found

    def _genitive(self, word: str) -> _Part | None:
        """``Oberhubers``, of a name that tells something alone."""
        part = self._parts.get(word[:-1]) if word.endswith("s") and len(word) > 4 else None
        return part if part is not None and part.strong else None

    def _trimmed(self, text: str, tokens: Sequence[Token], run: list[_Hit]) -> list[_Hit]:
        """The run without particles at its edges, and without initials that are just letters."""
        kept = list(run)
        while kept and not self._may_end(text, tokens, kept, first=True):
            kept.pop(0)
        while kept and not self._may_end(text, tokens, kept, first=False):
            kept.pop()
        return kept

    def _may_end(self, text: str, tokens: Sequence[Token], run: list[_Hit], *, first: bool) -> bool:
        hit = run[0] if first else run[-1]
        if hit.part is not None:
            return not hit.part.particle
        if not hit.own:
            return False
        token = tokens[hit.first]
        before = text[max(0, token.start - 2) : token.start].strip()[-1:]
        after = text[token.end : token.end + 1]
        return after in (".", "^") or (not first and before in ("^", ","))

    def _is_name(self, text: str, tokens: Sequence[Token], run: list[_Hit]) -> bool:
        words = [hit for hit in run if hit.part is not None and not hit.part.particle]
        if not words:
            return False
        if any(hit.part is not None and hit.part.strong for hit in words):
            return True
        capital = all(_capital(text, tokens[hit.first]) for hit in words)
        different = {hit.part.component for hit in words if hit.part is not None}
        if len(different) > 1:
            letters = sum(
                len(tokens[hit.first + i].text) for hit in words for i in range(hit.width)
            )
            ends = any(
                hit.part is not None
                and _SENTENCE_END.match(text, tokens[hit.first + hit.width - 1].end)
                for hit in run[:-1]
            )
            return not ends and (capital or letters >= _PAIR_LETTERS)
        if not capital:
            return False
        return any(hit.part is None and hit.own for hit in run) or _has_title(
            text, tokens, run[0].first
        )


def _gap(text: str, tokens: Sequence[Token], index: int) -> str:
    """What stands between a token and the next."""
    return text[tokens[index].end : tokens[index + 1].start]


def _capital(text: str, token: Token) -> bool:
    return token.kind == "character" or text[token.start].isupper()


def _has_title(text: str, tokens: Sequence[Token], first: int) -> bool:
    return (
        first > 0
        and tokens[first - 1].text in TITLES
        and _AFTER_TITLE.fullmatch(_gap(text, tokens, first - 1)) is not None
    )


def full_names(value: str) -> set[tuple[str, ...]]:
    """A name's full spellings as words, for comparison across pictures.

    First given name and all given names, before and after the family name; single letters are
    left out, as :func:`arra_med.datasets.privacy.watch.words_of` leaves them out of texts. Names of
    fewer than two components, of everyday words only, or of fewer than six letters (three
    characters) give none, because other people's texts would hold them by chance.
    """
    found: set[tuple[str, ...]] = set()
    for spelling in components(value):
        for form in ("text", "other"):
            parts = [_comparable(words, form) for words in spelling]
            parts = [part for part in parts if part]
            if len(parts) < 2 or not _tells(parts, spelling):
                continue
            family, given = parts[0], [word for part in parts[1:] for word in part]
            for names in ((*parts[1],), (*given,), (parts[1][0],)):
                found |= {(*family, *names), (*names, *family)}
            if len(family) > 1 and spelling[0][0].kind == "letters":
                found |= {("".join(family), *given), (*given, "".join(family))}
    return found


def _comparable(words: Sequence[Token], form: str) -> list[str]:
    return [getattr(word, form) for word in words if word.kind == "character" or len(word.text) > 1]


def _tells(parts: Sequence[Sequence[str]], spelling: Sequence[Sequence[Token]]) -> bool:
    words = [word for part in parts for word in part]
    unspaced = spelling[0][0].kind == "character"
    telling = any(word not in EVERYDAY and word not in PARTICLES for word in words)
    return telling and sum(map(len, words)) >= (3 if unspaced else 6)
