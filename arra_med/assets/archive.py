"""One archive for an air-gapped machine: a plain tar whose first member says what it holds.

It is written and read a few MB at a time, whatever it holds. Every file's hash is
compared twice: when it goes in and when it comes out.
"""

import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from arra_med.assets.folder import folder_name, human_size, require_space
from arra_med.assets.record import (
    FileRecord,
    Record,
    install,
    partial_folder,
    problems,
    read_record,
)
from arra_med.errors import RequestError, WorkError
from arra_med.progress import Progress
from arra_med.store import canonical_json, locked, sha256_file, write_atomic

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
KIND = "arra_med assets"
VERSION = 1
_CHUNK = 4 << 20
_LARGEST_MANIFEST = 64 << 20
_TAR_OVERHEAD = 2048  # bytes a file: header and padding


def pack(folders: Sequence[Path], archive: Path) -> str:
    """Write the assets in ``folders`` into ``archive``, and its hash into ``<archive>.sha256``.

    The same assets give the same bytes.

    Returns:
        The archive's hex SHA-256.

    Raises:
        RequestError: if there is nothing to pack or no room.
        WorkError: if a file is not the one that was fetched; no archive is written then.
    """
    if not folders:
        raise RequestError("there is nothing to pack: fetch assets first ('arra-med assets fetch')")
    records = {folder: read_record(folder) for folder in sorted(folders)}
    total = sum(record.size for record in records.values())
    num_files = sum(len(record.files) for record in records.values())
    archive.parent.mkdir(parents=True, exist_ok=True)
    require_space(archive.parent, total + num_files * _TAR_OVERHEAD)
    manifest = {
        "kind": KIND,
        "version": VERSION,
        "assets": [record.to_json() for record in records.values()],
    }
    temporary = archive.with_name(f".{archive.name}.tmp")
    try:
        with temporary.open("wb") as file, Progress(total, unit="B", label="pack") as progress:
            sink = _HashingWriter(file)
            with tarfile.TarFile(
                fileobj=cast("IO[bytes]", sink),
                mode="w",
                format=tarfile.PAX_FORMAT,
                copybufsize=_CHUNK,
            ) as tar:
                text = canonical_json(manifest).encode()
                _add(tar, MANIFEST_NAME, len(text), io.BytesIO(text))
                for folder, record in records.items():
                    for name, expected in record.files.items():
                        _add_file(tar, folder, name, expected)
                        progress.update(expected.size)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(archive)
    finally:
        temporary.unlink(missing_ok=True)
    digest = sink.hash.hexdigest()
    line = f"{digest}  {archive.name}\n"  # as 'sha256sum -c' reads it
    write_atomic(archive.with_name(f"{archive.name}.sha256"), line.encode())
    return digest


def unpack(archive: Path, root: Path) -> list[Path]:
    """Put an archive's assets into the asset folder ``root``.

    Each file's hash is compared while it is written, and an asset appears only when all of it is
    right. Assets that are there already are left; files that an interrupted run wrote are kept.

    Returns:
        The folders of all the archive's assets.

    Raises:
        FileNotFoundError: if there is no such archive.
        RequestError: if it is not one of ours, or the disk is too small.
        WorkError: naming the assets that were damaged or cut off; the others are in place.
    """
    if not archive.is_file():
        raise FileNotFoundError(f"there is no archive {archive}")
    with _opened(archive) as tar, locked(root):
        records = _read_manifest(tar, archive)
        waiting = _Waiting(root, records)
        require_space(root, waiting.size)
        with Progress(archive.stat().st_size, unit="B", label="unpack") as progress:
            try:
                while (member := tar.next()) is not None:
                    waiting.take(tar, member)
                    progress.update(member.size)
            except (tarfile.TarError, EOFError) as error:
                logger.warning("the archive breaks off: %s", error)
    bad = waiting.bad()
    if bad:
        raise WorkError(
            f"{archive} is damaged or was cut off while it was copied:\n"
            + "\n".join(f"  - {line}" for line in bad)
            + f"\nCompare it with 'sha256sum -c {archive.name}.sha256', copy it again, and run "
            "the same command: what is right already is kept"
        )
    return [root / folder_name(record.name) for record in records]


class _Waiting:
    """The assets of an archive, and what of each has not come out of it yet.

    tarfile never extracts by name here: the bytes of members that the manifest lists are written
    to paths made from the manifest, whose names were checked. Links, devices, absolute paths and
    ``..`` have no way in.
    """

    def __init__(self, root: Path, records: Sequence[Record]) -> None:
        self.root = root
        self.records = {folder_name(record.name): record for record in records}
        self.missing: dict[str, set[str]] = {}
        self.damaged: dict[str, list[str]] = {}
        for folder, record in self.records.items():
            if _is_there(root, record):
                logger.info("%s is already there", record.name)
            else:
                self.missing[folder] = set(record.files)

    @property
    def size(self) -> int:
        """Bytes of the assets that are not there yet."""
        return sum(self.records[folder].size for folder in self.missing)

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Write one member if it is waited for; put its asset in place if it was the last.

        Raises:
            RequestError: if the manifest does not list it.
        """
        folder, _, name = member.name.partition("/")
        record = self.records.get(folder)
        if record is None or name not in record.files or not member.isreg():
            raise RequestError(
                f"the archive holds {member.name!r}, which its manifest does not list: it was not "
                "written by 'arra-med assets pack'"
            )
        if name not in self.missing.get(folder, ()):
            return
        partial = partial_folder(self.root, record.name)
        if not _write(tar, member, partial / name, record.files[name]):
            self.damaged.setdefault(folder, []).append(name)
            return
        self.missing[folder].remove(name)
        if not self.missing[folder]:
            for path in sorted(partial.rglob("*")):  # of an earlier attempt
                if path.is_file() and path.relative_to(partial).as_posix() not in record.files:
                    path.unlink()
            install(partial, self.root, record)
            del self.missing[folder]
            logger.info("%s: %s", record.name, human_size(record.size))

    def bad(self) -> list[str]:
        """A line for every asset that is not complete."""
        return [
            f"{self.records[folder].name}: "
            + (f"damaged: {', '.join(names)}" if (names := self.damaged.get(folder)) else "cut off")
            for folder in self.missing
        ]


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, expected: FileRecord) -> bool:
    """Write a member to ``path``; ``False`` if it is not what the manifest says."""
    if member.size != expected.size:
        return False
    written = path.is_file() and path.stat().st_size == expected.size
    if written and sha256_file(path) == expected.sha256:
        return True  # by a run that was interrupted
    source = tar.extractfile(member)
    assert source is not None  # it is a regular file
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() == expected.sha256:
        return True
    path.unlink()
    return False


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:") as tar:
            yield tar
    except tarfile.ReadError as error:
        raise RequestError(f"{archive} is not an archive of assets: {error}") from error


def _read_manifest(tar: tarfile.TarFile, archive: Path) -> list[Record]:
    first = tar.next()
    if first is None or first.name != MANIFEST_NAME or not first.isreg():
        raise RequestError(
            f"{archive} does not begin with {MANIFEST_NAME}: it was not written by "
            "'arra-med assets pack'"
        )
    source = tar.extractfile(first)
    if first.size > _LARGEST_MANIFEST or source is None:
        raise RequestError(f"{archive}: its {MANIFEST_NAME} is not one of ours")
    try:
        tree = json.loads(source.read())
        if (tree["kind"], tree["version"]) != (KIND, VERSION):
            raise ValueError(f"kind {tree['kind']!r}, version {tree['version']!r}")
        records = [Record.from_json(asset, f"{archive}") for asset in tree["assets"]]
        if len({record.name for record in records}) != len(records):
            raise ValueError("an asset twice")
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{archive}: its {MANIFEST_NAME} is not one of ours: {error}") from error
    return records


def _is_there(root: Path, record: Record) -> bool:
    """Whether this very asset is in place and whole."""
    folder = root / folder_name(record.name)
    try:
        there = read_record(folder)
    except (FileNotFoundError, RequestError):
        return False
    return there.files == record.files and not problems(folder, there)


def _add_file(tar: tarfile.TarFile, folder: Path, name: str, expected: FileRecord) -> None:
    path = folder / name
    with path.open("rb") as file:
        if path.stat().st_size != expected.size:
            raise _changed(path)
        source = _HashingReader(file)
        _add(tar, f"{folder.name}/{name}", expected.size, source)
        if source.hash.hexdigest() != expected.sha256:
            raise _changed(path)


def _changed(path: Path) -> WorkError:
    return WorkError(f"{path} is not the file that was fetched: fetch its asset again, then pack")


def _add(tar: tarfile.TarFile, name: str, size: int, source: io.IOBase) -> None:
    """Add a member without owner, date or permissions of this machine."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    tar.addfile(member, cast("IO[bytes]", source))


class _HashingReader(io.RawIOBase):
    """Reads through to a file and hashes what passes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.hash.update(data)
        return data


class _HashingWriter(io.RawIOBase):
    """Writes through to a file and hashes what passes; tarfile only ever appends."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> int:  # type: ignore[override]  # tarfile gives bytes
        self.hash.update(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.file.tell()
