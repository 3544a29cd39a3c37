"""Source pictures to PNG at the training size, in this process or in several."""

import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from arra_med import images
from arra_med.datasets.base import DatasetAdapter, UnreadableImage
from arra_med.errors import WorkError
from arra_med.schema import Exclusion, Sample, sample_row
from arra_med.settings import Ingest

logger = logging.getLogger(__name__)

_AHEAD = 4  # pictures a worker that are decoded or wait to be written; bounds the memory


@dataclass(frozen=True)
class Decoded:
    """A sample whose picture was read.

    Attributes:
        row: its row of ``samples.parquet``.
        png: its picture at the training size.
    """

    row: dict[str, Any]
    png: bytes


def decode(
    adapter: DatasetAdapter, sample: Sample, size: int, crop: images.Crop
) -> Decoded | Exclusion:
    """Read one sample's picture, bring it to the training size and encode it.

    Returns:
        The result, or an exclusion ``unreadable-image`` that says why there is none.
    """
    try:
        picture = adapter.read(sample)
        height, width = picture.pixels.shape[:2]
        png = images.encode_png(images.fit(picture.pixels, size, crop))
        row = sample_row(sample, sha256=picture.sha256, width=width, height=height)
        return Decoded(row, png)
    except UnreadableImage as error:
        detail = str(error)
    except Exception as error:  # noqa: BLE001 - the boundary of one item
        logger.warning("%s: the reader failed with %s", sample.key, type(error).__name__)
        detail = f"the reader failed ({type(error).__name__})"
    return Exclusion(
        item=sample.key, source=sample.source, reason="unreadable-image", detail=detail
    )


def decode_in_order(
    adapter: DatasetAdapter, samples: Iterable[Sample], settings: Ingest
) -> Iterator[Decoded | Exclusion]:
    """:func:`decode` every sample, with ``settings.workers`` processes; results keep the order.

    Raises:
        WorkError: if a worker process dies.
    """
    if settings.workers < 1:
        for sample in samples:
            yield decode(adapter, sample, settings.size, settings.crop)
        return
    with ProcessPoolExecutor(
        settings.workers,
        mp_context=multiprocessing.get_context("spawn"),  # fork is unsafe beside Arrow's threads
        initializer=_start_worker,
        initargs=(adapter, settings.size, settings.crop),
    ) as pool:
        waiting: deque[tuple[str, Future[Decoded | Exclusion]]] = deque()
        try:
            for sample in samples:
                waiting.append((sample.key, pool.submit(_decode_in_worker, sample)))
                if len(waiting) >= _AHEAD * settings.workers:
                    yield waiting.popleft()[1].result()
            while waiting:
                yield waiting.popleft()[1].result()
        except BrokenProcessPool as error:
            keys = ", ".join(key for key, _ in list(waiting)[: settings.workers])
            raise WorkError(
                f"a decoding process died (killed, or out of memory) near {keys}: run the command "
                "again to resume, with fewer workers if memory was short"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_worker: tuple[DatasetAdapter, int, images.Crop] | None = None  # of a worker process


def _start_worker(adapter: DatasetAdapter, size: int, crop: images.Crop) -> None:
    global _worker
    _worker = (adapter, size, crop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _decode_in_worker(sample: Sample) -> Decoded | Exclusion:
    assert _worker is not None, "the pool's initializer ran"
    adapter, size, crop = _worker
    return decode(adapter, sample, size, crop)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
