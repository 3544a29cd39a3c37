"""Small asset folders, a fake hub and the ``assets`` command line for tests."""

import argparse
import hashlib
import logging
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from arra_med.assets.folder import folder_name
from arra_med.assets.record import Record, install, partial_folder, record_files
from arra_med.cli import assets as cli
from arra_med.errors import RequestError

WEIGHTS = bytes(range(256)) * 40


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_asset(root: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """An asset as ``fetch`` leaves it, at revision ``aaaa…``."""
    partial = partial_folder(root, name)
    for file, content in files.items():
        (partial / file).parent.mkdir(parents=True, exist_ok=True)
        (partial / file).write_bytes(content)
    record = Record(
        name=name,
        source={"hub": name, "revision": "a" * 40},
        licence="MIT",
        files=record_files(partial),
    )
    return install(partial, root, record)


def flip(path: Path, position: int = 0) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def run(*arguments: object) -> int:
    """``arra-med assets …``; returns the exit code, as ``arra-med`` maps errors to it."""
    parser = argparse.ArgumentParser()
    common = argparse.ArgumentParser(add_help=False)
    cli.add_parser(parser.add_subparsers(dest="verb"), common)
    options = parser.parse_args(["assets", *map(str, arguments)])
    try:
        cli.run(options)
    except (RequestError, FileNotFoundError) as error:
        logging.getLogger("arra_med").error("%s", error)
        return 2
    except Exception as error:  # noqa: BLE001
        logging.getLogger("arra_med").error("%s: %s", type(error).__name__, error)
        return 1
    return 0


def forbid_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any use of the network fails the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


class FakeHub:
    """Repositories in folders, behind the two functions of the hub that ``fetch`` calls."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.calls: list[tuple[str, str, list[str]]] = []
        self.failures: list[Exception] = []
        self.lost_after_one_file = False
        # its method, not the class: modules that are imported meanwhile use that as a type
        patch.setattr(
            huggingface_hub.HfApi, "model_info", lambda _, *a, **k: self.model_info(*a, **k)
        )
        patch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)

    def add(self, name: str, revision: str, files: Mapping[str, bytes]) -> None:
        for file, content in files.items():
            path = self.folder / folder_name(name) / revision / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def model_info(self, name: str, *, revision: str | None, files_metadata: bool) -> object:
        assert files_metadata
        if self.failures:
            raise self.failures.pop()
        root = self.folder / folder_name(name)
        revision = revision or max(path.name for path in root.iterdir())
        files = [path for path in (root / revision).rglob("*") if path.is_file()]
        siblings = [
            SimpleNamespace(
                rfilename=path.relative_to(root / revision).as_posix(),
                size=path.stat().st_size,
                lfs=SimpleNamespace(sha256=sha256(path.read_bytes()))
                if path.stat().st_size > 1000
                else None,
            )
            for path in files
        ]
        return SimpleNamespace(sha=revision, siblings=siblings)

    def snapshot_download(
        self, name: str, *, revision: str, allow_patterns: list[str], local_dir: Path
    ) -> str:
        self.calls.append((name, revision, allow_patterns))
        (local_dir / ".cache" / "huggingface").mkdir(parents=True, exist_ok=True)
        (local_dir / ".cache" / "huggingface" / "note").touch()
        for file in allow_patterns:
            target = local_dir / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / folder_name(name) / revision / file, target)
            if self.lost_after_one_file:
                raise LocalEntryNotFoundError("connection lost")
        return str(local_dir)
