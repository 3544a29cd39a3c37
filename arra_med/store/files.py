"""Files and manifests: atomic writes, hashes, and folders that are finished or are not opened."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from arra_med._version import __version__
from arra_med.errors import RequestError, WorkError
from arra_med.schema import SCHEMA_VERSION

MANIFEST = "manifest.json"
PARTIAL = ".partial"
RUN_CONFIG = "config.yaml"
"""In a run's folder: the settings it was started with, resolved."""


@dataclass(frozen=True)
class TableStream:
    """A table too large to hold: its schema and its pieces, in order.

    ``packed`` is off for columns that hold compressed pictures already.
    """

    schema: pa.Schema
    tables: Iterable[pa.Table]
    packed: bool = True


@dataclass(frozen=True)
class ByteStream:
    """A file too large to hold, in pieces."""

    pieces: Iterable[bytes]


_MIB = 2**20

Content: TypeAlias = "bytes | pa.Table | TableStream | ByteStream"


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's size, and of its first, every 64th and its last MiB.

    Weights that were trained differ all over: this tells them apart without reading 14 GB.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in (*range(0, size, 64 * _MIB), max(0, size - _MIB)):
            file.seek(start)
            digest.update(file.read(_MIB))
    return digest.hexdigest()


def canonical_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON with sorted keys and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def fingerprint(value: Any) -> str:  # noqa: ANN401
    """First 12 hex digits of the SHA-256 of ``value``'s canonical JSON."""
    return sha256_bytes(canonical_json(value).encode())[:12]


def write_atomic(path: Path, content: Content) -> None:
    """Write ``content`` so that ``path`` either does not exist or is complete.

    Tables become Parquet or Arrow IPC by the path's suffix; streams become Parquet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    if isinstance(content, bytes):
        temporary.write_bytes(content)
    elif isinstance(content, ByteStream):
        with temporary.open("wb") as file:
            file.writelines(content.pieces)
    elif isinstance(content, TableStream):
        with pq.ParquetWriter(
            temporary,
            content.schema,
            compression="zstd" if content.packed else "none",
            use_dictionary=content.packed,
        ) as stream:
            for table in content.tables:
                stream.write_table(table)
    elif path.suffix == ".parquet":
        pq.write_table(content, temporary, compression="zstd", row_group_size=1024)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, content.schema) as out:
            out.write_table(content.combine_chunks())
    else:
        raise ValueError(f"do not know how to write a table to {path.name}")
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)


def temporary_of(path: Path) -> Path:
    """Where :func:`write_atomic` writes what becomes ``path``; a killed run leaves it there."""
    return path.with_name(f".{path.name}.tmp")


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


def check_files(folder: Path, kind: str) -> None:
    """Check that a finished folder still holds every file its manifest lists.

    Raises:
        FileNotFoundError: naming the missing ones and the remedy.
    """
    missing = [
        name for name in read_manifest(folder, kind)["files"] if not (folder / name).is_file()
    ]
    if missing:
        raise FileNotFoundError(
            f"{folder} lost {len(missing)} of its files, first {missing[0]}: delete the folder and "
            "run the command that writes it again"
        )


def content_hash(folder: Path, kind: str) -> str:
    """One hash for everything in a finished folder: what caches made from it remember."""
    files = read_manifest(folder, kind)["files"]
    return sha256_bytes(canonical_json(files).encode())


def verify(folder: Path, kind: str, *, more_is_fine: bool = False) -> int:
    """Compare every file of a finished folder with its manifest.

    Args:
        folder: a finished folder.
        kind: of it.
        more_is_fine: files that the manifest does not list do no harm.

    Returns:
        How many files there are.

    Raises:
        WorkError: naming the files that are missing, changed, or lie among them without being
            listed.
    """
    files: dict[str, str] = read_manifest(folder, kind)["files"]
    missing = [name for name in files if not (folder / name).is_file()]
    changed = [
        name
        for name, digest in files.items()
        if name not in missing and sha256_file(folder / name) != digest
    ]
    added = sorted(
        path.relative_to(folder).as_posix()
        for parent in {(folder / name).parent for name in files}
        for path in parent.glob("*")
        if path.is_file() and path.relative_to(folder).as_posix() not in {*files, MANIFEST}
    )
    found = {"missing": missing, "changed": changed, "not listed": [] if more_is_fine else added}
    problems = [f"{len(names)} {what} (first {names[0]})" for what, names in found.items() if names]
    if problems:
        raise WorkError(
            f"{folder} does not match its manifest: {', '.join(problems)}; delete the folder and "
            "make it again, or remove what is not listed"
        )
    return len(files)


def difference(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    prefix: str = "",
    *,
    said: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Dotted names at which two nested mappings differ, with both values.

    Args:
        old: what was there.
        new: what is asked for.
        prefix: of the names.
        said: dotted name → what to say in place of it and its values.
    """
    names = []
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += difference(a, b, f"{prefix}{name}.", said=said)
        elif a != b:
            values = f"{prefix}{name} ({a!r} there, {b!r} asked for)"
            names.append(said.get(f"{prefix}{name}", values))
    return names


def library_versions(*packages: str) -> dict[str, str]:
    """Our own version and those of ``packages`` that are installed."""
    versions = {"arra_med": __version__}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def save_run_record(folder: Path, config_yaml: str) -> None:
    """Write the resolved configuration and the versions it runs with, before work starts."""
    versions = library_versions(
        "torch", "transformers", "deepspeed", "monai", "pydicom", "pyarrow", "numpy"
    )
    write_atomic(folder / RUN_CONFIG, config_yaml.encode())
    write_atomic(folder / "versions.json", canonical_json(versions).encode())
