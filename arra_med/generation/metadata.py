"""What a PNG says of itself: text chunks that any viewer or library shows."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from arra_med._version import __version__
from arra_med.generation.backend import Backend, Request
from arra_med.images import encode_png

_HEADER = 33  # bytes of signature and IHDR, after which text may stand


def describe(backend: Backend, request: Request, *, with_prompt: bool) -> dict[str, str]:
    """Name → text of one picture's metadata; the prompt's own text only if asked for."""
    told: dict[str, Any] = {
        "Software": f"arra_med {__version__}",
        "Comment": "synthetic image, drawn by a model; not a picture of a patient",
        "model": backend.model["name"],
        "model_hash": backend.hash12,
        "key": request.prompt.key,
        "index": request.index,
        "seed": request.seed,
        **backend.settings(),
    }
    if with_prompt:
        told["prompt"] = request.prompt.text
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in
            told.items()}  # fmt: skip


def described_png(
    backend: Backend, request: Request, pixels: np.ndarray, *, with_prompt: bool
) -> bytes:
    """``(H, W, C)`` uint8 pixels as a PNG that says what :func:`describe` gives."""
    text = describe(backend, request, with_prompt=with_prompt)
    return with_text(encode_png(pixels), text)


def with_text(png: bytes, text: Mapping[str, str]) -> bytes:
    """The same PNG with text chunks behind its header.

    ASCII goes into ``tEXt``, everything else into ``iTXt`` (UTF-8), uncompressed both (PNG
    specification, third edition, 11.3.3).
    """
    chunks = []
    for name, value in text.items():
        if value.isascii():
            chunks.append(_chunk(b"tEXt", name.encode() + b"\0" + value.encode()))
        else:
            chunks.append(_chunk(b"iTXt", name.encode() + b"\0\0\0\0\0" + value.encode()))
    return b"".join((png[:_HEADER], *chunks, png[_HEADER:]))


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return len(content).to_bytes(4, "big") + kind + content + check.to_bytes(4, "big")
