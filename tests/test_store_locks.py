"""Locks: who holds a folder, and file systems that have none."""

import errno
import os
from pathlib import Path

import pytest

from arra_med.errors import RequestError
from arra_med.store import (
    locked,
    try_lock,
    waiting_lock,
)
from tests.test_store import write


def fail_to_lock(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_to_lock(monkeypatch, number)
    message = r"the file system of \S+lock has no locks .*-o flock.*another one"
    with pytest.raises(RequestError, match=message), locked(tmp_path / "a"):
        pass
    with pytest.raises(RequestError, match=message):
        write(tmp_path / "b")
    with pytest.raises(RequestError, match=message), waiting_lock(tmp_path / "c.lock", "draws"):
        pass


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES, errno.EIO])
def test_only_a_held_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_to_lock(monkeypatch, number)
    path = tmp_path / "lock"
    with path.open("a") as lock:
        if number == errno.EIO:
            with pytest.raises(OSError, match="Input/output"):
                try_lock(lock.fileno(), path)
        else:
            assert not try_lock(lock.fileno(), path)
