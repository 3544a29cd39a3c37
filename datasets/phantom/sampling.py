"""What drawn collections share: generators by purpose, evenly spread findings, filled splits."""

import hashlib
from collections.abc import Sequence

import numpy as np

from arra_med.errors import RequestError
from arra_med.schema import SPLITS, Split


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator of its own for each purpose and index, whatever else is drawn."""
    name = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")
    return np.random.default_rng([seed, name, *numbers])


class EvenlySpread:
    """Numbers in [0, 1) by index that every stretch of indices covers evenly.

    A Kronecker sequence: index × √prime modulo 1, from a start that the seed decides. Findings
    chosen by it reach nearly their share in every split, unlike findings chosen by coin flips.

    Args:
        seed: decides the start.
        dimensions: numbers an index gets, at most 14.
    """

    _PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)

    def __init__(self, seed: int, dimensions: int) -> None:
        self._start = generator(seed, "evenly-spread").random(dimensions)
        self._steps = np.sqrt(self._PRIMES[:dimensions])

    def __getitem__(self, index: int) -> np.ndarray:
        """``(dimensions,)`` float64 in [0, 1)."""
        return np.asarray((self._start + index * self._steps) % 1)


class SplitFiller:
    """Gives each patient, in order, to the split that is furthest below its share.

    Args:
        shares: of train, validate and test.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self._shares = dict(zip(SPLITS, shares, strict=True))
        self._filled: dict[Split, int] = dict.fromkeys(SPLITS, 0)

    @property
    def total(self) -> int:
        """Pictures given out so far."""
        return sum(self._filled.values())

    def next_split(self) -> Split:
        """Where the next patient goes."""
        return max(SPLITS, key=lambda s: self._shares[s] * (self.total + 1) - self._filled[s])

    def add(self, split: Split, num_pictures: int) -> None:
        """Count a patient's pictures."""
        self._filled[split] += num_pictures

    def check(self) -> None:
        """Check that every split that should hold something does.

        Raises:
            RequestError: if one is empty.
        """
        empty = [s for s in SPLITS if self._shares[s] > 0 and not self._filled[s]]
        if empty:
            raise RequestError(
                f"num_samples={self.total} leaves nobody for {', '.join(empty)} with split_shares "
                f"{list(self._shares.values())}: draw more, or set those shares to 0"
            )
