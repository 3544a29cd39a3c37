"""Which of several processes this is."""

import os


def process_rank() -> int:
    """Rank under torchrun or srun; 0 for a process of its own."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
