"""What evaluations learned of real pictures, kept for the next one.

Runs are held against the same real pictures again and again, and what networks give for those, and
what a look at their files tells, never changes. It is kept inside the prepared folder, beside
teachers' features, apart for each state of the picture files, of our own code, of a plug-in's code
and each set of library versions; any of it may be deleted, and is then made again. Kept or not,
results are the same to the byte, on the same device.

The search for copies keeps nothing: see :mod:`arra_med.eval.privacy`.
"""

import ast
import dataclasses
import functools
import glob
import importlib.util
import inspect
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from arra_med.errors import RequestError
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
_LIBRARIES = {
    "PIL": "pillow", "monai": "monai", "numpy": "numpy", "open_clip": "open_clip_torch",
    "scipy": "scipy", "sklearn": "scikit-learn", "timm": "timm", "torch": "torch",
    "torch_fidelity": "torch_fidelity", "torchvision": "torchvision",
    "torchxrayvision": "torchxrayvision", "transformers": "transformers",
}  # fmt: skip
"""Package → its name in registries; of these the version is recorded in place of the code."""
_OURS = __name__.partition(".")[0]
_NO_PLUGIN = {_OURS, *_LIBRARIES, *sys.stdlib_module_names}
_INSTALLED = {"site-packages", "dist-packages"}
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
            "versions": library_versions(*_LIBRARIES.values()),
            "code": _lasting_hash(_OURS),
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
            except (OSError, RequestError) as error:  # read-only, or without locks
                self._writable = False
                LOG.warning(
                    "what is learned of real pictures is not kept for the next evaluation: %s",
                    error,
                )
        return value

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = path.parent / "lock"
        with lock_file.open("a") as lock:
            if try_lock(lock.fileno(), lock_file):  # unless another evaluation writes the same
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
    """Names the code of the plug-in that a network and its transform are made of.

    Whoever writes a plug-in changes it without changing its weights: what the old one gave must
    not be set beside what the new one gives. Its code is every Python file of the packages (or
    modules outside any) that the classes of the two come from, and of what those import.
    :class:`RealPictures` knows our own code and the libraries' versions.
    """
    hashes: dict[str, str] = {}
    waiting = {module.partition(".")[0] for module in _modules_of(network)}
    while waiting:
        package = waiting.pop()
        if package in hashes or package in _NO_PLUGIN:
            continue
        roots = _roots(package)
        if any(not _INSTALLED.isdisjoint(root.parts) for root in roots):
            hashes[package] = _lasting_hash(package)
            continue
        sources = _sources(roots)
        hashes[package] = _hash(sources)
        waiting.update(*map(_imports, sources.values()))
    return fingerprint(hashes)


def _modules_of(network: nn.Module) -> Iterator[str]:
    """Modules of the classes that a network and its transform are of, base classes too."""
    for part in [*network.modules(), getattr(network, "transform", None)]:
        while isinstance(part, functools.partial):
            part = part.func
        code = part if inspect.isclass(part) or inspect.isroutine(part) else type(part)
        for one in getattr(code, "__mro__", [code]):
            yield str(getattr(one, "__module__", None))


def _roots(package: str) -> list[Path]:
    """Folders of a top-level package, or the file of a module; none if it has no Python file."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # the script that was started has none
        return [Path(file)] if (file := getattr(sys.modules.get(package), "__file__", None)) else []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin else []


def _sources(roots: Sequence[Path]) -> dict[str, bytes]:
    """Path inside its root → content of every Python file."""
    files = {root.name: root for root in roots if root.suffix == ".py"}
    for root in roots:
        names = glob.glob("**/*.py", root_dir=root, recursive=True)  # noqa: PTH207 - follows links
        files |= {name: root / name for name in names}
    return {name: path.read_bytes() for name, path in files.items() if path.is_file()}


def _hash(sources: Mapping[str, bytes]) -> str:
    return fingerprint({name: sha256_bytes(source) for name, source in sources.items()})


@functools.cache
def _lasting_hash(package: str) -> str:
    """Of a package that nobody edits while it is in use: ours, or an installed one."""
    return _hash(_sources(_roots(package)))


@functools.cache
def _imports(source: bytes) -> frozenset[str]:
    """Top-level packages that a Python file imports anywhere; none if it is not valid."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return frozenset()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)
              and not node.level]  # fmt: skip
    return frozenset(name.partition(".")[0] for name in names)
