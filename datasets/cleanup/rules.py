"""Optional cleaning of the text a prompt is made of: four steps, each off unless asked for.

A report is written about a picture *and* about earlier pictures, telephone calls and removed
names. A model that draws can only use the first. Cleaning works sentence by sentence and is
conservative: the words that tell a side, deny or doubt something (``guarded_words``) keep their
order and number in every sentence that stays; where an edit would alter them, or would leave a
broken sentence, the whole sentence is dropped.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields

from arra_med.datasets.cleanup.comparisons import without_comparisons
from arra_med.datasets.cleanup.placeholders import without_placeholders
from arra_med.datasets.cleanup.sentences import (
    Sentence,
    guarded_words,
    left_broken,
    split_report,
    tidy,
)

JOIN_LISTS = "join-lists"
REMOVE_NOTIFICATIONS = "remove-notifications"
REMOVE_COMPARISONS = "remove-comparisons"
REMOVE_PLACEHOLDERS = "remove-placeholders"

_NOTIFIES = (
    r"(?:discuss(?:ed|ion)|communicat(?:ed|ion)|relayed|conveyed|notif(?:ied|y|ication)|informed"
    r"|(?:tele)?phoned|telephone|paged|paging|e-?mail(?:ed)?|called|alerted|contacted|transmitted"
    r"|(?:reported|spoken?) (?:to|with)|reviewed with|spoke|acknowledg(?:ed|es)|read[- ]?back"
    r"|verbally|flagged|entered (?:in|into|by|on)|made aware|text(?:ed)? page)"
)
_WHO_OR_HOW = (
    r"(?:\bDrs?\b|\bDr\.|\b(?:physicians?|doctors?|clinicians?|providers?|nurses?|RN|NP|PA-C|MD"
    r"|residents?|intern|attending|teams?|housestaff|house staff|surgeons?|service|referring"
    r"|ordering|caring|emergency|department|critical results?|dashboard|primordial|veriphy"
    r"|receipt|pagers?|tele-?phone|phone|in person|discovery|interpretation"
    r"|ED|QA|ICU|EDT|EST|hrs)\b|\d{1,2}:\d{2}|\b\d{1,4} ?[ap]\.?m\b|_{2,}|X{4,})"
)
_NOTIFICATION = re.compile(
    rf"\b{_NOTIFIES}\b.*?{_WHO_OR_HOW}|{_WHO_OR_HOW}.*?\b{_NOTIFIES}\b"
    # Said without naming anybody, these still only report that a message was passed on.
    r"|\b(?:findings?|results?|recommendations?|impression|above|this|these|report|study|case)\b"
    r"[^.;]*\b(?:was|were|been|be|is|are)\b[^.;]*"
    r"\b(?:discussed|communicated|relayed|conveyed|notified|telephoned|phoned|paged|e-?mailed"
    r"|called (?:to|in))\b(?! (?:above|below|earlier|previously))"
    r"|^(?:critical )?(?:results?|findings?)(?: and recommendations?)? "
    r"(?:called|discussed|communicated|telephoned|phoned|paged|conveyed)\b"
    r"|^(?:discussed|communicated|telephoned|phoned|paged|e-?mailed) (?:with|to|by|via|in|at)\b"
    r"|\bresult notification\b|\bcertified radiologist\b|^notification\b"
    r"|\b(?:wet|preliminary) read\b.*\b(?:by|to|called)\b"
    r"|^(?:please )?(?:page|call|contact|e-?mail)\b",
    re.IGNORECASE,
)
# Words that look like notifying but speak of the picture, the history or what to do next.
_ABOUT_THE_PICTURE = re.compile(
    r"\b(?:as|was|were) (?:discussed|described|reported|reviewed) (?:above|below|previously)\b"
    r"|\bso-called\b|\bcommunicating\b|\breported (?:history|trauma|fall|pain)\b",
    re.IGNORECASE,
)
# A message at the end of a sentence that has told a finding before it.
_TAIL = re.compile(
    r"(?:,|;|\s-+|\s\()\s*(?:and\s+)?(?:(?:which|as|a finding that|(?:these|this|the) (?:findings?"
    r"|results?)?)\s+)?(?:(?:was|were|has been|have been|is|are)\s+)?(?:also\s+)?"
    r"(?:discussed|communicated|relayed|conveyed|notified|telephoned|phoned|paged|e-?mailed|called"
    r"|reported) (?:with|to|by|via|in|at)\b.*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class CleanUp:
    """Which cleaning steps a text goes through, in this order."""

    join_lists: bool = False
    """``1. A 2) B`` becomes ``A. B.``; counted: markers removed."""
    remove_notifications: bool = False
    """Sentences that tell who was told about a finding; counted: sentences."""
    remove_comparisons: bool = False
    """Words that refer to earlier studies; counted: sentences shortened or dropped."""
    remove_placeholders: bool = False
    """``___`` and ``XXXX``; counted: sentences shortened or dropped."""

    def steps_on(self) -> tuple[str, ...]:
        """Names of the steps that are on."""
        return tuple(step.name for step in fields(self) if getattr(self, step.name))


def clean(text: str, options: CleanUp) -> tuple[str, dict[str, int]]:
    """Clean one section of a report.

    Args:
        text: the raw section.
        options: the steps to take.

    Returns:
        The cleaned text on one line (the text as it came, if no step is on), possibly empty; and
        how often each step changed something, by ``"join-lists"``, ``"remove-notifications"``,
        ``"remove-comparisons"`` and ``"remove-placeholders"``, without zeros.
    """
    if options == CleanUp():
        return text, {}
    sentences = split_report(text)
    edits: Counter[str] = Counter()
    if options.join_lists:
        edits[JOIN_LISTS] = sum(bool(sentence.marker) for sentence in sentences)
        sentences = _join_lists(sentences)
    steps = (
        (options.remove_notifications, REMOVE_NOTIFICATIONS, without_notification),
        (options.remove_comparisons, REMOVE_COMPARISONS, without_comparisons),
        (options.remove_placeholders, REMOVE_PLACEHOLDERS, without_placeholders),
    )
    for wanted, kind, step in steps:
        if wanted:
            edited = [guarded(step, sentence.text) for sentence in sentences]
            pairs = list(zip(sentences, edited, strict=True))
            edits[kind] = sum(sentence.text != after for sentence, after in pairs)
            sentences = _kept(pairs)
    return _written(sentences), {kind: number for kind, number in edits.items() if number}


def guarded(step: Callable[[str], str], sentence: str) -> str:
    """``step(sentence)`` with its seams repaired, or ``""`` where it would do harm."""
    edited = step(sentence)
    if edited == sentence:
        return sentence
    edited = tidy(edited, sentence)
    harmed = guarded_words(edited) != guarded_words(sentence)
    return "" if harmed or left_broken(edited, sentence) else edited


def without_notification(sentence: str) -> str:
    """``sentence``, or what it says before telling who was notified, or nothing."""
    if not _NOTIFICATION.search(sentence) or _ABOUT_THE_PICTURE.search(sentence):
        return sentence
    before = _TAIL.sub("", sentence)
    finding = before != sentence and len(before.split()) > 1
    return before if finding and not _NOTIFICATION.search(before) else ""


def _join_lists(sentences: list[Sentence]) -> list[Sentence]:
    joined = []
    for index, sentence in enumerate(sentences):
        text = sentence.text
        if sentence.marker:
            text = text[0].upper() + text[1:]
        following = sentences[index + 1 :]
        last_of_item = following[0].marker if following else any(item.marker for item in sentences)
        if last_of_item and text[-1] not in ".!?:":
            text = text.rstrip(" ,;") + "."
        joined.append(Sentence(text))
    return joined


def _kept(pairs: list[tuple[Sentence, str]]) -> list[Sentence]:
    """The sentences left; the marker of a dropped one goes to the next of the same item."""
    kept: list[Sentence] = []
    orphan = ""
    for sentence, text in pairs:
        marker = sentence.marker or orphan
        orphan = "" if text else marker
        if text:
            kept.append(Sentence(text, marker))
    return kept


def _written(sentences: list[Sentence]) -> str:
    """One line; lists that lost items are numbered again."""
    words = []
    last_old = last_new = 0
    for sentence in sentences:
        if sentence.marker:
            old = int(sentence.marker.rstrip(".)"))
            last_new = last_new + 1 if last_old < old else 1
            last_old = old
            words.append(f"{last_new}{sentence.marker[-1]}")
        words.append(sentence.text)
    return re.sub(r"\s+", " ", " ".join(words)).strip()
