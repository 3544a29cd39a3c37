"""Nearest neighbours of some vectors in a large bank, exactly, in bounded memory.

Distances are first taken from float32 matrix products; the few nearest are then computed again in
float64 from differences, so that a copy lies at distance 0 and not at the rounding of a product.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CPU = torch.device("cpu")
Metric = Literal["euclidean", "cosine"]
Vectors = NDArray[np.floating]
"""``(N, D)`` of any floating type; may be memory-mapped: it is read in pieces."""

_SPARE = 4  # candidates beyond those asked for, should rounding have changed their order
_BANK_ROWS, _QUERY_ROWS = 4096, 4096


@dataclass(frozen=True, eq=False)
class Nearest:
    """Nearest first.

    Attributes:
        distances: ``(Q, k)`` float64, of unit vectors for the cosine metric (0 equal, 2 opposite);
            infinite where fewer than k were allowed.
        rows: ``(Q, k)`` rows of the bank; -1 where fewer than k were allowed.
    """

    distances: NDArray[np.float64]
    rows: NDArray[np.int64]


def nearest(
    queries: Vectors,
    bank: Vectors,
    *,
    k: int = 1,
    metric: Metric = "euclidean",
    query_owners: NDArray[np.int64] | None = None,
    bank_owners: NDArray[np.int64] | None = None,
    device: torch.device = CPU,
) -> Nearest:
    """The k nearest rows of ``bank`` for each query.

    Args:
        queries: ``(Q, D)`` finite vectors.
        bank: ``(N, D)`` finite vectors.
        k: how many.
        metric: Euclidean distance, or that of the vectors scaled to length 1.
        query_owners: ``(Q,)`` patients as numbers; rows of the same patient are passed over, and
            none for a number below 0.
        bank_owners: ``(N,)`` patients as numbers; needed with ``query_owners``.
        device: where products are computed; holds some 200 MB beside the queries.

    Raises:
        ValueError: on other shapes or types, vectors that are not finite (or of length 0 with the
            cosine metric), an empty bank, or owners of one side only.
    """
    _check(queries, bank, k, query_owners, bank_owners)
    centre = _mean(bank, metric)
    pieces = []
    for start in range(0, len(queries), _QUERY_ROWS):
        rows = slice(start, start + _QUERY_ROWS)
        owners = None if query_owners is None else query_owners[rows]
        part = _prepare(queries[rows], metric)
        candidates = _candidates(
            part - centre, bank, centre, k + _SPARE, metric, owners, bank_owners, device
        )
        pieces.append(_ranked(part, bank, candidates, k, metric))
    if not pieces:
        return Nearest(np.zeros((0, k)), np.zeros((0, k), dtype=np.int64))
    distances, rows_found = zip(*pieces, strict=True)
    return Nearest(np.concatenate(distances), np.concatenate(rows_found))


def pair_distances(
    vectors: Vectors, pairs: NDArray[np.int64], *, metric: Metric = "euclidean"
) -> NDArray[np.float64]:
    """Distances within one set.

    Args:
        vectors: ``(N, D)`` finite vectors.
        pairs: ``(P, 2)`` rows of them.
        metric: as :func:`nearest` takes it.

    Returns:
        ``(P,)`` in the unit of the vectors, or in [0, 2] with the cosine metric.

    Raises:
        ValueError: as :func:`nearest`.
    """
    pieces = [np.zeros(0)]
    for start in range(0, len(pairs), _QUERY_ROWS):
        first, second = pairs[start : start + _QUERY_ROWS].T
        pieces.append(
            _lengths(_prepare(vectors[first], metric) - _prepare(vectors[second], metric))
        )
    return np.concatenate(pieces)


def _candidates(
    queries: NDArray[np.float64],
    bank: Vectors,
    centre: NDArray[np.float64],
    count: int,
    metric: Metric,
    query_owners: NDArray[np.int64] | None,
    bank_owners: NDArray[np.int64] | None,
    device: torch.device,
) -> NDArray[np.int64]:
    """``(Q, ≤ count)`` rows that may be nearest, by float32 products; -1 for none."""
    left = torch.from_numpy(queries.astype(np.float32)).to(device)
    best = torch.full((len(left), 0), torch.inf, device=device)
    best_rows = torch.full((len(left), 0), -1, dtype=torch.int64, device=device)
    masked = query_owners is not None and bool((query_owners >= 0).any())
    for start in range(0, len(bank), _BANK_ROWS):
        stop = start + _BANK_ROWS
        piece = (_prepare(bank[start:stop], metric) - centre).astype(np.float32)
        right = torch.from_numpy(piece).to(device)
        # the query's own length is the same for all rows and does not change their order
        scores = torch.addmm(right.square().sum(dim=1), left, right.T, alpha=-2)
        if masked and query_owners is not None and bank_owners is not None:
            owners = torch.from_numpy(bank_owners[start:stop]).to(device)
            same = torch.from_numpy(query_owners).to(device)[:, None] == owners
            scores.masked_fill_(same, torch.inf)
        near = _smallest(scores, min(count, len(right)))
        values = torch.cat([best, scores.gather(1, near)], dim=1)
        rows = torch.cat([best_rows, near + start], dim=1)
        kept = _smallest(values, min(count, values.shape[1]))
        best, best_rows = values.gather(1, kept), rows.gather(1, kept)
    return best_rows.masked_fill(best.isinf(), -1).cpu().numpy()


def _smallest(values: Tensor, count: int) -> Tensor:
    return values.topk(count, dim=1, largest=False, sorted=False).indices


def _ranked(
    queries: NDArray[np.float64],
    bank: Vectors,
    candidates: NDArray[np.int64],
    k: int,
    metric: Metric,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest of the candidates by exact distances; ties go to the earlier row."""
    exact = np.full(candidates.shape, np.inf)
    for column in range(candidates.shape[1]):
        known = np.flatnonzero(candidates[:, column] >= 0)
        others = _prepare(bank[candidates[known, column]], metric)
        exact[known, column] = _lengths(queries[known] - others)
    order = np.lexsort((candidates, exact), axis=1)[:, :k]
    distances = np.full((len(queries), k), np.inf)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    found = order.shape[1]
    distances[:, :found] = np.take_along_axis(exact, order, axis=1)
    rows[:, :found] = np.take_along_axis(candidates, order, axis=1)
    return distances, rows


def _lengths(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.square(differences).sum(axis=1)))


def _mean(bank: Vectors, metric: Metric) -> NDArray[np.float64]:
    """Subtracted from both sides before the products: short vectors lose fewer digits."""
    total = np.zeros(bank.shape[1])
    for start in range(0, len(bank), _BANK_ROWS):
        total += _prepare(bank[start : start + _BANK_ROWS], metric).sum(axis=0)
    return total / len(bank)


def _prepare(vectors: Vectors, metric: Metric) -> NDArray[np.float64]:
    values = np.asarray(vectors, dtype=np.float64)
    bad = len(values) - int(np.isfinite(values).all(axis=1).sum())
    if bad:
        raise ValueError(f"{bad} of {len(values)} vectors hold NaN or infinity")
    if metric == "euclidean":
        return values
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if len(values) and not lengths.min() > 0:
        raise ValueError("a vector of length 0 has no direction: use the Euclidean metric")
    return np.asarray(values / lengths)


def _check(
    queries: Vectors,
    bank: Vectors,
    k: int,
    query_owners: NDArray[np.int64] | None,
    bank_owners: NDArray[np.int64] | None,
) -> None:
    for values in (queries, bank):
        if not np.issubdtype(values.dtype, np.floating):
            raise ValueError(f"expected floating-point vectors, got {values.dtype}")
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"expected (Q, D) and (N, D) vectors, got {queries.shape}, {bank.shape}")
    if not len(bank) or k < 1:
        raise ValueError(f"expected a bank of vectors and k of at least 1, got {len(bank)}, {k}")
    if (query_owners is None) != (bank_owners is None):
        raise ValueError("owners are needed for both sides or for neither")
    for owners, values in ((query_owners, queries), (bank_owners, bank)):
        if owners is not None and owners.shape != (len(values),):
            raise ValueError(f"expected {len(values)} owners, got {owners.shape}")
