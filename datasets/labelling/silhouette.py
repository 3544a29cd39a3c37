"""What a sentence says of the size of the heart and of the mediastinum.

"Heart size is normal" names no finding, and yet it denies cardiomegaly. A size that is only called
stable, or borderline, is uncertain, as the CheXpert labeler has it.
"""

import re
from collections.abc import Iterator

from arra_med.schema import ABSENT, PRESENT, UNCERTAIN

HEART, MEDIASTINUM = "Cardiomegaly", "Enlarged Cardiomediastinum"

_PARTS = r"(?: (?:silhouettes?|contours?|size|shadows?|structures?|outlines?|borders?|width))"
_SUBJECT = re.compile(
    rf"(?P<both>\bcardio-?mediastin(?:al|um){_PARTS}?|\bcardiac mediastinal{_PARTS}?)"
    rf"|(?P<heart>(?<!behind the )(?<!right )(?<!left )(?<!over the )\bheart(?! failure| border"
    rf"| valve"
    rf"| rate| disease| surgery|s\b| enlarge){_PARTS}?|\b(?:cardiac|cardio-?pericardial)(?:{_PARTS}"
    r"|(?=(?: and |/| & |, )(?:\w+ )?(?:mediastin|hilar|pulmonary|aort))))"
    rf"|(?P<mediastinum>\bmediastin(?:um|al{_PARTS}|al(?=(?: and |/| & |, )(?:\w+ )?(?:hilar"
    rf"|cardiac))))"
)
_BEFORE = re.compile(
    r"\b(?:(?P<first>\w+) (?:and|but) )?(?P<word>normal|unremarkable|stable|unchanged|borderline"
    r"|top[- ]normal)"
    r"(?: (?:in )?(?:size|sized|contour|appearance|appearing)(?: of)?| of)?(?: the)?[ -]$"
)
_STATUS = re.compile(
    r"(?P<border>borderline|upper (?:limits?|range|normal)(?: of)?|top[- ]normal(?:[- ]sized)?"
    r"|high[- ]normal"
    r"|upper[- ]limits?|near[- ]normal|not significantly enlarged)"
    r"|(?P<large>\b(?:enlarge(?:d|ment)|large|prominent|widen(?:ed|ing)|wide|dilated|generous"
    r"|globular"
    r"|increased)\b|cardiomegaly)"
    r"|(?P<normal>\bnormal\b|unremarkable|\bwnl\b|not (?:\w+ly )?(?:enlarged|widened|prominent"
    r"|dilated)"
    r"|within limits|nonenlarged|unenlarged|\bnegative\b|\bokay\b|\bgrossly clear\b)"
    r"|(?P<stable>\b(?:stable|unchanged|similar|not (?:\w+ly )?changed|no (?:\w+ )?change)\b)"
    r"|(?P<maybe>\b(?:may|might|possibly|probably|questionabl[ye]|likely|suggest\w*|accentuat\w+"
    r"|exaggerat\w+)\b)"
    r"|(?P<stop>\bbut\b|\bhowever\b|\bwhile\b|;|\balthough\b|\band there\b"
    r"|\bwith(?= (?:a|an|no|mild|small|moderate|large|increased|new|stable|bilateral|left|right"
    r"|tortu|calcif|prominent|evidence|interval))|\bwithout\b|\bno\b|\bobscured\b)"
    r"|(?P<other>\b(?:lungs?|pulmonary|aort\w+|hil(?:a|ar|um)|vascular\w*|vasculature|pleural?"
    r"|bon[ye]s?"
    r"|osseous|trachea\w*|mediastin\w+|heart|cardiac|lead|leads|tip|arter\w+|azygos|diaphragm\w*"
    r"|effusions?|thoracic)\b)"
)


def read_sizes(sentence: str) -> Iterator[tuple[str, int]]:
    """Pairs of finding and label that a lower-case sentence supports by naming a size."""
    for subject in _SUBJECT.finditer(sentence):
        value = _size(sentence, subject)
        if value is None:
            continue
        for name in (HEART, MEDIASTINUM) if subject.lastgroup == "both" else (
            (HEART,) if subject.lastgroup == "heart" else (MEDIASTINUM,)
        ):  # fmt: skip
            yield name, value


def _size(sentence: str, subject: re.Match[str]) -> int | None:
    """The label that the words around a subject give it, or ``None``."""
    words: set[str] = set()
    for found in _STATUS.finditer(sentence, subject.end()):
        kind = found.lastgroup or ""
        if kind == "stop" or (kind == "other" and words - {"maybe"}):
            break
        if kind != "other":
            words.add(kind)
    before = _BEFORE.search(sentence[: subject.start()])
    if before is not None and "large" not in words:
        if before["word"] in ("stable", "unchanged"):
            words.add("normal" if before["first"] == "normal" else "stable")
        else:
            return UNCERTAIN if before["word"][:6] in ("border", "top no", "top-no") else ABSENT
    if "border" in words or ("large" in words and words & {"normal", "maybe"}):
        return UNCERTAIN
    if "large" in words:
        return PRESENT
    if "normal" in words:
        return ABSENT
    return UNCERTAIN if "stable" in words else None
