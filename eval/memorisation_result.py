"""What :func:`~arra_med.eval.memorisation.memorisation` answers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arra_med.eval.intervals import Interval
from arra_med.eval.neighbours import Metric
from arra_med.eval.planted import LEAST_FOUND, MUST_FIND

Distances = NDArray[np.float64]


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
        threshold: at or below it a picture counts as a copy.
        resolved: whether there were enough held-out pictures to fix the threshold at the stated
            rate; if not, it lies just below the nearest of them.
        generated: ``(G,)`` distances to the nearest training picture.
        nearest_rows: ``(G,)`` rows of those.
        held_out: ``(H,)`` distances of real pictures, to other patients' training pictures.
        train: ``(S,)`` distances of a sample of training pictures to those of other patients.
        same_patient: distances to the nearest other picture of the same patient, for those of
            the sample that have one.
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
    false_matches: Interval
    same_patient_matches: Interval
    controls: tuple[Control, ...]


@dataclass(frozen=True, kw_only=True)
class Match:
    """A generated picture that counts as a copy.

    Attributes:
        key: the generated picture's.
        space: where it lies furthest below the threshold.
        spaces: all in which it lies below.
        train_key: the nearest training picture there.
        distance: to it.
        own_patient: whether that picture is of the patient whose prompt was drawn.
    """

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
        false_match_rate: share of real pictures that the thresholds let through, over all spaces
            together; each space has an equal part of it.
        n_train: training pictures searched.
        n_held_out: real pictures that fixed the thresholds.
        spaces: one by one.
        matches: generated pictures below the threshold of at least one space, nearest first.
        share: of the generated pictures, with its exact interval.
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
