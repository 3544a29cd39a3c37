"""When one rank stops, all do, and say why.

A rank that fails leaves the others waiting in a collective, where no exception reaches them. So it
writes why it stops into the store that the processes met through, and a thread of each rank reads
that. The same thread notices when its own rank makes no progress: a file system that hangs, a
network that is gone.
"""

import faulthandler
import json
import logging
import os
import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

from torch import distributed
from torch.distributed.distributed_c10d import _get_default_store

from arra_med.errors import PreemptedError, RequestError, WorkError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_FAREWELL_SECONDS = 10.0
"""How long a rank that stops waits for the others to have read why."""
_REASON, _SEEN = "arra_med/reason", "arra_med/seen"


class Watch:
    """Runs beside a rank's work: ends it when another rank failed or when this one is stuck.

    A context manager: an exception that leaves it is what the others are told.

    Args:
        timeout_minutes: how long a rank may go without :meth:`at`; 0 for ever.
    """

    def __init__(self, timeout_minutes: float) -> None:
        self.rank, self.world_size = distributed.get_rank(), distributed.get_world_size()
        self._timeout = timeout_minutes * 60
        self._store: Any = _get_default_store().clone()  # own connection: a get may block the other
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="arra-med-watch", daemon=True)
        self._place = ("start", 0)
        self._since = time.monotonic()

    def at(self, place: str, step: int) -> None:
        """Say what this rank does now: ``step`` is the optimizer step it belongs to."""
        self._place = (place, step)
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        self._since = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if error is None or isinstance(error, PreemptedError) or self.world_size == 1:
            return
        text = str(error) or "interrupted"
        ours = isinstance(error, (WorkError, RequestError, KeyboardInterrupt))
        self._tell(text if ours else f"{type(error).__name__}: {text}")

    def _tell(self, reason: str) -> None:
        """Write why this rank stops, unless another was first; wait until all know."""
        try:
            told = json.dumps([self.rank, reason])
            if self._store.compare_set(_REASON, "", told).decode() == told:
                self._await_all(self.world_size - 1)
            else:
                self._store.add(_SEEN, 1)
        except RuntimeError:  # the store's process is gone: so is everybody
            logger.debug("the store is gone")

    def _await_all(self, num: int) -> None:
        until = time.monotonic() + _FAREWELL_SECONDS
        while self._store.add(_SEEN, 0) < num and time.monotonic() < until:
            time.sleep(0.05)

    def _watch(self) -> None:
        try:
            while not self._over.wait(_POLL_SECONDS):
                if self.world_size > 1:
                    if self._store.check([_REASON]):
                        self._end_with_others()
                    self._store.set(f"arra_med/at/{self.rank}", json.dumps(self._place))
                silent = time.monotonic() - self._since
                if self._timeout and silent > self._timeout:
                    self._end_stuck(silent)
        except RuntimeError as error:
            if not self._over.is_set():
                self._end(f"lost the process that the ranks meet through: {error}")

    def _end_with_others(self) -> None:
        rank, reason = json.loads(self._store.get(_REASON))
        logger.error("error: rank %d stopped, so this one does too: %s", rank, reason)
        self._store.add(_SEEN, 1)
        if self.rank == 0:  # the store may live in this process
            self._await_all(self.world_size - 1)
        self._end(None)

    def _end_stuck(self, silent: float) -> None:
        place, step = self._place
        reason = (
            f"rank {self.rank} is stuck: nothing done for {silent / 60:.1f} minutes, in {place!r} "
            f"of step {step}{self._others()}. The last checkpoint is intact. If the machines are "
            "sound and only slow, raise training.timeout_minutes"
        )
        faulthandler.dump_traceback(sys.__stderr__ or 2)
        if self.world_size > 1:
            self._tell(reason)
        self._end(reason)

    def _others(self) -> str:
        """Where the other ranks were last seen; the odd one out is the culprit."""
        if self.world_size == 1:
            return ""
        said = []
        for rank in range(self.world_size):
            key = f"arra_med/at/{rank}"
            if rank != self.rank and self._store.check([key]):
                place, step = json.loads(self._store.get(key))
                said.append(f"rank {rank} in {place!r} of step {step}")
        return "; " + ", ".join(said) if said else ""

    def _end(self, reason: str | None) -> None:
        """End the process from this thread: the main one may wait where nothing wakes it."""
        if reason is not None:
            logger.error("error: rank %d: %s", self.rank, reason)
        logging.shutdown()
        os._exit(1)
