"""Sentences of a report: cutting them apart, tidying what is left of an edited one, and the guard.

The guard is what makes cleaning safe: ``guarded_words`` lists every word of a sentence that says
on which side something is, that it is not there, or that it may be. An edit that would change that
list, or that leaves something nobody would write (``left_broken``), is not made; see ``cleanup``.
"""

import re
from dataclasses import dataclass

PLACEHOLDER = re.compile(r"_{2,}|X{4,}")
"""What stands for a removed identifier: ``___`` in MIMIC-CXR, ``XXXX`` in the IU reports."""

_LONG_PLACEHOLDER = re.compile(r"(___|XXXX)[_X]+")
_GUARDED = re.compile(
    # L and R stand for sides as capitals only; "T12-L1" and "R-XXXX" hold none.
    r"(?<![\w/-])[LR](?![\w/-])"
    r"|(?i:\b(?:left|right|(?:left|right)wards?|lt|rt|both|(?:bi|uni|contra|ipsi)laterally"
    r"|(?:bi|uni|contra|ipsi)lateral|bibasilar|bibasal|biapical|bihilar"
    r"|no|non|not|none|nor|neither|never|cannot|without|negative|absent|absence|lack|lacks|lacking"
    r"|free|den(?:y|ies|ied)|exclud\w+|unlikely|resol\w+|clear(?:ed|ing)|disappear\w*|gone"
    r"|remov\w+|might|could)\b|n't\b|\bw/o\b)|\b(?:may|MAY)\b"  # May is a month
)
_ABBREVIATION = re.compile(
    r"\b(?:Drs?|Mr|Mrs|Ms|Prof|St|vs|e\.g|i\.e|approx|resp)\.$", re.IGNORECASE
)
# These end a sentence only if what follows looks like a new one.
_MAY_END = re.compile(r"\b(?:[ap]\.?m|m\.d|d\.o|r\.n|ph\.d)\.$", re.IGNORECASE)
_SENTENCE_END = re.compile(
    r"[.!?]+[\"')\]]*(?:\s+|$)|(?:(?<=[a-z]{3})|(?<=XXXX))\.(?=[A-Z][a-z]{1,2})"
)
_CONTINUES = re.compile(r"[a-z0-9(,]|X{4,}|_{2,}|Dr")

# A list marker, "1." or "2)"; what stands before it decides whether it is one (``_is_marker``).
_MARKER = re.compile(r"(?<![\w.,/:-])(\d{1,2})[.)](?:\s+|(?=[A-Za-z_]))(?=\S)")
_NUMBERED = re.compile(
    r"\b(?:ribs?|levels?|stage|grade|type|day|number|no|and|to|or|of|at|with|by|x|vs|about|than|in"
    r"|approximately|step|[TLC]|segment|vertebra|body|images?|views?|series|phase|least|through"
    r"|hours?|zone|mm|cm)\s*$",
    re.IGNORECASE,
)

_DETERMINER = r"(?:an?|the|no|this|these|its)"
_VERB = (
    r"(?:is|are|was|were|be|been|being|has|have|had|may|might|can|could|would|will|should|remains?"
    r"|appears?|represents?|suggests?|measures?)"
)
_PREPOSITION = (
    r"(?:of|with|at|on|by|in|from|to|for|as|than|over|into|under|within|between|through|and|or|but)"
)
_STOP = r"(?:\s*(?:[.,;:)!?]|$))"
# Looked for at every place, also inside another match: "the tissues and are." breaks twice.
_BROKEN = re.compile(
    rf"(?=\b{_DETERMINER}(?: (?:an?|the|no|{_PREPOSITION})\b|{_STOP})"
    rf"|\b(?:an?|the|no) (?:{_VERB}|bilaterally)\b"
    rf"|\b{_VERB}(?: (?:and|or|but|of|from|than|which|that)\b|{_STOP})"
    rf"|\b(?:is|are|was|were) (?:to|is|are|was|were|has|have|may|with)\b"
    r"|\b(?:is|are) as (?:is|are)\b"
    rf"|\b{_PREPOSITION}(?: (?:is|are|was|were|has|have|may|of|than)\b|{_STOP})"
    rf"|\b(?:of|with|at|on|by|in|from|to|for|as|than) (?:of|with|at|on|by|from|for|to|and|or|but)\b"
    rf"|^(?:{_VERB}|of|than|that|to|for)\b|\b(?:and|or|but),? (?:and|or|but)\b"
    r"|\b(?:not|most|more|less|very|due|related|consistent|compatible|measuring|representing|shows?"
    r"|demonstrates?|including|suggesting|suggestive|indicating|showing|demonstrating)"
    rf"{_STOP})",
    re.IGNORECASE,
)
_DANGLING = re.compile(
    r"(?:[\s,;:(-]|(?<![\w-])(?:and|or|but|with|at|on|by|in|from|as|for|which|that|when|dated"
    r"|while|although|via))+(?=[.!?]*$)",
    re.IGNORECASE,
)
_LEADING = re.compile(r"^(?:[\s,;:.)-]|(?:and|or|but|which|while|although|with)\b)+", re.IGNORECASE)
# Words that say nothing, and names of what is looked at: without another word, no finding.
_EMPTY_WORD = re.compile(
    r"(?:a|an|the|and|or|but|of|with|at|on|by|in|from|to|for|as|than|is|are|was|were|be|been|has|"
    r"have|had|this|these|that|those|it|its|they|there|which|also|otherwise|however|overall|dr|"
    r"drs|mr|ms|mrs|am|pm|hours|seen|noted|hour|time|cm|mm|approximately|likely|we|if|other|remaining|"
    r"remainder|both|above|general|heart|cardiac|size|cardiomediastinal|cardiopulmonary|"
    r"cardiothoracic|silhouette|silhouettes|contour|contours|mediastinum|mediastinal|hila|hilum|"
    r"hilar|lung|lungs|volume|volumes|field|fields|chest|x-ray|radiograph|film|exam|examination|"
    r"study|appearance|finding|appearances|findings|pulmonary|vasculature|vascularity|vascular|"
    r"vessels|markings|aorta|aortic|bone|bones|bony|osseous|skeletal|structures|sulci|sulcus|thorax|thoracic|"
    r"soft|tissue|tissues|spine|pleural|spaces|position|configuration|shape|caliber|aeration|"
    r"course|right|left|bilateral|patient|patient's|process|disease|evidence|portion|body|"
    r"visualized|interval|change|changes|cxr|since|compared|comparison)"
)


@dataclass(frozen=True)
class Sentence:
    """One sentence, with the list marker (``"2."``, or nothing) that stands before it."""

    text: str
    marker: str = ""


def guarded_words(text: str) -> list[str]:
    """The words of ``text``, lower-cased and in order, that tell a side, a denial or a doubt."""
    return [found.group().lower() for found in _GUARDED.finditer(text)]


def split_report(text: str) -> list[Sentence]:
    """Cut a section into sentences; blank lines and list markers end a sentence too.

    A number is a list marker if it begins a list (``1``, where a sentence begins) or continues
    the list begun before, so decimals, dates, ``T12.`` and ``rib 2.`` are none. Placeholders
    longer than usual are shortened to ``___`` and ``XXXX``.
    """
    sentences = []
    last = 0
    text = _LONG_PLACEHOLDER.sub(lambda found: found.group(1), text)
    for paragraph in re.split(r"\n\s*\n", text):
        begin, marker = 0, ""
        for found in _MARKER.finditer(paragraph):
            number = int(found.group(1))
            if not _is_marker(paragraph, found, number, last):
                continue
            sentences += _sentences(paragraph[begin : found.start()], marker)
            begin, marker, last = found.end(), found.group().strip(), number
        sentences += _sentences(paragraph[begin:], marker)
    return sentences


def _is_marker(paragraph: str, found: re.Match[str], number: int, last: int) -> bool:
    if number not in (1, last + 1):
        return False
    before = paragraph[: found.start()]
    begins = not before.strip() or before.rstrip(" \t").endswith("\n")
    begins = begins or before.rstrip()[-1] in ".!?:;"
    if begins or number == 1:
        return begins
    following = paragraph[found.end()]
    looks_new = following.isupper() or following == "_" or ")" in found.group()
    return looks_new and not _NUMBERED.search(before)


def _sentences(text: str, marker: str) -> list[Sentence]:
    text = " ".join(text.split())
    pieces, begin = [], 0
    for found in _SENTENCE_END.finditer(text):
        piece, rest = text[begin : found.end()].strip(), text[found.end() :]
        if _ABBREVIATION.search(piece) or (_MAY_END.search(piece) and _CONTINUES.match(rest)):
            continue
        pieces.append(piece)
        begin = found.end()
    pieces.append(text[begin:].strip())
    pieces = [piece for piece in pieces if piece.strip(" .")]
    return [Sentence(piece, "" if index else marker) for index, piece in enumerate(pieces)]


def tidy(edited: str, original: str) -> str:
    """Repair the seams of an edit: spaces, commas, loose ends, ``a`` / ``an``, the capital."""
    text = " ".join(edited.split())
    text = re.sub(r"\(\s*[,;]?\s*\)|\[\s*\]", "", text)
    text = re.sub(r"\s+(?=[,.;:)!?])", "", text)
    text = re.sub(r"([,;:])(?:\s*[,;:])+", r"\1", text)
    text = re.sub(r"\(\s*,?\s*", "(", text)
    for one, other in ("()", ")("):  # a bracket whose partner went
        if text.count(one) > text.count(other) and original.count(one) == original.count(other):
            text = text[: text.rindex(one)] + text[text.rindex(one) + 1 :]
    if text.split(" ")[0].lower() != original.split(" ")[0].lower():
        text = _LEADING.sub("", text)
    text = re.sub(r"[,;:]+(?=[.!?)])", "", text)
    text = re.sub(r"\.{2,}", ".", _DANGLING.sub("", text))
    text = re.sub(r"\b([Aa]) (?=[aeio](?!ne\b|u)[a-z]+)", r"\1n ", text)
    text = re.sub(r"\b([Aa])n (?=[b-df-gj-np-tv-wyz][a-z]{2,})", r"\1 ", text)
    if text and not original[0].islower():
        text = text[0].upper() + text[1:]
    if text and original[-1] in ".!?" and text[-1] not in ".!?":
        text += original[-1]
    return " ".join(text.split())


def says_nothing(text: str) -> bool:
    """Whether only function words, names of body parts and placeholders are left."""
    words = re.findall(r"[a-z][a-z'-]*", PLACEHOLDER.sub("", text).lower())
    return all(_EMPTY_WORD.fullmatch(word) or len(word) < 2 for word in words)


def left_broken(edited: str, original: str) -> bool:
    """Whether an edit left seams that the original sentence did not have."""
    return len(_BROKEN.findall(edited)) > len(_BROKEN.findall(original)) or says_nothing(edited)
