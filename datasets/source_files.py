"""Reading a source's files: what is wrong with a file, and what is only wrong at the moment.

A share that hangs for a second, or a lack of memory, says nothing of the file that was being read.
It is waited for, and if it lasts it ends the run, which can resume; an exclusion would be for good.
"""

import errno
import logging
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from arra_med.errors import WorkError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_WAITS = (1.0, 5.0)  # seconds before each further attempt
_OF_THE_FILE = frozenset(
    (
        errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP,
        errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ,  # names that a file system cannot hold
    )
)  # fmt: skip


def is_passing(error: BaseException) -> bool:
    """Whether an error is no fault of the file that was being read, and must end the run.

    That are a lack of memory, the system's errors but those that a file or its name cause, and the
    :class:`WorkError` that :func:`patiently` makes of them. Errors of decoders that call themselves
    ``OSError`` (Pillow, gzip) have no number and are the file's.
    """
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _OF_THE_FILE
    return isinstance(error, (MemoryError, WorkError))


def patiently(read: Callable[[], T], name: str) -> T:
    """What ``read()`` gives, tried three times where it fails for what may pass.

    Args:
        read: reads one file.
        name: of the file, for the message.

    Raises:
        WorkError: if it does not pass, saying which file and that the command can resume.
    """
    for wait in _WAITS:
        try:
            return read()
        except (OSError, MemoryError) as error:
            if not is_passing(error):
                raise
            logger.warning("reading a file failed (%s): trying again", _said(error))
        time.sleep(wait)
    try:
        return read()
    except (OSError, MemoryError) as error:
        if not is_passing(error):
            raise
        raise stopped(error, name) from error


def stopped(error: BaseException, name: str) -> WorkError:
    """The end of a run for want of what passes.

    Args:
        error: that :func:`is_passing`.
        name: of the file that was being read.
    """
    if isinstance(error, WorkError):
        return error
    memory = isinstance(error, MemoryError)
    remedy = ", with fewer workers if memory was short" if memory else " once that has passed"
    return WorkError(
        f"{name} could not be read ({_said(error)}). What is done is kept: run the same command "
        f"again to resume{remedy}; if it always ends at this file, repair it or take it away"
    )


def _said(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "out of memory"


def file_mode(path: Path) -> int | None:
    """Kind and rights of what is there; ``None`` if that is nothing that can be seen.

    Raises:
        WorkError: if it cannot be told at the moment.
    """
    try:
        return patiently(path.stat, str(path)).st_mode
    except (OSError, ValueError):  # a name that is too long, a folder that may not be entered
        return None


def is_special(path: Path) -> bool:
    """Whether a pipe, a socket or a device is there: opening one may block for ever.

    Raises:
        WorkError: if it cannot be told at the moment.
    """
    mode = file_mode(path)
    return mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_start(path: Path, most: int) -> bytes:
    """The first ``most`` bytes of a file, or all if there are fewer.

    Raises:
        OSError: if it is missing, may not be read or is no file.
        ValueError: if no file can have its name.
        WorkError: if it cannot be read at the moment.
    """

    def read() -> bytes:
        if is_special(path):
            raise OSError(errno.EINVAL, "a pipe, a socket or a device")
        with path.open("rb") as file:
            return file.read(most)

    return patiently(read, str(path))
