"""Kernel distance (KID) of feature vectors: Bińkowski et al., arXiv 1801.01401."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from arra_med.eval.feature_stats import Array, as_pair

_ROWS_AT_ONCE = 1024  # rows of a kernel matrix held in memory together


@dataclass(frozen=True)
class Kid:
    """Kernel distance with its 95 % interval; 0 for equal distributions, and may be negative."""

    value: float
    low: float
    high: float


def kid(
    x: ArrayLike,
    y: ArrayLike,
    *,
    generator: np.random.Generator,
    subset_size: int | None = 1000,
    bootstrap: int = 1000,
) -> Kid:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³, and a bootstrap interval.

    Both sets are shuffled and cut into the same number of disjoint subsets of about
    ``subset_size``; the value is the mean over subsets, which is the estimate on the whole sets
    when they are smaller than that. The interval is a percentile bootstrap over vectors; a vector
    drawn twice is never compared with itself, which would bias every replicate upwards.

    Args:
        x: ``(N, D)`` features, N ≥ 2.
        y: ``(M, D)`` features, M ≥ 2.
        generator: shuffles and resamples.
        subset_size: vectors compared with each other at once; ``None`` compares all with all,
            which varies least and takes time (not memory) in N².
        bootstrap: resamples of the interval.

    Raises:
        ValueError: on other shapes or types, or values that are not finite.
    """
    a, b = as_pair(x, y, least=2)
    smaller = min(len(a), len(b))
    subsets = 1 if subset_size is None else max(1, round(smaller / subset_size))
    parts_a = np.array_split(a[generator.permutation(len(a))], subsets)
    parts_b = np.array_split(b[generator.permutation(len(b))], subsets)
    estimates = np.zeros((subsets, 1 + bootstrap))  # the value, then its replicates
    for index, (part_a, part_b) in enumerate(zip(parts_a, parts_b, strict=True)):
        weights = []
        for n in (len(part_a), len(part_b)):
            drawn = generator.multinomial(n, np.full(n, 1 / n), size=bootstrap)
            weights.append(np.concatenate([np.ones((1, n)), drawn]))
        estimates[index] = _weighted_mmd(part_a, part_b, *weights)
    means = estimates.mean(axis=0)
    low, high = np.nanquantile(means[1:], [0.025, 0.975])
    return Kid(float(means[0]), float(low), float(high))


def kernel_distance(x: ArrayLike, y: ArrayLike) -> float:
    """The value of :func:`kid` on all vectors at once, without an interval.

    Args:
        x: ``(N, D)`` features, N ≥ 2.
        y: ``(M, D)`` features, M ≥ 2.

    Raises:
        ValueError: on other shapes or types, or values that are not finite.
    """
    a, b = as_pair(x, y, least=2)
    return float(_weighted_mmd(a, b, np.ones((1, len(a))), np.ones((1, len(b))))[0])


def _weighted_mmd(a: Array, b: Array, weights_a: Array, weights_b: Array) -> Array:
    """``(R,)`` squared MMDs for ``(R, N)`` and ``(R, M)`` weights; NaN where undefined."""

    def within(values: Array, weights: Array) -> Array:
        pairs = np.square(weights.sum(axis=1)) - np.square(weights).sum(axis=1)
        pairs = np.where(pairs > 0, pairs, np.nan)  # one vector drawn n times
        return np.asarray(_weighted_sum(values, values, weights, weights, same=True) / pairs)

    across = _weighted_sum(a, b, weights_a, weights_b, same=False)
    total = weights_a.sum(axis=1) * weights_b.sum(axis=1)
    return np.asarray(within(a, weights_a) + within(b, weights_b) - 2 * across / total)


def _weighted_sum(a: Array, b: Array, weights_a: Array, weights_b: Array, *, same: bool) -> Array:
    """Σᵢⱼ wᵢ k(aᵢ, bⱼ) vⱼ for each row of weights, i = j left out of a set with itself."""
    total = np.zeros(len(weights_a))
    for start in range(0, len(a), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        kernel = (a[rows] @ b.T / a.shape[1] + 1) ** 3
        if same:
            inside = np.arange(len(kernel))
            kernel[inside, start + inside] = 0
        total += ((weights_a[:, rows] @ kernel) * weights_b).sum(axis=1)
    return total
