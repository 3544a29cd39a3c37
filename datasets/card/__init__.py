"""The dataset card that ingest writes: what a prepared folder holds."""

from arra_med.datasets.card.sheet import contact_sheet, contact_sheet_keys, find_pictures
from arra_med.datasets.card.summary import card_json, summarise
from arra_med.datasets.card.text import card_markdown
from arra_med.datasets.card.warnings import grave_warnings

__all__ = [
    "card_json",
    "card_markdown",
    "contact_sheet",
    "contact_sheet_keys",
    "find_pictures",
    "grave_warnings",
    "summarise",
]
