"""``asset.json``: what an asset's folder holds and where it came from; written last.

A folder without it is not an asset. Everything in it is written beside the asset folder's other
assets under a dotted name and renamed when complete, so that no reader ever sees half of one.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from arra_med._version import __version__
from arra_med.assets.folder import RECORD, folder_name, is_name
from arra_med.errors import RequestError
from arra_med.store import canonical_json, sha256_file, write_atomic

RECORD_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size in bytes and hex SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """``asset.json``.

    Attributes:
        name: the asset's.
        source: ``{"hub": repository, "revision": commit}`` or ``{"urls": {file: url}}`` or
            ``{"copied_from": folder name}``.
        licence: as published, or ``None``.
        files: path inside the asset → size and hash, all of them but ``asset.json``.
        converted_from: downloaded files that conversion replaced.
        versions: of what fetched it.
    """

    name: str
    source: dict[str, Any]
    licence: str | None
    files: dict[str, FileRecord]
    converted_from: dict[str, FileRecord] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: {"arra_med": __version__})

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    @property
    def main_sha256(self) -> str:
        """Hash of the largest file: the weights."""
        return max(self.files.values(), key=lambda file: file.size).sha256

    def to_json(self) -> dict[str, Any]:
        """As :meth:`from_json` reads it."""
        return {"version": RECORD_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, tree: Any, where: str) -> "Record":  # noqa: ANN401 - any JSON
        """Read and check one; file names that would leave the folder are refused.

        Raises:
            RequestError: if it is not a record of ours.
        """
        try:
            if tree["version"] != RECORD_VERSION:
                raise RequestError(
                    f"{where} has version {tree['version']}, this version of arra_med reads "
                    f"{RECORD_VERSION}: fetch the asset again"
                )
            names = {*tree["files"], *tree["converted_from"]}
            if not is_name(tree["name"]) or not tree["files"] or not all(map(_is_safe, names)):
                raise ValueError("names that an asset cannot have")
            return cls(
                **{key: tree[key] for key in ("name", "source", "licence", "versions")},
                files={name: _file(value) for name, value in tree["files"].items()},
                converted_from={n: _file(value) for n, value in tree["converted_from"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, RequestError):
                raise
            raise RequestError(f"{where} is not a record of an asset: {error!r}") from error


def read_record(folder: Path) -> Record:
    """The record of an asset's folder.

    Raises:
        FileNotFoundError: if there is none: it is not an asset, or not finished.
        RequestError: if it is not one of ours.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not an asset (no {RECORD})")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RequestError(f"{path} is not readable: {error}") from error
    record = Record.from_json(tree, str(path))
    if folder_name(record.name) != folder.name:
        raise RequestError(f"{path} is of {record.name}, which belongs in another folder")
    return record


def installed(root: Path) -> list[Path]:
    """Folders of the assets in the asset folder ``root``, sorted."""
    if not root.is_dir():
        return []
    return sorted(path.parent for path in root.glob(f"*/{RECORD}") if path.parent.name[0] != ".")


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and hash of every file under ``folder``."""
    return {
        name: FileRecord(size=(folder / name).stat().st_size, sha256=sha256_file(folder / name))
        for name in files_in(folder)
    }


def files_in(folder: Path) -> Iterator[str]:
    """Paths of all files under ``folder`` but its record, sorted, with forward slashes."""
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path != folder / RECORD:
            yield path.relative_to(folder).as_posix()


def problems(
    folder: Path, record: Record, counted: Callable[[int], None] = lambda size: None
) -> list[str]:
    """Everything in which a folder differs from its record; reads every byte.

    Args:
        folder: the asset's.
        record: its record.
        counted: told the size of each file after it was read.
    """
    found = []
    for name, expected in record.files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif (size := path.stat().st_size) != expected.size:
            found.append(f"{name} has {size} bytes, expected {expected.size}")
        elif (digest := sha256_file(path)) != expected.sha256:
            found.append(f"{name} has SHA-256 {digest[:12]}…, expected {expected.sha256[:12]}…")
        counted(expected.size)
    # A file put here by hand could be picked by a loader in place of the checked one.
    extra = set(files_in(folder)) - set(record.files)
    return found + [f"{name} does not belong here" for name in sorted(extra)]


def partial_folder(root: Path, name: str) -> Path:
    """Where an asset is put together before it is complete."""
    return root / f".{folder_name(name)}.partial"


def install(partial: Path, root: Path, record: Record) -> Path:
    """Write the record into a complete partial folder and put it in its place, at once."""
    final = root / folder_name(record.name)
    old = root / f".{final.name}.old"
    write_atomic(partial / RECORD, canonical_json(record.to_json()).encode())
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)
    return final


def _file(tree: Any) -> FileRecord:  # noqa: ANN401 - any JSON
    if not isinstance(tree["size"], int) or len(tree["sha256"]) != 64:
        raise ValueError("a size or a SHA-256 is not one")
    return FileRecord(size=tree["size"], sha256=tree["sha256"])


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and not any(part in ("..", RECORD) for part in path.parts)
        and path.as_posix() == name
        and "\\" not in name
        and ":" not in name
        and name.isprintable()
    )
