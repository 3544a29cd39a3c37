"""A generated folder at a glance."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from arra_med.generation.prompts import evenly
from arra_med.images import contact_sheet, encode_png

NAME = "contact-sheet.png"
COLUMNS, MOST, SIDE = 8, 48, 192
"""Pictures a row and in all; the longest side of each, in pixels."""


def write_sheet(files: Sequence[Path]) -> bytes:
    """PNG bytes of a contact sheet, without captions, of up to 48 pictures evenly spread."""
    opened = [Image.open(io.BytesIO(path.read_bytes())) for path in evenly(files, MOST)]
    mode = "L" if all(picture.mode == "L" for picture in opened) else "RGB"
    tiles = [_tile(picture.convert(mode)) for picture in opened]
    return encode_png(contact_sheet(tiles, min(COLUMNS, len(tiles))))


def _tile(picture: Image.Image) -> np.ndarray:
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array
