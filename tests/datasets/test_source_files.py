"""What is wrong with a file is told apart from what is only wrong at the moment."""

import errno
import os
import socket
from pathlib import Path

import pytest

from arra_med.datasets import dicom, source_files
from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom_checks import reasons
from arra_med.datasets.dicom_folder import PictureFiles, read_header
from arra_med.datasets.paths import is_file
from arra_med.datasets.pictures import decode_image, header_identifiers
from arra_med.datasets.source_files import is_passing, is_special, patiently, read_start
from arra_med.errors import WorkError
from tests.datasets.films import film, ramp

PASSING = [
    OSError(number, os.strerror(number))
    for number in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENOMEM)
]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(source_files, "_WAITS", (0.0, 0.0))


def failing(error, times):
    """Reads that fail so often; afterwards they give 1."""
    left = [error] * times

    def read():
        if left:
            raise left.pop()
        return 1

    return read


@pytest.mark.parametrize("error", [*PASSING, MemoryError(), WorkError("decided")], ids=repr)
def test_what_passes(error):
    assert is_passing(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, ""), PermissionError(errno.EACCES, ""),
        PermissionError(errno.EPERM, ""), IsADirectoryError(errno.EISDIR, ""),
        NotADirectoryError(errno.ENOTDIR, ""), OSError(errno.ENAMETOOLONG, ""),
        OSError(errno.ELOOP, ""), OSError("image file is truncated"), ValueError(), EOFError(),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_the_file_s_own(error):
    assert not is_passing(error)


@pytest.mark.parametrize("error", [*PASSING, MemoryError()], ids=repr)
def test_what_passes_is_tried_again_and_then_ends_the_run(error, caplog):
    assert patiently(failing(error, 2), "the-name") == 1
    assert caplog.text.count("trying again") == 2
    assert "the-name" not in caplog.text
    with pytest.raises(WorkError, match=r"the-name could not be read \(.*same command again to"):
        patiently(failing(error, 3), "the-name")


def test_what_does_not_pass_is_not_tried_again(caplog):
    with pytest.raises(FileNotFoundError):
        patiently(failing(FileNotFoundError(errno.ENOENT, ""), 1), "x")
    assert caplog.text == ""


def test_no_boundary_of_an_item_takes_it_for_the_item_s(tmp_path, monkeypatch):
    path = tmp_path / "a.dcm"
    path.write_bytes(film(ramp()))

    def fails(*args, **kwargs):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fails)
        patch.setattr(Path, "read_bytes", fails)
        for read in (
            dicom.read_bytes, lambda path: read_header(path, ["Modality"]), header_identifiers,
            lambda path: read_start(path, 9),
        ):  # fmt: skip
            with pytest.raises(WorkError, match=r"a\.dcm could not be read"):
                read(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fails)
        for read in (is_file, dicom.read_bytes):
            with pytest.raises(WorkError, match=r"a\.dcm could not be read"):
                read(path)
    with pytest.raises(MemoryError), reasons("broken"):
        raise MemoryError
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: failing(MemoryError(), 1)())
    with pytest.raises(MemoryError):
        decode_image(b"any", channels=1)


def test_files_and_what_is_none(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert is_file(tmp_path / "file")
    for name in ("none", "file/below", "x" * 300, "a\0b", ""):
        assert not is_file(tmp_path / name), name
        assert not is_special(tmp_path / name), name
    assert read_start(tmp_path / "file", 3) == b"123"
    assert read_start(tmp_path / "file", 9) == b"12345"


def test_nobody_waits_for_a_pipe(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.dcm")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # a socket's name may not be long
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        for name in ("pipe.dcm", "pipe", "socket"):
            path = tmp_path / name
            assert is_special(path)
            assert not is_file(path)
            assert header_identifiers(path) == ()
            with pytest.raises(UnreadableImage, match="no file but a pipe"):
                dicom.read_bytes(path)
            with pytest.raises(OSError, match="a pipe, a socket or a device"):
                read_start(path, 9)
        lines = list(PictureFiles(tmp_path, ["PatientID"]).lines())
        assert [line.problem[0] for line in lines] == ["not-a-picture"] * 3
