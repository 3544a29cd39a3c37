"""Statistics of paired comparisons whose sampling a plain resample of pictures would get wrong."""

from collections.abc import Sequence

import numpy as np
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import Tensor

from arra_med.eval.estimators import Statistic
from arra_med.eval.feature_stats import Array, as_features, as_pair
from arra_med.eval.intervals import Interval
from arra_med.eval.kernel import cubic_kernel

HALVES = 5
"""Random halves of the patients from which the variance is taken that generated pictures bring."""

MOST_IN_HALF = 750
"""Pictures of a half: the price of neighbours grows with their square."""

_ROWS_AT_ONCE = 1024  # rows of a kernel matrix held in memory together
_Z = 1.959964  # 97.5 % quantile of the normal distribution

Features = NDArray[np.floating]
Half = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows of the pictures of one half of the patients, and of the other."""


def within(values: Features, patients: Sequence[str]) -> float:
    """Mean kernel of a set's pairs of pictures of different patients.

    Args:
        values: ``(N, D)`` features.
        patients: N of them.

    Raises:
        ValueError: if all pictures are of one patient.
    """
    a = as_features(values)
    sums, _, sizes = _cluster_sums(a, a, patients, patients)
    pairs = sizes.sum() ** 2 - np.square(sizes).sum()
    if not pairs:
        raise ValueError("all pictures are of one patient: expected two patients at least")
    return float((sums.sum() - np.trace(sums)) / pairs)


def clustered_kid(
    real: Features,
    generated: Features,
    real_patients: Sequence[str],
    patients: Sequence[str],
    *,
    within_real: float | None = None,
) -> Statistic:
    """KID (see :mod:`arra_med.eval.kernel`) as a statistic over the generated pictures' patients.

    Pictures of one patient are not compared with each other within a set: their likeness is not
    that of two draws, and a patient drawn twice would raise every replicate.

    Args:
        real: ``(M, D)`` features, as given in every resample.
        generated: ``(N, D)`` features.
        real_patients: M of them.
        patients: N of them; resamples must weigh all pictures of one alike.
        within_real: :func:`within` of the real pictures, if it is known already.

    Returns:
        A statistic of ``(R, N)`` weights; NaN where one patient is left.

    Raises:
        ValueError: on other shapes or types, values that are not finite, or one real patient.
    """
    a, b = as_pair(real, generated, least=2)
    constant = within(a, real_patients) if within_real is None else within_real
    sums, first, sizes = _cluster_sums(b, b, patients, patients)
    across, _, _ = _cluster_sums(b, a, patients, [""] * len(a))
    np.fill_diagonal(sums, 0)
    to_real = across[:, 0] / len(a)

    def statistic(weights: Array) -> Array:
        drawn = weights[:, first]
        pictures = drawn @ sizes
        pairs = np.square(pictures) - np.square(drawn * sizes).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            alike = ((drawn @ sums) * drawn).sum(axis=1) / pairs
            return np.asarray(constant + alike - 2 * (drawn @ to_real) / pictures)

    return statistic


def _cluster_sums(
    x: Array, y: Array, of_x: Sequence[str], of_y: Sequence[str]
) -> tuple[Array, NDArray[np.int64], Array]:
    """``(P, Q)`` kernel sums by patient, and the first picture and the size of each of the P."""
    _, first, cluster, counts = np.unique(
        np.asarray(of_x), return_index=True, return_inverse=True, return_counts=True
    )
    _, cluster_y, counts_y = np.unique(np.asarray(of_y), return_inverse=True, return_counts=True)
    columns = y[np.argsort(cluster_y, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(counts_y)[:-1]])
    sums = np.zeros((len(first), len(counts_y)))
    for start in range(0, len(x), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        kernel = cubic_kernel(x[rows], columns)
        np.add.at(sums, cluster[rows], np.add.reduceat(kernel, starts, axis=1))
    return sums, first, counts.astype(np.float64)


def widened(found: Interval, halves: Array | None) -> Interval:
    """An interval of recall or coverage, or of a difference of two, and its p value, widened.

    The variance of ``halves`` is added to its own, on each side. The p value is where the wider
    interval just reaches 0.

    Args:
        found: each side is taken as 1.96 standard errors; of a difference if it has a p value,
            in [−1, 1] then, else in [0, 1].
        halves: from :func:`recall_contrasts` or :func:`coverage_contrasts`, whose mean square is a
            variance; ``None`` leaves the interval as it is.
    """
    if halves is None or found.value is None or found.low is None or found.high is None:
        return found
    extra = float(np.square(halves).mean())
    if extra == 0:
        return found
    ends = (found.value - found.low, found.high - found.value)
    below, above = (float(np.sqrt(max(0.0, end) ** 2 + _Z**2 * extra)) for end in ends)
    low, high, p = found.value - below, found.value + above, found.p
    if p is not None:
        to_zero = below if found.value > 0 else above
        p = float(2 * scipy.stats.norm.sf(_Z * abs(found.value) / to_zero))
    return Interval(found.value, max(0.0 if p is None else -1.0, low), min(1.0, high), p=p)


def recall_contrasts(
    real: Features,
    generated: Features,
    halves: Sequence[Half],
    *,
    k: int,
    device: torch.device,
) -> Array:
    """``(S,)`` recall by one half of the patients minus recall by the other, on the scale of all.

    Both halves see the same real pictures, so that a contrast has twice the variance that so many
    generated pictures bring. Half its mean square, scaled by size, is what all of them bring;
    against simulated sets it is somewhat too large, and tests rather miss a difference than invent
    one.

    Args:
        real: ``(N, D)`` features.
        generated: ``(M, D)`` features.
        halves: from :func:`patient_halves`.
        k: neighbours.
        device: where distances are computed.
    """
    x, y = (torch.from_numpy(as_features(v)).to(device) for v in (real, generated))
    contrasts = []
    for half in halves:
        recalls = [_recall(x, y[torch.from_numpy(rows).to(device)], k) for rows in half]
        pictures = (len(half[0]) + len(half[1])) / 2
        contrasts.append((recalls[0] - recalls[1]) * np.sqrt(pictures / (2 * len(y))))
    return np.array(contrasts)


def coverage_contrasts(
    real: Features,
    generated: Features,
    patients: Sequence[str],
    *,
    k: int,
    device: torch.device,
) -> Array:
    """``(P,)`` what each patient's generated pictures alone add to coverage, centred and scaled.

    The mean square is the jackknife's variance, which on average is no smaller than the true one
    (Efron and Stein, Annals of Statistics 9, 1981).

    Args:
        real: ``(N, D)`` features.
        generated: ``(M, D)`` features.
        patients: whose prompt each of the M is.
        k: neighbours.
        device: where distances are computed.
    """
    x, y = (torch.from_numpy(as_features(v)).to(device) for v in (real, generated))
    names, cluster = np.unique(np.asarray(patients), return_inverse=True)
    whose = torch.from_numpy(cluster).to(device)
    alone = torch.zeros(len(names), dtype=torch.float64, device=device)
    for start in range(0, len(x), _ROWS_AT_ONCE):
        part = x[start : start + _ROWS_AT_ONCE]
        radii = torch.cdist(part, x).kthvalue(k + 1, dim=1).values
        inside = (torch.cdist(part, y) < radii[:, None]).double()
        by_patient = inside.new_zeros(len(part), len(names)).index_add_(1, whose, inside) > 0
        alone += by_patient[by_patient.sum(dim=1) == 1].sum(dim=0)
    shares = alone.cpu().numpy() / len(x)
    return np.asarray(np.sqrt(len(names) - 1) * (shares - shares.mean()))


def _recall(real: Tensor, generated: Tensor, k: int) -> float:
    radii = torch.cdist(generated, generated).kthvalue(k + 1, dim=1).values
    starts = range(0, len(real), _ROWS_AT_ONCE)
    inside = [
        (torch.cdist(real[start : start + _ROWS_AT_ONCE], generated) < radii).any(dim=1)
        for start in starts
    ]
    return float(torch.cat(inside).double().mean())


def patient_halves(
    patients: Sequence[str], generator: np.random.Generator, *, least: int
) -> list[Half]:
    """Random halves of the patients.

    Args:
        patients: whose each of N pictures is.
        generator: draws them.
        least: pictures that each half must have.

    Returns:
        :data:`HALVES` pairs of rows, of at most some :data:`MOST_IN_HALF` pictures each; none if a
        half would be too small.
    """
    names, cluster = np.unique(np.asarray(patients), return_inverse=True)
    most = max(2, int(len(names) * min(1.0, 2 * MOST_IN_HALF / len(cluster))))
    halves = []
    for _ in range(HALVES):
        order = generator.permutation(len(names))[:most]
        first, second = (
            np.flatnonzero(np.isin(cluster, part)) for part in np.array_split(order, 2)
        )
        if min(len(first), len(second)) < least:
            return []
        halves.append((first, second))
    return halves
