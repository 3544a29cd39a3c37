"""View positions of chest films: one table from what archives write to what prompts say.

``PA``, ``AP`` and ``lateral`` are the views the paper uses. The table also knows every value of
MIMIC-CXR's ``ViewPosition``, DICOM's terms for it (PS3.3 C.8.7.1.1.3 and C.8.11.5.1.1) and the
projections of the trunk among its view codes (PS3.16 CID 4010), so that a word which is no view
never ends in a prompt.
"""

import difflib
import re
from collections.abc import Sequence

from arra_med.errors import RequestError

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "PA": (
        "PA", "POSTEROANTERIOR", "POSTERO ANTERIOR", "PA ERECT", "PA UPRIGHT", "PA STANDING",
        "ERECT PA", "UPRIGHT PA",
    ),
    "AP": (
        "AP", "ANTEROPOSTERIOR", "ANTERO POSTERIOR", "AP SUPINE", "AP ERECT", "AP UPRIGHT",
        "AP PORTABLE", "AP SEMI ERECT", "AP SEMIERECT", "AP SEMI UPRIGHT", "AP SITTING",
        "AP HORIZONTAL", "PORTABLE AP", "SUPINE AP", "ERECT AP", "UPRIGHT AP",
    ),
    "lateral": (
        "LATERAL", "LAT", "L", "LL", "RL", "LEFT LATERAL", "RIGHT LATERAL", "L LATERAL",
        "R LATERAL", "LLAT", "RLAT", "LEFT LAT", "RIGHT LAT", "L LAT", "R LAT", "LATERAL LEFT",
        "LATERAL RIGHT",
    ),
    "frontal": ("FRONTAL",),
    "AP AXIAL": ("AP AXIAL", "AXIAL AP"),
    "AXIAL": ("AXIAL", "AX"),
    "LORDOTIC": ("LORDOTIC", "APICAL LORDOTIC", "AP LORDOTIC", "LORDOTIC AP"),
    "XTABLE LATERAL": (
        "XTABLE LATERAL", "X TABLE LATERAL", "XTABLE LAT", "CROSS TABLE LATERAL",
        "CROSSTABLE LATERAL",
    ),
    "SWIMMERS": ("SWIMMERS", "SWIMMER'S", "SWIMMER"),
    "LLD": ("LLD", "LEFT LATERAL DECUBITUS", "LEFT DECUBITUS"),
    "RLD": ("RLD", "RIGHT LATERAL DECUBITUS", "RIGHT DECUBITUS"),
    "DECUBITUS": ("DECUBITUS", "LATERAL DECUBITUS"),
    "AP LLD": ("AP LLD", "LLD AP"),
    "AP RLD": ("AP RLD", "RLD AP"),
    "PA LLD": ("PA LLD", "LLD PA"),
    "PA RLD": ("PA RLD", "RLD PA"),
    "LAO": ("LAO", "LEFT ANTERIOR OBLIQUE"),
    "RAO": ("RAO", "RIGHT ANTERIOR OBLIQUE"),
    "LPO": ("LPO", "LEFT POSTERIOR OBLIQUE"),
    "RPO": ("RPO", "RIGHT POSTERIOR OBLIQUE"),
    "LLO": ("LLO", "LEFT OBLIQUE"),
    "RLO": ("RLO", "RIGHT OBLIQUE"),
    "AP OBLIQUE": ("AP OBLIQUE", "ANTERO POSTERIOR OBLIQUE"),
    "PA OBLIQUE": ("PA OBLIQUE", "POSTERO ANTERIOR OBLIQUE"),
    "OBLIQUE": ("OBLIQUE", "OBL", "FRONTAL OBLIQUE", "LATERAL OBLIQUE", "MEDIAL OBLIQUE"),
    "TANGENTIAL": ("TANGENTIAL", "TAN"),
    "SAGITTAL": ("SAGITTAL",),
    "L5 S1": ("L5 S1",),
}  # fmt: skip
_CANONICAL = {spelling: view for view, names in _SPELLINGS.items() for spelling in names}
# what stands where nothing is known; pandas and SQL write some of them
_UNKNOWN = {
    "", "NAN", "NONE", "NULL", "N A", "NA", "UNKNOWN", "<NA>", "NIL", "UNSPECIFIED", "NOT GIVEN",
    "?",
}  # fmt: skip
_SPECIAL = re.compile(
    r"DECUB|OBLIQ|AXIAL|SWIM|X-?TABLE|CROSS|LORDO|\b(LLD|RLD|LAO|RAO|LPO|RPO)\b"
    # another part of the body: a film of such an examination need not be the one it names
    r"|\b(RIBS?|ABD|ABDOMEN|SPINE|PELVIS|HIPS?|SHOULDER|STERNUM|NECK)\b"
)
_MENTIONS = {
    "PA": re.compile(r"\b(PA|POSTERO[- ]?ANTERIOR)\b"),
    "AP": re.compile(r"\b(AP|ANTERO[- ]?POSTERIOR)\b"),
    "lateral": re.compile(r"\b(LAT|LATERAL|LL)\b"),
}

VIEWS: tuple[str, ...] = tuple(_SPELLINGS)
"""Every view the table knows, by the name that prompts use."""


def normalise_view(text: str | None) -> str | None:
    """The view that an archive's ``text`` names.

    Returns:
        A name of ``VIEWS``; for a text the table does not know, the text itself in capitals (see
        :func:`is_known`); ``None`` if it is empty or a spelling of "unknown" (``nan``, ``None``,
        ``N/A`` …).
    """
    name = " ".join((text or "").upper().split())
    plain = " ".join(re.sub(r"[-_/.,()]+", " ", name).split())
    return None if plain in _UNKNOWN else _CANONICAL.get(plain, name)


def folded(text: str) -> str:
    """An archive's own name of a view, for comparison: capitals and spaces do not matter."""
    return " ".join(text.split()).casefold()


def is_known(view: str) -> bool:
    """Whether a normalised view is one of the table's."""
    return view in _SPELLINGS


def view_from_description(description: str | None) -> str | None:
    """The view a procedure description commits to, if it names exactly one plain view.

    ``CHEST (PORTABLE AP)`` is ``AP``; ``CHEST (PA AND LAT)`` says nothing about one picture;
    decubitus, oblique and other special projections, and films of ribs, spine or abdomen, are not
    guessed at.
    """
    text = (description or "").upper().replace("_", " ")
    if _SPECIAL.search(text):
        return None
    named = [view for view, pattern in _MENTIONS.items() if pattern.search(text)]
    return named[0] if len(named) == 1 else None


def repair_view(view_code: str, *procedures: str) -> str | None:
    """The view of a picture whose ``ViewPosition`` is missing.

    Args:
        view_code: meaning of the picture's own view code (``antero-posterior``); if it is given,
            it decides alone.
        procedures: what was ordered and done; taken together they must name exactly one view.

    Returns:
        ``PA``, ``AP`` or ``lateral``, or ``None`` if that is not certain.
    """
    if normalise_view(view_code) is not None:
        return view_from_description(view_code)
    return view_from_description(" | ".join(procedures))


def wanted_views(views: Sequence[str]) -> tuple[str, ...]:
    """Check and normalise a configured list of views.

    Raises:
        RequestError: if it is empty, holds a spelling of "unknown", or a view the table does not
            know, with the nearest names.
    """
    normal = [normalise_view(view) for view in views]
    if not normal or None in normal:
        raise RequestError(
            f"views {list(views)} must name at least one view and no empty one; for pictures "
            "without a view set missing_view to 'prompt-without-view'"
        )
    found = tuple(dict.fromkeys(view for view in normal if view is not None))
    unknown = [view for view in found if not is_known(view)]
    if unknown:
        near = dict.fromkeys(name for view in unknown for name in _nearest(view))
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise RequestError(
            f"views: {', '.join(map(repr, unknown))} unknown; {hint}Known: {', '.join(VIEWS)}"
        )
    return found


def _nearest(view: str) -> list[str]:
    names = difflib.get_close_matches(view, list(_CANONICAL), n=3, cutoff=0.7)
    return list(dict.fromkeys(_CANONICAL[name] for name in names))
