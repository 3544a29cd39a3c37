"""Ordered work in several processes, with bounded memory; nothing outlives the main process."""

import contextlib
import functools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from typing import Any, TypeVar

from arra_med.errors import WorkError

A = TypeVar("A")
B = TypeVar("B")

PATIENCE = timedelta(days=7)
"""How long processes wait for one another: torch's half an hour is less than a part may take."""


def available_cores() -> int:
    """Cores this process may use: of the machine, or of its Slurm allocation."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """While this lasts, torch computes on the CPU with ``count`` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """While this lasts, the processes of ``torchrun`` can wait for one another, over gloo."""
    from torch import distributed

    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def process_context(*modules: str) -> ForkServerContext:
    """How worker processes start: forked from a server that has imported ``modules`` once.

    Sixteen processes that each import torch take minutes on a shared disk, and a fork of the main
    process is unsafe beside Arrow's threads and CUDA. The server keeps the modules of the first
    call; what it lacks, a worker imports by itself.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *modules])
    return context


def map_in_order(
    work: Callable[[A], B],
    items: Iterable[A],
    *,
    workers: int,
    ahead: int,
) -> Iterator[B]:
    """``map(work, items)`` in ``workers`` processes; results keep the order.

    Args:
        work: is pickled once to each process.
        items: is consumed a few items ahead of the results.
        workers: 0 does the work in this process.
        ahead: items a worker that are done or wait to be taken; bounds the memory.

    Raises:
        WorkError: if a worker process dies.
    """
    if workers < 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(
        workers,
        mp_context=process_context(_module_of(work)),
        initializer=_start_worker,
        initargs=(work,),
    ) as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(_work_in_worker, item))
                if len(waiting) >= ahead * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise WorkError(
                "a worker process died (killed, or out of memory): run the command again to "
                "resume, with fewer workers if memory was short"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _module_of(work: Callable[..., Any]) -> str:
    inner = work.func if isinstance(work, functools.partial) else work
    return str(inner.__module__)


_work: Callable[[Any], Any] | None = None  # of a worker process


def _start_worker(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _work_in_worker(item: Any) -> Any:  # noqa: ANN401 - whatever the work takes and gives
    assert _work is not None, "the pool's initializer ran"
    return _work(item)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
