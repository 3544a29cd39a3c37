"""Signals that ask a training to stop: as clusters send them before they take a machine away.

Slurm sends SIGTERM when a job is pre-empted, cancelled or out of time, and before that whatever
``--signal`` names, by custom SIGUSR1 or SIGUSR2. Training notes it, goes on to the end of the step,
and there all ranks agree to stop (:mod:`arra_med.training.agreement`).
"""

import contextlib
import logging
import os
import signal
import time
from types import FrameType, TracebackType
from typing import Self

logger = logging.getLogger(__name__)

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that ask for a checkpoint and an end."""

_REPEAT_SECONDS = 3.0
"""One request arrives several times: from Slurm, and from a launcher that hands it on."""
_WORKER_SECONDS = 60


class StopSignals:
    """Notes the first stopping signal while the block runs; a second one, later, ends at once.

    Attributes:
        received: number of the signal that came; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._since = 0.0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        with contextlib.suppress(ValueError):  # not the main thread, which alone gets signals
            for number in STOPPING:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._since = number, now
        elif now - self._since > _REPEAT_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def keep_worker(index: int) -> None:
    """Let a loader's process outlive stopping signals: ``worker_init_fn`` of a ``DataLoader``.

    Slurm signals every process of a job. A loader's process that died of it would take the step
    with it that training wants to finish. After SIGTERM it ends by itself in a minute, so that a
    parent which ends its children this way does not wait for ever.

    Args:
        index: of the worker; not used.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
    signal.signal(signal.SIGTERM, lambda number, frame: _alarm())


def _alarm() -> None:
    signal.alarm(_WORKER_SECONDS)
