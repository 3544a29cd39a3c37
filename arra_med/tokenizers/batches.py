"""Training pictures in batches whose content is a function of seed and step alone.

A resumed run therefore sees the pictures that an undisturbed one would have seen. Threads decode
the next batches while the network learns (Pillow lets other threads run while it decompresses).
"""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from arra_med.images import decode_png
from arra_med.store import PreparedFolder

Place = tuple[int, int]
"""An image part, and a picture's position in it."""


def to_tensor(pictures: list[np.ndarray]) -> Tensor:
    """``(H, W, C)`` uint8 arrays to one ``(B, C, H, W)`` uint8 tensor."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


class TrainingOrder:
    """In which order the training split's pictures come, epoch after epoch.

    Parts come in random order, and the pictures of each in random order, so that few parts are in
    memory at a time. A batch may reach into the next part or epoch.

    Args:
        prepared: the folder.
        batch_size: pictures a step.
        seed: of the order.

    Raises:
        RequestError: if the training split is empty.
    """

    def __init__(self, prepared: PreparedFolder, *, batch_size: int, seed: int) -> None:
        keys = {row["key"] for row in prepared.rows("train")}
        self._parts = [
            np.flatnonzero([key in keys for key in _keys(path)]) for path in prepared.image_parts
        ]
        self._length = sum(map(len, self._parts))
        self._batch_size = batch_size
        self._seed = seed

    def places(self, start: int, stop: int) -> Iterator[list[Place]]:
        """Where the pictures of steps ``start`` to ``stop - 1`` are."""
        first = start * self._batch_size
        epoch, done = divmod(first, self._length)
        epochs = itertools.chain.from_iterable(map(self._epoch, itertools.count(epoch)))
        stream = itertools.islice(epochs, done, None)
        for _ in range(start, stop):
            yield list(itertools.islice(stream, self._batch_size))

    def _epoch(self, number: int) -> Iterator[Place]:
        rng = np.random.default_rng([self._seed, number])
        for part in rng.permutation(len(self._parts)):
            for position in rng.permutation(self._parts[part]):
                yield int(part), int(position)


def _keys(part: Path) -> list[str]:
    keys: list[str] = pq.read_table(part, columns=["key"])["key"].to_pylist()
    return keys


def training_batches(
    prepared: PreparedFolder,
    order: TrainingOrder,
    *,
    start: int,
    stop: int,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[Tensor]:
    """``(B, C, S, S)`` uint8 batches of steps ``start`` to ``stop - 1``.

    Args:
        prepared: the folder.
        order: which pictures are when.
        start: the first step.
        stop: the step after the last.
        workers: threads that decode; no byte depends on their number.
        pin_memory: for asynchronous copies to a GPU.
    """
    parts: dict[int, Future[list[bytes]]] = {}
    waiting: deque[Future[Tensor]] = deque()

    def read(part: int) -> list[bytes]:
        return [png for _, png in prepared.read_part(part)]

    def decode(chosen: list[tuple[Future[list[bytes]], int]]) -> Tensor:
        # the part's own job was handed in before this one, so that waiting for it ends
        batch = to_tensor([decode_png(part.result()[position]) for part, position in chosen])
        return batch.pin_memory() if pin_memory else batch

    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for places in order.places(start, stop):
            needed = {part for part, _ in places}
            for part in needed - parts.keys():
                parts[part] = pool.submit(read, part)
            chosen = [(parts[part], position) for part, position in places]
            waiting.append(pool.submit(decode, chosen))
            last = places[-1][0]
            parts = {part: job for part, job in parts.items() if part == last}
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
