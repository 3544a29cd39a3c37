"""Precision, recall, density and coverage by nearest neighbours.

Precision and recall: Kynkäänniemi et al., arXiv 1904.06991. Density and coverage: Naeem et al.,
arXiv 2002.09797.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from arra_med.eval.feature_stats import Array, as_pair

CPU = torch.device("cpu")
_ROWS_AT_ONCE = 512  # rows of a distance matrix held in memory together
_PAIRS_AT_ONCE = 8192
_ROUNDING = 1e-12  # of squared lengths; what a matrix product in float64 may be off by


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Membership:
    """Who lies in whose neighbourhood: :class:`Prdc` holds the means, intervals need these.

    Attributes:
        k: neighbours that set a neighbourhood's reach.
        balls: ``(M,)`` real neighbourhoods that each generated picture lies in.
        recalled: ``(N,)`` real pictures within a generated picture's neighbourhood.
        covered: ``(N,)`` real pictures whose neighbourhood holds a generated picture.
    """

    k: int
    balls: NDArray[np.int64]
    recalled: NDArray[np.bool_]
    covered: NDArray[np.bool_]

    @property
    def shares(self) -> Prdc:
        """The four means."""
        return Prdc(
            precision=float((self.balls > 0).mean()),
            recall=float(self.recalled.mean()),
            density=float(self.balls.mean() / self.k),
            coverage=float(self.covered.mean()),
        )


def prdc(x: ArrayLike, y: ArrayLike, k: int = 5, *, device: torch.device = CPU) -> Prdc:
    """Precision, recall, density and coverage with k-nearest-neighbour balls.

    Args:
        x: ``(N, D)`` features of real pictures.
        y: ``(M, D)`` features of generated pictures.
        k: the ball around a vector reaches to its k-th neighbour in its own set (itself not
            counted); a vector on the rim is outside.
        device: where distances are computed, in float64.

    Raises:
        ValueError: if a set has no more than k vectors, or on other shapes or types.
    """
    return memberships(x, y, (k,), device=device)[k].shares


def memberships(
    x: ArrayLike, y: ArrayLike, ks: Sequence[int], *, device: torch.device = CPU
) -> dict[int, Membership]:
    """:func:`prdc` of several k at the price of one, picture by picture.

    Distances come from matrix products; those within rounding of a radius are computed again from
    differences, so that copies and ties fall on the right side.

    Args:
        x: ``(N, D)`` features of real pictures.
        y: ``(M, D)`` features of generated pictures.
        ks: numbers of neighbours.
        device: where distances are computed, in float64.

    Raises:
        ValueError: if a set has no more than the largest k vectors, a k is under 1, or on other
            shapes or types.
    """
    a, b = as_pair(x, y, least=2)
    if min(ks) < 1:
        raise ValueError(f"k counts neighbours: expected at least 1, got {min(ks)}")
    if min(len(a), len(b)) <= max(ks):
        raise ValueError(
            f"k = {max(ks)} needs more than {max(ks)} vectors in each set, got {len(a)} and "
            f"{len(b)}"
        )
    centre = a.mean(axis=0)  # short vectors lose fewer digits
    real, generated = (_Points.of(values - centre, device) for values in (a, b))
    real_radii, generated_radii = (_radii(points, ks) for points in (real, generated))
    balls = torch.zeros(len(ks), len(b), dtype=torch.int64, device=device)
    recalled = torch.zeros(len(ks), len(a), dtype=torch.bool, device=device)
    covered = torch.zeros_like(recalled)
    for start in range(0, len(a), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        part = real.part(rows)
        squared = part.squared_distances(generated)
        for index in range(len(ks)):
            inside = _below(squared, real_radii[index, rows, None], part, generated)
            balls[index] += inside.sum(dim=0)
            covered[index, rows] = inside.any(dim=1)
            inside = _below(squared, generated_radii[index, None], part, generated)
            recalled[index, rows] = inside.any(dim=1)
    return {
        k: Membership(
            k=k,
            balls=balls[index].cpu().numpy(),
            recalled=recalled[index].cpu().numpy(),
            covered=covered[index].cpu().numpy(),
        )
        for index, k in enumerate(ks)
    }


@dataclass(frozen=True, eq=False)
class _Points:
    """``(N, D)`` vectors and their ``(N,)`` squared lengths."""

    vectors: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, values: Array, device: torch.device) -> "_Points":
        vectors = torch.from_numpy(values).to(device)
        return cls(vectors, vectors.square().sum(dim=1))

    def part(self, rows: slice) -> "_Points":
        return _Points(self.vectors[rows], self.lengths[rows])

    def squared_distances(self, others: "_Points") -> Tensor:
        products = torch.addmm(others.lengths, self.vectors, others.vectors.T, alpha=-2)
        return products.add_(self.lengths[:, None])


def _exact(first: Tensor, second: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """``(P,)`` squared distances of first[i] and second[j], without a product's rounding."""
    pieces = [
        (first[i[at : at + _PAIRS_AT_ONCE]] - second[j[at : at + _PAIRS_AT_ONCE]])
        .square()
        .sum(dim=1)
        for at in range(0, len(i), _PAIRS_AT_ONCE)
    ]
    return torch.cat(pieces)


def _radii(points: _Points, ks: Sequence[int]) -> Tensor:
    """``(K, N)`` squared distances to the k-th neighbours within the set."""
    count, pieces = max(ks) + 1, []  # one more: a vector is its own first neighbour
    for start in range(0, len(points.vectors), _ROWS_AT_ONCE):
        part = points.part(slice(start, start + _ROWS_AT_ONCE))
        near = part.squared_distances(points).topk(count, dim=1, largest=False).indices
        row = torch.arange(len(near), device=near.device).repeat_interleave(count)
        exact = _exact(part.vectors, points.vectors, row, near.flatten())
        pieces.append(exact.view(-1, count).sort(dim=1).values[:, list(ks)])
    return torch.cat(pieces).T.contiguous()


def _below(squared: Tensor, radii: Tensor, rows: _Points, columns: _Points) -> Tensor:
    """Where the distance is below the radius, decided exactly where rounding could decide it."""
    slack = _ROUNDING * (rows.lengths[:, None] + columns.lengths)
    below = squared < radii
    i, j = torch.nonzero((squared - radii).abs() <= slack, as_tuple=True)
    if len(i):
        exact = _exact(rows.vectors, columns.vectors, i, j)
        below[i, j] = exact < radii.expand_as(squared)[i, j]
    return below
