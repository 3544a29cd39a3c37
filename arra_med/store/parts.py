"""Stages write their folder in numbered parts: atomically, resumably, manifest last."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from arra_med._version import __version__
from arra_med.errors import RequestError, WorkError
from arra_med.schema import SCHEMA_VERSION
from arra_med.store.files import (
    MANIFEST,
    PARTIAL,
    Content,
    canonical_json,
    check_files,
    difference,
    read_manifest,
    sha256_file,
    write_atomic,
)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process while the block runs.

    Raises:
        RequestError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RequestError(f"another process is writing {folder}") from error
        yield
    finally:
        os.close(descriptor)


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
        self._held = contextlib.ExitStack()

    @property
    def finished(self) -> bool:
        """Whether the manifest is there, so that nothing is left to do."""
        return (self.folder / MANIFEST).is_file()

    def __enter__(self) -> Self:
        if self.finished:
            self._refuse_other(read_manifest(self.folder, self.kind)["config"], "finished")
            check_files(self.folder, self.kind)
            shutil.rmtree(self.partial, ignore_errors=True)  # killed right after the manifest
            return self
        if self.folder.exists() and not self.partial.exists() and any(self.folder.iterdir()):
            raise RequestError(
                f"{self.folder} is not empty and not ours: choose another output folder"
            )
        self.partial.mkdir(parents=True, exist_ok=True)
        self._held.enter_context(locked(self.partial))
        plan = self.partial / "plan.json"
        if not any(self.partial.glob("done-*.json")):
            self._forget_plan()  # no part is done: the plan binds nobody
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
        self._held.close()

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
        self._held.close()
        shutil.rmtree(self.partial)
        return manifest

    def _forget_plan(self) -> None:
        for path in self.partial.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def _mark(self, index: int) -> Path:
        return self.partial / f"done-{index:05d}.json"

    def _refuse_other(self, config: Mapping[str, Any], state: str) -> None:
        differing = difference(config, self.config)
        if differing:
            raise RequestError(
                f"{self.folder} holds {state} work of another configuration; it differs in "
                f"{', '.join(differing)}. Delete the folder or choose another output."
            )
