"""Labels from the text of a chest report: the 14 CheXpert findings, for prompts without labels.

Rules, no network and no dependency: sentences, phrases that mention a finding (``labelling/
mentions``), what is asserted of each (``labelling/assertions``), and the size of heart and
mediastinum (``labelling/silhouette``). Of several mentions present wins over uncertain, uncertain
over absent, as in the CheXpert labeler (Irvin et al., arXiv 1901.07031); its meanings too:

* present 1, absent 0, uncertain -1, not mentioned ``None``;
* "No Finding" is 1 where nothing but support devices is present or uncertain, else ``None``;
* "likely" and "suggesting" are uncertain, "consistent with" is present;
* a heart size that is only "stable" or "borderline" is uncertain;
* "the lungs are clear" mentions no finding: nothing becomes absent by it.
"""

import re
from functools import lru_cache

from arra_med.datasets.cleanup.sentences import PLACEHOLDER, split_report
from arra_med.datasets.labelling.assertions import read_mentions
from arra_med.datasets.labelling.silhouette import read_sizes
from arra_med.schema import ABSENT, CHEXPERT_LABELS, PRESENT, UNCERTAIN

NO_FINDING = "No Finding"

_TEMPLATE = re.compile(r"^\s*(?:[\w ]{1,30} view )?chest x-?ray image\s*[,.:]?\s*", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{2}")
_NOT_ENGLISH = re.compile(  # words by which others say that something is not there
    r"\b(?:(?:keine?[nrms]?|nicht|ohne|und|oder|ausschluss|nachweis|sans|aucune?|no\s+(?:se|hay)|"
    r"nessun[ao]?|senza|nenhuma?|sem|geen|niet|zonder|ingen|inget|utan|uden|bez|brak|нет|без)\b|"
    r"pas\s+d['e]|sin\s+(?:derrame|neumot|evidenci|signo|alteracion|consolid))",
    re.IGNORECASE,
)
_RANK = {None: 0, ABSENT: 1, UNCERTAIN: 2, PRESENT: 3}
_SENTENCES_KEPT = 50_000  # reports repeat themselves


def label_text(text: str) -> dict[str, int | None]:
    """The 14 CheXpert findings of a report or a prompt in English.

    Args:
        text: any; a prompt's "PA view chest x-ray image," before it is not read.

    Returns:
        Name → 1 present, 0 absent, -1 uncertain, ``None`` not mentioned, in the order of
        :data:`~arra_med.schema.CHEXPERT_LABELS`; all ``None`` for a text without words, and for one
        that is not in English, in which a denied finding would be taken for one.
    """
    labels: dict[str, int | None] = dict.fromkeys(CHEXPERT_LABELS)
    body = PLACEHOLDER.sub(" ", _TEMPLATE.sub("", text, count=1))
    if not _WORD.search(body) or not is_english(body):
        return labels
    for sentence in split_report(body):
        for name, value in _label_sentence(sentence.text.lower()):
            if _RANK[value] > _RANK[labels[name]]:
                labels[name] = value
    found = [labels[name] for name in CHEXPERT_LABELS if name != "Support Devices"]
    if PRESENT not in found and UNCERTAIN not in found:
        labels[NO_FINDING] = PRESENT
    return labels


def is_english(text: str) -> bool:
    """Whether a text has none of the words by which other European languages deny a finding."""
    return not _NOT_ENGLISH.search(text)


@lru_cache(maxsize=_SENTENCES_KEPT)
def _label_sentence(sentence: str) -> tuple[tuple[str, int], ...]:
    said = [
        (name, mention.value)
        for mention in read_mentions(sentence)
        if mention.value is not None
        for name in mention.labels
    ]
    return (*said, *read_sizes(sentence))
