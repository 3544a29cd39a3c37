"""Kernel distance (KID) of feature vectors: Bińkowski et al., arXiv 1801.01401."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arra_med.eval.feature_stats import Array, as_pair, patients_of

_ROWS_AT_ONCE = 1024  # rows of a kernel matrix held in memory together
_LEAST_PATIENTS = 10  # of a subset: with few, resamples often hold one patient alone
_LEAST_DEFINED = 0.95  # share of resamples that must hold two patients on each side


@dataclass(frozen=True)
class Kid:
    """Kernel distance with its 95 % interval; 0 for equal distributions, and may be negative.

    The ends are ``None`` for very few patients, where resamples often hold one patient alone.
    """

    value: float
    low: float | None
    high: float | None


def kid(
    x: ArrayLike,
    y: ArrayLike,
    *,
    generator: np.random.Generator,
    clusters_x: ArrayLike | None = None,
    clusters_y: ArrayLike | None = None,
    subset_size: int | None = 1000,
    bootstrap: int = 1000,
) -> Kid:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³, and a bootstrap interval.

    A patient's vectors are not compared with each other within a set: their likeness is not that
    of two draws, and would raise the distance of equal distributions. The patients of both sets
    are shuffled and cut into the same number of disjoint subsets of about ``subset_size`` vectors
    and ten patients at least; the value is the mean over subsets, which is the estimate on the
    whole sets when they are smaller than that. The interval is a percentile bootstrap over the
    patients of each set; one drawn twice is never compared with itself, which would bias every
    replicate upwards. Memory is some 64 bytes × ``bootstrap`` × the vectors of a subset of the
    larger set, and :data:`_ROWS_AT_ONCE` rows of its kernel matrix.

    Args:
        x: ``(N, D)`` features, N ≥ 2.
        y: ``(M, D)`` features, M ≥ 2.
        generator: shuffles and resamples.
        clusters_x: ``(N,)`` patients of ``x``; without them, each vector is a patient's only one.
        clusters_y: ``(M,)`` those of ``y``.
        subset_size: vectors compared with each other at once; ``None`` compares all with all,
            which varies least and takes time (not memory) in N².
        bootstrap: resamples of the interval.

    Raises:
        ValueError: on other shapes or types, values that are not finite, or a set of one patient.
    """
    a, b = as_pair(x, y, least=2)
    of_a, of_b = _patients(len(a), clusters_x), _patients(len(b), clusters_y)
    patients = [int(of.max()) + 1 for of in (of_a, of_b)]
    subsets = 1 if subset_size is None else round(min(len(a), len(b)) / subset_size)
    subsets = max(1, min(subsets, min(patients) // _LEAST_PATIENTS))
    parts = [np.array_split(generator.permutation(number), subsets) for number in patients]
    estimates = np.zeros((subsets, 1 + bootstrap))  # the value, then its replicates
    for index in range(subsets):
        sets = []
        for values, of, part in ((a, of_a, parts[0][index]), (b, of_b, parts[1][index])):
            n, rows = len(part), np.isin(of, part)
            drawn = generator.multinomial(n, np.full(n, 1 / n), size=bootstrap)
            weights = np.concatenate([np.ones((1, n)), drawn])
            sets.append((values[rows], np.unique(of[rows], return_inverse=True)[1], weights))
        estimates[index] = _weighted_mmd(*sets)
    means = estimates.mean(axis=0)
    resampled = means[1:][np.isfinite(means[1:])]
    if len(resampled) < _LEAST_DEFINED * bootstrap:
        return Kid(float(means[0]), None, None)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Kid(float(means[0]), float(low), float(high))


def kernel_distance(
    x: ArrayLike,
    y: ArrayLike,
    *,
    clusters_x: ArrayLike | None = None,
    clusters_y: ArrayLike | None = None,
) -> float:
    """The value of :func:`kid` on all vectors at once, without an interval.

    Args:
        x: ``(N, D)`` features, N ≥ 2.
        y: ``(M, D)`` features, M ≥ 2.
        clusters_x: ``(N,)`` patients of ``x``; without them, each vector is a patient's only one.
        clusters_y: ``(M,)`` those of ``y``.

    Raises:
        ValueError: on other shapes or types, values that are not finite, or a set of one patient.
    """
    a, b = as_pair(x, y, least=2)
    of_a, of_b = _patients(len(a), clusters_x), _patients(len(b), clusters_y)
    once = [np.ones((1, int(of.max()) + 1)) for of in (of_a, of_b)]
    return float(_weighted_mmd((a, of_a, once[0]), (b, of_b, once[1]))[0])


_Set = tuple[Array, NDArray[np.int64], Array]
"""``(N, D)`` features, ``(N,)`` numbers of their patients, ``(R, P)`` weights of those."""


def _patients(n: int, clusters: ArrayLike | None) -> NDArray[np.int64]:
    """The number of each vector's patient."""
    names, patient_of = np.unique(patients_of(n, clusters), return_inverse=True)
    if clusters is not None and len(names) < 2:
        raise ValueError("all vectors are of one patient: expected two patients at least")
    return patient_of


def _weighted_mmd(x: _Set, y: _Set) -> Array:
    """``(R,)`` squared MMDs; NaN where undefined."""

    def within(values: Array, of: NDArray[np.int64], weights: Array) -> Array:
        vectors = weights * np.bincount(of)
        pairs = np.square(vectors.sum(axis=1)) - np.square(vectors).sum(axis=1)
        pairs = np.where(pairs > 0, pairs, np.nan)  # one patient drawn n times
        each = weights[:, of]
        return np.asarray(_weighted_sum(values, values, each, each, apart=of) / pairs)

    a, b = x[2][:, x[1]], y[2][:, y[1]]
    across = _weighted_sum(x[0], y[0], a, b) / (a.sum(axis=1) * b.sum(axis=1))
    return np.asarray(within(*x) + within(*y) - 2 * across)


def cubic_kernel(a: Array, b: Array) -> Array:
    """``(N, M)`` values (x·y / D + 1)³; multiplied out, since a general power is slow."""
    sums = a @ b.T / a.shape[1] + 1
    return np.asarray(sums * sums * sums)


def _weighted_sum(
    a: Array, b: Array, weights_a: Array, weights_b: Array, apart: NDArray[np.int64] | None = None
) -> Array:
    """Σᵢⱼ wᵢ k(aᵢ, bⱼ) vⱼ for each row of weights, without pairs of one patient of ``apart``."""
    total = np.zeros(len(weights_a))
    for start in range(0, len(a), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        kernel = cubic_kernel(a[rows], b)
        if apart is not None:
            kernel[apart[rows, None] == apart] = 0
        total += ((weights_a[:, rows] @ kernel) * weights_b).sum(axis=1)
    return total
