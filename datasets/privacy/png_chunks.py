"""The chunks of a PNG file, without decoding its pixels (PNG specification, third edition)."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs"}
)
"""Chunks that say how pixels look; every other one says something else."""

_MAX_TEXT = 1 << 16
_MAX_CHUNKS = 10_000


def png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Type and length of each chunk, the file standing at the chunk's data.

    Stops at the end mark, at the end of the file, or after 10,000 chunks.
    """
    if file.read(8) != SIGNATURE:
        return
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        length, name = struct.unpack(">I4s", head)
        start = file.tell()
        yield name, length
        if name == b"IEND":
            return
        file.seek(start + length + 4)


def pixels_only(png: bytes) -> bytes:
    """The same PNG without the chunks that say something else, and without what follows its end."""
    file = io.BytesIO(png)
    kept = [SIGNATURE]
    for name, length in png_chunks(file):
        if name in PIXEL_CHUNKS:
            start = file.tell()
            kept.append(png[start - 8 : start + length + 4])
    return b"".join(kept)


def png_texts(file: IO[bytes]) -> Iterator[tuple[str, str | bytes]]:
    """Keyword and text of each ``tEXt``, ``zTXt`` and ``iTXt`` chunk; ``exif`` and its bytes.

    Texts over 64 KiB, also after decompression, are cut.
    """
    for name, length in png_chunks(file):
        if name == b"eXIf":
            yield "exif", b"Exif\0\0" + file.read(min(length, _MAX_TEXT))
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, _, rest = file.read(min(length, _MAX_TEXT)).partition(b"\0")
            yield keyword.decode("latin-1"), _text(name, rest)


def _text(name: bytes, rest: bytes) -> str:
    if name == b"tEXt":
        return rest.decode("latin-1")
    if name == b"zTXt":
        return _inflated(rest[1:]).decode("latin-1")
    compressed = rest[:1] == b"\1"
    _language, _, rest = rest[2:].partition(b"\0")
    _translated, _, rest = rest.partition(b"\0")
    return (_inflated(rest) if compressed else rest).decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_TEXT)
    except zlib.error:
        return b""
