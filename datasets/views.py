"""View positions of chest films: one table from what archives write to what prompts say.

``PA``, ``AP`` and ``lateral`` are the views the paper uses. Other views keep the archive's own
name in capitals, so that they can be excluded by name or asked for.
"""

import re

from arra_med.errors import RequestError

_SPELLINGS = {
    "PA": ("PA", "POSTEROANTERIOR", "POSTERO-ANTERIOR", "PA ERECT", "PA UPRIGHT"),
    "AP": (
        "AP", "ANTEROPOSTERIOR", "ANTERO-POSTERIOR", "AP SUPINE", "AP ERECT", "AP UPRIGHT",
        "AP PORTABLE", "PORTABLE AP", "AP SEMI-ERECT", "AP SEMI ERECT", "AP SITTING",
    ),
    "lateral": (
        "LATERAL", "LAT", "L", "LL", "RL", "LEFT LATERAL", "RIGHT LATERAL", "L LATERAL",
        "R LATERAL", "LLAT", "RLAT",
    ),
}  # fmt: skip
_CANONICAL = {spelling: view for view, names in _SPELLINGS.items() for spelling in names}
_UNKNOWN = {"", "NAN", "NONE", "NULL", "N/A", "NA", "UNKNOWN", "<NA>", "-"}
_SPECIAL = re.compile(r"DECUB|OBLIQ|AXIAL|SWIM|X-?TABLE|CROSS|LORDO|\b(LLD|RLD|LAO|RAO|LPO|RPO)\b")
_MENTIONS = {
    "PA": re.compile(r"\bPA\b"),
    "AP": re.compile(r"\bAP\b"),
    "lateral": re.compile(r"\b(LAT|LATERAL|LL)\b"),
}


def normalise_view(text: str | None) -> str | None:
    """The view that an archive's ``text`` names.

    Returns:
        ``PA``, ``AP``, ``lateral``, or another view's own name in capitals; ``None`` if the text
        is empty or a spelling of "unknown" (``nan``, ``None``, ``N/A`` …).
    """
    name = " ".join((text or "").replace("_", " ").upper().split())
    return None if name in _UNKNOWN else _CANONICAL.get(name, name)


def view_from_description(description: str | None) -> str | None:
    """The view a procedure description commits to, if it names exactly one plain view.

    ``CHEST (PORTABLE AP)`` is ``AP``; ``CHEST (PA AND LAT)`` says nothing about one picture, and
    decubitus, oblique and other special projections are not guessed at.
    """
    text = (description or "").upper()
    if _SPECIAL.search(text):
        return None
    named = [view for view, pattern in _MENTIONS.items() if pattern.search(text)]
    return named[0] if len(named) == 1 else None


def wanted_views(views: tuple[str, ...]) -> tuple[str, ...]:
    """Check and normalise a configured list of views.

    Raises:
        RequestError: if it is empty or holds a spelling of "unknown".
    """
    normal = tuple(normalise_view(view) for view in views)
    if not normal or None in normal:
        raise RequestError(
            f"views {list(views)} must name at least one view and no empty one; for pictures "
            "without a view set missing_view to 'prompt-without-view'"
        )
    return tuple(dict.fromkeys(view for view in normal if view is not None))
