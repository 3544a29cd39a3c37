"""Taking ``___`` and ``XXXX`` out of a sentence without leaving it broken.

A placeholder may stand for a name, a date, an adjective or, in the IU reports, for any word. So
phrases that end in one go with their preposition ("with Dr. ___ at ___"), one before a noun goes
alone ("XXXX opacity"), and a sentence whose noun or verb it was ("The XXXX are normal.", "no XXXX
of effusion") is dropped.
"""

import re

_TOKEN = r"(?<![\w'’/:#&-])[\w'’/:#&-]*(?:_{2,}|X{4,})[\w'’/:#&-]*"
_TITLE = r"(?:(?:Drs?|Mr|Mrs|Ms|Prof)\.? ?)?"
_UNIT = (
    r"(?: (?:cm|mm|hours?|hrs?|[ap]\.?m\.?|minutes?|days?|weeks?|months?|years?(?: old)?"
    r"|degrees?|%)(?!\w))?"
)
_ONE = rf"{_TITLE}{_TOKEN}{_UNIT}"
_GROUP = rf"(?:{_ONE}(?:,? (?:(?:and|at|on|by|via|from|of|dated) ){{0,2}}{_ONE}){{0,6}})"
_STOP = r"(?=\s*(?:[.,;:)!?]|$))"
_VERB = (
    r"(?:is|are|was|were|has|have|had|may|might|can|could|would|will|should|remains?|appears?"
    r"|represents?|demonstrates?|shows?|projects?|overl(?:ies|y|ying)|extends?)"
)
_STATE = (
    r"(?:normal|unremarkable|clear|intact|noted|seen|identified|present|unchanged|stable|enlarged"
    r"|prominent|within|visible|visualized|otherwise)"
)
_AFTER = (
    rf"(?:\s*(?:[.,;:)!?]|$)|\s+(?:{_VERB}|{_STATE}|of|and|or|but|with|at|on|in|from|to|for|by"
    r"|as|than|without|bilateral|bilaterally)\b)"
)
# Adjectives and determiners that lack their noun if what follows them is gone. Most end alike.
_LACKS_NOUN = re.compile(
    r"(?<![\w-])(?:(?!normal\b|total\b|lateral\b|hospital\b)"
    r"[a-z]{2,}(?:ic|ac|al|ar|ous|ary|oid|ior)|lymph|soft|upper|lower|middle|mid|left|right"
    r"|an?|the|no|some|any|other|most|more"
    r"|less|multiple|both|several|few|small|large|low|high|mild|minimal|moderate|severe|old|dual"
    r"|exact|further|outside|recent|vena|remote|blood|bony|[a-z]+ed|[a-z]+-sided|PA|AP)"
    rf" {_GROUP}{_AFTER}",
    re.IGNORECASE,
)
# Fixed pairs whose second word is gone, whatever follows: "hilar lymph XXXX there".
_LACKS_PARTNER = re.compile(
    rf"\b(?:lymph {_GROUP}(?! nodes?\b)|[a-z]+ing {_GROUP}{_STOP}|please {_GROUP}|less {_ONE}"
    rf"|{_GROUP} (?:would|could)\b|or {_GROUP} {_VERB}\b"
    rf"|^{_GROUP} (?:(?:chest|thorax) (?:for|with|may|if)|change)\b"
    rf"|appearance {_GROUP} |(?:an?|the) {_GROUP} [a-z]+ing\b"
    rf"|(?:normal|unremarkable|intact|clear|well) {_GROUP}(?:{_STOP}| of\b)"
    rf"|(?:recommend|consider) {_GROUP} (?:for|to|if|in)\b"
    rf"|(?:costo|cardio)phrenic {_GROUP}(?! (?:angles?|sulc|recess))"
    rf"|{_GROUP} (?:like|shaped|amount|degree|onset)\b)|^(?:or, )?if\b",
    re.IGNORECASE,
)
_LACKS_SUBJECT = re.compile(
    rf"^(?:the )?{_GROUP},? (?:(?:{_VERB}|and|or|of|in|on|at)\b|{_STATE}{_STOP})"
    rf"|[,;] {_GROUP} (?:would|could|should|is|are|was|were)\b",
    re.IGNORECASE,
)
_LACKS_VERB = re.compile(
    rf"\b(?:to|be|not|can|could|would|will|should|may|might|of|is|are|was|were) {_GROUP}"
    rf"(?:{_STOP}|\s+(?:of|to|on|in|at|from|{_VERB})\b)",
    re.IGNORECASE,
)
# "Sternotomy XXXX are intact": the plural was the missing word.
_LACKS_PLURAL = re.compile(rf"\b[a-z]+(?<!s)(?<!ae)(?<!i)(?<!a) {_GROUP} (?:are|were|have)\b", re.I)
_PHRASE = re.compile(
    r",? ?\(?(?<![\w-])(?:(?:likely |probably |possibly )?(?:due|secondary|related|attributable|as"
    r" compared|compared|similar) (?:to|with)|(?:performed|obtained|dated|taken)(?: on| at)?"
    r"|with|without|by|at|on|in|from|for|via|through|per|as|since|until|near|and|or)"
    rf" (?:(?:the|an?|his|her) )?{_GROUP}{_STOP}\)?",
    re.IGNORECASE,
)
_PARENTHESIS = re.compile(rf"\(\s*{_GROUP}\s*\)")
_ENUMERATED = re.compile(rf", {_GROUP}(?=, )")
_INTENSIFIER = re.compile(
    r"\b(?:most|more|very|acute or|at(?= \S+ (?:one|two|three|the|partially|in part)))"
    rf" (?={_ONE} [a-z])",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"(?:\b(?:and|or) (?={_GROUP}{_STOP}))?{_ONE}:?")
_LACKS = (_LACKS_SUBJECT, _LACKS_NOUN, _LACKS_PARTNER, _LACKS_VERB, _LACKS_PLURAL)
# "opacities XXXX scarring": the words between two findings are gone; a comma reads.
_BETWEEN = re.compile(
    r"\b(opacit(?:y|ies)|densit(?:y|ies)|infiltrates?|disease|changes?|blunting|prominence|factors)"
    rf" {_GROUP} (?!(?:{_VERB}|{_STATE}|of|and|or|but|with|at|on|in|from|to|for|by|as|than|which"
    r"|that)\b)(?=[a-z])",
    re.IGNORECASE,
)
_X_RAY = re.compile(r"(?<=chest) X-X{4,}s?\b", re.IGNORECASE)
_ANY = re.compile(r"_{2,}|X{4,}")


def without_placeholders(sentence: str) -> str:
    """``sentence`` without placeholders, or ``""``; seams are left to the caller to tidy."""
    if not _ANY.search(sentence):
        return sentence
    text = _PARENTHESIS.sub("", _X_RAY.sub("", sentence))
    text = _INTENSIFIER.sub(_acute, _ENUMERATED.sub("", text))
    text = _PHRASE.sub("", text)
    if _ANY.search(text) and any(lacks.search(text) for lacks in _LACKS):
        return ""
    return _ALONE.sub("", _BETWEEN.sub(r"\1, ", text))


def _acute(found: re.Match[str]) -> str:
    return "acute " if found.group().lower().startswith("acute") else ""
