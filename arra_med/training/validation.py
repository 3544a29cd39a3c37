"""Losses over the validation split, the same for any number of processes."""

import math
from typing import Any

import torch
from torch import Tensor

from arra_med.training.agreement import Agreement
from arra_med.training.data import Examples, TrainingItem, collate
from arra_med.training.loader import read_together

LOSSES = ("total", "cross_entropy", "alignment", "z")
"""Order in which losses are summed."""


@torch.no_grad()
def held_out_losses(
    engine: Any,  # noqa: ANN401 - DeepSpeed's engine is not typed
    examples: Examples,
    batch_size: int,
    agreement: Agreement,
) -> dict[str, float]:
    """Means over the samples of ``examples``.

    Args:
        engine: DeepSpeed's, of an ``ArraModel``.
        examples: in their own order, prompts not dropped.
        batch_size: samples a rank holds at once.
        agreement: of the ranks.

    Returns:
        One value for each of ``LOSSES``; ``alignment`` is 0 without a teacher.

    Raises:
        WorkError: on every rank, if one cannot read a sample.
    """
    engine.eval()
    world_size, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    batches = [
        range(i, min(i + batch_size, len(examples))) for i in range(0, len(examples), batch_size)
    ]
    sums = torch.zeros(len(LOSSES) + 1, device=engine.device)
    for turn in range(math.ceil(len(batches) / world_size)):
        # Every rank takes as many turns as the others: sharded weights are gathered together.
        index = turn * world_size + rank
        items = _read(examples, batches[index % len(batches)], agreement)
        losses = engine(to_device(collate(items, examples.layout.pad_id), engine.device))
        if index < len(batches):
            sums[:-1] += stacked(losses) * len(items)
            sums[-1] += len(items)
    torch.distributed.all_reduce(sums)
    return dict(zip(LOSSES, (sums[:-1] / sums[-1]).tolist(), strict=True))


def _read(examples: Examples, which: range, agreement: Agreement) -> list[TrainingItem]:
    return read_together(
        lambda: [examples[position] for position in which], examples.caches(), agreement
    )


def to_device(batch: Any, device: torch.device) -> dict[str, Tensor]:  # noqa: ANN401 - a Batch
    """The batch's tensors on ``device``, copied while the device works on."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def stacked(losses: Any) -> Tensor:  # noqa: ANN401 - Losses
    """Detached losses in the order of ``LOSSES``, float32; 0 where there is none."""
    zero = losses["total"].new_zeros(())
    return torch.stack([losses.get(name, zero).detach().float() for name in LOSSES])
