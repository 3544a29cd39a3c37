"""What all ranks must decide alike between two steps: to stop, to write a checkpoint.

Each rank may know something the others do not: a signal reached it alone, or only its clock says
that a checkpoint is due. They exchange a few numbers over gloo, on the CPU: the GPU's queue is not
waited for.
"""

from typing import Any

import torch
from torch import distributed

from arra_med.parallel import PATIENCE


class Agreement:
    """Exchange between the ranks that does not touch the GPU.

    Every rank constructs it and calls it at the same places. How long a rank may take is for
    :mod:`arra_med.training.faults` to say.
    """

    def __init__(self) -> None:
        self._group: Any = None
        if distributed.get_world_size() > 1:
            self._group = distributed.new_group(backend="gloo", timeout=PATIENCE)

    def largest(self, *values: int) -> list[int]:
        """Of each value the largest that a rank gave, on every rank the same."""
        if self._group is None:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.int64)
        distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX, group=self._group)
        return [int(value) for value in tensor.tolist()]

    def everyone(self, value: Any) -> list[Any]:  # noqa: ANN401 - plain values
        """What each rank gave (plain values: numbers, text, lists of them), by rank."""
        if self._group is None:
            return [value]
        gathered: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, value, group=self._group)
        return gathered

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self._group is not None:
            distributed.barrier(group=self._group)
