"""The dataset card's contact sheet: some pictures of every view, chosen by rule."""

import bisect
import hashlib
import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from arra_med import images

COLUMNS = 8
SIDE = 192
"""Longest side of a picture on the sheet, in pixels."""

_MAX_ROWS = 24  # views on the sheet, the most frequent
_CAPTION = 22  # pixels above a view's pictures
_GAP = 2


def contact_sheet_keys(
    samples: Iterable[pa.RecordBatch | pa.Table], *, per_view: int = COLUMNS
) -> dict[str, list[str]]:
    """Choose pictures: of each view, those whose keys have the smallest BLAKE2b hashes.

    Nobody picks, and neither the order of the samples nor other views matter.

    Args:
        samples: rows of ``samples.parquet``, in pieces of any size.
        per_view: pictures a view.

    Returns:
        Caption (modality and view) → keys; the most frequent view first, 24 views at most.
    """
    chosen: dict[tuple[str, str], list[tuple[bytes, str]]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for batch in samples:
        columns = (batch.column(name).to_pylist() for name in ("modality", "view", "key"))
        for modality, view, key in zip(*columns, strict=True):
            group = (modality, view or "no view")
            counts[group] += 1
            ranked = chosen.setdefault(group, [])
            entry = (hashlib.blake2b(key.encode(), digest_size=16).digest(), key)
            if len(ranked) < per_view or entry < ranked[-1]:
                bisect.insort(ranked, entry)
                del ranked[per_view:]
    order = sorted(counts, key=lambda group: (-counts[group], group))[:_MAX_ROWS]
    return {", ".join(group): [key for _, key in chosen[group]] for group in order}


def find_pictures(parts: Iterable[Path], keys: Collection[str]) -> dict[str, bytes]:
    """PNG bytes of a few pictures, from parts whose other pictures are not read.

    Args:
        parts: ``images/part-*.parquet``.
        keys: of the pictures wanted.
    """
    wanted = set(keys)
    found: dict[str, bytes] = {}
    for part in parts:
        if wanted.isdisjoint(pq.read_table(part, columns=["key"])["key"].to_pylist()):
            continue
        for batch in pq.ParquetFile(part).iter_batches(batch_size=64):
            for row, key in enumerate(batch.column("key").to_pylist()):
                if key in wanted:
                    found[key] = batch.column("image")[row].as_py()["bytes"]
        if len(found) == len(wanted):
            break
    return found


def contact_sheet(rows: Mapping[str, Sequence[bytes]]) -> bytes:
    """Draw a caption and pictures for every view.

    Args:
        rows: caption → PNG bytes of pictures, at least one in all; as many columns as the
            longest row needs, 8 at most.

    Returns:
        PNG bytes; grey if every picture is.
    """
    pictures = [png for pngs in rows.values() for png in pngs]
    mode = "L" if all(_open(png).mode == "L" for png in pictures) else "RGB"
    side = min(SIDE, max(max(_open(png).size) for png in pictures))
    columns = min(COLUMNS, max(map(len, rows.values())))
    strips = []
    for caption, pngs in rows.items():
        tiles = [_tile(png, mode, side) for png in pngs]
        sheet = images.contact_sheet(tiles, columns, _GAP)
        strips += [_caption(caption, mode, sheet.shape[1]), sheet]
    return images.encode_png(np.concatenate(strips))


def _open(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def _tile(png: bytes, mode: str, side: int) -> np.ndarray:
    """``(side, side, C)`` uint8: the picture made smaller if need be, in the middle of white."""
    picture = _open(png).convert(mode)
    picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    tile = Image.new(mode, (side, side), "white")
    tile.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    array = np.asarray(tile)
    return array[..., None] if array.ndim == 2 else array


def _caption(text: str, mode: str, width: int) -> np.ndarray:
    """``(22, width, C)`` uint8: the text in black on white, cut off at the right."""
    strip = Image.new(mode, (width, _CAPTION), "white")
    font = ImageFont.load_default(size=14)
    ImageDraw.Draw(strip).text((2, 3), " ".join(text.split()), fill="black", font=font)
    array = np.asarray(strip)
    return array[..., None] if array.ndim == 2 else array
