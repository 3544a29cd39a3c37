"""What evaluations learned of real pictures, kept for the next one.

Runs are held against the same real pictures again and again, and what networks give for those, and
what a look at their files tells, never changes. It is kept inside the prepared folder, beside
teachers' features, apart for each state of the picture files and each set of library versions; any
of it may be deleted, and is then made again. Kept or not, results are the same to the byte, on the
same device.

The search for copies keeps nothing: see :mod:`arra_med.eval.privacy`.
"""

import dataclasses
import inspect
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from arra_med.eval import picture_facts
from arra_med.eval.picture_facts import PictureFacts
from arra_med.store import (
    PreparedFolder,
    fingerprint,
    library_versions,
    sha256_bytes,
    try_lock,
    write_atomic,
)

LOG = logging.getLogger(__name__)

FOLDER = "real-features"
_PACKAGES = (
    "monai", "numpy", "open_clip_torch", "pillow", "timm", "torch", "torchvision", "transformers",
)  # fmt: skip
_DIGEST = 64  # bytes before the data: its SHA-256, in hexadecimal

T = TypeVar("T")


class RealPictures:
    """What is known of a prepared folder's pictures.

    Args:
        prepared: the folder. If its picture files change in size or time, nothing is known; if it
            cannot be written to, that costs a warning.
    """

    def __init__(self, prepared: PreparedFolder) -> None:
        files = [(path.name, path.stat()) for path in prepared.image_parts]
        state = {
            "prepared": prepared.content_hash,
            "files": [(name, status.st_size, status.st_mtime_ns) for name, status in files],
            "versions": library_versions(*_PACKAGES),
            "code": sha256_bytes(Path(picture_facts.__file__).read_bytes()),
        }
        self._folder = prepared.folder / FOLDER / fingerprint(state)
        self._writable = True

    def outputs(
        self,
        source: Mapping[str, Any],
        keys: Sequence[str],
        compute: Callable[[], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """``(N, D)`` outputs of a network for the pictures of ``keys``.

        Args:
            source: identity of the network, and all else on which its outputs' rounding depends.
            keys: of N pictures.
            compute: gives them if they are not known.
        """

        def encode(values: NDArray[np.float32]) -> bytes:
            file = io.BytesIO()
            np.save(file, values, allow_pickle=False)
            return file.getvalue()

        def decode(data: bytes) -> NDArray[np.float32]:
            values: NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
            return values

        return self._kept(fingerprint([source, keys]), compute, encode, decode)

    def facts(self, compute: Callable[[], list[PictureFacts]]) -> list[PictureFacts]:
        """What a look at every picture told; ``compute`` looks if that is not known."""

        def encode(facts: list[PictureFacts]) -> bytes:
            return json.dumps([dataclasses.astuple(one) for one in facts]).encode()

        def decode(data: bytes) -> list[PictureFacts]:
            names = [field.name for field in dataclasses.fields(PictureFacts)]
            rows = [dict(zip(names, row, strict=True)) for row in json.loads(data)]
            return [PictureFacts(**{**row, "size": row["size"] and tuple(row["size"])})
                    for row in rows]  # fmt: skip

        return self._kept("facts", compute, encode, decode)

    def _kept(
        self,
        name: str,
        compute: Callable[[], T],
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
    ) -> T:
        path = self._folder / name
        known = _read(path)
        if known is not None:
            return decode(known)
        value = compute()
        if self._writable:
            try:
                self._write(path, encode(value))
            except OSError as error:
                self._writable = False
                LOG.warning(
                    "what is learned of real pictures is not kept for the next evaluation: %s",
                    error,
                )
        return value

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / "lock").open("a") as lock:
            if try_lock(lock.fileno()):  # another evaluation writes the same
                write_atomic(path, sha256_bytes(data).encode() + data)


def _read(path: Path) -> bytes | None:
    """What :class:`RealPictures` wrote; ``None`` if that is not there or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:_DIGEST], content[_DIGEST:]
    if sha256_bytes(data).encode() == digest:
        return data
    LOG.warning("%s is damaged: it is made again", path)
    return None


def code_of(network: nn.Module) -> str:
    """Names the code of all classes that a network and its transform are made of.

    Whoever writes a plug-in changes it without changing its weights: what the old one gave must
    not be set beside what the new one gives.
    """
    parts = [*network.modules(), getattr(network, "transform", None)]
    modules = {inspect.getmodule(part if inspect.isroutine(part) else type(part)) for part in parts}
    files = sorted({file for module in modules if (file := getattr(module, "__file__", None))})
    return fingerprint([sha256_bytes(Path(file).read_bytes()) for file in files])
