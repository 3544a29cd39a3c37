"""The form of an answer on the report's first page."""

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "mixed", "poor", "unknown"]
Verdict = tuple[str, Tone, str]
"""Verdict, tone and headline."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one question of the summary.

    Attributes:
        question: as it is printed.
        verdict: one to three words.
        tone: how the verdict is coloured.
        headline: the answer in one plain sentence.
        sentences: the numbers behind it.
        rule: how the verdict follows from the numbers.
    """

    question: str
    verdict: str
    tone: Tone
    headline: str
    sentences: tuple[str, ...]
    rule: str

    @classmethod
    def of(
        cls, verdict: Verdict, *, question: str, sentences: tuple[str, ...], rule: str
    ) -> "Answer":
        """An answer with this verdict, tone and headline."""
        words, tone, headline = verdict
        return cls(
            question=question,
            verdict=words,
            tone=tone,
            headline=headline,
            sentences=sentences,
            rule=rule,
        )


def cannot_say(reason: str) -> Verdict:
    """The verdict wherever evidence is missing, too small or not independent."""
    return ("Cannot say", "unknown", reason)
