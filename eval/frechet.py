"""Fréchet distance of feature vectors, and its limit for endlessly many pictures.

Heusel et al., arXiv 1706.08500; the limit: Chong and Forsyth, arXiv 1911.07023.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from arra_med.eval.feature_stats import Array, FeatureStats, as_pair
from arra_med.parallel import torch_threads

CPU = torch.device("cpu")
LEAST_PER_DIMENSION = 2
"""Vectors a dimension below which a Fréchet distance is mostly bias and is not reported."""
FOLDS = 20
"""Groups left out in turn for the interval of the limit."""
_T_QUANTILE = 2.093  # 97.5 % quantile of Student's t with FOLDS - 1 degrees of freedom
_MOST_PARTS = 4


def frechet_distance(x: ArrayLike, y: ArrayLike, *, device: torch.device = CPU) -> float:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2(Σ₁Σ₂)^½) of two sets of vectors; 0 is equal, no upper end.

    tr (Σ₁Σ₂)^½ is the nuclear norm of A₁A₂ᵀ for any A with AᵀA = Σ: the Cholesky factor, or, with
    fewer vectors than dimensions, the centred vectors themselves, which is exact and faster. At
    small n the value is mostly bias: report :func:`frechet_infinity` and a size-matched real
    value beside it.

    Args:
        x: ``(N, D)`` features, N ≥ 2.
        y: ``(M, D)`` features, M ≥ 2.
        device: where the decompositions run, in float64.

    Raises:
        ValueError: on other shapes or types, or values that are not finite.
    """
    a, b = as_pair(x, y, least=2)
    return _distance(_moments(a, device), _moments(b, device))


def frechet_of_stats(x: FeatureStats, y: FeatureStats, *, device: torch.device = CPU) -> float:
    """:func:`frechet_distance` from moments alone.

    Raises:
        ValueError: if a set has fewer than two vectors, or they differ in length.
    """
    if x.dimension != y.dimension:
        raise ValueError(f"cannot compare D = {x.dimension} with D = {y.dimension}")
    moments = [(_tensor(s.mean, device), _factor(_tensor(s.cov, device))) for s in (x, y)]
    return _distance(*moments)


@dataclass(frozen=True)
class FrechetInfinity:
    """Fréchet distance extrapolated to endlessly many pictures.

    Attributes:
        value: 0 for equal distributions; may be negative by chance.
        low: lower end of the 95 % interval.
        high: upper end.
        parts: the fit's sizes, as numbers of parts that each set was cut into.
    """

    value: float
    low: float
    high: float
    parts: tuple[int, ...]


def frechet_infinity(
    x: ArrayLike,
    y: ArrayLike,
    *,
    generator: np.random.Generator,
    clusters_x: Sequence[str] | None = None,
    clusters_y: Sequence[str] | None = None,
    forced: bool = False,
    device: torch.device = CPU,
) -> FrechetInfinity:
    """Intercept of the Fréchet distance over 1/n, with a jackknife interval.

    Patients are dealt into 1, 2, … up to 4 parts of at least D patients (below D the distance is
    not linear in 1/n); the distances of corresponding parts are averaged and a line is fitted over
    the number of parts. A patient's vectors stay together, in both sets: cut vector by vector,
    every part would hold nearly all patients, and the bias that few patients bring would stay. The
    interval is a jackknife that leaves out one of 20 groups of patients in turn, on the fit through
    whole and halves; near a distance of 0 it is too wide rather than too narrow. No vector is ever
    used twice in a set, as a bootstrap would.

    Args:
        x: ``(N, D)`` features.
        y: ``(M, D)`` features.
        generator: shuffles and draws groups.
        clusters_x: whose each vector of ``x`` is; without it, each is a patient's only one.
        clusters_y: the same for ``y``; a name in both sets is one patient.
        forced: go on below two patients a dimension, where the value is biased upwards.
        device: where the decompositions run, in float64.

    Raises:
        ValueError: as :func:`frechet_distance`; if a set has fewer than 2 D patients and it is not
            forced; if a set has under 8 vectors, or fewer clusters than groups.
    """
    a, b = as_pair(x, y, least=8)
    of_a, of_b = _patients(len(a), len(b), clusters_x, clusters_y)
    patients, dimension = [len(np.unique(of)) for of in (of_a, of_b)], a.shape[1]
    least = LEAST_PER_DIMENSION * dimension
    if min(patients) < least and not forced:
        raise ValueError(
            f"needs at least {least} vectors of {dimension} features, of different patients, in "
            f"each set, got {patients[0]} and {patients[1]}: a line over 1/n does not fit below"
        )
    parts = tuple(range(1, min(_MOST_PARTS, max(2, min(patients) // dimension)) + 1))

    def intercept(dealt: NDArray[np.int64], parts: Sequence[int]) -> float:
        means = []
        for number in parts:
            hands = [dealt[first::number] for first in range(number)]
            pairs = [(a[np.isin(of_a, hand)], b[np.isin(of_b, hand)]) for hand in hands]
            means.append(np.mean([frechet_distance(x, y, device=device) for x, y in pairs]))
        return float(np.polynomial.Polynomial.fit(parts, means, 1)(0.0))

    dealt, groups = _dealt(of_a, of_b, generator), _dealt(of_a, of_b, generator)
    value = intercept(dealt, parts)
    left_out = np.array(
        [intercept(dealt[~np.isin(dealt, groups[f::FOLDS])], (1, 2)) for f in range(FOLDS)]
    )
    variance = (FOLDS - 1) / FOLDS * np.square(left_out - left_out.mean()).sum()
    half = _T_QUANTILE * float(np.sqrt(variance))
    return FrechetInfinity(value, value - half, value + half, parts)


def _patients(
    n: int, m: int, clusters_x: Sequence[str] | None, clusters_y: Sequence[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of each vector's patient, the same in both sets."""
    if (clusters_x is None) != (clusters_y is None):
        raise ValueError("clusters are needed for both sets or for neither")
    if clusters_x is None or clusters_y is None:
        return np.arange(n), np.arange(n, n + m)
    if (len(clusters_x), len(clusters_y)) != (n, m):
        raise ValueError(
            f"expected {n} and {m} clusters, one a vector, got {len(clusters_x)} and "
            f"{len(clusters_y)}"
        )
    counts = len(set(clusters_x)), len(set(clusters_y))
    if min(counts) < FOLDS:
        raise ValueError(
            f"needs at least {FOLDS} clusters in each set for an interval, got {counts[0]} and "
            f"{counts[1]}"
        )
    _, patient_of = np.unique([*clusters_x, *clusters_y], return_inverse=True)
    return patient_of[:n], patient_of[n:]


def _dealt(
    of_a: NDArray[np.int64], of_b: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """All patients at random; every k-th of them is an equal share of each set's patients."""
    patients = np.union1d(of_a, of_b)
    kind = np.isin(patients, of_b).astype(int) - np.isin(patients, of_a)  # those of both: between
    return np.asarray(patients[np.lexsort((generator.permutation(len(patients)), kind))])


_Moments = tuple[Tensor, Tensor]  # mean (D,) and a factor (R, D) whose AᵀA is the covariance


def _moments(values: Array, device: torch.device) -> _Moments:
    vectors = _tensor(values, device)
    mean = vectors.mean(dim=0)
    centred = vectors - mean
    if len(vectors) < vectors.shape[1]:
        return mean, centred / (len(vectors) - 1) ** 0.5
    return mean, _factor(centred.T @ centred / (len(vectors) - 1))


def _factor(cov: Tensor) -> Tensor:
    """``(D, D)`` A with AᵀA = Σ; a Σ that is singular to working precision has no Cholesky one."""
    factor: Tensor
    lower, failed = torch.linalg.cholesky_ex(cov)
    if int(failed):
        eigenvalues, vectors = torch.linalg.eigh(cov)
        factor = eigenvalues.clamp_min(0).sqrt()[:, None] * vectors.T
    else:
        factor = lower.T
    return factor


def _distance(x: _Moments, y: _Moments) -> float:
    (mean_x, factor_x), (mean_y, factor_y) = x, y
    # singular values, not roots of the eigenvalues of a product: squaring loses half the digits
    cross = _singular_values(factor_x @ factor_y.T).sum()
    traces = factor_x.square().sum() + factor_y.square().sum()
    return max(0.0, float((mean_x - mean_y).square().sum() + traces - 2 * cross))


def _singular_values(matrix: Tensor) -> Tensor:
    """On the CPU by one thread: LAPACK's threads meet at every column and, where cores are shared,
    wait for each other many times longer than they save.
    """
    alone = torch_threads(1) if matrix.device.type == "cpu" else nullcontext()
    with alone:
        values: Tensor = torch.linalg.svdvals(matrix)
    return values


def _tensor(values: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
