"""Statistics that say what they rest on: shares, means, areas, differences and means of those.

A statistic is a function of weights, one weight a picture and one row a resample, so that the same
resamples serve paired differences and averages. :mod:`~arra_med.eval.intervals` gives them their
intervals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""``(R, N)`` weights to ``(R,)`` values; NaN where a resample leaves it undefined."""
Kind = Literal["share", "auroc", "difference", "other"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Measure:
    """A statistic that says what it rests on, which its interval needs.

    Attributes:
        compute: the statistic itself.
        kind: what its interval is made by.
        groups: ``(N,)`` counts, not negative, of what each picture adds to each group of pictures
            that the value cannot do without, such as positives and negatives; the group of the
            fewest patients bounds the degrees of freedom.
        influence: of a share or an AUROC: ``(N,)`` how much each picture moves it, to first order
            in its weight; of a mean over pairs: ``(P,)`` the same of each pair.
        pairs: of a mean over pairs: ``(P, 2)`` the pictures of each.
        parts: of a mean of shares or of AUROCs: these.
        bounded: of a difference: whether it is of two shares or AUROCs, and so in [-1, 1].
    """

    compute: Statistic
    kind: Kind
    groups: tuple[Array, ...]
    influence: Array | None = None
    pairs: NDArray[np.int64] | None = None
    parts: tuple["Measure", ...] = ()
    bounded: bool = False

    def __call__(self, weights: Array) -> Array:
        """``(R,)`` values for ``(R, N)`` weights."""
        return self.compute(weights)


def ratio(numerators: Array, denominators: Array, *, kind: Kind = "share") -> Measure:
    """Σ numerators / Σ denominators over pictures, ``(N,)`` each; denominators not negative."""

    def compute(weights: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ numerators) / (weights @ denominators))

    with np.errstate(invalid="ignore", divide="ignore"):
        total = denominators.sum()
        influence = (numerators - denominators * (numerators.sum() / total)) / total
    return Measure(
        compute=compute,
        kind=kind,
        groups=(denominators,),
        influence=influence if kind == "share" else None,
    )


def weighted_mean(values: Sequence[float] | Array) -> Measure:
    """Mean of ``(N,)`` values; those that are NaN are left out.

    Values that are all 0 or 1 make a share, and get a share's interval.
    """
    array = np.asarray(values, dtype=np.float64)
    used = np.isfinite(array)
    is_share = bool(np.isin(array[used], (0.0, 1.0)).all())
    kind: Kind = "share" if is_share else "other"
    return ratio(np.where(used, array, 0.0), used.astype(np.float64), kind=kind)


def pair_mean(pairs: NDArray[np.int64], values: Array) -> Measure:
    """Mean of ``(P,)`` values of ``(P, 2)`` pairs of pictures, a pair weighing as both its ends.

    The pairs are to be chosen without looking at the pictures.
    """

    def compute(weights: Array) -> Array:
        of_pairs = weights[:, pairs[:, 0]] * weights[:, pairs[:, 1]]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((of_pairs @ values) / of_pairs.sum(axis=1))

    return Measure(
        compute=compute,
        kind="other",
        groups=(),
        influence=(values - values.mean()) / len(values),
        pairs=pairs,
    )


def auroc(labels: Array, scores: Array) -> Measure:
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

    def compute(weights: Array) -> Array:
        of_positive = weights[:, positive]
        cumulated = np.zeros((len(weights), len(negative) + 1))
        np.cumsum(weights[:, negative], axis=1, out=cumulated[:, 1:])
        beaten = (cumulated[:, below] + cumulated[:, not_above]) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(
                (of_positive * beaten).sum(axis=1) / (of_positive.sum(axis=1) * cumulated[:, -1])
            )

    influence = np.zeros(len(labels))  # the share of the other class on the right side of each
    if len(positive) and len(negative):
        influence[positive] = (below + not_above) / 2 / len(negative)
        ranked = np.sort(scores[positive])
        left, right = (np.searchsorted(ranked, sorted_scores, side=s) for s in ("left", "right"))
        influence[negative] = 1 - (left + right) / 2 / len(positive)
        influence[positive] = (influence[positive] - influence[positive].mean()) / len(positive)
        influence[negative] = (influence[negative] - influence[negative].mean()) / len(negative)
    return Measure(
        compute=compute,
        kind="auroc",
        groups=((labels == 1).astype(np.float64), (labels == 0).astype(np.float64)),
        influence=influence,
    )


def difference(first: Statistic, second: Statistic) -> Measure:
    """``first`` minus ``second`` on the same resamples: a paired comparison."""
    measures = [m for m in (first, second) if isinstance(m, Measure)]
    return Measure(
        compute=lambda weights: first(weights) - second(weights),
        kind="difference",
        groups=tuple(group for measure in measures for group in measure.groups),
        bounded=[m.kind in ("share", "auroc") for m in measures] == [True, True],
    )


def average(measures: Sequence[Measure]) -> Measure:
    """Mean of several shares, or of several AUROCs, on the same resamples.

    It cannot do without the groups of any of them.
    """
    return Measure(
        compute=lambda weights: np.asarray(np.mean([m(weights) for m in measures], axis=0)),
        kind=measures[0].kind,
        groups=tuple(group for measure in measures for group in measure.groups),
        parts=tuple(measures),
    )
