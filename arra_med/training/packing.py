"""Several samples in one row, each seeing only itself.

A row's ``positions`` restart at 0 with each sample; from that transformers builds a block-diagonal
causal mask (``arra_med.model.packed``). Rows have one length, so no shape changes during a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arra_med.alignment import Batch
from arra_med.errors import RequestError
from arra_med.training.data import TrainingItem, flat_positions
from arra_med.training.order import Steps


def first_fit(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Rows of indices whose lengths sum to at most ``capacity``: the longest first, each into the
    first row with room for it.

    Raises:
        ValueError: if a length is above ``capacity``.
    """
    rows: list[list[int]] = []
    free: list[int] = []
    for index in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = int(lengths[index])
        if length > capacity:
            raise ValueError(f"a sample of {length} tokens does not fit a row of {capacity}")
        row = next((number for number, room in enumerate(free) if room >= length), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(capacity)
        rows[row].append(index)
        free[row] -= length
    return rows


def spread(rows: list[list[int]], count: int) -> list[list[int]]:
    """The same indices in ``count`` rows, none empty: the fullest rows are cut in half.

    Raises:
        ValueError: if there are fewer indices, or more rows, than ``count``.
    """
    if len(rows) > count or sum(map(len, rows)) < count:
        raise ValueError(f"cannot make {count} rows of {len(rows)} with {sum(map(len, rows))}")
    rows = [list(row) for row in rows]
    while len(rows) < count:
        fullest = max(rows, key=len)
        half = len(fullest) // 2
        rows.append(fullest[half:])
        del fullest[half:]
    return rows


@dataclass(frozen=True)
class Packing:
    """How a run packs.

    Attributes:
        tokens: length of a row.
        rows: rows that the fullest step of the run needs.
    """

    tokens: int
    rows: int

    @classmethod
    def plan(cls, steps: Steps, tokens: int, total_steps: int) -> "Packing":
        """Look through a run's steps for the one that needs most rows.

        Raises:
            RequestError: if a sample is longer than a row.
        """
        try:
            rows = max(
                len(first_fit(steps.lengths(steps.step(step)), tokens))
                for step in range(total_steps)
            )
        except ValueError as error:
            raise RequestError(f"training.pack_tokens is {tokens}: {error}; raise it") from error
        return cls(tokens, rows)

    def rows_per_step(self, rows_at_once: int, batch_size: int) -> int:
        """Rows of every step, divisible by ``rows_at_once`` (all ranks' micro-batches together).

        Raises:
            RequestError: if a step has fewer samples than that.
        """
        rows = -(-self.rows // rows_at_once) * rows_at_once
        if rows > batch_size:
            raise RequestError(
                f"{batch_size} samples a step fill {self.rows} rows of {self.tokens} tokens, but "
                f"micro-batches and processes need a multiple of {rows_at_once} rows: lower "
                "training.micro_batch_size (rows a process holds at once), or raise "
                "training.batch_size"
            )
        return rows


def collate_packed(
    rows: Sequence[Sequence[TrainingItem]], pad_id: int, *, length: int, share: float
) -> Batch:
    """Put each row's samples one after another.

    What fills a row's end has position 0 everywhere: each such token is alone in the mask, and no
    position lies beyond a model's last.

    Args:
        rows: samples, their lengths summing to at most ``length`` in each row.
        pad_id: token that fills the rows.
        length: of every row.
        share: number of samples the losses are a mean over.
    """
    ids = np.full((len(rows), length), pad_id, np.int64)
    positions = np.zeros((len(rows), length), np.int64)
    starts, items = [], []
    for row, own in enumerate(rows):
        begin = 0
        for item in own:
            end = begin + len(item.example.ids)
            ids[row, begin:end] = item.example.ids
            positions[row, begin:end] = np.arange(end - begin)
            starts.append(row * length + begin)
            items.append(item)
            begin = end
    return Batch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        **flat_positions(items, starts, share),
    )
