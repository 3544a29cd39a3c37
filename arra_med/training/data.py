"""Training examples in a fixed order that depends on the seed alone.

Position p of the endless stream is sample ``permutation(seed, p // n)[p % n]``. Optimizer step s
takes positions ``s·B … (s+1)·B - 1``, whatever the number of ranks, workers or accumulation steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from arra_med.model.layout import IGNORED, Example, ImageLayout
from arra_med.model.prompts import encode_prompts
from arra_med.settings import Backbone
from arra_med.store import Cache, PreparedFolder


@dataclass(frozen=True)
class TrainingItem:
    """One example with its teacher's vector.

    Attributes:
        example: token ids, targets and aligned positions.
        teacher: ``(F,)`` float, ``None`` without alignment.
    """

    example: Example
    teacher: np.ndarray | None


class Examples(Dataset[TrainingItem]):
    """Examples of one split by position in the endless stream.

    Args:
        prepared: the prepared folder.
        split: which split.
        tokens: its codes.
        features: its teacher vectors, ``None`` without alignment.
        tokenizer: of prompts.
        layout: of image tokens.
        backbone: for the limit on prompts.
        prompt_dropout: share of prompts dropped.
        seed: of order and dropping.
        shuffle: ``False`` keeps the folder's order.

    Raises:
        RequestError: if the split is empty, or a token or feature is missing.
    """

    def __init__(
        self,
        prepared: PreparedFolder,
        split: str,
        *,
        tokens: Cache,
        features: Cache | None,
        tokenizer: PreTrainedTokenizerBase,
        layout: ImageLayout,
        backbone: Backbone,
        prompt_dropout: float,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        rows = prepared.rows(split)
        self.keys = [row["key"] for row in rows]
        self.prompts = encode_prompts(
            tokenizer,
            [row["prompt"] for row in rows],
            self.keys,
            max_tokens=backbone.max_prompt_tokens,
            long_prompts=backbone.long_prompts,
        )
        tokens.require(prepared, self.keys)
        if features is not None:
            features.require(prepared, self.keys)
        self.tokens = tokens
        self.features = features
        self.layout = layout
        self.prompt_dropout = prompt_dropout
        self.seed = seed
        self.shuffle = shuffle
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, position: int) -> TrainingItem:
        """The example at a position of the endless stream (not bounded by ``len``)."""
        order, dropped = self._plan(position // len(self))
        index = order[position % len(self)]
        key = self.keys[index]
        prompt = [] if dropped[index] else self.prompts[index]
        teacher = None if self.features is None else self.features[key]
        return TrainingItem(self.layout.example(prompt, self.tokens[key]), teacher)

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Order of the samples and which prompts are dropped in an epoch."""
        if self._epoch is None or self._epoch[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self)) if self.shuffle else np.arange(len(self))
            self._epoch = (epoch, order, rng.random(len(self)) < self.prompt_dropout)
        return self._epoch[1], self._epoch[2]


class RankShare(Sampler[list[int]]):
    """Positions of one rank's micro-batches from ``first_step`` on.

    Args:
        batch_size: samples an optimizer step, over all ranks.
        micro_batch_size: samples a rank holds at once.
        rank: of this process.
        world_size: number of processes; divides ``batch_size / micro_batch_size``.
        first_step: optimizer step to begin with.
        last_step: optimizer step to end before.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        micro_batch_size: int,
        rank: int,
        world_size: int,
        first_step: int,
        last_step: int,
    ) -> None:
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.rank = rank
        self.world_size = world_size
        self.steps = range(first_step, last_step)

    def __len__(self) -> int:
        return len(self.steps) * self.batch_size // (self.micro_batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        micro = self.micro_batch_size
        for step in self.steps:
            first, end = step * self.batch_size, (step + 1) * self.batch_size
            for start in range(first + self.rank * micro, end, self.world_size * micro):
                yield list(range(start, start + micro))


def collate(items: Sequence[TrainingItem], pad_id: int) -> dict[str, Tensor]:
    """Pad on the right and stack.

    Returns:
        ``ids``, ``targets`` ``(B, T)`` int64; ``attention``, ``aligned`` ``(B, T)`` bool; and with
        alignment ``teacher`` ``(B, F)`` float32.
    """
    shape = (len(items), max(len(item.example.ids) for item in items))
    ids = torch.full(shape, pad_id)
    targets = torch.full(shape, IGNORED)
    attention = torch.zeros(shape, dtype=torch.bool)
    aligned = torch.zeros(shape, dtype=torch.bool)
    for row, item in enumerate(items):
        length = len(item.example.ids)
        ids[row, :length] = torch.from_numpy(item.example.ids)
        targets[row, :length] = torch.from_numpy(item.example.targets)
        aligned[row, :length] = torch.from_numpy(item.example.aligned)
        attention[row, :length] = True
    batch = {"ids": ids, "targets": targets, "attention": attention, "aligned": aligned}
    teachers = [item.teacher for item in items if item.teacher is not None]
    if teachers:
        batch["teacher"] = torch.from_numpy(np.stack(teachers).astype(np.float32))
    return batch


class Collate:
    """:func:`collate` with its padding token: an object that loader processes can receive."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, items: Sequence[TrainingItem]) -> dict[str, Tensor]:
        """Collate ``items``."""
        return collate(items, self.pad_id)


def loader(
    examples: Examples, batches: Sampler[list[int]], *, workers: int, pin_memory: bool
) -> DataLoader[TrainingItem]:
    """Batches in the order of ``batches``; the same for any number of workers."""
    return DataLoader(
        examples,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=Collate(examples.layout.pad_id),
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
    )
