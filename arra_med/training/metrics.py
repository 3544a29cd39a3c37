"""The training log: ``metrics.jsonl`` and TensorBoard, written by rank 0."""

import json
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from arra_med.store import write_atomic

LOG = "metrics.jsonl"
"""In the run folder: one JSON object a line, one a log point and one a validation."""


class MetricsLog:
    """Appends one JSON line a call; lines after ``resume_step`` of an earlier try are dropped.

    Args:
        folder: run folder.
        resume_step: optimizer steps already done.
    """

    def __init__(self, folder: Path, resume_step: int) -> None:
        self.path = folder / LOG
        kept = []
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= resume_step]
        write_atomic(self.path, "".join(kept).encode())
        lines_kept = [json.loads(line) for line in kept]
        self._validated = {line["step"] for line in lines_kept if "validate/total" in line}
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
