"""Left and right in a prompt: which side is named, for which finding, and the two exchanged.

Sides are the patient's, as in every report. The rules are for English text and would rather read
no side than a wrong one.
"""

import re
from collections.abc import Iterable
from typing import Literal

Side = Literal["left", "right"]
SIDES: tuple[Side, ...] = ("left", "right")

_PAIRS = (
    ("left", "right"), ("leftward", "rightward"), ("leftwards", "rightwards"),
    ("lul", "rul"), ("lll", "rll"), ("lij", "rij"),
)  # fmt: skip
_OTHER = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
_SIDE_WORD = re.compile(rf"\b(?:{'|'.join(sorted(_OTHER, key=len, reverse=True))})\b", re.I)
# Chambers of the heart stay where they are, and a tube can be left in place.
_NOT_A_SIDE = re.compile(
    r"\b(?:left|right)[- ](?:atri|ventric|heart)\w*|\bleft in (?:place|situ)\b", re.I
)
_NO_COUNTERPART = re.compile(
    r"\bright middle lobe|\brml\b|\blingul"
    # the side a film was taken from is not the side of what it shows
    r"|\b(?:left|right) (?:lateral (?:decubitus|view|projection)|(?:anterior|posterior) oblique)"
    r"|\b[lr]ld\b|\b[lr][ap]o\b",
    re.I,
)
_LETTER = re.compile(r"(?<!\w)[LR](?![\w'])")  # side, litres, or the R of "R/O"

_SENTENCE_END = re.compile(r"\.(?!\d)|[;:?!]|\n\s*\n|\n\s*\d+[.)]")
_CLAUSE_END = re.compile(r",|\b(?:and|or|with|but|while|whereas|as well as)\b")
_NEGATION = re.compile(
    r"\b(?:no|not|without|negative for|free of|absence of|rather than|ruled? out|denies)\b"
)
_AFTER_NEGATION = re.compile(r"\b(?:but|however|although|except|though)\b")
_NOT_ASKED = re.compile(
    r"\b(?:resolved|resolution|cleared|unlikely|removed|no longer|possibl[ey]|may|might|could"
    r"|cannot|question(?:able)?|versus|vs|exclude)\b"
)
_SHIFTED = re.compile(
    r"\b(?:shift|displac|deviat|push)\w*[^,.;]*?\b(?:left|right)(?:wards?)?\b"
    r"|\b(?:left|right)wards?\s+(?:shift|displac|deviat)\w*"
)
_BOTH = re.compile(r"\bbi(?:lateral|basilar|basal|apical)\w*|\bboth\b|\beither\b|\beach\b")
_ONE_OF = r"(?:left|right)(?:[- ]sided)?"
_TWO_SIDES = re.compile(
    rf"\b{_ONE_OF}(?:\s+(?:side|lungs?|upper|mid|lower|lobes?|bases?|greater|more|worse|larger"
    rf"|less|smaller))*\s*(?:,\s*)?(?:than|and|or|&|/|>|<|to|as well as)\s*(?:on\s+)?(?:the\s+)?"
    rf"{_ONE_OF}\b"
)

_FINDING_WORDS = {
    "Atelectasis": r"atelecta\w+|collapsed?",
    "Consolidation": r"consolidat\w+",
    "Edema": r"o?edema",
    "Fracture": r"fractur\w+",
    "Lung Lesion": r"nodul\w+|mass(?:es)?|lesions?",
    "Lung Opacity": r"opaci\w+|infiltrat\w+|airspace disease",
    "Pleural Effusion": r"(?<!pericardial )effusions?|pleural fluid|h(?:a?emo|ydropneumo)thora\w+",
    "Pleural Other": r"pleural (?:thicken\w+|plaques?|scarring)",
    "Pneumonia": r"pneumonia\w*",
    "Pneumothorax": r"(?:hydro)?pneumothora\w+|ptx",
}
_PLURAL = re.compile(r"\b(?:effusions|pneumothoraces)\b")  # without a side: of both
_WITHOUT_SIDE = {"Cardiomegaly", "Enlarged Cardiomediastinum", "No Finding", "Support Devices"}


def sides_named(text: str) -> frozenset[Side]:
    """The sides that a text names at all, those of heart chambers not counted."""
    words = (m.group().lower() for m in _SIDE_WORD.finditer(_NOT_A_SIDE.sub(" ", text)))
    return frozenset("left" if word[0] == "l" else "right" for word in words if "ward" not in word)


def exchange(text: str) -> str:
    """The text with left and right exchanged, in whole words; letters keep their case.

    Of abbreviations, lobes (LUL, RLL …) and jugular veins (LIJ) are exchanged. Chambers of the
    heart (``right atrium``) and ``left in place`` stay as they are. Twice gives the text back.
    """
    kept = [match.span() for match in _NOT_A_SIDE.finditer(text)]

    def other(match: re.Match[str]) -> str:
        if any(start <= match.start() < stop for start, stop in kept):
            return match.group()
        return _in_case_of(match.group(), _OTHER[match.group().lower()])

    return _SIDE_WORD.sub(other, text)


def exchange_one_side(text: str) -> str | None:
    """As :func:`exchange`, for a text that names one side and nothing else.

    Returns:
        ``None`` if it names no side or both, or holds what :func:`exchange` cannot turn round:
        what exists on one side alone (right middle lobe, lingula), a side of the projection (left
        lateral decubitus), a bare ``L`` or ``R``.
    """
    if len(sides_named(text)) != 1 or _NO_COUNTERPART.search(text) or _LETTER.search(text):
        return None
    return exchange(text)


def asked_sides(prompt: str, findings: Iterable[str]) -> dict[str, Side]:
    """On which side a prompt asks for each finding, where it asks for it on exactly one.

    A finding's words and one side must stand in the same clause; what is negated, uncertain or
    gone does not count, and a finding said to be on both sides anywhere is left out.

    Args:
        prompt: its text.
        findings: label names; one that is not CheXpert's is looked for by its own name. Findings
            of the heart and devices, which lie on no side or cross the midline, are left out.
    """
    patterns = {
        name: re.compile(rf"\b(?:{_FINDING_WORDS.get(name) or _own_words(name)})\b")
        for name in findings
        if name not in _WITHOUT_SIDE
    }
    found: dict[str, set[Side]] = {name: set() for name in patterns}
    for clause in _asked_clauses(prompt.lower()):
        named = set(sides_named(clause))
        if _BOTH.search(clause) or (not named and _PLURAL.search(clause)):
            named = set(SIDES)
        for name, pattern in patterns.items():
            if pattern.search(clause):
                found[name] |= named
    return {name: next(iter(sides)) for name, sides in found.items() if len(sides) == 1}


def _asked_clauses(text: str) -> list[str]:
    """Clauses that say what is there."""
    clauses = []
    for sentence in _SENTENCE_END.split(_SHIFTED.sub(" ", text)):
        said = _TWO_SIDES.sub(" bilateral ", " ".join(sentence.split()))
        clauses += [clause for part in _affirmed(said) for clause in _CLAUSE_END.split(part)]
    return [clause for clause in clauses if not _NOT_ASKED.search(clause)]


def _affirmed(sentence: str) -> list[str]:
    """A sentence without what follows a negation, up to a "but"."""
    parts = []
    for part in _AFTER_NEGATION.split(sentence):
        negated = _NEGATION.search(part)
        parts.append(part if negated is None else part[: negated.start()])
    return parts


def _own_words(name: str) -> str:
    return r"\W+".join(map(re.escape, re.findall(r"\w+", name.lower()))) or r"(?!)"


def _in_case_of(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
