"""Reading a prepared folder: samples and their pictures."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from arra_med.errors import RequestError
from arra_med.schema import SPLITS
from arra_med.store.files import (
    MANIFEST,
    PARTIAL,
    canonical_json,
    check_files,
    read_manifest,
    sha256_bytes,
)


class PicturePlace(NamedTuple):
    """Where a picture lies: image part, chunk (row group) of it, row of that."""

    part: int
    chunk: int
    row: int


class PreparedFolder:
    """A finished prepared folder: ``samples.parquet`` and ``images/part-*.parquet``.

    Args:
        folder: its path.

    Raises:
        FileNotFoundError: if it is not there or not finished.
        RequestError: if it is of another schema, or a key stands in it twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not any((folder / name).exists() for name in (MANIFEST, PARTIAL)):
            raise FileNotFoundError(
                f"no prepared pictures at {folder} ({MANIFEST} is missing): run 'arra-med ingest', "
                "or point paths.prepared at the folder that it wrote"
            )
        self.manifest = read_manifest(folder, "prepared")
        check_files(folder, "prepared")
        try:
            self.samples: pa.Table = pq.read_table(folder / "samples.parquet")
        except pa.ArrowInvalid as error:
            raise RequestError(
                f"{folder / 'samples.parquet'} is damaged: 'arra-med info {folder} --verify' names "
                "what changed; delete the folder and ingest again"
            ) from error
        self.keys: list[str] = self.samples["key"].to_pylist()
        self._row = {key: row for row, key in enumerate(self.keys)}
        if len(self._row) != len(self.keys):
            raise RequestError(
                f"{folder}: key {_first_duplicate(self.keys)!r} is in samples.parquet twice: "
                "make the folder again"
            )
        self.image_parts = [folder / name for name in self.manifest["files"] if "images/" in name]

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: pictures alone, not the whole table for each worker."""
        return {**self.__dict__, "samples": self.samples.slice(0, 0), "keys": [], "_row": {}}

    @property
    def content_hash(self) -> str:
        """One hash for everything in the folder."""
        return sha256_bytes(canonical_json(self.manifest["files"]).encode())

    @property
    def dataset(self) -> str:
        """Name of the adapter that the pictures came through."""
        return str(self.manifest["config"]["dataset"]["name"])

    @property
    def label_names(self) -> list[str]:
        """Names of the labels, in the file's order."""
        return [field.name for field in self.samples.schema.field("labels").type]

    @property
    def image_size(self) -> int:
        """Side of the square pictures, in pixels."""
        return int(self.manifest["config"]["size"])

    @property
    def channels(self) -> int:
        """1 for grey pictures, 3 for colour."""
        return int(self.manifest["channels"])

    def rows(self, split: str | None = None) -> list[dict[str, Any]]:
        """Samples as dictionaries, of one split or all.

        Raises:
            RequestError: if the split has no sample.
        """
        samples = self.samples
        if split is not None:
            samples = samples.filter(pc.equal(samples["split"], split))
        if not len(samples):
            found = Counter(self.samples["split"].to_pylist())
            counts = {name: found[name] for name in SPLITS}
            raise RequestError(
                f"{self.folder}: split {split!r} is empty (samples by split: {counts})"
            )
        rows: list[dict[str, Any]] = samples.to_pylist()
        return rows

    def row(self, key: str) -> dict[str, Any]:
        """The sample called ``key``.

        Raises:
            KeyError: if there is none.
        """
        return dict(self.samples.slice(self._row[key], 1).to_pylist()[0])

    def iter_images(self) -> Iterator[tuple[str, bytes]]:
        """Every ``(key, PNG bytes)`` in order, one part in memory at a time."""
        for part in range(len(self.image_parts)):
            yield from self.read_part(part)

    def read_part(self, index: int) -> list[tuple[str, bytes]]:
        """``(key, PNG bytes)`` of every picture of one image part.

        Raises:
            FileNotFoundError: if the part is gone.
        """
        return [pair for chunk in self.read_chunks(index) for pair in chunk]

    def read_chunks(self, index: int) -> Iterator[list[tuple[str, bytes]]]:
        """As :meth:`read_part`, a few dozen pictures at a time (one row group of the file)."""
        for group in range(self.num_chunks(index)):
            yield self.read_chunk(index, group)

    def num_chunks(self, index: int) -> int:
        """How many chunks (row groups) an image part has."""
        return int(self._part(index).num_row_groups)

    def chunk_size(self, index: int, group: int) -> int:
        """How many pictures a chunk holds."""
        return int(self._part(index).metadata.row_group(group).num_rows)

    def read_chunk(self, index: int, group: int) -> list[tuple[str, bytes]]:
        """``(key, PNG bytes)`` of one chunk of an image part."""
        table = self._part(index).read_row_group(group)
        pngs = table["image"].combine_chunks().field("bytes").to_pylist()
        return list(zip(table["key"].to_pylist(), pngs, strict=True))

    def _part(self, index: int) -> pq.ParquetFile:
        path = self.image_parts[index]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is listed in {MANIFEST} but is not there")
        return pq.ParquetFile(path)

    def images(self, keys: Sequence[str]) -> dict[str, bytes]:
        """PNG bytes of the given samples, in the folder's order; see :meth:`pick_images`."""
        return dict(self.pick_images(keys))

    def pick_images(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """``(key, PNG bytes)`` of the given samples, in the folder's order, a chunk in memory.

        Raises:
            RequestError: naming keys that have no picture.
            FileNotFoundError: if a part is gone.
        """
        places = self.find(keys)
        for place, rows in itertools.groupby(places, key=lambda place: (place.part, place.chunk)):
            chunk = self.read_chunk(*place)
            yield from (chunk[one.row] for one in rows)

    def find(self, keys: Sequence[str]) -> list[PicturePlace]:
        """Where the pictures of the given samples lie, in the folder's order; reads keys alone.

        Raises:
            RequestError: naming keys that have no picture.
            FileNotFoundError: if a part is gone.
        """
        wanted = set(keys)
        found = []
        for part in range(len(self.image_parts)):
            with self._part(part) as file:
                for chunk in range(file.num_row_groups):
                    column = file.read_row_group(chunk, columns=["key"])["key"].to_pylist()
                    rows = [row for row, key in enumerate(column) if key in wanted]
                    found += [PicturePlace(part, chunk, row) for row in rows]
                    wanted.difference_update(column[row] for row in rows)
        if wanted:
            raise RequestError(
                f"{self.folder}: no picture for {len(wanted)} keys, first {sorted(wanted)[:3]}"
            )
        return found


def _first_duplicate(items: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(item for item in items if item in seen or seen.add(item))  # type: ignore[func-returns-value]
