"""Colour photographs of the retina told apart from angiograms, which DeepEyeNet mixes.

Words decide where they speak of one picture: an entry that names fluorescein or indocyanine green
angiography is an angiogram, one that names a colour, red-free or autofluorescence picture is not.
DeepEyeNet gives all pictures of a patient the same text, though, so a text that several entries
share, or that names both, says nothing about one picture. Then the picture itself decides:
angiograms are grey, retinas are red. A picture in the full colours of a retina is never an
angiogram, whatever its text says.
"""

import re
from typing import Literal

import numpy as np

Modality = Literal["fundus", "angiography"]
MODALITIES: tuple[Modality, ...] = ("fundus", "angiography")

_ANGIOGRAPHY = re.compile(
    r"\b(?:angiogra\w*|fluorescein|indocyanine|(?i:icga?|ivfa|ffa))\b|\bFA\b|^(?i:fa)$",
    re.MULTILINE,
)
_OTHER = re.compile(
    r"\b(?:colou?r (?:fundus|photo\w*|picture|image)|fundus photo\w*|red[- ]?free|auto-?fluor\w*"
    r"|infra-?red)\b",
    re.IGNORECASE,
)
_LIT = 30
"""Of 255; darker pixels lie outside the retina or say nothing about colour."""
_GREY, _RED = 0.1, 0.3
"""Redness of the most coloured angiograms (a tinted scan) and of the palest retinas: of 101 open
fundus photographs, cataracts included, the palest has 0.33; a grey picture has 0."""


def modality_from_text(text: str) -> Modality | None:
    """What an entry's words name; ``None`` if they name neither or both.

    ``FA`` counts in capitals, or as a keyword of its own (a line of ``text``).
    """
    angiography = bool(_ANGIOGRAPHY.search(text) or _ANGIOGRAPHY.search(text.lower()))
    other = bool(_OTHER.search(text))
    if angiography == other:
        return None
    return "angiography" if angiography else "fundus"


def redness(pixels: np.ndarray) -> float:
    """How red a picture is where it is lit: mean of R - B over mean of its largest channel.

    Args:
        pixels: ``(H, W, 3)`` uint8.

    Returns:
        0 for grey, about 0.3 to 0.8 for a retina, negative for blue.
    """
    step = max(1, min(pixels.shape[:2]) // 256)
    sampled = pixels[::step, ::step].astype(np.float64)
    largest = sampled.max(axis=2)
    lit = largest >= _LIT
    if not lit.any():
        return 0.0
    return float((sampled[..., 0] - sampled[..., 2])[lit].mean() / largest[lit].mean())


def modality_of(named: Modality | None, red: float) -> Modality:
    """The modality of a picture.

    Args:
        named: what its words name, see :func:`modality_from_text`.
        red: its redness, see :func:`redness`.
    """
    if named == "angiography":
        return "angiography" if red < _RED else "fundus"
    if named == "fundus":
        return "fundus"
    return "angiography" if red < _GREY else "fundus"
