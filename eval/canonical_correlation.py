"""Regularised canonical correlation: two sets of vectors of the same things into one space.

Hotelling (Biometrika 28, 1936), with the ridge of Vinod (J. Econometrics 4, 1976); the directions
are weighted by a power of their correlation, which retrieval gains by (Gong et al., IJCV 2014).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_POWER = 2
_SMALLEST = 1e-6  # deviation below which a coordinate never varies, and says nothing


@dataclass(frozen=True, eq=False)
class Projection:
    """An affine map, x to (x - mean) @ weights.

    Attributes:
        mean: ``(D,)`` of the vectors it was fitted on.
        weights: ``(D, R)``.
    """

    mean: Array
    weights: Array


def canonical_projections(
    first: Array, second: Array, *, regularisation: float
) -> tuple[Projection, Projection]:
    """Maps of both into one space, where the two vectors of one thing point the same way.

    Args:
        first: ``(N, D)``; its coordinates are brought to deviation 1.
        second: ``(N, E)``, the vector of the same thing in the same row; scales are kept.
        regularisation: added to the diagonals of both covariances, in units of their mean
            diagonal.

    Returns:
        Projections to ``(N, R)``, R the smaller of D and E.
    """
    x_mean, y_mean = first.mean(axis=0), second.mean(axis=0)
    scale = first.std(axis=0)
    scale[scale < _SMALLEST] = np.inf
    x, y = (first - x_mean) / scale, second - y_mean
    x_root = _inverse_root(x.T @ x / len(x), regularisation)
    y_root = _inverse_root(y.T @ y / len(y), regularisation)
    left, correlations, right = np.linalg.svd(x_root @ (x.T @ y / len(x)) @ y_root)
    weight = correlations**_POWER
    rank = len(weight)
    return (
        Projection(x_mean, (x_root @ left[:, :rank]) * weight / scale[:, None]),
        Projection(y_mean, (y_root @ right[:rank].T) * weight),
    )


def _inverse_root(covariance: Array, regularisation: float) -> Array:
    """(C + r mean(diag C) I)^(-1/2) of a symmetric matrix."""
    values, vectors = np.linalg.eigh(covariance)
    ridge = max(regularisation * float(np.trace(covariance)) / len(covariance), _SMALLEST**2)
    return np.asarray((vectors / np.sqrt(values.clip(min=0) + ridge)) @ vectors.T)
