"""What judges say of several generators: AUROC, missed and invented findings."""

from collections.abc import Mapping, Sequence

import numpy as np

from arra_med.eval.comparison_rows import Measured, Row, Shared
from arra_med.eval.consistency import label_array
from arra_med.eval.estimators import Measure, Statistic, auroc, average, ratio
from arra_med.eval.feature_stats import Array
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.schema import ABSENT, PRESENT


def judged_rows(
    generators: Sequence[Measured], shared: Shared, bootstrap: ClusteredBootstrap
) -> list[Row]:
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
        ) -> Row:
            return Row(
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
