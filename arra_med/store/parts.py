"""Stages write their folder in numbered parts: atomically, resumably, manifest last.

Several processes may share the work as shards ``i/n`` of one folder: each writes the parts whose
number is ``i`` modulo ``n``; a run without a shard then writes what is missing and finishes.
"""

import contextlib
import fcntl
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    temporary_of,
    write_atomic,
)
from arra_med.store.locks import BUSY, lock, opened, try_lock

logger = logging.getLogger(__name__)

_NAMED_IN_PATHS = ("prepared", "tokenizer", "generated", "evaluation")
"""Kinds of folders that the configuration names by a setting of the same name."""


@dataclass(frozen=True)
class Shard:
    """One of ``count`` processes that share a folder's parts; ``index`` counts from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``i/n``.

        Raises:
            RequestError: unless ``0 <= i < n``.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise RequestError(
                f"shard {text!r} is not one: expected i/n with i from 0 to n - 1, such as 0/4"
            )
        return cls(int(index), int(count))

    def takes(self, part: int) -> bool:
        """Whether this shard writes that part."""
        return part % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class PartWriter:
    """Writes one folder in numbered parts; a context manager that holds the folder's lock.

    Args:
        folder: where to write.
        kind: what the folder holds (``prepared``, ``tokens``, …).
        config: everything the content depends on, as JSON; a resumed run must agree with it.
        sources: dotted names of the configuration that hold a file's hash → that file, which a
            refusal names in the hash's place.
        shard: which parts to write, if other processes write the others at the same time.

    Raises:
        RequestError: if the folder holds work of another configuration, another process is
            writing it, or its file system has no locks.

    Example:
        >>> with PartWriter(folder, kind="tokens", config={...}) as writer:
        ...     for index in writer.missing(num_parts):
        ...         writer.write_part(index, {f"part-{index:05d}.arrow": table}, {"samples": 10})
        ...     writer.finish(num_parts)
    """

    def __init__(
        self,
        folder: Path,
        *,
        kind: str,
        config: Mapping[str, Any],
        sources: Mapping[str, Path] | None = None,
        shard: Shard | None = None,
    ) -> None:
        self.folder = folder
        self.kind = kind
        self.config = json.loads(canonical_json(config))
        self._changed = {
            name: f"{path}, which has changed since" for name, path in (sources or {}).items()
        }
        self.shard = shard
        self.partial = folder / PARTIAL
        self._held = contextlib.ExitStack()

    @property
    def finished(self) -> bool:
        """Whether the manifest is there, so that nothing is left to do."""
        return (self.folder / MANIFEST).is_file()

    def __enter__(self) -> Self:
        if self.finished:
            self._accept_finished()
            return self
        if self.folder.exists() and not self.partial.exists() and any(self.folder.iterdir()):
            raise RequestError(
                f"{self.folder} is not empty and not ours: choose another output folder"
            )
        self.partial.mkdir(parents=True, exist_ok=True)
        try:
            start = self.partial / "start.lock"
            with opened(start) as descriptor:
                lock(descriptor, start, fcntl.LOCK_EX)  # whoever starts waits for its turn
                alone = self._take_lock()
                self._agree_on_plan(alone)
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def missing(self, num_parts: int) -> list[int]:
        """Indices of this shard's parts that are not done yet; empty when all is finished."""
        if self.finished:
            return []
        return [index for index in range(num_parts) if self.wants(index)]

    def wants(self, index: int) -> bool:
        """Whether a part is this shard's to write and not done yet."""
        mine = self.shard is None or self.shard.takes(index)
        return mine and not self._mark(index).is_file()

    def done(self, index: int) -> dict[str, Any] | None:
        """What :meth:`write_part` noted of a part that is done, by this or another shard."""
        path = self._mark(index)
        if not path.is_file():
            return None
        mark: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return mark

    def write_part(
        self,
        index: int,
        files: Mapping[str, Content],
        counts: Mapping[str, int],
        *,
        note: str = "",
    ) -> None:
        """Write the files of one part (paths relative to the folder), then mark it as done.

        ``note`` is kept in the part's mark, for whoever resumes.
        """
        begun = self.partial / f"begun-{index:05d}.json"
        write_atomic(begun, canonical_json(list(files)).encode())
        digests = {}
        for name, content in files.items():
            write_atomic(self.folder / name, content)
            digests[name] = sha256_file(self.folder / name)
        mark = {"files": digests, "counts": dict(counts), "note": note}
        write_atomic(self._mark(index), canonical_json(mark).encode())

    def finish(
        self,
        num_parts: int,
        files: Mapping[str, Content] | None = None,
        *,
        summary: Mapping[str, Any] | None = None,
        check: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Write the whole-folder ``files`` and then the manifest; returns the manifest.

        The manifest's ``counts`` are the sums over parts. Files that parts wrote below
        ``.partial/`` are scratch and go away here. ``check`` is called when all is written but
        the manifest; what it raises leaves the folder unfinished.

        Raises:
            WorkError: if a part is missing.
        """
        assert self.shard is None, "a shard does not finish the folder"
        if self.finished:
            return read_manifest(self.folder, self.kind)
        left = self.missing(num_parts)
        if left:
            raise WorkError(f"cannot finish {self.folder}: parts {left[:5]} are missing")
        digests: dict[str, str] = {}
        counts: dict[str, int] = {}
        for index in range(num_parts):
            mark = self.done(index)
            assert mark is not None, "no part is missing"
            digests |= mark["files"]
            for name, count in mark["counts"].items():
                counts[name] = counts.get(name, 0) + count
        for name, content in (files or {}).items():
            write_atomic(self.folder / name, content)
            digests[name] = sha256_file(self.folder / name)
        if check is not None:
            check()
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
        # Another process may be opening a lock in it: what stays is removed by the next run.
        shutil.rmtree(self.partial, ignore_errors=True)
        return manifest

    def forget(self) -> None:
        """Unmark every part and remove its files: the next run starts afresh, whatever its
        configuration."""
        for path in self.partial.glob("done-*.json"):
            path.unlink()  # first: a mark without its files would be believed
        self._remove_parts()

    def _accept_finished(self) -> None:
        self._refuse_other(read_manifest(self.folder, self.kind)["config"], "finished")
        check_files(self.folder, self.kind)
        shutil.rmtree(self.partial, ignore_errors=True)  # killed right after the manifest

    def _take_lock(self) -> bool:
        """Lock the folder, or with a shard its share of it; whether nobody else is at work.

        The folder's lock is shared among shards, and exclusive without one.
        """
        path = self.partial / "lock"
        descriptor = self._held.enter_context(opened(path))
        alone = try_lock(descriptor, path)
        if self.shard is None:
            if not alone:
                raise RequestError(BUSY.format(self.folder))
            return True
        if not alone and not try_lock(descriptor, path, fcntl.LOCK_SH):
            raise RequestError(
                f"another process is writing {self.folder}, and not as a shard of it: wait for it"
            )
        locks = {path.name for path in self.partial.glob("shard-*.lock")}
        others = {name for name in locks if not name.endswith(f"-of-{self.shard.count}.lock")}
        if alone:
            for name in locks:
                (self.partial / name).unlink()
            try_lock(descriptor, path, fcntl.LOCK_SH)
        elif others:
            raise RequestError(
                f"shards of another count are writing {self.folder} ({sorted(others)[0]}): wait "
                "for them, or use their count"
            )
        own = self.partial / f"shard-{self.shard.index}-of-{self.shard.count}.lock"
        if not try_lock(self._held.enter_context(opened(own)), own):
            raise RequestError(
                f"another process is writing shard {self.shard} of {self.folder}: wait for it, or "
                "take another shard"
            )
        return alone

    def _agree_on_plan(self, alone: bool) -> None:
        plan = self.partial / "plan.json"
        if alone and not any(self.partial.glob("done-*.json")):
            self._forget_plan()  # no part is done: the plan binds nobody
        if plan.is_file():
            self._refuse_other(json.loads(plan.read_text(encoding="utf-8")), "unfinished")
        else:
            write_atomic(plan, canonical_json(self.config).encode())

    def _remove_parts(self) -> None:
        """Remove the files that parts wrote or began to write, and nothing else."""
        for begun in self.partial.glob("begun-*.json"):
            for name in json.loads(begun.read_text(encoding="utf-8")):
                path = self.folder / name
                path.unlink(missing_ok=True)
                temporary_of(path).unlink(missing_ok=True)
            begun.unlink()

    def _forget_plan(self) -> None:
        self._remove_parts()
        for path in self.partial.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.endswith("lock"):
                path.unlink()

    def _mark(self, index: int) -> Path:
        return self.partial / f"done-{index:05d}.json"

    def _refuse_other(self, config: Mapping[str, Any], state: str) -> None:
        differing = difference(config, self.config, said=self._changed)
        if differing:
            named = self.kind in _NAMED_IN_PATHS
            other = f"paths.{self.kind}" if named else "output folder"
            raise RequestError(
                f"{self.folder} holds {state} work of another configuration; it differs in "
                f"{', '.join(differing)}. Choose another {other}, or delete this one."
            )
