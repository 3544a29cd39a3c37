"""What :func:`~arra_med.eval.memorisation.memorisation` answers, and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from arra_med.eval.intervals import Interval
from arra_med.eval.neighbours import Metric
from arra_med.eval.planted import LEAST_FOUND, MUST_FIND

Distances = NDArray[np.float64]

MOST_MATCHES = 20
"""Matches that the results file lists, nearest first; it counts all."""
HISTOGRAM_BINS = 40


@dataclass(frozen=True, kw_only=True)
class Control:
    """How many planted copies of one kind were found.

    Attributes:
        kind: how they were made.
        n: copies planted.
        found: those at or below the threshold.
        traced: those whose nearest training picture is their original.
        rate: ``found`` of ``n`` with its exact interval.
    """

    kind: str
    n: int
    found: int
    traced: int
    rate: Interval


@dataclass(frozen=True, eq=False, kw_only=True)
class SpaceResult:
    """One space. Distances are in the space's own unit; smaller is nearer.

    Attributes:
        name: of the space.
        metric: of its distances.
        dimension: D.
        threshold: at or below it a picture is as near as a copy.
        resolved: whether there were enough held-out pictures to fix the threshold at the stated
            rate; if not, it lies just below the nearest of them.
        generated: ``(G,)`` distances to the nearest training picture.
        nearest_rows: ``(G,)`` rows of those.
        held_out: ``(H,)`` distances of real pictures, to other patients' training pictures.
        train: ``(S,)`` distances of a sample of training pictures to those of other patients.
        same_patient: distances to the nearest other picture of the same patient, for those of
            the sample that have one.
        planted: kind → ``(P,)`` distances of the planted copies.
        false_matches: of ``train``, those at or below the threshold: the stated rate, checked on
            pictures that did not fix it.
        same_patient_matches: the same of ``same_patient``: how often two real pictures of one
            person are as near as a copy.
        controls: planted copies, by kind.
    """

    name: str
    metric: Metric
    dimension: int
    threshold: float
    resolved: bool
    generated: Distances
    nearest_rows: NDArray[np.int64]
    held_out: Distances
    train: Distances
    same_patient: Distances
    planted: Mapping[str, Distances]
    false_matches: Interval
    same_patient_matches: Interval
    controls: tuple[Control, ...]


@dataclass(frozen=True, kw_only=True)
class Match:
    """A generated picture that is as near to a training picture as a copy.

    Attributes:
        row: the generated picture's.
        key: that picture's.
        space: where it lies furthest below the threshold.
        spaces: all in which it lies below.
        train_key: the nearest training picture there.
        distance: to it.
        own_patient: whether that picture is of the patient whose prompt was drawn.
    """

    row: int
    key: str
    space: str
    spaces: tuple[str, ...]
    train_key: str
    distance: float
    own_patient: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Memorisation:
    """The answer over all spaces.

    Attributes:
        false_match_rate: share of real pictures that the thresholds are to let through, over all
            spaces together; each space has an equal part of it. See :func:`matches_by_chance`.
        n_train: training pictures searched.
        n_held_out: real pictures that fixed the thresholds.
        spaces: one by one.
        matches: generated pictures below the threshold of at least one space, nearest first.
        share: of the generated pictures; its interval keeps the pictures of a patient together.
        controls: planted copies found in at least one space, by kind.
    """

    false_match_rate: float
    n_train: int
    n_held_out: int
    spaces: tuple[SpaceResult, ...]
    matches: tuple[Match, ...]
    share: Interval
    controls: tuple[Control, ...]

    @property
    def detects(self) -> bool:
        """Whether the test can be believed when it finds nothing: 95 % of faithful copies found."""
        found = {control.kind: control for control in self.controls}
        return all(
            kind in found and found[kind].n and found[kind].found >= LEAST_FOUND * found[kind].n
            for kind in MUST_FIND
        )


def threshold_rank(rate: float, num_held_out: int) -> int:
    """How many held-out pictures may lie at or below a threshold; 0 if they are too few for it.

    The k-th smallest of n exchangeable distances is reached by a new one with probability
    k / (n + 1) (split conformal prediction: Vovk et al., Algorithmic Learning in a Random World).
    """
    return int(rate * (num_held_out + 1))


@dataclass(frozen=True, kw_only=True)
class ByChance:
    """Shares of new real pictures of other patients that come as near as a copy.

    Attributes:
        expected: over all spaces.
        least: what the draw of the held-out pictures leaves possible at least, of any one space.
        most: over all spaces, what that draw leaves possible.
        most_of_one: the same of a single space.
    """

    expected: float
    least: float
    most: float
    most_of_one: float


def matches_by_chance(false_match_rate: float, num_spaces: int, num_held_out: int) -> ByChance:
    """What the thresholds let through, as far as the pictures that fixed them can tell.

    A threshold that is the k-th smallest of H distances lets through a share that is distributed
    as Beta(k, H - k + 1), whatever the distances are (order statistics of a uniform sample); one
    just below the smallest is taken as k = 1. ``most`` adds the 97.5 % points of all spaces, since
    a match in any of them counts, however the spaces depend on one another; ``least`` is the 2.5 %
    point of one, since all spaces may let through the same pictures.

    Args:
        false_match_rate: that is wanted over all spaces.
        num_spaces: S, at least one.
        num_held_out: H, at least one.
    """
    rate = false_match_rate / num_spaces
    rank = max(1, threshold_rank(rate, num_held_out))
    least, most = scipy.stats.beta.ppf([0.025, 0.975], rank, num_held_out - rank + 1).tolist()
    expected = num_spaces * max(rate, 1 / (num_held_out + 1))
    return ByChance(
        expected=min(1.0, expected),
        least=least,
        most=min(1.0, num_spaces * most),
        most_of_one=most,
    )


def relative_distances(results: Sequence[SpaceResult]) -> Distances:
    """``(spaces, G)`` distances of generated pictures in a unit that spaces share.

    It is the median distance of real pictures that were not trained on.
    """
    units = [max(float(np.median(result.held_out)), 1e-12) for result in results]
    distances = [result.generated / unit for result, unit in zip(results, units, strict=True)]
    return np.array(distances)


def memorisation_json(
    result: Memorisation, *, indices: Sequence[int], keys: Sequence[str]
) -> dict[str, Any]:
    """The results file's section ``memorisation`` but for the training set's duplicates.

    Args:
        result: the answer.
        indices: of each generated picture, its number among those of its prompt.
        keys: of each generated picture, its prompt's.
    """
    return {
        "false_match_rate": result.false_match_rate,
        "n_train": result.n_train,
        "n_held_out": result.n_held_out,
        "n_generated": len(keys),
        **_estimate("share", result.share, len(keys)),
        "num_matches": len(result.matches),
        "num_train_matched": len({match.train_key for match in result.matches}),
        "detects": result.detects,
        "spaces": [_space(space) for space in result.spaces],
        "controls": [
            {
                "kind": control.kind,
                "n": control.n,
                "found": control.found,
                "traced": control.traced,
                **_estimate("rate", control.rate, control.n),
                "must_find": control.kind in MUST_FIND,
            }
            for control in result.controls
        ],
        "matches": [
            {
                "key": keys[match.row],
                "index": int(indices[match.row]),
                "train_key": match.train_key,
                "space": match.space,
                "spaces": list(match.spaces),
                "distance": match.distance,
                "own_patient": match.own_patient,
            }
            for match in result.matches[:MOST_MATCHES]
        ],
    }


def _space(space: SpaceResult) -> dict[str, Any]:
    return {
        "name": space.name,
        "metric": space.metric,
        "dimension": space.dimension,
        "threshold": space.threshold,
        "resolved": space.resolved,
        **_estimate("false_matches", space.false_matches, len(space.train)),
        **_estimate("same_patient_matches", space.same_patient_matches, len(space.same_patient)),
        "histogram": _histogram(space),
    }


def _histogram(space: SpaceResult) -> dict[str, list[float] | list[int]]:
    """Counts of distances in equal bins; of planted copies, those that must be found."""
    faithful = [values for kind, values in space.planted.items() if kind in MUST_FIND]
    sets = {
        "generated": space.generated,
        "held_out": space.held_out,
        "same_patient": space.same_patient,
        "planted": np.concatenate(faithful) if faithful else np.zeros(0),
    }
    top = max(float(values.max()) for values in sets.values() if len(values))
    edges = np.linspace(0, top or 1.0, HISTOGRAM_BINS + 1)
    counts = {name: np.histogram(values, edges)[0].tolist() for name, values in sets.items()}
    return {"edges": edges.tolist(), **counts}


def _estimate(name: str, interval: Interval, n: int) -> dict[str, Any]:
    if interval.value is None:
        return {name: None, f"{name}_note": interval.note}
    return {name: {**interval.to_json(), "n": n}}
