"""Counts of very many things in little memory: 64-bit keys, how often, and in which splits."""

import hashlib
from collections.abc import Iterable

import numpy as np

_PENDING = 1 << 16  # additions that wait to be merged, at least


def hash_texts(texts: Iterable[str]) -> np.ndarray:
    """64-bit BLAKE2b hashes, ``(N,)`` uint64.

    Two of a million texts share one by accident with a probability of 3e-8 (n² / 2⁶⁵).
    """
    digests = (
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for text in texts
    )
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


class Tally:
    """How often each key was added, and the union of the bits it was added with.

    A distinct key takes 13 bytes, and a few times that while additions are merged; the order of
    the additions does not matter.
    """

    def __init__(self) -> None:
        self._keys = np.empty(0, np.uint64)
        self._counts = np.empty(0, np.uint32)
        self._bits = np.empty(0, np.uint8)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_waiting = 0

    def add(self, keys: np.ndarray, bits: np.ndarray) -> None:
        """Count ``(N,)`` uint64 keys, seen with ``(N,)`` uint8 bits."""
        self._waiting.append((keys, bits))
        self._num_waiting += len(keys)
        if self._num_waiting >= max(_PENDING, len(self._keys) // 2):
            self._merge()

    @property
    def keys(self) -> np.ndarray:
        """Distinct keys, ascending, ``(K,)`` uint64."""
        self._merge()
        return self._keys

    @property
    def counts(self) -> np.ndarray:
        """How often each of :attr:`keys` was added, ``(K,)`` uint32."""
        self._merge()
        return self._counts

    @property
    def bits(self) -> np.ndarray:
        """The union of the bits of each of :attr:`keys`, ``(K,)`` uint8."""
        self._merge()
        return self._bits

    @property
    def num_in_several(self) -> int:
        """How many keys were added with more than one bit."""
        return int((np.bitwise_count(self.bits) > 1).sum())

    @property
    def num_repeated(self) -> int:
        """How many additions were of a key that was added more than once."""
        counts = self.counts
        return int(counts[counts > 1].sum(dtype=np.int64))

    def num_with(self, bit: int) -> int:
        """How many keys were added with ``bit``."""
        return int((self.bits & bit > 0).sum())

    def _merge(self) -> None:
        if not self._num_waiting:
            return
        new_keys, new_bits = zip(*self._waiting, strict=True)
        keys = np.concatenate([self._keys, *new_keys])
        counts = np.concatenate([self._counts, np.ones(self._num_waiting, np.uint32)])
        bits = np.concatenate([self._bits, *new_bits])
        self._waiting, self._num_waiting = [], 0
        order = np.argsort(keys)
        keys = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        self._keys = keys[starts]
        self._counts = np.add.reduceat(counts[order], starts, dtype=np.uint32)
        self._bits = np.bitwise_or.reduceat(bits[order], starts, dtype=np.uint8)
