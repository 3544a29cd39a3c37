"""Paths in source tables and folders: made relative to the dataset's folder, and into keys."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from arra_med.datasets.pictures import DICOM_SUFFIXES, IMAGE_SUFFIXES
from arra_med.datasets.source_files import file_mode
from arra_med.errors import WorkError
from arra_med.schema import safe_key
from arra_med.store import sha256_bytes

_SUFFIXES = sorted((*IMAGE_SUFFIXES, *DICOM_SUFFIXES), key=len, reverse=True)


def relative_source(root: Path, text: str) -> str | None:
    """A path of a source table, relative to ``root``.

    Args:
        root: the dataset's folder.
        text: relative to it, or absolute and below it; ``\\`` is accepted as a separator.

    Returns:
        The relative path with ``/``, or ``None`` if it is empty or leads out of ``root``.
    """
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute():
        try:
            path = path.relative_to(root.absolute().as_posix())
        except ValueError:
            return None
    outside = ".." in path.parts or bool(PureWindowsPath(text).drive) or "\0" in text
    return None if outside or not path.parts else path.as_posix()


def is_file(path: Path) -> bool:
    """Whether a file can be seen there; what no file can be called is no file, not an error.

    Raises:
        WorkError: if it cannot be told at the moment.
    """
    mode = file_mode(path)
    return mode is not None and stat.S_ISREG(mode)


def walk_files(root: Path) -> Iterator[str]:
    """Every file below ``root`` as a relative path with ``/``, in an order that never changes.

    Links to folders are followed, except back into a folder they lie in.

    Raises:
        WorkError: if a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise WorkError(f"a folder below {root} cannot be listed: {error.strerror}") from error

    for folder, below, names in os.walk(root, onerror=refuse, followlinks=True):
        below[:] = sorted(name for name in below if not _leads_back(root, Path(folder), name))
        start = Path(folder).relative_to(root)
        for name in sorted(names):
            yield (start / name).as_posix()


def without_suffix(source: str) -> str:
    """A picture's path without its suffix; ``1.2.840.7`` has none, ``a.dcm.gz`` has two."""
    for suffix in _SUFFIXES:
        stem = source[: -len(suffix)]
        if source.lower().endswith(suffix) and stem and not stem.endswith("/"):
            return stem
    return source


def key_from_path(source: str) -> str:
    """A key from a picture's relative path without its suffix.

    Where characters had to be replaced, the start of the path's hash is added, so that names that
    differ only in them keep different keys.
    """
    plain = without_suffix(source)
    key = safe_key(plain)
    if key == plain:
        return key
    # File names may hold bytes that are not Unicode.
    digest = sha256_bytes(source.encode("utf-8", "surrogatepass"))[:8]
    return f"{key[:180].rstrip('/')}-{digest}"


def _leads_back(root: Path, folder: Path, name: str) -> bool:
    link = folder / name
    if not link.is_symlink():
        return False
    above = [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    return any(link.samefile(one) for one in above)
