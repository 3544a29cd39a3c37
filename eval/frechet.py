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

    Both sets are shuffled and cut into 1, 2, … up to 4 parts of at least D vectors (below D the
    distance is not linear in 1/n); the distances of corresponding parts are averaged and a line
    is fitted over the number of parts. The interval is a jackknife that leaves out one of 20
    groups in turn, on the fit through whole and halves; near a distance of 0 it is too wide
    rather than too narrow. No vector is ever used twice in a set, as a bootstrap would.

    Args:
        x: ``(N, D)`` features.
        y: ``(M, D)`` features.
        generator: shuffles and draws groups.
        clusters_x: whose each vector of ``x`` is; a patient's vectors are left out together.
        clusters_y: the same for ``y``; a name in both sets is one patient.
        forced: go on below two vectors a dimension, where the value is biased upwards.
        device: where the decompositions run, in float64.

    Raises:
        ValueError: as :func:`frechet_distance`; if a set has fewer than 2 D vectors and it is not
            forced; if a set has under 8 vectors, or there are fewer clusters than groups.
    """
    a, b = as_pair(x, y, least=8)
    least = LEAST_PER_DIMENSION * a.shape[1]
    if min(len(a), len(b)) < least and not forced:
        raise ValueError(
            f"needs at least {least} vectors of {a.shape[1]} features in each set, got {len(a)} "
            f"and {len(b)}: a line over 1/n does not fit below"
        )
    folds_a, folds_b = _folds(len(a), len(b), clusters_x, clusters_y, generator)
    order_a, order_b = generator.permutation(len(a)), generator.permutation(len(b))
    a, b, folds_a, folds_b = a[order_a], b[order_b], folds_a[order_a], folds_b[order_b]
    most = min(_MOST_PARTS, max(2, min(len(a), len(b)) // a.shape[1]))
    parts = tuple(range(1, most + 1))
    value = _intercept(a, b, parts, device)
    left_out = np.array(
        [_intercept(a[folds_a != f], b[folds_b != f], (1, 2), device) for f in range(FOLDS)]
    )
    variance = (FOLDS - 1) / FOLDS * np.square(left_out - left_out.mean()).sum()
    half = _T_QUANTILE * float(np.sqrt(variance))
    return FrechetInfinity(value, value - half, value + half, parts)


def _intercept(a: Array, b: Array, parts: Sequence[int], device: torch.device) -> float:
    means = []
    for number in parts:
        pairs = zip(np.array_split(a, number), np.array_split(b, number), strict=True)
        means.append(np.mean([frechet_distance(x, y, device=device) for x, y in pairs]))
    return float(np.polynomial.Polynomial.fit(parts, means, 1)(0.0))


def _folds(
    n: int,
    m: int,
    clusters_x: Sequence[str] | None,
    clusters_y: Sequence[str] | None,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The jackknife group of each vector, equally many clusters in each."""
    if (clusters_x is None) != (clusters_y is None):
        raise ValueError("clusters are needed for both sets or for neither")
    if clusters_x is None or clusters_y is None:
        return generator.permutation(n) % FOLDS, generator.permutation(m) % FOLDS
    if (len(clusters_x), len(clusters_y)) != (n, m):
        raise ValueError(
            f"expected {n} and {m} clusters, one a vector, got {len(clusters_x)} and "
            f"{len(clusters_y)}"
        )
    names, cluster_of = np.unique([*clusters_x, *clusters_y], return_inverse=True)
    if len(names) < FOLDS:
        raise ValueError(f"needs at least {FOLDS} clusters for an interval, got {len(names)}")
    folds = (generator.permutation(len(names)) % FOLDS)[cluster_of]
    return folds[:n], folds[n:]


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
