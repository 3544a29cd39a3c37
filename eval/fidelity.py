"""How close two sets of feature vectors are: Fréchet distance, KID, precision to coverage.

Pure functions of ``(N, D)`` arrays in float64, so that any extractor and any oracle can be put
beside them. Fréchet distance: Heusel et al., arXiv 1706.08500. KID: Bińkowski et al., arXiv
1801.01401. Precision and recall: Kynkäänniemi et al., arXiv 1904.06991. Density and coverage:
Naeem et al., arXiv 2002.09797.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

_ROWS_AT_ONCE = 1024  # rows of a distance matrix held in memory together


class FeatureStats:
    """Exact first and second moments of a set of vectors; sets merge by adding their sums.

    Args:
        dimension: length D of a vector.

    Attributes:
        n: number of vectors seen.
    """

    def __init__(self, dimension: int) -> None:
        self.n = 0
        self._sum = np.zeros(dimension)
        self._products = np.zeros((dimension, dimension))

    def update(self, features: ArrayLike) -> Self:
        """Add ``(N, D)`` vectors; N may be 0.

        Raises:
            ValueError: if they are of another length or not finite.
        """
        values = np.asarray(features, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.dimension:
            raise ValueError(f"expected (N, {self.dimension}) features, got {values.shape}")
        _check_finite(values)
        self.n += len(values)
        self._sum += values.sum(axis=0)
        self._products += values.T @ values
        return self

    def merge(self, other: "FeatureStats") -> Self:
        """Add everything another set has seen; that set may be empty."""
        if other.dimension != self.dimension:
            raise ValueError(f"cannot merge D = {other.dimension} into D = {self.dimension}")
        self.n += other.n
        self._sum += other._sum
        self._products += other._products
        return self

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return len(self._sum)

    @property
    def mean(self) -> Array:
        """``(D,)`` mean.

        Raises:
            ValueError: if no vector was seen.
        """
        self._require(1)
        return self._sum / self.n

    @property
    def cov(self) -> Array:
        """``(D, D)`` unbiased covariance.

        Raises:
            ValueError: if fewer than two vectors were seen.
        """
        self._require(2)
        mean = self.mean
        return (self._products - self.n * np.outer(mean, mean)) / (self.n - 1)

    def frechet_distance(self, other: "FeatureStats") -> float:
        """Fréchet distance to another set, from moments alone; see :func:`frechet_distance`.

        tr (Σ₁Σ₂)^½ is the sum of the singular values of Σ₁^½Σ₂^½, which are the square roots of
        the eigenvalues of Σ₁^½Σ₂Σ₁^½ without the loss of digits of squaring them.
        """
        cov, other_cov = self.cov, other.cov
        cross = _nuclear_norm(_root(cov) @ _root(other_cov))
        shift = float(np.square(self.mean - other.mean).sum())
        return max(0.0, shift + float(np.trace(cov) + np.trace(other_cov)) - 2 * cross)

    def _require(self, least: int) -> None:
        if self.n < least:
            raise ValueError(f"needs at least {least} vectors, has {self.n}")


def frechet_distance(x: ArrayLike, y: ArrayLike) -> float:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2(Σ₁Σ₂)^½) of two sets of vectors.

    With fewer vectors than dimensions the cross term is ‖X_c Y_cᵀ‖_* / √((n - 1)(m - 1)), which is
    the same number without forming D × D matrices. At small n the value is mostly bias: report it
    beside the value of two equally large real sets.

    Args:
        x: ``(N, D)`` features, N ≥ 2.
        y: ``(M, D)`` features, M ≥ 2.

    Raises:
        ValueError: on other shapes or values that are not finite.
    """
    a, b = _pair(x, y)
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"needs at least two vectors in each set, got {len(a)} and {len(b)}")
    dimension = a.shape[1]
    if min(len(a), len(b)) >= dimension:
        stats = FeatureStats(dimension).update(a)
        return stats.frechet_distance(FeatureStats(dimension).update(b))
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    centred_a, centred_b = a - mean_a, b - mean_b
    free_a, free_b = len(a) - 1, len(b) - 1
    cross = _nuclear_norm(centred_a @ centred_b.T) / np.sqrt(free_a * free_b)
    traces = np.square(centred_a).sum() / free_a + np.square(centred_b).sum() / free_b
    return max(0.0, float(np.square(mean_a - mean_b).sum() + traces - 2 * cross))


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
    subset_size: int = 1000,
    bootstrap: int = 1000,
) -> Kid:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³.

    Both sets are shuffled and cut into the same number of disjoint subsets of about
    ``subset_size``; the value is the mean over subsets, which is the estimate on the whole sets
    when they are smaller than that. The interval is a percentile bootstrap over vectors; a vector
    drawn twice is never compared with itself, which would bias every replicate upwards.

    Args:
        x: ``(N, D)`` features, N ≥ 2.
        y: ``(M, D)`` features, M ≥ 2.
        generator: shuffles and resamples.
        subset_size: vectors compared with each other at once; bounds memory.
        bootstrap: resamples of the interval.

    Raises:
        ValueError: on other shapes or values that are not finite.
    """
    a, b = _pair(x, y)
    smaller = min(len(a), len(b))
    if smaller < 2:
        raise ValueError(f"needs at least two vectors in each set, got {len(a)} and {len(b)}")
    subsets = max(1, round(smaller / subset_size))
    parts_a = np.array_split(a[generator.permutation(len(a))], subsets)
    parts_b = np.array_split(b[generator.permutation(len(b))], subsets)
    values, replicates = np.zeros(subsets), np.zeros((subsets, bootstrap))
    for index, (part_a, part_b) in enumerate(zip(parts_a, parts_b, strict=True)):
        kernel_aa, kernel_bb = _kernel(part_a, part_a), _kernel(part_b, part_b)
        np.fill_diagonal(kernel_aa, 0)
        np.fill_diagonal(kernel_bb, 0)
        kernels = (kernel_aa, kernel_bb, _kernel(part_a, part_b))
        ones = np.ones((1, len(part_a))), np.ones((1, len(part_b)))
        values[index] = _weighted_mmd(*kernels, *ones)[0]
        weights = [
            generator.multinomial(n, np.full(n, 1 / n), size=bootstrap).astype(np.float64)
            for n in (len(part_a), len(part_b))
        ]
        replicates[index] = _weighted_mmd(*kernels, *weights)
    low, high = np.nanquantile(replicates.mean(axis=0), [0.025, 0.975])
    return Kid(float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class Prdc:
    """Shares in [0, 1], but density, which may pass 1.

    Attributes:
        precision: of the generated, those within a real picture's neighbourhood.
        recall: of the real, those within a generated picture's neighbourhood.
        density: real neighbourhoods a generated picture lies in, divided by k.
        coverage: of the real, those whose neighbourhood holds a generated picture.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(x: ArrayLike, y: ArrayLike, k: int = 5) -> Prdc:
    """Precision, recall, density and coverage with k-nearest-neighbour balls.

    Args:
        x: ``(N, D)`` features of real pictures.
        y: ``(M, D)`` features of generated pictures.
        k: the ball around a vector reaches to its k-th neighbour in its own set (itself not
            counted); a vector on the rim is outside.

    Raises:
        ValueError: if a set has no more than k vectors, or on other shapes.
    """
    real, generated = _pair(x, y)
    if k < 1 or min(len(real), len(generated)) <= k:
        raise ValueError(
            f"k = {k} needs more than {k} vectors in each set, got {len(real)} and {len(generated)}"
        )
    real_radii, generated_radii = _radii(real, k), _radii(generated, k)
    balls = np.zeros(len(generated), dtype=np.int64)  # real balls each generated vector lies in
    recalled = np.zeros(len(real), dtype=bool)
    covered = np.zeros(len(real), dtype=bool)
    for start in range(0, len(real), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        distances = cdist(real[rows], generated)
        in_real_ball = distances < real_radii[rows, None]
        balls += in_real_ball.sum(axis=0)
        covered[rows] = in_real_ball.any(axis=1)
        recalled[rows] = (distances < generated_radii).any(axis=1)
    return Prdc(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean() / k),
        coverage=float(covered.mean()),
    )


def _radii(values: Array, k: int) -> Array:
    radii = np.zeros(len(values))
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        radii[rows] = np.partition(cdist(values[rows], values), k, axis=1)[:, k]
    return radii


def _kernel(a: Array, b: Array) -> Array:
    return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)


def _weighted_mmd(
    kernel_aa: Array, kernel_bb: Array, kernel_ab: Array, weights_a: Array, weights_b: Array
) -> Array:
    """Squared MMD for each row of weights; the diagonals of the first two kernels are zero."""

    def within(kernel: Array, weights: Array) -> Array:
        pairs = np.square(weights.sum(axis=1)) - np.square(weights).sum(axis=1)
        pairs = np.where(pairs > 0, pairs, np.nan)  # one vector drawn n times: undefined
        return np.asarray(((weights @ kernel) * weights).sum(axis=1) / pairs)

    across = ((weights_a @ kernel_ab) * weights_b).sum(axis=1)
    total = weights_a.sum(axis=1) * weights_b.sum(axis=1)
    return np.asarray(
        within(kernel_aa, weights_a) + within(kernel_bb, weights_b) - 2 * across / total
    )


def _root(cov: Array) -> Array:
    eigenvalues, vectors = scipy.linalg.eigh(cov)
    return np.asarray((vectors * np.sqrt(np.clip(eigenvalues, 0, None))) @ vectors.T)


def _nuclear_norm(matrix: Array) -> float:
    return float(scipy.linalg.svdvals(matrix).sum())


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"expected (N, D) and (M, D) features, got {a.shape} and {b.shape}")
    _check_finite(a)
    _check_finite(b)
    return a, b


def _check_finite(values: Array) -> None:
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise ValueError(f"{bad} of {len(values)} feature vectors hold NaN or infinity")
