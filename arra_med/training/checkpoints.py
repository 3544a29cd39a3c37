"""Checkpoints that exist only when they are complete.

DeepSpeed writes its files into ``checkpoints/step-00000100/``; when every rank is done, rank 0
writes ``trainer.json`` there. A folder without it is not a checkpoint and is removed.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from arra_med.store import canonical_json, write_atomic

logger = logging.getLogger(__name__)

_MARK = "trainer.json"


def save_checkpoint(engine: Any, folder: Path, step: int, *, keep: int) -> None:  # noqa: ANN401
    """Save the engine after optimizer step ``step``; keep the newest ``keep`` checkpoints."""
    tag = f"step-{step:08d}"
    engine.save_checkpoint(str(folder), tag=tag, save_latest=False)
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        write_atomic(folder / tag / _MARK, canonical_json({"step": step}).encode())
        for old in complete_checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    torch.distributed.barrier()


def load_newest(engine: Any, folder: Path) -> int:  # noqa: ANN401
    """Load the newest complete checkpoint into the engine.

    Returns:
        How many optimizer steps it has done; 0 if there is no checkpoint.
    """
    checkpoints = complete_checkpoints(folder)
    if torch.distributed.get_rank() == 0 and folder.is_dir():
        for path in folder.iterdir():
            if path.is_dir() and path not in checkpoints:
                logger.warning("removing the incomplete checkpoint %s", path.name)
                shutil.rmtree(path)
    torch.distributed.barrier()
    if not checkpoints:
        return 0
    newest = checkpoints[-1]
    engine.load_checkpoint(str(folder), tag=newest.name)
    step = int(json.loads((newest / _MARK).read_text(encoding="utf-8"))["step"])
    logger.info("resuming after step %d", step)
    return step


def complete_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{_MARK}"))
