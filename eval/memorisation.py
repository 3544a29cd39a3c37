"""Whether generated pictures are copies of training pictures.

Every generated picture's nearest training picture is found in several feature spaces, over the
whole training set. What counts as near is fixed on real pictures: the threshold is the distance
that only a stated share of *real* pictures of other patients come below, so that a common-looking
film is not called a copy. Copies planted among the pictures show what the test would have found.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from arra_med.eval.intervals import Interval, clustered_share, exact_share
from arra_med.eval.memorisation_result import (
    Control,
    Distances,
    Match,
    Memorisation,
    SpaceResult,
    relative_distances,
    threshold_rank,
)
from arra_med.eval.neighbours import Metric, Vectors, nearest, pair_distances

CPU = torch.device("cpu")
FALSE_MATCH_RATE = 0.01
"""Wanted of real pictures of other patients, taken over all spaces together."""
TRAIN_SAMPLE = 2000
"""Training pictures whose own neighbours are looked up."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Space:
    """Features of all pictures from one extractor (or the pixels themselves, scaled).

    Attributes:
        name: of the extractor.
        metric: Euclidean, or cosine for encoders that are compared by angle.
        train: ``(N, D)`` of the whole training set; may be memory-mapped.
        generated: ``(G, D)``.
        held_out: ``(H, D)`` of real pictures that were not trained on.
        planted: kind → ``(P, D)`` of copies, see :func:`~arra_med.eval.planted.planted_copies`.
    """

    name: str
    metric: Metric
    train: Vectors
    generated: Vectors
    held_out: Vectors
    planted: Mapping[str, Vectors]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pictures:
    """Which picture each row of the spaces' features is.

    Attributes:
        train_keys: N keys.
        train_patients: N patients.
        held_out_patients: H patients.
        generated_keys: G keys.
        generated_patients: G patients, of the prompts.
        planted_rows: ``(P,)`` training rows that were copied, the same for every kind.
    """

    train_keys: Sequence[str]
    train_patients: Sequence[str]
    held_out_patients: Sequence[str]
    generated_keys: Sequence[str]
    generated_patients: Sequence[str]
    planted_rows: NDArray[np.int64]


def memorisation(
    spaces: Collection[Space],
    pictures: Pictures,
    *,
    generator: np.random.Generator,
    false_match_rate: float = FALSE_MATCH_RATE,
    train_sample: int = TRAIN_SAMPLE,
    device: torch.device = CPU,
) -> Memorisation:
    """Search the training set for every generated picture, and say what such a search can find.

    A held-out or training picture is never compared with its own patient when thresholds are
    fixed or checked; a generated one is compared with everybody, since a copy of the patient
    whose report was the prompt is a copy.

    Args:
        spaces: at least one; two of different kinds are needed to believe the answer. They are
            gone through once, so that a collection that makes each when asked holds one at a time.
        pictures: what their rows are.
        generator: draws the sample of training pictures.
        false_match_rate: see :class:`Memorisation`.
        train_sample: training pictures whose own neighbours are looked up.
        device: where products are computed.

    Raises:
        ValueError: if counts do not agree, there is no space or no held-out picture, or features
            are of a wrong shape or type or not finite.
    """
    if not spaces or not len(pictures.held_out_patients) or not 0 < false_match_rate < 1:
        raise ValueError(
            f"expected spaces, held-out pictures and a rate in (0, 1), got {len(spaces)} spaces, "
            f"{len(pictures.held_out_patients)} pictures and {false_match_rate}"
        )
    sample = np.sort(generator.permutation(len(pictures.train_keys))[:train_sample])
    search = _Search(pictures, sample, false_match_rate / len(spaces), device)
    found = list(map(search.run, spaces))  # a loop would hold a space while the next is made
    kinds = list(found[0][1])
    if any(list(planted) != kinds for _, planted in found):
        raise ValueError("expected the same kinds of planted copies in every space")
    results = tuple(result for result, _ in found)
    controls = []
    for kind in kinds:
        by_space = [planted[kind] for _, planted in found]
        below = np.any([near for near, _ in by_space], axis=0)
        traced = np.any([origin for _, origin in by_space], axis=0)
        controls.append(_control(kind, below, traced))
    matches = _matches(results, pictures)
    matched = np.zeros(len(pictures.generated_keys), dtype=bool)
    matched[[match.row for match in matches]] = True
    return Memorisation(
        false_match_rate=false_match_rate,
        n_train=len(pictures.train_keys),
        n_held_out=len(pictures.held_out_patients),
        spaces=results,
        matches=matches,
        share=clustered_share(matched, pictures.generated_patients),
        controls=tuple(controls),
    )


_Planted = dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]  # kind → found, traced


class _Search:
    def __init__(
        self, pictures: Pictures, sample: NDArray[np.int64], rate: float, device: torch.device
    ) -> None:
        self.pictures, self.sample, self.rate, self.device = pictures, sample, rate, device
        names = [*pictures.train_patients, *pictures.held_out_patients]
        _, owners = np.unique(names, return_inverse=True)
        count = len(pictures.train_patients)
        self.train_owners, self.held_out_owners = owners[:count], owners[count:]

    def run(self, space: Space) -> tuple[SpaceResult, _Planted]:
        """One space, and which planted copies it found."""
        _check(space, self.pictures)
        distances, rows = self.nearest(space)
        held_out = distances["held-out"]
        if not np.isfinite(held_out).all():
            raise ValueError("a held-out picture's patient is the only one of the training set")
        threshold, resolved = _threshold(held_out, self.rate)
        planted: _Planted = {
            kind: (
                distances[f"planted {kind}"] <= threshold,
                rows[f"planted {kind}"] == self.pictures.planted_rows,
            )
            for kind in space.planted
        }
        train = distances["train"][np.isfinite(distances["train"])]
        same = self.same_patient(space)
        result = SpaceResult(
            name=space.name,
            metric=space.metric,
            dimension=space.train.shape[1],
            threshold=threshold,
            resolved=resolved,
            generated=distances["generated"],
            nearest_rows=rows["generated"],
            held_out=held_out,
            train=train,
            same_patient=same,
            planted={kind: distances[f"planted {kind}"] for kind in space.planted},
            false_matches=_share_below(train, threshold),
            same_patient_matches=_share_below(same, threshold),
            controls=tuple(_control(kind, *outcome) for kind, outcome in planted.items()),
        )
        return result, planted

    def nearest(self, space: Space) -> tuple[dict[str, Distances], dict[str, NDArray[np.int64]]]:
        """Distance and row of the nearest training picture, in one pass over the training set."""
        queries = {
            "generated": space.generated,
            **{f"planted {kind}": copies for kind, copies in space.planted.items()},
            "held-out": space.held_out,
            "train": space.train[self.sample],
        }
        counts = [len(vectors) for vectors in queries.values()]
        nobody = np.full(sum(counts[:-2]), -1)  # no patient: compared with everybody
        owners = [nobody, self.held_out_owners, self.train_owners[self.sample]]
        found = nearest(
            np.concatenate(list(queries.values())),
            space.train,
            metric=space.metric,
            query_owners=np.concatenate(owners),
            bank_owners=self.train_owners,
            device=self.device,
        )
        cuts = np.cumsum(counts)[:-1]
        distances = np.split(found.distances[:, 0], cuts)
        rows = np.split(found.rows[:, 0], cuts)
        return dict(zip(queries, distances, strict=True)), dict(zip(queries, rows, strict=True))

    def same_patient(self, space: Space) -> Distances:
        """Of the sample, distances to the nearest other picture of the same patient."""
        order = np.argsort(self.train_owners, kind="stable")
        owners = self.train_owners[self.sample]
        starts = np.searchsorted(self.train_owners, owners, side="left", sorter=order)
        stops = np.searchsorted(self.train_owners, owners, side="right", sorter=order)
        pairs = np.array(
            [
                (row, other)
                for row, start, stop in zip(self.sample, starts, stops, strict=True)
                for other in order[start:stop]
                if other != row
            ],
            dtype=np.int64,
        ).reshape(-1, 2)
        rows, place = np.unique(pairs[:, 0], return_inverse=True)
        shortest = np.full(len(rows), np.inf)
        values = pair_distances(space.train, pairs, metric=space.metric)
        np.minimum.at(shortest, place, values)
        return shortest


def _threshold(held_out: Distances, rate: float) -> tuple[float, bool]:
    """The largest distance that a new real picture comes to or below with at most ``rate``.

    With too few held-out pictures for that, one just below all of theirs, which a new picture
    still comes below with a probability of 1 / (n + 1).
    """
    count = threshold_rank(rate, len(held_out))
    if count:
        return float(np.sort(held_out)[count - 1]), True
    return float(np.nextafter(held_out.min(), -np.inf)), False


def _share_below(distances: Distances, threshold: float) -> Interval:
    return exact_share(int((distances <= threshold).sum()), len(distances))


def _control(kind: str, found: NDArray[np.bool_], traced: NDArray[np.bool_]) -> Control:
    return Control(
        kind=kind,
        n=len(found),
        found=int(found.sum()),
        traced=int(traced.sum()),
        rate=exact_share(int(found.sum()), len(found)),
    )


def _matches(results: Sequence[SpaceResult], pictures: Pictures) -> tuple[Match, ...]:
    below = np.array([result.generated <= result.threshold for result in results])
    depth = np.where(below, relative_distances(results), np.inf)
    matches = []
    flagged = np.flatnonzero(below.any(axis=0))
    for index in flagged[np.argsort(depth.min(axis=0)[flagged], kind="stable")]:
        result = results[int(depth[:, index].argmin())]
        row = int(result.nearest_rows[index])
        matches.append(
            Match(
                row=int(index),
                key=pictures.generated_keys[index],
                space=result.name,
                spaces=tuple(r.name for r in results if r.generated[index] <= r.threshold),
                train_key=pictures.train_keys[row],
                distance=float(result.generated[index]),
                own_patient=pictures.train_patients[row] == pictures.generated_patients[index],
            )
        )
    return tuple(matches)


def _check(space: Space, pictures: Pictures) -> None:
    expected = {
        "train": (space.train, len(pictures.train_keys)),
        "generated": (space.generated, len(pictures.generated_keys)),
        "held-out": (space.held_out, len(pictures.held_out_patients)),
        **{
            f"planted ({kind})": (copies, len(pictures.planted_rows))
            for kind, copies in space.planted.items()
        },
    }
    for what, (vectors, count) in expected.items():
        if len(vectors) != count:
            raise ValueError(f"{space.name}: {len(vectors)} {what} vectors for {count} pictures")
    if len(pictures.train_patients) != len(pictures.train_keys):
        raise ValueError("expected one patient a training picture")
    if len(pictures.generated_patients) != len(pictures.generated_keys):
        raise ValueError("expected one patient a generated picture")
