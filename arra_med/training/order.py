"""Which samples each optimizer step takes: a function of the seed and the step alone.

Every source (a folder's training samples) is an endless stream of its shuffled passes. An epoch
takes the next ``taken`` samples of each source and shuffles them together; epochs follow each other
as one stream of positions, and step s has positions ``s·B … (s+1)·B - 1``. Ranks, workers and
micro-batches only divide a step: nothing about them changes its samples, and nothing needs to be
saved to go on from any step.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from arra_med.settings import Training

_EPOCH, _PASS, _WINDOW = range(3)
"""Branches of the seed, so that no two uses draw the same numbers."""


class Draws(NamedTuple):
    """N samples in order.

    Attributes:
        source: ``(N,)`` int64, whose sample.
        sample: ``(N,)`` int64, which sample of that source.
        dropped: ``(N,)`` bool, whether its prompt is dropped.
    """

    source: np.ndarray
    sample: np.ndarray
    dropped: np.ndarray

    def take(self, which: np.ndarray | slice | list[int]) -> "Draws":
        """The draws at these places."""
        return Draws(self.source[which], self.sample[which], self.dropped[which])

    @classmethod
    def join(cls, parts: Sequence[Self]) -> "Draws":
        """Draws one after another."""
        return Draws(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Order:
    """The endless stream of samples.

    Args:
        sizes: samples of each source.
        ratios: share of each source that an epoch takes: 0.5 is one half of it and the other half
            in the next epoch, 2 is all of it twice; to the nearest sample, at least one.
        seed: of order and dropping.
        prompt_dropout: share of prompts dropped, drawn anew in each epoch.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        ratios: Sequence[float],
        *,
        seed: int,
        prompt_dropout: float = 0.0,
    ) -> None:
        self.sizes = tuple(sizes)
        self.taken = tuple(
            max(1, int(ratio * size + 0.5)) for size, ratio in zip(sizes, ratios, strict=True)
        )
        self.seed = seed
        self.prompt_dropout = prompt_dropout
        # An epoch's last step reads two epochs, an epoch's end two passes: keep what was read last.
        self._epoch = functools.lru_cache(maxsize=2)(self._make_epoch)
        self._pass = functools.lru_cache(maxsize=2 * len(self.sizes))(self._make_pass)

    def __len__(self) -> int:
        """Samples an epoch."""
        return sum(self.taken)

    def total_steps(self, training: Training) -> int:
        """Optimizer steps of a whole run."""
        steps = math.ceil(training.epochs * len(self) / training.batch_size)
        return min(steps, training.max_steps or steps)

    def draws(self, first: int, end: int) -> Draws:
        """Samples at positions ``first … end - 1`` of the stream."""
        size, parts = len(self), []
        for epoch in range(first // size, (end - 1) // size + 1):
            start = epoch * size
            part = slice(max(first - start, 0), min(end - start, size))
            parts.append(self._epoch(epoch).take(part))
        return Draws.join(parts)

    def _make_epoch(self, epoch: int) -> Draws:
        indices = [self._of_source(source, epoch) for source in range(len(self.sizes))]
        rng = np.random.default_rng([self.seed, _EPOCH, epoch])
        shuffled = rng.permutation(len(self))
        return Draws(
            np.repeat(np.arange(len(self.sizes)), self.taken)[shuffled],
            np.concatenate(indices)[shuffled],
            rng.random(len(self)) < self.prompt_dropout,
        )

    def _of_source(self, source: int, epoch: int) -> np.ndarray:
        """Indices that an epoch takes of a source: the next part of its endless passes."""
        size, taken = self.sizes[source], self.taken[source]
        first, end = epoch * taken, (epoch + 1) * taken
        passes = range(first // size, (end - 1) // size + 1)
        order = np.concatenate([self._pass(source, number) for number in passes])
        return order[first - passes[0] * size :][:taken]

    def _make_pass(self, source: int, number: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, _PASS, source, number])
        return rng.permutation(self.sizes[source])


class Steps:
    """The samples of each optimizer step, those of like length beside each other.

    Bucketing sorts windows of ``bucket_batches`` steps by length, cuts them into steps again and
    shuffles those. A window of one step leaves every step the samples that it would have without
    bucketing. Windows begin anew with each epoch, so that an epoch's samples stay in it.

    Args:
        order: the stream.
        lengths: tokens of each sample of each source with its prompt.
        promptless: tokens of a sample whose prompt is dropped.
        batch_size: samples a step, B.
        bucket_batches: steps in a window; 0 keeps the stream's order.
    """

    def __init__(
        self,
        order: Order,
        lengths: Sequence[np.ndarray],
        *,
        promptless: int,
        batch_size: int,
        bucket_batches: int,
    ) -> None:
        self.order = order
        self.batch_size = batch_size
        self.bucket_batches = bucket_batches
        self._promptless = promptless
        self._lengths = np.concatenate(lengths)
        self._starts = np.cumsum([0, *order.sizes[:-1]])
        self._window = functools.lru_cache(maxsize=1)(self._make_window)

    def lengths(self, draws: Draws) -> np.ndarray:
        """``(N,)`` tokens of each sample."""
        whole = self._lengths[self._starts[draws.source] + draws.sample]
        return np.where(draws.dropped, self._promptless, whole)

    def first_step(self, epoch: int) -> int:
        """The first step that begins in an epoch."""
        return -(-epoch * len(self.order) // self.batch_size)

    def step(self, step: int) -> Draws:
        """The B samples of a step (from 0); with bucketing, the shortest first."""
        size = self.batch_size
        if self.bucket_batches == 0:
            return self.order.draws(step * size, (step + 1) * size)
        epoch = step * size // len(self.order)
        first = self.first_step(epoch)
        start = step - (step - first) % self.bucket_batches
        end = min(start + self.bucket_batches, self.first_step(epoch + 1))
        begin = (step - start) * size
        return self._window(start, end).take(slice(begin, begin + size))

    def _make_window(self, start: int, end: int) -> Draws:
        draws = self.order.draws(start * self.batch_size, end * self.batch_size)
        by_length = self.lengths(draws).argsort(kind="stable").reshape(end - start, -1)
        rng = np.random.default_rng([self.order.seed, _WINDOW, start])
        return draws.take(rng.permutation(by_length).reshape(-1))
