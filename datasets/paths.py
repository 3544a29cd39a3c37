"""Paths in source tables: made relative to the dataset's folder, and turned into keys."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from arra_med.schema import safe_key
from arra_med.store import sha256_bytes


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


def key_from_path(source: str) -> str:
    """A key from a picture's relative path without its suffix.

    Where characters had to be replaced, the start of the path's hash is added, so that names that
    differ only in them keep different keys.
    """
    plain = PurePosixPath(source).with_suffix("").as_posix()
    key = safe_key(plain)
    return key if key == plain else f"{key[:180].rstrip('/')}-{sha256_bytes(source.encode())[:8]}"
