"""What must hold between a text and the cleaned text, judged without the cleaning's own code."""

import re

_SIDES = re.compile(
    r"\b(?:left|right|bilateral|bilaterally|both|no|not|without|none|never|absent|negative|free"
    r"|cannot|nor|neither|denies|resolved|resolution|removed|cleared|might|could)\b|\bmay\b(?! \d)"
    r"|\b[LR]\b(?![-\d])",
)
_SEAMS = re.compile(
    r" [,.;:]|,,|\.\.|\( | \)|\(\)|^[,;:.]|[,;]\.|  "
    r"|\b(?:the|a|an|of|with|and|or|is|are|by|at)\s*[.,;]",
    re.IGNORECASE,
)
_MAY_APPEAR = {"is", "are", "a", "an", "seen"}


def sides(text: str) -> list[str]:
    """Sides, negations and doubts in order; a short list of its own, without the cleaning's."""
    text = re.sub(r"\b[A-Z][a-z]+\b", lambda found: found.group().lower(), text)
    return _SIDES.findall(text)


def blocks_kept(text: str, cleaned: str) -> bool:
    """Whether the sides of ``cleaned`` are those of ``text`` with whole sentences left out."""
    wanted = sides(cleaned)
    reached = {0}
    for sentence in re.split(r"(?<=[.!?])(?:\s+|(?=[A-Z][a-z]))|\n\s*|\s\d{1,2}[.)]\s*", text):
        block = sides(sentence)
        reached |= {at + len(block) for at in reached if wanted[at : at + len(block)] == block}
    return len(wanted) in reached


def invented_words(text: str, cleaned: str) -> list[str]:
    """Words of ``cleaned`` that are not words of ``text``, in its order, and may not appear."""
    words = iter(re.findall(r"\w+", text.lower()))
    return [
        word
        for word in re.findall(r"\w+", cleaned.lower())
        if word not in _MAY_APPEAR and not word.isdigit() and not any(word == own for own in words)
    ]


def looks_broken(cleaned: str) -> bool:
    """Whether a reader sees a seam: doubled or dangling punctuation, a dangling small word."""
    return _SEAMS.search(cleaned) is not None
