"""Folders that stages write and read: in parts, atomically, resumably, manifest last.

A folder without ``manifest.json`` is not finished and no reader opens it. A stage writes its
output in numbered parts; each part's files are written under a temporary name, renamed, and only
then marked as done in ``.partial/``. Running the same command again does what is missing and
gives the same bytes as an undisturbed run; running it with another configuration is refused.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from arra_med._version import __version__
from arra_med.errors import RequestError, WorkError
from arra_med.schema import SCHEMA_VERSION, SPLITS

MANIFEST = "manifest.json"
PARTIAL = ".partial"

Content = bytes | pa.Table


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON with sorted keys and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def fingerprint(value: Any) -> str:  # noqa: ANN401
    """First 12 hex digits of the SHA-256 of ``value``'s canonical JSON."""
    return sha256_bytes(canonical_json(value).encode())[:12]


def write_atomic(path: Path, content: Content) -> None:
    """Write ``content`` so that ``path`` either does not exist or is complete.

    Tables become Parquet or Arrow IPC by the path's suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    if isinstance(content, bytes):
        temporary.write_bytes(content)
    elif path.suffix == ".parquet":
        pq.write_table(content, temporary, compression="zstd", row_group_size=1024)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, content.schema) as out:
            out.write_table(content.combine_chunks())
    else:
        raise ValueError(f"do not know how to write a table to {path.name}")
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of a finished folder of the given kind.

    Raises:
        FileNotFoundError: if the folder does not exist or was not finished.
        RequestError: if it holds something else or was written by another schema version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / PARTIAL).is_dir():
            raise FileNotFoundError(
                f"{folder} is not finished (no {MANIFEST}): run the command that writes it again, "
                "it will resume"
            )
        made = "exists but is not" if folder.exists() else "does not exist: expected"
        raise FileNotFoundError(f"{folder} {made} a finished '{kind}' folder (no {MANIFEST})")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found_kind, version = manifest["kind"], manifest["schema_version"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is not a manifest of ours: {error!r}") from error
    if found_kind != kind:
        raise RequestError(f"{folder} holds '{found_kind}', expected '{kind}'")
    if version != SCHEMA_VERSION:
        raise RequestError(
            f"{folder} was written with schema version {version}, this version of arra_med reads "
            f"{SCHEMA_VERSION}: make the folder again with the command that wrote it"
        )
    return manifest


def content_hash(folder: Path, kind: str) -> str:
    """One hash for everything in a finished folder: what caches made from it remember."""
    files = read_manifest(folder, kind)["files"]
    return sha256_bytes(canonical_json(files).encode())


def verify(folder: Path, kind: str) -> None:
    """Compare every file of a finished folder with its manifest.

    Raises:
        RequestError: naming the files that are missing or changed.
    """
    files: dict[str, str] = read_manifest(folder, kind)["files"]
    missing = [name for name in files if not (folder / name).is_file()]
    changed = [
        name
        for name, digest in files.items()
        if name not in missing and sha256_file(folder / name) != digest
    ]
    if missing or changed:
        raise RequestError(
            f"{folder} does not match its manifest: missing {missing[:5]}, changed {changed[:5]} "
            f"({len(missing)} and {len(changed)} in all); delete the folder and make it again"
        )


class PartWriter:
    """Writes one folder in numbered parts; a context manager that holds the folder's lock.

    Args:
        folder: where to write.
        kind: what the folder holds (``prepared``, ``tokens``, …).
        config: everything the content depends on, as JSON; a resumed run must agree with it.

    Raises:
        RequestError: if the folder holds work of another configuration, or another process is
            writing it.

    Example:
        >>> with PartWriter(folder, kind="tokens", config={...}) as writer:
        ...     for index in writer.missing(num_parts):
        ...         writer.write_part(index, {f"part-{index:05d}.arrow": table}, {"samples": 10})
        ...     writer.finish(num_parts)
    """

    def __init__(self, folder: Path, *, kind: str, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.kind = kind
        self.config = json.loads(canonical_json(config))
        self.partial = folder / PARTIAL
        self._lock: int | None = None

    @property
    def finished(self) -> bool:
        """Whether the manifest is there, so that nothing is left to do."""
        return (self.folder / MANIFEST).is_file()

    def __enter__(self) -> Self:
        if self.finished:
            self._refuse_other(read_manifest(self.folder, self.kind)["config"], "finished")
            shutil.rmtree(self.partial, ignore_errors=True)  # killed right after the manifest
            return self
        if self.folder.exists() and not self.partial.exists() and any(self.folder.iterdir()):
            raise RequestError(
                f"{self.folder} is not empty and not ours: choose another output folder"
            )
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.partial / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._unlock()
            raise RequestError(f"another process is writing {self.folder}") from error
        plan = self.partial / "plan.json"
        if plan.is_file():
            self._refuse_other(json.loads(plan.read_text(encoding="utf-8")), "unfinished")
        else:
            write_atomic(plan, canonical_json(self.config).encode())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unlock()

    def missing(self, num_parts: int) -> list[int]:
        """Indices of the parts that are not done yet; empty when the folder is finished."""
        if self.finished:
            return []
        return [index for index in range(num_parts) if not self._mark(index).is_file()]

    def write_part(
        self, index: int, files: Mapping[str, Content], counts: Mapping[str, int]
    ) -> None:
        """Write the files of one part (paths relative to the folder), then mark it as done."""
        digests = {}
        for name, content in files.items():
            write_atomic(self.folder / name, content)
            digests[name] = sha256_file(self.folder / name)
        mark = {"files": digests, "counts": dict(counts)}
        write_atomic(self._mark(index), canonical_json(mark).encode())

    def finish(
        self,
        num_parts: int,
        files: Mapping[str, Content] | None = None,
        *,
        summary: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the whole-folder ``files`` and then the manifest; returns the manifest.

        The manifest's ``counts`` are the sums over parts. Files that parts wrote below
        ``.partial/`` are scratch and go away here.

        Raises:
            WorkError: if a part is missing.
        """
        if self.finished:
            return read_manifest(self.folder, self.kind)
        left = self.missing(num_parts)
        if left:
            raise WorkError(f"cannot finish {self.folder}: parts {left[:5]} are missing")
        digests: dict[str, str] = {}
        counts: dict[str, int] = {}
        for index in range(num_parts):
            mark = json.loads(self._mark(index).read_text(encoding="utf-8"))
            digests |= mark["files"]
            for name, count in mark["counts"].items():
                counts[name] = counts.get(name, 0) + count
        for name, content in (files or {}).items():
            write_atomic(self.folder / name, content)
            digests[name] = sha256_file(self.folder / name)
        manifest = {
            "kind": self.kind,
            "schema_version": SCHEMA_VERSION,
            "code_version": __version__,
            "config": self.config,
            "counts": counts,
            **(summary or {}),
            "files": {n: d for n, d in sorted(digests.items()) if not n.startswith(PARTIAL)},
        }
        write_atomic(self.folder / MANIFEST, canonical_json(manifest).encode())
        self._unlock()
        shutil.rmtree(self.partial)
        return manifest

    def _mark(self, index: int) -> Path:
        return self.partial / f"done-{index:05d}.json"

    def _refuse_other(self, config: Mapping[str, Any], state: str) -> None:
        differing = difference(config, self.config)
        if differing:
            raise RequestError(
                f"{self.folder} holds {state} work of another configuration; it differs in "
                f"{', '.join(differing)}. Delete the folder or choose another output."
            )

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names at which two nested mappings differ, with both values."""
    names = []
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += difference(a, b, f"{prefix}{name}.")
        elif a != b:
            names.append(f"{prefix}{name} ({a!r} there, {b!r} asked for)")
    return names


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
        self.manifest = read_manifest(folder, "prepared")
        self.samples: pa.Table = pq.read_table(folder / "samples.parquet")
        self.keys: list[str] = self.samples["key"].to_pylist()
        self._row = {key: row for row, key in enumerate(self.keys)}
        if len(self._row) != len(self.keys):
            raise RequestError(
                f"{folder}: key {_first_duplicate(self.keys)!r} is in samples.parquet twice: "
                "make the folder again"
            )
        self.image_parts = [folder / name for name in self.manifest["files"] if "images/" in name]

    @property
    def content_hash(self) -> str:
        """One hash for everything in the folder."""
        return sha256_bytes(canonical_json(self.manifest["files"]).encode())

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
        rows: list[dict[str, Any]] = self.samples.to_pylist()
        chosen = [row for row in rows if split is None or row["split"] == split]
        if not chosen:
            counts = {name: sum(row["split"] == name for row in rows) for name in SPLITS}
            raise RequestError(
                f"{self.folder}: split {split!r} is empty (samples by split: {counts})"
            )
        return chosen

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
        path = self.image_parts[index]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is listed in {MANIFEST} but is not there")
        table = pq.read_table(path)
        pngs = table["image"].combine_chunks().field("bytes").to_pylist()
        return list(zip(table["key"].to_pylist(), pngs, strict=True))

    def images(self, keys: Sequence[str]) -> dict[str, bytes]:
        """PNG bytes of the given samples.

        Raises:
            RequestError: naming keys that have no picture.
        """
        wanted = set(keys)
        found = {key: png for key, png in self.iter_images() if key in wanted}
        missing = sorted(wanted - set(found))
        if missing:
            raise RequestError(
                f"{self.folder}: no picture for {len(missing)} keys, first {missing[:3]}"
            )
        return found


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
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            vectors = table[column].combine_chunks()
            width = vectors.type.list_size
            self._parts.append(vectors.flatten().to_numpy(zero_copy_only=True).reshape(-1, width))
            for row, key in enumerate(table["key"].to_pylist()):
                if key in self._where:
                    raise RequestError(
                        f"{folder}: key {key!r} is there twice: delete the folder and make it again"
                    )
                self._where[key] = (len(self._parts) - 1, row)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __getitem__(self, key: str) -> np.ndarray:
        """The vector of ``key``, a read-only view into the mapped file."""
        part, row = self._where[key]
        return self._parts[part][row]

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


def save_run_record(folder: Path, config_yaml: str) -> None:
    """Write the resolved configuration and the versions it runs with, before work starts."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str] = {"arra_med": __version__}
    for package in ("torch", "transformers", "deepspeed", "monai", "pydicom", "pyarrow", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    write_atomic(folder / "config.yaml", config_yaml.encode())
    write_atomic(folder / "versions.json", canonical_json(versions).encode())


def _first_duplicate(items: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(item for item in items if item in seen or seen.add(item))  # type: ignore[func-returns-value]
