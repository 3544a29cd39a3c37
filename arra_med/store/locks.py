"""Locks on files, by which processes that share a folder keep out of each other's way."""

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from arra_med.errors import RequestError

logger = logging.getLogger(__name__)

BUSY = "another process is writing {}: wait for it, or choose another folder"
_POLL_SECONDS, _REMIND_SECONDS = 1.0, 60.0
_HELD = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process while the block runs.

    Raises:
        RequestError: if another process holds it, or its file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    with opened(path) as descriptor:
        if not try_lock(descriptor, path):
            raise RequestError(BUSY.format(folder))
        yield


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A file to lock, made if need be; its lock goes when the block ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # and with it the lock


@contextlib.contextmanager
def waiting_lock(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock ``path``, a file that is made; while others hold it, wait, and say so.

    Args:
        path: of the file.
        doing: what the holder does, for the message: "is drawing x".

    Raises:
        RequestError: if its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        begun = reminded = time.monotonic()
        while not try_lock(file.fileno(), path):
            if reminded == begun or time.monotonic() - reminded > _REMIND_SECONDS:
                logger.info("another process %s: waiting for it", doing)
                reminded = time.monotonic()
            time.sleep(_POLL_SECONDS)
        yield


def try_lock(descriptor: int, path: Path, how: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file, exclusively unless ``how`` says otherwise.

    Args:
        descriptor: of the file.
        path: of the file, for the message.
        how: ``fcntl.LOCK_EX`` or ``fcntl.LOCK_SH``.

    Returns:
        ``False`` if others hold it.

    Raises:
        RequestError: if its file system has no locks.
    """
    try:
        lock(descriptor, path, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def lock(descriptor: int, path: Path, how: int) -> None:
    """Lock an open file as ``how`` says, waiting unless it says not to.

    Raises:
        RequestError: if its file system has no locks.
        OSError: for whatever else the system says.
    """
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise RequestError(
            f"the file system of {path} has no locks ({error.strerror}): mount it with them "
            "(Lustre: -o flock), or use a folder on another one"
        ) from error
