"""Token and feature caches: one fixed-length vector a key, memory-mapped Arrow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from arra_med.errors import RequestError
from arra_med.store.files import MANIFEST, read_manifest
from arra_med.store.prepared import PreparedFolder


class Cache:
    """A finished ``tokens`` or ``features`` folder: one fixed-length vector a key, memory-mapped.

    Several processes that open the same cache share one copy of it in memory.

    Args:
        folder: the cache.
        kind: ``tokens`` or ``features``.
        column: name of the vector column.

    Raises:
        FileNotFoundError: if it is not there or not finished.
        RequestError: if a key stands in it twice.
    """

    def __init__(self, folder: Path, *, kind: str, column: str) -> None:
        self.folder = folder
        self.kind = kind
        self.manifest = read_manifest(folder, kind)
        self._parts: list[np.ndarray] = []
        self._where: dict[str, tuple[int, int]] = {}
        for name in self.manifest["files"]:
            path = folder / name
            if not path.is_file():
                raise FileNotFoundError(f"{path} is listed in {MANIFEST} but is not there")
            try:
                table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            except pa.ArrowInvalid as error:
                raise RequestError(
                    f"{path} is damaged ({error}): delete {folder} and make it again"
                ) from error
            for batch in table.to_batches():  # joining them would copy the vectors into memory
                vectors = batch[column]
                flat = vectors.flatten().to_numpy(zero_copy_only=True)
                self._parts.append(flat.reshape(-1, vectors.type.list_size))
                self._place(batch["key"].to_pylist())

    def _place(self, keys: Sequence[str]) -> None:
        """Note where the vectors of the newest part are."""
        for row, key in enumerate(keys):
            if key in self._where:
                raise RequestError(
                    f"{self.folder}: key {key!r} is there twice: delete the folder and make it "
                    "again"
                )
            self._where[key] = (len(self._parts) - 1, row)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __getitem__(self, key: str) -> np.ndarray:
        """The vector of ``key``, a read-only view into the mapped file."""
        part, row = self._where[key]
        vector: np.ndarray = self._parts[part][row]
        return vector

    @property
    def width(self) -> int:
        """Length of every vector."""
        return int(self._parts[0].shape[1])

    def require(self, prepared: PreparedFolder, keys: Sequence[str]) -> None:
        """Check that this cache was made from ``prepared`` and holds every key.

        Raises:
            RequestError: naming what differs or what is missing, and the remedy.
        """
        command = {"tokens": "tokenize", "features": "features"}[self.kind]
        if self.manifest["config"]["prepared"] != prepared.content_hash:
            raise RequestError(
                f"{self.folder} was made from other pictures than {prepared.folder} now holds: "
                f"delete it and run 'arra-med {command}' again"
            )
        missing = [key for key in keys if key not in self._where]
        if missing:
            raise RequestError(
                f"{self.folder} has no {self.kind} for {len(missing)} samples, first "
                f"{missing[:3]}: delete it and run 'arra-med {command}' again"
            )


def vector_table(keys: Sequence[str], vectors: np.ndarray, column: str) -> pa.Table:
    """A part of a cache: ``key`` and a fixed-length vector column from an ``(N, D)`` array."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.table(
        {
            "key": pa.array(list(keys), pa.string()),
            column: pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
    )
