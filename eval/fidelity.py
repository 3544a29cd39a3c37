"""How close generated pictures are to real ones in a feature space, each number with its yardstick.

Pure functions of ``(N, D)`` features, so that any extractor and any oracle can be put beside them.
The distances themselves are in :mod:`~arra_med.eval.frechet`, :mod:`~arra_med.eval.kernel` and
:mod:`~arra_med.eval.prdc`, and can be imported from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from arra_med.eval.feature_stats import Array, FeatureStats, as_pair, patients_of
from arra_med.eval.frechet import (
    LEAST_PER_DIMENSION,
    FrechetInfinity,
    frechet_distance,
    frechet_infinity,
    frechet_of_stats,
)
from arra_med.eval.kernel import Kid, kernel_distance, kid
from arra_med.eval.prdc import Membership, Prdc, memberships, prdc

__all__ = [
    "FeatureStats", "Fidelity", "FrechetInfinity", "GroupFidelity", "Kid", "Membership", "Prdc",
    "RealReference", "by_group", "fidelity", "frechet_distance", "frechet_infinity",
    "frechet_of_stats", "kernel_distance", "kid", "memberships", "prdc", "real_reference",
]  # fmt: skip

CPU = torch.device("cpu")
MAIN_NEIGHBOURS = 5
NEIGHBOURS = (MAIN_NEIGHBOURS, 3, 10)
"""k of precision, recall, density and coverage: the one reported, then those beside it."""
LEAST_IN_GROUP = 20
"""Real and generated pictures that a view or finding needs for a distance of its own."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Distances of one feature space; ``None`` where a note says why.

    Attributes:
        n_real: real pictures.
        n_generated: generated pictures.
        dimension: length of a feature vector.
        fd: Fréchet distance; biased upwards by small n.
        fd_infinity: the same without that bias, with its interval.
        fd_note: why the two are missing, or that they were forced.
        kid: kernel distance with its interval.
        kid_note: why it is missing.
        prdc: k → shares, for each k that the numbers allow.
        prdc_note: why some k is missing.
    """

    n_real: int
    n_generated: int
    dimension: int
    fd: float | None
    fd_infinity: FrechetInfinity | None
    fd_note: str
    kid: Kid | None
    kid_note: str
    prdc: Mapping[int, Prdc]
    prdc_note: str


def fidelity(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    generator: np.random.Generator,
    real_clusters: Sequence[str] | None = None,
    generated_clusters: Sequence[str] | None = None,
    forced: bool = False,
    bootstrap: int = 1000,
    device: torch.device = CPU,
) -> Fidelity:
    """All distances of one feature space, and in words those that the numbers do not allow.

    Args:
        real: ``(N, D)`` features of real pictures.
        generated: ``(M, D)`` features of generated pictures.
        generator: draws groups and resamples.
        real_clusters: the patient of each real picture, for ``fd_infinity`` and ``kid``.
        generated_clusters: the patient of each generated picture's prompt.
        forced: give Fréchet distances below two pictures a dimension too, marked as biased.
        bootstrap: resamples of the kernel distance's interval.
        device: where distances are computed.

    Raises:
        ValueError: on other shapes or types, or values that are not finite.
    """
    a, b = as_pair(real, generated, least=1)
    fewest, dimension = min(len(a), len(b)), a.shape[1]
    patients = [
        len(np.unique(patients_of(len(values), clusters)))
        for values, clusters in ((a, real_clusters), (b, generated_clusters))
    ]
    several = min(patients) >= 2
    distance = kid(
        a, b, generator=generator, clusters_x=real_clusters, clusters_y=generated_clusters,
        bootstrap=bootstrap,
    ) if several else None  # fmt: skip
    fd, infinity, fd_note = None, None, _fd_note(fewest, dimension, forced=forced)
    if fewest >= 2 and (forced or not fd_note):
        fd = frechet_distance(a, b, device=device)
        infinity, unfit = _infinity(
            a, b, generator, real_clusters, generated_clusters, forced, device
        )
        fd_note = "; ".join(filter(None, (fd_note, unfit)))
    ks = [k for k in NEIGHBOURS if fewest > k]
    missing = [str(k) for k in NEIGHBOURS if fewest <= k]
    members = memberships(a, b, ks, device=device) if ks else {}
    return Fidelity(
        n_real=len(a),
        n_generated=len(b),
        dimension=dimension,
        fd=fd,
        fd_infinity=infinity,
        fd_note=fd_note,
        kid=distance,
        kid_note="" if several else "needs pictures of at least two patients in each set",
        prdc={k: members[k].shares for k in ks},
        prdc_note=f"not given for k = {', '.join(missing)}: {fewest} pictures" if missing else "",
    )


@dataclass(frozen=True, kw_only=True)
class RealReference:
    """What real pictures score against real pictures at the same numbers.

    Attributes:
        n_real: real pictures on the one side.
        size: real pictures on the other side, in the generated pictures' place.
        draws: for each draw: ``fd``, ``kid`` and the four shares at the first of
            :data:`NEIGHBOURS`; a value that the numbers do not allow is NaN.
        note: how the draws differ from what was asked; empty when they do not.
    """

    n_real: int
    size: int
    draws: tuple[Mapping[str, float], ...]
    note: str

    def mean(self, name: str) -> float | None:
        """Mean over draws of one of their values; ``None`` where they have none."""
        values = [draw[name] for draw in self.draws if np.isfinite(draw[name])]
        return float(np.mean(values)) if values else None

    def range(self, name: str) -> tuple[float, float] | None:
        """Smallest and largest over draws; ``None`` where they have none."""
        values = [draw[name] for draw in self.draws if np.isfinite(draw[name])]
        return (min(values), max(values)) if values else None


def real_reference(
    real: ArrayLike,
    size: int,
    *,
    generator: np.random.Generator,
    pool: ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
    pool_clusters: Sequence[str] | None = None,
    draws: int = 10,
    forced: bool = False,
    device: torch.device = CPU,
) -> RealReference:
    """Distances of real pictures from real pictures, drawn as many as were generated.

    Args:
        real: ``(N, D)`` features of the real pictures that the generated ones are set against.
        size: number of generated pictures.
        generator: draws.
        pool: ``(P, D)`` features of other patients' real pictures, of which ``size`` take the
            generated pictures' place in each draw. Without a pool ``real`` is cut in two, and
            both sides are smaller than asked, which the note says.
        clusters: whose each picture of ``real`` is, for the kernel distance; when ``real`` is cut,
            a patient stays on one side.
        pool_clusters: the same for ``pool``.
        draws: number of them.
        forced: give Fréchet distances below two pictures a dimension too.
        device: where distances are computed.

    Raises:
        ValueError: on other shapes or types, or if there is not one picture for each side.
    """
    values, others = as_pair(real, real if pool is None else pool, least=1)
    of_real = patients_of(len(values), clusters)
    of_others = of_real if pool is None else patients_of(len(others), pool_clusters)
    results, note = [], ""
    if pool is not None and len(others) < size:
        note = f"{len(others)} real pictures of other patients stand for {size} generated ones"
        size = len(others)
    n_real, reached = len(values), size
    for _ in range(draws if pool is None or len(others) > size else 1):
        if pool is None:
            left, right = _halves(of_real, size, generator)
            first, second = (values[left], of_real[left]), (values[right], of_real[right])
            n_real, reached = len(left), len(right)
            note = (
                f"real pictures cut in two, a lenient reference: {n_real} against {reached}, not "
                f"{len(values)} against {size}"
            )
        else:
            drawn = np.sort(generator.permutation(len(others))[:size])
            first, second = (values, of_real), (others[drawn], of_others[drawn])
        results.append(_values(first, second, forced=forced, device=device))
    return RealReference(n_real=n_real, size=reached, draws=tuple(results), note=note)


@dataclass(frozen=True, kw_only=True)
class GroupFidelity:
    """The kernel distance of one view or finding; Fréchet distances would rank groups by size.

    Attributes:
        group: its name.
        n_real: real pictures of it.
        n_generated: generated pictures asked to be of it.
        kid: the distance with its interval.
        reference: real against real of the same group, at the same numbers unless its note says
            otherwise.
        note: why the two are missing; empty otherwise.
    """

    group: str
    n_real: int
    n_generated: int
    kid: Kid | None
    reference: RealReference | None
    note: str


def by_group(
    real: ArrayLike,
    generated: ArrayLike,
    groups: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    *,
    generator: np.random.Generator,
    clusters: Sequence[str] | None = None,
    generated_clusters: Sequence[str] | None = None,
    pool: ArrayLike | None = None,
    pool_groups: Mapping[str, NDArray[np.bool_]] | None = None,
    pool_clusters: Sequence[str] | None = None,
    bootstrap: int = 1000,
    draws: int = 10,
    least: int = LEAST_IN_GROUP,
) -> list[GroupFidelity]:
    """:func:`kid` within each view or finding, beside its own size-matched reference.

    Args:
        real: ``(N, D)`` features of real pictures.
        generated: ``(M, D)`` features of generated pictures.
        groups: name → ``(N,)`` and ``(M,)`` masks; groups may overlap.
        generator: resamples and draws.
        clusters: the patient of each real picture.
        generated_clusters: the patient of each generated picture's prompt.
        pool: ``(P, D)`` features of other patients' real pictures. Where it has fewer of a group
            than were generated, the group's reference is the real pictures cut in two.
        pool_groups: name → ``(P,)`` mask; the pool has none of a group that is not named.
        pool_clusters: the patient of each picture of the pool.
        bootstrap: resamples of an interval.
        draws: of the reference.
        least: pictures of a group below which there is a note and no distance.

    Raises:
        ValueError: on other shapes or types, or values that are not finite.
    """
    a, b = as_pair(real, generated, least=1)
    others = a[:0] if pool is None else as_pair(real, pool, least=0)[1]
    of_a, of_b = patients_of(len(a), clusters), patients_of(len(b), generated_clusters)
    of_others = patients_of(len(others), pool_clusters)
    rows = []
    for name, (of_real, of_generated) in groups.items():
        of_pool = (pool_groups or {}).get(name, np.zeros(len(others), bool))
        masks, expected = (of_real, of_generated, of_pool), (len(a), len(b), len(others))
        if [mask.shape for mask in masks] != [(number,) for number in expected]:
            raise ValueError(
                f"group {name!r}: expected masks of {len(a)} and {len(b)} pictures and of "
                f"{len(others)} of the pool, got {[mask.shape for mask in masks]}"
            )
        whose, of_made = of_a[of_real], of_b[of_generated]
        row = GroupFidelity(
            group=name, n_real=len(whose), n_generated=len(of_made), kid=None, reference=None,
            note="",
        )  # fmt: skip
        note = _too_few(whose, of_made, least)
        if note:
            rows.append(replace(row, note=note))
            continue
        of_group, made = a[of_real], b[of_generated]
        enough = int(of_pool.sum()) >= len(made)
        reference = real_reference(
            of_group, len(made), generator=generator, pool=others[of_pool] if enough else None,
            clusters=list(whose), pool_clusters=list(of_others[of_pool]), draws=draws,
        )  # fmt: skip
        distance = kid(
            of_group, made, generator=generator, clusters_x=whose, clusters_y=of_made,
            bootstrap=bootstrap,
        )  # fmt: skip
        rows.append(replace(row, kid=distance, reference=reference))
    return rows


def _too_few(real: NDArray[Any], generated: NDArray[Any], least: int) -> str:
    """Why a group's pictures, given by their patients, allow no distance."""
    counts = f"not given: {len(real)} real and {len(generated)} generated pictures"
    if min(len(real), len(generated)) < least:
        return f"{counts}; {least} of each are needed"
    if min(len(np.unique(real)), len(np.unique(generated))) < 2:
        return f"{counts}; on one side they are all of one patient"
    return ""


def _fd_note(fewest: int, dimension: int, *, forced: bool) -> str:
    if fewest >= LEAST_PER_DIMENSION * dimension:
        return ""
    return (
        f"{'mostly bias' if forced else 'not given'}: {fewest} pictures are fewer than twice the "
        f"{dimension} features" + ("" if forced else ", and the distance would be mostly bias")
    )


def _infinity(
    a: Array,
    b: Array,
    generator: np.random.Generator,
    clusters_a: Sequence[str] | None,
    clusters_b: Sequence[str] | None,
    forced: bool,
    device: torch.device,
) -> tuple[FrechetInfinity | None, str]:
    try:
        value = frechet_infinity(
            a, b, generator=generator, clusters_x=clusters_a, clusters_y=clusters_b,
            forced=forced, device=device,
        )  # fmt: skip
    except ValueError as error:  # too few patients for it
        return None, f"no limit for many pictures: {error}"
    pictures = min(len(a), len(b))
    sides = (a, clusters_a), (b, clusters_b)
    patients = min(len(np.unique(patients_of(len(x), of))) for x, of in sides)
    if patients < LEAST_PER_DIMENSION * a.shape[1] <= pictures:
        return value, (
            f"the limit for many pictures is biased upwards: {patients} patients are fewer than "
            f"twice the {a.shape[1]} features"
        )
    return value, ""


_Side = tuple[Array, NDArray[Any]]
"""``(N, D)`` features, and whose each picture is."""


def _values(x: _Side, y: _Side, *, forced: bool, device: torch.device) -> dict[str, float]:
    (a, of_a), (b, of_b) = x, y
    fewest, k = min(len(a), len(b)), MAIN_NEIGHBOURS
    allowed = fewest >= 2 and (forced or fewest >= LEAST_PER_DIMENSION * a.shape[1])
    shares = prdc(a, b, k, device=device) if fewest > k else Prdc(*[float("nan")] * 4)
    several = min(len(np.unique(of_a)), len(np.unique(of_b))) >= 2
    distance = kernel_distance(a, b, clusters_x=of_a, clusters_y=of_b) if several else float("nan")
    return {
        "fd": frechet_distance(a, b, device=device) if allowed else float("nan"),
        "kid": distance,
        **asdict(shares),
    }


def _halves(
    patients: NDArray[Any], size: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of two sides without a common patient, in the ratio n : size as far as they go."""
    n = len(patients)
    _, cluster_of, counts = np.unique(patients, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError("needs real pictures of at least two patients to cut them in two")
    order = generator.permutation(len(counts))
    wanted = n * size / (n + size)  # pictures of the second side
    taken = np.cumsum(counts[order])
    cut = 1 + int(np.abs(taken[:-1] - wanted).argmin())
    second = np.isin(cluster_of, order[:cut])
    return np.flatnonzero(~second), np.flatnonzero(second)[:size]
