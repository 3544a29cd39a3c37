"""Pictures of a prepared folder as batches for an encoder, decoded by worker processes.

The order is the folder's, whatever the number of workers; a batch never crosses a part.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from arra_med.errors import RequestError
from arra_med.parallel import process_context
from arra_med.store import PreparedFolder

Transform = Callable[[Image.Image], Tensor]

_BATCH_BYTES = 64 * 2**20  # several batches a worker wait in shared memory
_AHEAD = 2  # batches a worker prepares before its last one is taken
_BUFFERS = _AHEAD + 1  # that a worker writes to in turn: the last one taken may still be read


@dataclass(frozen=True)
class Batch:
    """Some pictures of one part.

    Attributes:
        part: its number.
        keys: of the pictures, ``B``.
        pixels: ``(B, C, S, S)``, what the transform gives, in pinned memory if asked for.
    """

    part: int
    keys: list[str]
    pixels: Tensor

    def pin_memory(self) -> "Batch":
        """Called by the data loader, which knows tensors and collections alone."""
        return replace(self, pixels=self.pixels.pin_memory())


@dataclass(frozen=True)
class _Place:
    part: int
    chunk: int
    start: int
    stop: int


class _Batches(Dataset[Batch]):
    """Batches by number; what a worker process holds."""

    def __init__(
        self, prepared: PreparedFolder, transform: Transform, places: Sequence[_Place]
    ) -> None:
        self._prepared = prepared
        self._transform = transform
        self._places = places
        self._buffers: list[Tensor] = []
        self._given = 0
        self._last: tuple[tuple[int, int], list[tuple[str, bytes]]] | None = None

    def __getitem__(self, number: int) -> Batch:
        place = self._places[number]
        chosen = self._chunk(place.part, place.chunk)[place.start : place.stop]
        first = self._transform(to_picture(chosen[0][1]))
        pixels = self._buffer(len(chosen), first)
        pixels[0] = first
        for row, (key, png) in enumerate(chosen[1:], start=1):
            one = self._transform(to_picture(png))
            if one.shape != first.shape:  # the assignment would repeat a smaller one
                raise RequestError(
                    f"the transform gave {tuple(first.shape)} for picture {chosen[0][0]} and "
                    f"{tuple(one.shape)} for {key}: every picture must get the same shape"
                )
            pixels[row] = one
        return Batch(place.part, [key for key, _ in chosen], pixels)

    def _buffer(self, size: int, one: Tensor) -> Tensor:
        """Memory for a batch; in a worker shared with the main process, and used again.

        Stacking in fresh memory and moving the stack to fresh shared memory took 1 ms a picture of
        224 px, most of it spent on new pages; decoding 512 px and the transform take 4.
        """
        if get_worker_info() is None:
            return torch.empty((size, *one.shape), dtype=one.dtype)
        turn = self._given % _BUFFERS
        self._given += 1
        if turn == len(self._buffers):
            largest = max(place.stop - place.start for place in self._places)
            empty = torch.empty((largest, *one.shape), dtype=one.dtype)
            self._buffers.append(empty.share_memory_())  # type: ignore[no-untyped-call]
        return self._buffers[turn][:size]

    def __len__(self) -> int:
        return len(self._places)

    def _chunk(self, part: int, chunk: int) -> list[tuple[str, bytes]]:
        if self._last is None or self._last[0] != (part, chunk):
            self._last = ((part, chunk), self._prepared.read_chunk(part, chunk))
        return self._last[1]


def to_picture(png: bytes) -> Image.Image:
    """PNG bytes as a grey or RGB picture, as ``arra-med ingest`` wrote it."""
    picture = Image.open(io.BytesIO(png))
    picture.load()
    return picture


def load_pictures(
    prepared: PreparedFolder,
    parts: Sequence[int],
    transform: Transform,
    *,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Every picture of the given parts, in order.

    Args:
        prepared: the folder.
        parts: numbers of its image parts.
        transform: a picture to ``(C, S, S)``; is pickled to the workers.
        batch_size: most pictures a batch; fewer if their pixels take more than 64 MiB.
        workers: processes that decode and transform; 0 does it in this one.
        pin_memory: for asynchronous copies to a GPU.

    Raises:
        FileNotFoundError: if a part is gone.
    """
    places = _places(prepared, parts, _fitting(prepared, parts, transform, batch_size))
    workers = min(workers, len(places))
    how: dict[str, Any] = {}
    if workers:
        context = process_context(__name__, type(transform).__module__)
        how = {"prefetch_factor": _AHEAD, "multiprocessing_context": context}
    loader = DataLoader(
        _Batches(prepared, transform, places),
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_one_thread,
        **how,
    )
    for batch in loader:
        # a worker writes to its buffers again; pinned batches are copies already
        copied = pin_memory or not workers
        yield batch if copied else replace(batch, pixels=batch.pixels.clone())


def _fitting(
    prepared: PreparedFolder, parts: Sequence[int], transform: Transform, batch_size: int
) -> int:
    """The batch size at which the pixels fit into what workers may hold."""
    for part in parts:
        for chunk in prepared.read_chunks(part):
            if chunk:
                pixels = transform(to_picture(chunk[0][1]))
                return max(1, min(batch_size, _BATCH_BYTES // pixels.nbytes))
    return batch_size


def _places(prepared: PreparedFolder, parts: Sequence[int], batch_size: int) -> list[_Place]:
    return [
        _Place(part, chunk, start, min(start + batch_size, size))
        for part in parts
        for chunk in range(prepared.num_chunks(part))
        for size in [prepared.chunk_size(part, chunk)]
        for start in range(0, size, batch_size)
    ]


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
