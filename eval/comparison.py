"""Several generators on the same prompts: each pair compared on the same resamples of patients.

Only pictures that all generators have (the same prompts, the same numbers of each) are compared, so
that every difference is paired. Judges' measures, text alignment, likeness, KID, precision, density
and copies resample the patients of the prompts, the real pictures as given. Recall and coverage are
shares of real pictures and resample their patients; what the choice of generated pictures adds is
estimated without repetitions (see :mod:`arra_med.eval.comparison_statistics`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arra_med.eval.comparison_statistics import (
    Features,
    clustered_kid,
    coverage_contrasts,
    patient_halves,
    recall_contrasts,
    widened,
    within,
)
from arra_med.eval.consistency import label_array
from arra_med.eval.estimators import (
    Measure,
    Statistic,
    auroc,
    average,
    difference,
    ratio,
    weighted_mean,
)
from arra_med.eval.feature_stats import Array
from arra_med.eval.fidelity import MAIN_NEIGHBOURS
from arra_med.eval.intervals import ClusteredBootstrap, Interval
from arra_med.eval.multiplicity import holm
from arra_med.eval.prdc import memberships
from arra_med.schema import ABSENT, PRESENT

CPU = torch.device("cpu")
_PRDC = ("precision", "density", "recall", "coverage")


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """One generator's pictures and what was measured of them; N pictures, in any order.

    Attributes:
        name: of the generator.
        kind: ``run`` or ``plain folder``.
        model: what is known of the generator.
        keys: of the prompt of each picture.
        indices: of each picture among those of its prompt.
        features: extractor → ``(N, D)``.
        probabilities: judge → finding → ``(N,)``.
        text: encoder → ``(N,)`` fit of picture and prompt; higher is better.
        paired: ``(N,)`` MS-SSIM with the real picture of the prompt.
        copies: ``(N,)`` whether the search for copies of training pictures flagged it.
    """

    name: str
    kind: str
    model: Mapping[str, Any] | None
    keys: Sequence[str]
    indices: Sequence[int]
    features: Mapping[str, Features] = field(default_factory=dict)
    probabilities: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    text: Mapping[str, Array] = field(default_factory=dict)
    paired: Array | None = None
    copies: NDArray[np.bool_] | None = None

    def aligned(self, pictures: Sequence[tuple[str, int]]) -> "Measured":
        """The same of some of its pictures, in that order."""
        places = {pair: place for place, pair in enumerate(self.pictures)}
        rows = np.array([places[pair] for pair in pictures], dtype=np.int64)
        return replace(
            self,
            keys=[key for key, _ in pictures],
            indices=[index for _, index in pictures],
            features={name: values[rows] for name, values in self.features.items()},
            probabilities={
                judge: {finding: values[rows] for finding, values in findings.items()}
                for judge, findings in self.probabilities.items()
            },
            text={name: values[rows] for name, values in self.text.items()},
            paired=None if self.paired is None else self.paired[rows],
            copies=None if self.copies is None else self.copies[rows],
        )

    @property
    def pictures(self) -> list[tuple[str, int]]:
        """Key and index of each."""
        return list(zip(self.keys, self.indices, strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class Shared:
    """What all generators are held against.

    Attributes:
        patients: key of a prompt → its patient.
        labels: key of a prompt → finding → 1, 0, -1 uncertain, ``None`` unknown.
        thresholds: judge → finding that is scored → threshold, ``None`` if it has none.
        real: extractor → ``(M, D)`` features of the real pictures.
        real_patients: whose each real picture is.
        against: network → why it is not independent; its values are shown and not tested.
    """

    patients: Mapping[str, str]
    labels: Mapping[str, Mapping[str, int | None]]
    thresholds: Mapping[str, Mapping[str, float | None]]
    real: Mapping[str, Features]
    real_patients: Sequence[str]
    against: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Row:
    """One measure of all generators.

    Attributes:
        statistics: generator → its statistic; those that lack it are left out.
        bootstrap: resamples that it is evaluated on.
        factor: of its unit.
        network: that it was measured with.
        contrasts: generator → ``(S,)``, see :func:`widened`.
    """

    measure: str
    subject: str | None
    aim: str
    statistics: Mapping[str, Statistic]
    bootstrap: ClusteredBootstrap
    factor: float = 1.0
    network: str = ""
    contrasts: Mapping[str, Array] = field(default_factory=dict)

    def interval(self, name: str) -> Interval:
        found = self.bootstrap.interval(self.statistics[name])
        return widened(found, self.contrasts.get(name)).times(self.factor)

    def difference(self, first: str, second: str) -> Interval:
        contrast = difference(self.statistics[first], self.statistics[second])
        halves = None
        if first in self.contrasts and second in self.contrasts:
            halves = self.contrasts[first] - self.contrasts[second]
        return widened(self.bootstrap.interval(contrast), halves).times(self.factor)


def compare(
    generators: Sequence[Measured],
    shared: Shared,
    *,
    bootstrap: int,
    generator: np.random.Generator,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """The results file's section ``comparison``, but for ``chexgenbench``.

    Args:
        generators: at least two, of different names.
        shared: labels, thresholds and real pictures.
        bootstrap: resamples.
        generator: draws resamples and halves.
        device: where neighbours are looked for.

    Raises:
        ValueError: if there are fewer than two generators, two of one name, or no picture that
            all of them have.
    """
    names = [one.name for one in generators]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"expected two generators or more, of different names, got {names}")
    common = set.intersection(*(set(one.pictures) for one in generators))
    if not common:
        raise ValueError(f"no prompt was drawn by all of {', '.join(names)}: nothing to compare")
    aligned = [one.aligned(sorted(common)) for one in generators]
    patients = [shared.patients[key] for key in aligned[0].keys]
    made, real = (
        ClusteredBootstrap(list(clusters), replicates=bootstrap, generator=generator)
        for clusters in (patients, shared.real_patients)
    )
    rows = [
        *_judged(aligned, shared, made),
        *_per_picture(aligned, made),
        *_distances(aligned, shared, patients, made, real, generator, device),
    ]
    differences = [
        _difference(row, first, second)
        for row in rows
        if row.network not in shared.against
        for first, second in combinations([name for name in names if name in row.statistics], 2)
    ]
    tested = [row for row in differences if row["p"] is not None]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_adjusted"] = adjusted
    most = max(len(one.keys) for one in generators)
    return {
        "generators": [
            {"name": one.name, "kind": one.kind, "n": len(common), "model": one.model and
             dict(one.model)} for one in generators
        ],
        "generators_note": (
            None
            if all(len(one.keys) == len(common) for one in generators)
            else f"compared on the {len(common)} pictures of {len(set(aligned[0].keys))} prompts "
            f"that all have; the most that one has is {most}"
        ),
        "measures": [_measure(row, names, shared) for row in rows],
        "differences": differences,
        "adjustment": f"Holm over {len(tested)} comparisons" if tested else None,
        "chexgenbench": None,
    }  # fmt: skip


def _judged(
    generators: Sequence[Measured], shared: Shared, bootstrap: ClusteredBootstrap
) -> list[_Row]:
    """AUROC, missed and invented findings, one judge after another."""
    rows = []
    for judge, thresholds in shared.thresholds.items():
        labels = {
            finding: label_array([shared.labels[key].get(finding) for key in generators[0].keys])
            for finding in thresholds
        }
        found = {
            one.name: one.probabilities[judge]
            for one in generators
            if labels.keys() <= one.probabilities.get(judge, {}).keys()
        }
        if not labels:
            continue
        areas = {
            name: {finding: auroc(labels[finding], of[finding]) for finding in labels}
            for name, of in found.items()
        }

        def row(
            measure: str,
            subject: str,
            aim: str,
            statistics: Mapping[str, Statistic],
            factor: float = 1,
            judge: str = judge,
        ) -> _Row:
            return _Row(
                measure=measure, subject=subject, aim=aim, statistics=statistics,
                bootstrap=bootstrap, factor=factor, network=judge,
            )  # fmt: skip

        mean = {name: average(list(of.values())) for name, of in areas.items()}
        rows.append(row("auroc", judge, "higher", mean))
        for finding in labels:
            subject = finding if len(shared.thresholds) == 1 else f"{finding}, {judge}"
            one_finding = {name: of[finding] for name, of in areas.items()}
            rows.append(row("auroc", subject, "higher", one_finding))
        cuts = {finding: cut for finding, cut in thresholds.items() if cut is not None}
        for measure, label in (("missed_per_100", PRESENT), ("invented_per_100", ABSENT)):
            wrong = {name: _mistakes(of, cuts, labels, label) for name, of in found.items()}
            rows.append(row(measure, judge, "lower", wrong if cuts else {}, 100))
    return rows


def _mistakes(
    found: Mapping[str, Array], cuts: Mapping[str, float], labels: Mapping[str, Array], label: int
) -> Measure:
    """Share of all (picture, finding) with this label in which the judge sees the opposite."""
    n = len(next(iter(found.values())))
    wrong, among = np.zeros(n), np.zeros(n)
    for finding, cut in cuts.items():
        asked = labels[finding] == label
        among += asked
        wrong += asked & ((found[finding] >= cut) != (label == PRESENT))
    return ratio(wrong, among)


def _per_picture(generators: Sequence[Measured], bootstrap: ClusteredBootstrap) -> list[_Row]:
    """Means of what each picture has a value of."""
    encoders = dict.fromkeys(name for one in generators for name in one.text)
    rows = [
        _Row(
            measure="text_alignment", subject=encoder, aim="higher", bootstrap=bootstrap,
            network=encoder,
            statistics={
                one.name: weighted_mean(one.text[encoder])
                for one in generators if encoder in one.text
            },
        )
        for encoder in encoders
    ]  # fmt: skip
    paired = {one.name: weighted_mean(one.paired) for one in generators if one.paired is not None}
    copies = {
        one.name: weighted_mean(one.copies.astype(np.float64))
        for one in generators
        if one.copies is not None
    }
    if paired:
        rows.append(
            _Row(measure="paired", subject="MS-SSIM", aim="higher", statistics=paired,
                 bootstrap=bootstrap)
        )  # fmt: skip
    if copies:
        rows.append(
            _Row(measure="copies_per_100", subject=None, aim="lower", statistics=copies,
                 bootstrap=bootstrap, factor=100)
        )  # fmt: skip
    return rows


def _distances(
    generators: Sequence[Measured],
    shared: Shared,
    patients: Sequence[str],
    made: ClusteredBootstrap,
    real: ClusteredBootstrap,
    generator: np.random.Generator,
    device: torch.device,
) -> list[_Row]:
    """KID, precision, density, recall and coverage, one extractor after another."""
    halves = patient_halves(patients, generator, least=MAIN_NEIGHBOURS + 1)
    rows = []
    for extractor, of_real in shared.real.items():
        kid: dict[str, Statistic] = {}
        shares: dict[str, dict[str, Statistic]] = {name: {} for name in _PRDC}
        contrasts: dict[str, dict[str, Array]] = {"recall": {}, "coverage": {}}
        known: float | None = None
        for one in generators:
            if extractor not in one.features:
                continue
            features = one.features[extractor]
            if made.num_clusters > 1 and real.num_clusters > 1:
                known = within(of_real, shared.real_patients) if known is None else known
                kid[one.name] = clustered_kid(
                    of_real, features, shared.real_patients, patients, within_real=known
                )
            if not halves or len(of_real) <= MAIN_NEIGHBOURS:
                continue
            [found] = memberships(of_real, features, (MAIN_NEIGHBOURS,), device=device).values()
            for name, values in (
                ("precision", found.balls > 0), ("density", found.balls / MAIN_NEIGHBOURS),
                ("recall", found.recalled), ("coverage", found.covered),
            ):  # fmt: skip
                shares[name][one.name] = weighted_mean(values.astype(np.float64))
            contrasts["recall"][one.name] = recall_contrasts(
                of_real, features, halves, k=MAIN_NEIGHBOURS, device=device
            )
            contrasts["coverage"][one.name] = coverage_contrasts(
                of_real, features, patients, k=MAIN_NEIGHBOURS, device=device
            )
        rows.append(
            _Row(measure="kid", subject=extractor, aim="lower", statistics=kid, bootstrap=made,
                 network=extractor)
        )  # fmt: skip
        rows += [
            _Row(
                measure=name, subject=extractor, aim="higher", statistics=shares[name],
                bootstrap=real if name in ("recall", "coverage") else made, network=extractor,
                contrasts=contrasts.get(name, {}),
            )
            for name in _PRDC
        ]  # fmt: skip
    return rows


def _measure(row: _Row, names: Sequence[str], shared: Shared) -> dict[str, Any]:
    values = []
    for name in names:
        value: dict[str, Any] = {"generator": name, "value": None}
        if name in row.statistics:
            found = row.interval(name)
            value["value"] = found.estimate()
            value["value_note"] = found.note or None
        else:
            value["value_note"] = "not measured, or too few pictures or patients"
        values.append(value)
    result = {"measure": row.measure, "subject": row.subject, "aim": row.aim, "values": values}
    if row.network in shared.against:
        note = f"shown, not tested: not independent ({shared.against[row.network]})"
        result["subject_note"] = note
    return result


def _difference(row: _Row, first: str, second: str) -> dict[str, Any]:
    found = row.difference(first, second)
    return {
        "measure": row.measure,
        "subject": row.subject,
        "first": first,
        "second": second,
        "difference": found.estimate(),
        "difference_note": found.note or None,
        "p": found.p,
        "p_adjusted": None,
    }
