"""Micro-batches of a rank, made ahead of time by processes of their own.

A process is asked for a micro-batch by its number alone and works out the rest from the seed.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from arra_med.alignment import Batch
from arra_med.errors import RequestError, WorkError
from arra_med.settings import Training
from arra_med.store import Cache, verify
from arra_med.training.agreement import Agreement
from arra_med.training.data import Examples, TrainingItem, collate
from arra_med.training.order import Draws, Order, Steps
from arra_med.training.packing import Packing, collate_packed, first_fit, spread
from arra_med.training.signals import keep_worker

T = TypeVar("T")
Parcel: TypeAlias = tuple[Tensor, list[tuple[str, torch.dtype, tuple[int, ...]]]]

_READ_ERRORS = (OSError, ValueError, LookupError, RuntimeError)
"""What a damaged file ends in; a loader process that died is a ``RuntimeError``."""


class TrainingSet:
    """All that a run trains on, in its order.

    Args:
        sources: training examples of each folder.
        ratios: share of each that an epoch takes, see :class:`Order`.
        training: of batches, dropping, bucketing and packing.
        seed: of order and dropping.

    Attributes:
        steps: which samples each optimizer step takes.
        total_steps: optimizer steps of the whole run.
        packing: how samples share rows, ``None`` where each has its own.

    Raises:
        RequestError: if a sample is longer than ``training.pack_tokens``.
    """

    def __init__(
        self, sources: Sequence[Examples], ratios: Sequence[float], training: Training, *, seed: int
    ) -> None:
        self.sources = list(sources)
        self.training = training
        layout = self.sources[0].layout
        self.pad_id = layout.pad_id
        order = Order(
            [len(source) for source in sources],
            ratios,
            seed=seed,
            prompt_dropout=training.prompt_dropout,
        )
        self.steps = Steps(
            order,
            [source.lengths() for source in sources],
            promptless=layout.sequence_length(0),
            batch_size=training.batch_size,
            bucket_batches=training.window,
        )
        self.total_steps = order.total_steps(training)
        self.packing = (
            Packing.plan(self.steps, training.pack_tokens, self.total_steps)
            if training.pack_tokens
            else None
        )

    def __len__(self) -> int:
        """Samples an epoch."""
        return len(self.steps.order)

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt."""
        return max(source.longest_prompt for source in self.sources)

    def caches(self) -> list[Cache]:
        """The folders that examples are read from."""
        return [cache for source in self.sources for cache in source.caches()]

    def rows_per_step(self, world_size: int) -> int:
        """Rows of an optimizer step over all ranks: its samples, or packed rows of them.

        Raises:
            RequestError: if packed rows do not divide over ``world_size`` ranks.
        """
        if self.packing is None:
            return self.training.batch_size
        at_once = self.training.micro_batch_size * world_size
        return self.packing.rows_per_step(at_once, self.training.batch_size)

    def counted_in_rows(self, world_size: int) -> Training:
        """The settings with :meth:`rows_per_step` for a batch, as DeepSpeed counts it."""
        return replace(self.training, batch_size=self.rows_per_step(world_size))


class MicroBatches(Dataset[Batch]):
    """A rank's micro-batches by number: step s has numbers ``s · rounds … (s+1) · rounds - 1``.

    Args:
        samples: what the run trains on.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, samples: TrainingSet, *, rank: int, world_size: int) -> None:
        self.samples = samples
        self.rank = rank
        self.micro_batch_size = samples.training.micro_batch_size
        self.rows = samples.rows_per_step(world_size)
        self.at_once = self.micro_batch_size * world_size
        self.rounds = self.rows // self.at_once
        self.share = samples.training.batch_size / (self.rounds * world_size)
        """Samples a micro-batch stands for: the mean over all of a step's is then the mean over
        its samples, however many of them a row holds."""

    def draws(self, number: int) -> list[Draws]:
        """The samples of each row of micro-batch ``number``."""
        step, turn = divmod(number, self.rounds)
        draws = self.samples.steps.step(step)
        first = turn * self.at_once + self.rank * self.micro_batch_size
        own = slice(first, first + self.micro_batch_size)
        packing = self.samples.packing
        if packing is None:
            return [draws.take(slice(row, row + 1)) for row in range(own.start, own.stop)]
        rows = spread(first_fit(self.samples.steps.lengths(draws), packing.tokens), self.rows)
        return [draws.take(row) for row in rows[own]]

    def __getitem__(self, number: int) -> Batch:
        """Micro-batch ``number``, on the CPU."""
        rows = [self._items(draws) for draws in self.draws(number)]
        packing, pad_id = self.samples.packing, self.samples.pad_id
        if packing is None:
            return collate([item for row in rows for item in row], pad_id, share=self.share)
        return collate_packed(rows, pad_id, length=packing.tokens, share=self.share)

    def _items(self, draws: Draws) -> list[TrainingItem]:
        return [
            self.samples.sources[source].item(index, dropped=dropped)
            for source, index, dropped in zip(*(column.tolist() for column in draws), strict=True)
        ]


class Parcels(Dataset[Parcel]):
    """Micro-batches as one tensor each: a process hands over a tensor in about 0.2 ms of the
    training process's own time, and a batch has nine.
    """

    def __init__(self, batches: MicroBatches) -> None:
        self.batches = batches

    def __getitem__(self, number: int) -> Parcel:
        """Micro-batch ``number``, for :func:`opened`."""
        batch: dict[str, Any] = dict(self.batches[number])
        tensors = sorted(batch.items(), key=lambda named: -named[1].itemsize)  # keeps alignment
        content = torch.cat([tensor.reshape(-1).view(torch.uint8) for _, tensor in tensors])
        return content, [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors]


def opened(parcel: Parcel) -> Batch:
    """The micro-batch in a parcel, as views of its one tensor."""
    content, parts = parcel
    batch: dict[str, Tensor] = {}
    begin = 0
    for name, dtype, shape in parts:
        end = begin + math.prod(shape) * dtype.itemsize
        batch[name] = content[begin:end].view(dtype).reshape(shape)
        begin = end
    return cast("Batch", batch)


def loader(
    batches: MicroBatches, numbers: Iterable[int], *, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """Micro-batches ``numbers`` in this order, for any number of processes.

    Processes are forked: mapped files and prompts are shared, not copied, and they use neither the
    GPU nor Arrow's threads. They work ahead by one optimizer step.
    """
    ahead = math.ceil(batches.rounds / workers) + 1 if workers else None
    parcels = DataLoader(
        Parcels(batches),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=ahead,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=keep_worker if workers else None,
    )
    return map(opened, parcels)


def step_batches(
    batches: MicroBatches,
    first_step: int,
    last_step: int,
    *,
    workers: int,
    pin_memory: bool,
    agreement: Agreement | None = None,
) -> Iterator[Batch]:
    """This rank's micro-batches of steps ``first_step … last_step - 1`` (from 0).

    A step begins when every rank has read all its samples.

    Raises:
        WorkError: on every rank, naming what is damaged, if one of them cannot read a sample.
    """
    caches = batches.samples.caches()
    files = Files(caches)
    numbers = range(first_step * batches.rounds, last_step * batches.rounds)
    turns = loader(batches, numbers, workers=workers, pin_memory=pin_memory)

    def read() -> list[Batch]:
        files.check()
        return list(itertools.islice(turns, batches.rounds))

    steps = range(first_step, last_step)
    return itertools.chain.from_iterable(read_together(read, caches, agreement) for _ in steps)


class Files:
    """Notices that a mapped file is gone or cut short, which reading it would not survive.

    Args:
        caches: whose files.
        every: seconds between looks, as a shared disk's answers take time.
    """

    def __init__(self, caches: Sequence[Cache], *, every: float = 10.0) -> None:
        paths = [cache.folder / name for cache in caches for name in cache.manifest["files"]]
        self.sizes = {path: path.stat().st_size for path in paths}
        self.every = every
        self._looked = -math.inf

    def check(self) -> None:
        """Look, if it is time to.

        Raises:
            OSError: if a file is not what it was.
        """
        if time.monotonic() - self._looked < self.every:
            return
        self._looked = time.monotonic()
        for path, size in self.sizes.items():
            if path.stat().st_size != size:
                raise OSError(f"{path} has changed its size")


def read_together(read: Callable[[], T], caches: Sequence[Cache], agreement: Agreement | None) -> T:
    """``read()`` on every rank, which all call this at the same time.

    Args:
        read: reads samples.
        caches: the folders it reads from.
        agreement: of the ranks; ``None`` where there is one process.

    Raises:
        WorkError: on every rank if ``read`` fails on one, naming the files that are damaged.
    """
    result, failure = None, None
    try:
        result = read()
    except _READ_ERRORS as error:
        failure = _diagnosis(error, caches)
    if agreement is None or not agreement.largest(int(failure is not None))[0]:
        if failure is not None:
            raise WorkError(failure)
        return result  # type: ignore[return-value]  # there is one where nothing failed
    told = [str(text) for text in agreement.everyone(failure) if text is not None]
    raise WorkError("; ".join(dict.fromkeys(told)))


def _diagnosis(error: Exception, caches: Sequence[Cache]) -> str:
    """Which files differ from their manifests, or else what went wrong."""
    damaged = []
    for cache in caches:
        try:
            verify(cache.folder, cache.kind)
        except (WorkError, RequestError, OSError) as found:
            damaged.append(str(found))
    if damaged:
        return "; ".join(damaged)
    last = str(error).strip().splitlines()[-1:]
    return (
        f"a sample could not be read ({type(error).__name__}: {' '.join(last)}), though every file "
        "of tokens and features is as it was written. The last checkpoint is intact; if a loader "
        "process was killed, memory was short: lower training.loader_workers"
    )


def loader_rate(
    samples: TrainingSet, *, workers: int, pin_memory: bool = False, steps: int | None = None
) -> float:
    """Samples a second that one rank's loader makes when nothing waits for it.

    Args:
        samples: what the run trains on.
        workers: its processes.
        pin_memory: as in the run.
        steps: optimizer steps to time, after one that is not; by default all of the run.
    """
    batches = MicroBatches(samples, rank=0, world_size=1)
    end = 1 + (samples.total_steps - 1 if steps is None else steps)
    turns = step_batches(batches, 0, end, workers=workers, pin_memory=pin_memory)
    for _ in range(batches.rounds):
        next(turns)
    started = time.perf_counter()
    for _ in turns:
        pass
    return (end - 1) * samples.training.batch_size / (time.perf_counter() - started)
