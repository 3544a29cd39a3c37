"""Mean and covariance of feature vectors, exact under any split into batches, shards and ranks.

The sums are kept about the running mean and joined as in Chan, Golub and LeVeque, "Updating
formulae and a pairwise algorithm for computing sample variances", Stanford STAN-CS-79-773: plain
sums of squares lose the covariance of features whose mean is far from zero.
"""

from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class FeatureStats:
    """Mean and covariance of a growing set of vectors, in float64.

    Args:
        dimension: length D of a vector.

    Attributes:
        n: number of vectors seen.
    """

    def __init__(self, dimension: int) -> None:
        self.n = 0
        self._mean = np.zeros(dimension)
        self._scatter = np.zeros((dimension, dimension))  # Σ (x - mean)(x - mean)ᵀ

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return len(self._mean)

    def update(self, features: ArrayLike) -> Self:
        """Add ``(N, D)`` floating-point vectors; N may be 0.

        Raises:
            ValueError: if they are of another length or type, or not finite.
        """
        values = as_features(features)
        if values.shape[1] != self.dimension:
            raise ValueError(f"expected (N, {self.dimension}) features, got {values.shape}")
        if len(values):
            mean = values.mean(axis=0)
            centred = values - mean
            self._join(len(values), mean, centred.T @ centred)
        return self

    def merge(self, other: "FeatureStats") -> Self:
        """Add everything another set has seen; that set may be empty.

        Raises:
            ValueError: if its vectors are of another length.
        """
        if other.dimension != self.dimension:
            raise ValueError(f"cannot merge D = {other.dimension} into D = {self.dimension}")
        if other.n:
            self._join(other.n, other._mean, other._scatter)
        return self

    def _join(self, n: int, mean: Array, scatter: Array) -> None:
        total = self.n + n
        shift = mean - self._mean
        self._mean = self._mean + shift * (n / total)
        self._scatter = self._scatter + scatter
        self._scatter += np.outer(shift * (self.n * n / total), shift)
        self.n = total

    @property
    def mean(self) -> Array:
        """``(D,)`` mean.

        Raises:
            ValueError: if no vector was seen.
        """
        self._require(1)
        return self._mean.copy()

    @property
    def cov(self) -> Array:
        """``(D, D)`` unbiased covariance.

        Raises:
            ValueError: if fewer than two vectors were seen.
        """
        self._require(2)
        return self._scatter / (self.n - 1)

    def _require(self, least: int) -> None:
        if self.n < least:
            raise ValueError(f"needs at least {least} vectors, has {self.n}")

    def merged_over_ranks(self) -> "FeatureStats":
        """What all ranks of the process group have seen, the same on each; a rank may have nothing.

        The ranks are joined in order of rank, from one gathered float64 vector each (a count is
        exact in float64 up to 2⁵³). Needs a process group whose backend gathers CPU tensors.
        """
        packed = torch.from_numpy(np.concatenate([[self.n], self._mean, self._scatter.ravel()]))
        gathered = [torch.empty_like(packed) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, packed)
        merged, d = FeatureStats(self.dimension), self.dimension
        for vector in gathered:
            other = FeatureStats(d)
            values = vector.numpy()
            other.n = int(values[0])
            other._mean, other._scatter = values[1 : d + 1], values[d + 1 :].reshape(d, d)
            merged.merge(other)
        return merged


def as_features(features: ArrayLike) -> Array:
    """``(N, D)`` vectors as float64.

    Raises:
        ValueError: if they are not floating-point (pixels or codes handed over by mistake), not
            two-dimensional, or not finite.
    """
    values = np.asarray(features)
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"expected floating-point features, got {values.dtype}")
    if values.ndim != 2:
        raise ValueError(f"expected (N, D) features, got {values.shape}")
    bad = len(values) - int(np.isfinite(values).all(axis=1).sum())
    if bad:
        raise ValueError(f"{bad} of {len(values)} feature vectors hold NaN or infinity")
    return values.astype(np.float64, copy=False)


def patients_of(n: int, clusters: ArrayLike | None) -> NDArray[Any]:
    """``(n,)`` the patient of each vector; its own where none is known.

    Raises:
        ValueError: on another number of them.
    """
    names = np.arange(n) if clusters is None else np.asarray(clusters)
    if names.shape != (n,):
        raise ValueError(f"expected {n} clusters, one a vector, got {len(names)}")
    return names


def as_pair(x: ArrayLike, y: ArrayLike, *, least: int) -> tuple[Array, Array]:
    """Two sets of vectors of one length, at least ``least`` in each, as float64.

    Raises:
        ValueError: as :func:`as_features`, and if the lengths differ or a set is too small.
    """
    a, b = as_features(x), as_features(y)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"expected (N, D) and (M, D) features, got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < least:
        raise ValueError(f"needs at least {least} vectors in each set, got {len(a)} and {len(b)}")
    return a, b
