"""How far a long stage has come: a bar on a terminal, a line a minute in a batch job's log."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

T = TypeVar("T")

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """Counts up to ``total`` and shows rate and time left; a context manager.

    Args:
        total: what will be counted.
        unit: what one is called.
        label: what is done, if it is not obvious.
    """

    def __init__(self, total: int, *, unit: str, label: str | None = None) -> None:
        on_terminal = sys.stderr.isatty()
        self._sink = None if on_terminal else open(os.devnull, "w")  # noqa: SIM115, PTH123 - closed in __exit__
        self._bar = tqdm(total=total, unit=unit, desc=label, file=self._sink, smoothing=0.05)
        self._last_line = time.monotonic()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Each of ``items``, counted."""
        for item in items:
            self.update()
            yield item

    def update(self, count: int = 1) -> None:
        """Count on."""
        self._bar.update(count)
        now = time.monotonic()
        if self._sink is not None and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            logger.info("%s", self._bar)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._sink is not None:
            self._sink.close()
