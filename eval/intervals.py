"""95 % intervals by a bootstrap over patients: pictures of one patient are drawn together.

A statistic is a function of weights, one weight a picture and one row a resample, so that the
same resamples serve paired differences and averages over findings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""``(R, N)`` weights to ``(R,)`` values; NaN where a resample leaves it undefined."""

LEAST_DEFINED = 0.95
"""Share of resamples that must give a value for an interval to be stated."""

_RESAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval; ``None`` with a note where there is none.

    Attributes:
        value: on the pictures as they are.
        low: 2.5th percentile of the resamples.
        high: 97.5th percentile.
        note: why something is ``None``; empty otherwise.
    """

    value: float | None
    low: float | None
    high: float | None
    note: str = ""

    def to_json(self) -> dict[str, float | None]:
        """Value and bounds as the results file holds them."""
        return {"value": self.value, "low": self.low, "high": self.high}


class ClusteredBootstrap:
    """Resamples patients with replacement.

    Args:
        clusters: whose each picture is, N of them.
        replicates: number of resamples.
        generator: draws them, once, here.

    Raises:
        ValueError: without any picture.
    """

    def __init__(
        self, clusters: Sequence[str], *, replicates: int, generator: np.random.Generator
    ) -> None:
        if not clusters:
            raise ValueError("cannot resample an empty set of pictures")
        names, self._cluster_of = np.unique(np.asarray(clusters), return_inverse=True)
        self.num_clusters = len(names)
        share = np.full(self.num_clusters, 1 / self.num_clusters)
        self._counts = generator.multinomial(self.num_clusters, share, size=replicates)

    def resample(self, statistic: Statistic) -> Array:
        """``(R,)`` values of ``statistic`` on the resamples."""
        pieces = [
            statistic(self._weights(start, start + _RESAMPLES_AT_ONCE))
            for start in range(0, len(self._counts), _RESAMPLES_AT_ONCE)
        ]
        return np.concatenate(pieces)

    def _weights(self, start: int, stop: int) -> Array:
        return np.asarray(self._counts[start:stop, self._cluster_of], dtype=np.float64)

    def interval(self, statistic: Statistic) -> Interval:
        """``statistic`` on the pictures as they are, with its percentile interval."""
        value = float(statistic(np.ones((1, len(self._cluster_of))))[0])
        if not np.isfinite(value):
            return Interval(None, None, None, "not defined on these pictures")
        if self.num_clusters < 2:
            return Interval(value, None, None, "no interval: all pictures are of one patient")
        values = self.resample(statistic)
        defined = values[np.isfinite(values)]
        if len(defined) < LEAST_DEFINED * len(values):
            return Interval(
                value, None, None,
                f"no interval: defined in {len(defined)} of {len(values)} resamples",
            )  # fmt: skip
        low, high = np.quantile(defined, [0.025, 0.975])
        return Interval(value, float(low), float(high))


def exact_share(count: int, n: int) -> Interval:
    """``count`` of ``n`` with the exact (Clopper-Pearson) interval for a share in [0, 1].

    It takes the n as independent.
    """
    if not n:
        return Interval(None, None, None, "none to count")
    low = scipy.stats.beta.ppf(0.025, count, n - count + 1) if count else 0.0
    high = scipy.stats.beta.ppf(0.975, count + 1, n - count) if count < n else 1.0
    return Interval(count / n, float(low), float(high))


def weighted_mean(values: Sequence[float] | Array) -> Statistic:
    """Mean of ``(N,)`` values; those that are NaN are left out."""
    array = np.asarray(values, dtype=np.float64)
    used = np.isfinite(array)
    filled = np.where(used, array, 0.0)

    def statistic(weights: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ filled) / (weights @ used.astype(np.float64)))

    return statistic


def pair_mean(pairs: NDArray[np.int64], values: Array) -> Statistic:
    """Mean of ``(P,)`` values of ``(P, 2)`` pairs of pictures, a pair weighing as both its ends."""

    def statistic(weights: Array) -> Array:
        of_pairs = weights[:, pairs[:, 0]] * weights[:, pairs[:, 1]]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((of_pairs @ values) / of_pairs.sum(axis=1))

    return statistic


def auroc(labels: Array, scores: Array) -> Statistic:
    """Area under the ROC curve; ties count one half.

    Args:
        labels: ``(N,)``: 1 positive, 0 negative, anything else (NaN included) left out.
        scores: ``(N,)`` finite.
    """
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    sorted_scores = scores[negative]
    below = np.searchsorted(sorted_scores, scores[positive], side="left")
    not_above = np.searchsorted(sorted_scores, scores[positive], side="right")

    def statistic(weights: Array) -> Array:
        of_positive = weights[:, positive]
        cumulated = np.zeros((len(weights), len(negative) + 1))
        np.cumsum(weights[:, negative], axis=1, out=cumulated[:, 1:])
        beaten = (cumulated[:, below] + cumulated[:, not_above]) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(
                (of_positive * beaten).sum(axis=1) / (of_positive.sum(axis=1) * cumulated[:, -1])
            )

    return statistic


def difference(first: Statistic, second: Statistic) -> Statistic:
    """``first`` minus ``second`` on the same resamples: a paired comparison."""
    return lambda weights: first(weights) - second(weights)


def average(statistics: Sequence[Statistic]) -> Statistic:
    """Mean of several statistics on the same resamples."""
    return lambda weights: np.asarray(np.mean([s(weights) for s in statistics], axis=0))
