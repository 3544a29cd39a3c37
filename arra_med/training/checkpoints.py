"""Checkpoints that exist only when they are complete, and that are whole when they are used.

DeepSpeed writes its files into ``checkpoints/step-00000100/``; when every rank is done and has read
its share of them back, rank 0 writes ``trainer.json`` there, with their sizes and hashes. A folder
without it is not a checkpoint and is removed.

No random state is stored: the data's order is a function of seed and step, and each step seeds its
own dropout masks. The position in the data is the step.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arra_med.errors import WorkError
from arra_med.store import canonical_json, library_versions, write_atomic
from arra_med.training.agreement import Agreement

logger = logging.getLogger(__name__)

MARK = "trainer.json"
_STEP = "step-"
_DAMAGED = "damaged-"
_BLOCK = 1 << 22


class Checkpoints:
    """The checkpoints of one run. Every rank calls the same methods in the same order.

    Args:
        folder: where they are, on a disk that all ranks share.
        agreement: between the ranks.
        rank: of this process.
        world_size: number of processes.
        keep: how many of the newest are kept.
        keep_best: keep that of the lowest validation loss too.
    """

    def __init__(
        self,
        folder: Path,
        agreement: Agreement,
        *,
        rank: int,
        world_size: int,
        keep: int,
        keep_best: bool,
    ) -> None:
        self.folder, self.agreement = folder, agreement
        self.rank, self.world_size = rank, world_size
        self.keep, self.keep_best = keep, keep_best

    def save(
        self,
        write: Callable[[str, str], object],
        step: int,
        *,
        validation: float | None,
        facts: Mapping[str, Any],
    ) -> None:
        """Save what optimizer step ``step`` left, check it, and remove what is no longer kept.

        Args:
            write: DeepSpeed's, given the folder and the checkpoint's name.
            step: optimizer steps done.
            validation: held-out loss after this step, if it was measured.
            facts: more to write down: ``zero_stage``, ``total_steps``.

        Raises:
            WorkError: if the files cannot be written; those before are as they were.
        """
        path = self.folder / checkpoint_name(step)
        try:
            write(str(self.folder), path.name)
            self.agreement.wait()
            shares = self.agreement.everyone(self._hash_share(path))
        except (OSError, RuntimeError) as error:
            free = shutil.disk_usage(self.folder).free / 1e9
            if self.world_size == 1:  # else another rank may be writing there; the next run does it
                shutil.rmtree(path, ignore_errors=True)
            raise WorkError(
                f"the checkpoint of step {step} could not be written, with {free:.1f} GB free on "
                f"the disk of {self.folder}: {error}. The checkpoints before it are intact: make "
                "room if the disk is full, then run the same command again"
            ) from error
        if self.rank == 0:
            mark = {
                "step": step,
                "validation": validation,
                "world_size": self.world_size,
                **facts,
                "versions": library_versions("torch", "deepspeed", "transformers", "peft"),
                "files": {name: facts for share in shares for name, facts in share.items()},
            }
            write_atomic(path / MARK, canonical_json(mark).encode())
            self._remove_old()
        self.agreement.wait()

    def newest(self) -> Path | None:
        """The newest checkpoint whose files are as they were written; what is damaged is set aside.

        Raises:
            WorkError: if there are checkpoints and none is whole.
        """
        if self.rank == 0:
            self._remove_incomplete()
        self.agreement.wait()
        found = complete_checkpoints(self.folder)
        for path in reversed(found):
            found_here = damage(path, self._share(list(read_mark(path)["files"])))
            worst = [text for text in self.agreement.everyone(found_here) if text]
            if not worst:
                return path
            if self.rank == 0:
                self._set_aside(path, worst[0])
            self.agreement.wait()
        if found or list(self.folder.glob(f"{_DAMAGED}*")):
            raise WorkError(
                f"no checkpoint in {self.folder} is whole: to train from the beginning, delete the "
                "folder"
            )
        return None

    def best(self) -> float | None:
        """The lowest validation loss of a checkpoint that is there."""
        values = [read_mark(path)["validation"] for path in complete_checkpoints(self.folder)]
        return min((value for value in values if value is not None), default=None)

    def set_validation(self, step: int, value: float) -> None:
        """Write down the validation loss of a checkpoint that was saved before it was measured."""
        path = self.folder / checkpoint_name(step) / MARK
        if self.rank == 0 and path.is_file():
            mark = read_json(path) | {"validation": value}
            write_atomic(path, canonical_json(mark).encode())
        self.agreement.wait()

    def _remove_old(self) -> None:
        """Remove all but the newest, the best and the one just written."""
        found = complete_checkpoints(self.folder)
        kept = found[-self.keep :]
        if self.keep_best:
            kept += [path for path in [best_checkpoint(found)] if path is not None]
        for old in found:
            if old not in kept:
                (old / MARK).unlink()  # from here on it is incomplete, whatever happens
                shutil.rmtree(old)
        for damaged in self.folder.glob(f"{_DAMAGED}*"):
            shutil.rmtree(damaged)

    def _remove_incomplete(self) -> None:
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.is_dir() and not (path / MARK).is_file():
                logger.warning("removing the incomplete checkpoint %s", path.name)
                shutil.rmtree(path)
            elif path.name.startswith(_STEP) and not _readable(path):
                self._set_aside(path, f"{MARK} cannot be read")

    @staticmethod
    def _set_aside(path: Path, why: str) -> None:
        logger.warning("%s is damaged (%s): the one before it is used", path, why)
        path.rename(path.with_name(_DAMAGED + path.name))

    def _share(self, names: list[str]) -> list[str]:
        return sorted(names)[self.rank :: self.world_size]

    def _hash_share(self, path: Path) -> dict[str, dict[str, Any]]:
        """Read this rank's share of the files back from the disk: sizes and hashes by name."""
        names = [str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()]
        return {name: _facts(path / name) for name in self._share(names)}


def checkpoint_name(step: int) -> str:
    """Name of the folder of the checkpoint after optimizer step ``step``."""
    return f"{_STEP}{step:08d}"


def complete_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path.parent for path in folder.glob(f"{_STEP}*/{MARK}") if _readable(path.parent))


def _readable(path: Path) -> bool:
    try:
        return "files" in read_mark(path)
    except ValueError:
        return False


def best_checkpoint(checkpoints: list[Path]) -> Path | None:
    """That of the lowest validation loss, the earliest of equals; ``None`` if none has one."""
    values = {path: read_mark(path)["validation"] for path in checkpoints}
    measured = [path for path in checkpoints if values[path] is not None]
    return min(measured, key=lambda path: values[path], default=None)


def damage(path: Path, names: Sequence[str]) -> str | None:
    """What is wrong with the files ``names`` of a checkpoint; ``None`` if they are as written."""
    files = read_mark(path)["files"]
    for name in names:
        try:
            size = (path / name).stat().st_size
            if size != files[name]["bytes"]:
                return f"{name} has {size} bytes instead of {files[name]['bytes']}"
            if _facts(path / name) != files[name]:
                return f"{name} does not have the content it was written with"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None


def read_mark(path: Path) -> dict[str, Any]:
    """What ``trainer.json`` says of a checkpoint."""
    return read_json(path / MARK)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping."""
    mapping: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return mapping


def _facts(path: Path) -> dict[str, Any]:
    """Size and hash of a file, which is on the disk and no longer in a cache when this returns."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        os.fsync(file.fileno())
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}
