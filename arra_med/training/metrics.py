"""The training log: ``metrics.jsonl`` and TensorBoard, written by rank 0."""

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from arra_med.store import write_atomic

logger = logging.getLogger(__name__)

LOG = "metrics.jsonl"
"""In the run folder: one JSON object a line, one a log point and one a validation."""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """A run folder's log, oldest first; a last line that a crash cut short is left out."""
    path = folder / LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    with contextlib.suppress(json.JSONDecodeError):
        return [json.loads(line) for line in lines]
    logger.warning("the last line of %s is cut short: left out", path)
    return [json.loads(line) for line in lines[:-1]]


class MetricsLog:
    """Appends one JSON line a call; lines after ``resume_step`` of an earlier try are dropped.

    Args:
        folder: run folder.
        resume_step: optimizer steps already done.
    """

    def __init__(self, folder: Path, resume_step: int) -> None:
        self.path = folder / LOG
        kept = [line for line in read_log(folder) if line["step"] <= resume_step]
        write_atomic(self.path, "".join(f"{json.dumps(line)}\n" for line in kept).encode())
        self._validated = {line["step"] for line in kept if "validate/total" in line}
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, values: dict[str, float], *, prefix: str = "") -> None:
        """Log ``values`` after optimizer step ``step``; ``prefix`` such as ``validate/``."""
        named = {f"{prefix}{name}": value for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **named}) + "\n")
        for name, value in named.items():
            self._writer.add_scalar(name, value, step)

    def validated(self, step: int) -> bool:
        """Whether an earlier try logged held-out losses after optimizer step ``step``."""
        return step in self._validated

    def picture(self, step: int, grid: np.ndarray) -> None:
        """Show an ``(H, W, C)`` uint8 picture in TensorBoard."""
        self._writer.add_image("preview", grid, step, dataformats="HWC")

    def close(self) -> None:
        """Flush TensorBoard's file."""
        self._writer.close()
