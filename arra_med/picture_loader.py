"""Pictures as batches for an encoder, decoded by worker processes.

They come from a prepared folder, by part or by key, or from memory. The order never depends on the
number of workers.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from arra_med.errors import RequestError
from arra_med.parallel import process_context
from arra_med.store import PicturePlace, PreparedFolder

Transform = Callable[[Image.Image], Tensor]

_BATCH_BYTES = 64 * 2**20  # several batches a worker wait in shared memory
_AHEAD = 2  # batches a worker prepares before its last one is taken
_BUFFERS = _AHEAD + 1  # that a worker writes to in turn: the last one taken may still be read


@dataclass(frozen=True)
class Batch:
    """Some pictures.

    Attributes:
        part: number of the part that the first of them is of; 0 for pictures in memory.
        keys: of the pictures, ``B``; numbers from 0 for pictures in memory.
        pixels: ``(B, C, S, S)``, what the transform gives, in pinned memory if asked for.
    """

    part: int
    keys: list[str]
    pixels: Tensor

    def pin_memory(self) -> "Batch":
        """Called by the data loader, which knows tensors and collections alone."""
        return replace(self, pixels=self.pixels.pin_memory())


class _Given(NamedTuple):
    key: str
    png: bytes


_Work = Sequence[PicturePlace] | Sequence[_Given]
"""What makes one batch."""


class _Batches(Dataset[Batch]):
    """Batches by what makes them; what a worker process holds.

    Args:
        prepared: where stored pictures are.
        transform: of each picture.
        batch_size: most pictures a batch, if their pixels fit into what workers may hold.
        sample: a picture whose pixels say how many fit.
    """

    def __init__(
        self, prepared: PreparedFolder | None, transform: Transform, batch_size: int, sample: _Work
    ) -> None:
        self._prepared = prepared
        self._buffers: list[Tensor] = []
        self._given = 0
        self._last: tuple[tuple[int, int], list[tuple[str, bytes]]] | None = None
        self.transform = transform
        one = self[sample].pixels
        self.largest = max(1, min(batch_size, _BATCH_BYTES // max(1, one.nbytes)))
        self._last = None  # or it were pickled to every worker

    def __getitem__(self, work: _Work) -> Batch:
        chosen = [self._read(item) for item in work]
        first = self.transform(to_picture(chosen[0][1]))
        pixels = self._buffer(len(chosen), first)
        pixels[0] = first
        for row, (key, png) in enumerate(chosen[1:], start=1):
            one = self.transform(to_picture(png))
            if one.shape != first.shape:  # the assignment would repeat a smaller one
                raise RequestError(
                    f"the transform gave {tuple(first.shape)} for picture {chosen[0][0]} and "
                    f"{tuple(one.shape)} for {key}: every picture must get the same shape"
                )
            pixels[row] = one
        part = work[0].part if isinstance(work[0], PicturePlace) else 0
        return Batch(part, [key for key, _ in chosen], pixels)

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
            empty = torch.empty((self.largest, *one.shape), dtype=one.dtype)
            self._buffers.append(empty.share_memory_())  # type: ignore[no-untyped-call]
        return self._buffers[turn][:size]

    def _read(self, item: PicturePlace | _Given) -> tuple[str, bytes]:
        if isinstance(item, _Given):
            return item
        place = (item.part, item.chunk)
        if self._last is None or self._last[0] != place:
            assert self._prepared is not None, "stored pictures have a folder"
            self._last = (place, self._prepared.read_chunk(*place))
        return self._last[1][item.row]


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
    """Every picture of the given parts, in the folder's order; a batch never crosses a part.

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
    chunks = [
        [PicturePlace(part, chunk, row) for row in range(prepared.chunk_size(part, chunk))]
        for part in parts
        for chunk in range(prepared.num_chunks(part))
    ]
    first = next((chunk[:1] for chunk in chunks if chunk), None)
    if first is None:
        return
    batches = _Batches(prepared, transform, batch_size, first)
    size = batches.largest
    works = [chunk[i : i + size] for chunk in chunks for i in range(0, len(chunk), size)]
    yield from _load(batches, works, len(works), workers, pin_memory)


def load_keys(
    prepared: PreparedFolder,
    keys: Sequence[str],
    transform: Transform,
    *,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """The pictures of the given samples in the *folder's* order, whatever the order of ``keys``.

    Batches are full, however far apart the pictures lie; otherwise as :func:`load_pictures`.

    Raises:
        RequestError: naming keys that have no picture.
        FileNotFoundError: if a part is gone.
    """
    stored = prepared.find(keys)
    if not stored:
        return
    batches = _Batches(prepared, transform, batch_size, stored[:1])
    size = batches.largest
    works = [stored[i : i + size] for i in range(0, len(stored), size)]
    yield from _load(batches, works, len(works), workers, pin_memory)


def load_pngs(
    pngs: Sequence[bytes],
    transform: Transform,
    *,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """PNG pictures that are in memory, in order; otherwise as :func:`load_pictures`."""
    if not pngs:
        return
    batches = _Batches(None, transform, batch_size, [_Given("0", pngs[0])])
    size = batches.largest
    starts = range(0, len(pngs), size)
    works = (
        [_Given(str(row), pngs[row]) for row in range(start, min(start + size, len(pngs)))]
        for start in starts
    )
    yield from _load(batches, works, len(starts), workers, pin_memory)


def _load(
    batches: _Batches, works: Iterable[_Work], count: int, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """Batches in the order of ``works``, of which there are ``count``."""
    workers = min(workers, count)
    how: dict[str, Any] = {}
    if workers:
        context = process_context(__name__, str(batches.transform.__module__))
        how = {"prefetch_factor": _AHEAD, "multiprocessing_context": context}
    loader = DataLoader(
        batches,
        sampler=works,  # a worker is sent what makes its batch, not all pictures
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # or it would draw from the global state
        **how,
    )
    for batch in loader:
        # a worker writes to its buffers again; pinned batches are copies already
        copied = pin_memory or not workers
        yield batch if copied else replace(batch, pixels=batch.pixels.clone())


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
