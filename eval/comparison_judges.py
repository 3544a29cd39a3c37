"""What judges say of several generators: AUROC, missed and invented findings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from arra_med.eval.comparison_rows import Measured, Row, Shared
from arra_med.eval.consistency import count_labels, label_array
from arra_med.eval.estimators import Measure, auroc, average, ratio
from arra_med.eval.feature_stats import Array
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.schema import ABSENT, PRESENT

Probabilities = Mapping[str, Array]
"""Finding → ``(N,)`` a judge's probabilities."""


def judged_rows(
    generators: Sequence[Measured], shared: Shared, bootstrap: ClusteredBootstrap
) -> list[Row]:
    """AUROC, missed and invented findings, one judge after another."""
    return [
        row
        for judge, thresholds in shared.thresholds.items()
        if thresholds
        for row in _of_judge(judge, generators, shared, bootstrap)
    ]


def _of_judge(
    judge: str, generators: Sequence[Measured], shared: Shared, bootstrap: ClusteredBootstrap
) -> Iterator[Row]:
    """The mean AUROC, that of each finding, and pooled rates; the same of the real pictures."""
    keys, thresholds = generators[0].keys, shared.thresholds[judge]
    few = {name: why for name in thresholds if (why := _too_few(name, keys, shared))}
    labels = {
        name: label_array([shared.labels[key].get(name) for key in keys])
        for name in thresholds
        if name not in few
    }
    found = {
        one.name: one.probabilities[judge]
        for one in generators
        if labels.keys() <= one.probabilities.get(judge, {}).keys()
    }
    weak = shared.weak.get(judge, {})

    def row(
        measure: str,
        aim: str,
        statistic: Callable[[Probabilities], Measure] | None,
        finding: str | None = None,
        factor: float = 1,
    ) -> Row:
        subject, note = judge, "; ".join(f"without {name}: {why}" for name, why in few.items())
        if finding is not None:
            subject = finding if len(shared.thresholds) == 1 else f"{finding}, {judge}"
            note = few.get(finding, "")
        return Row(
            measure=measure, subject=subject, aim=aim, bootstrap=bootstrap, factor=factor,
            network=judge, note=note, weak=weak.get(judge) or weak.get(finding or "", ""),
            statistics={name: statistic(of) for name, of in found.items()} if statistic else {},
            real=statistic(shared.ceiling.probabilities[judge]) if statistic else None,
        )  # fmt: skip

    def mean(of: Probabilities) -> Measure:
        return average([auroc(labels[name], of[name]) for name in labels])

    yield row("auroc", "higher", mean if labels else None)
    for finding in thresholds:
        area = None if finding in few else partial(_area, labels, finding)
        yield row("auroc", "higher", area, finding)
    cuts = {name: cut for name in labels if (cut := thresholds[name]) is not None}
    for measure, label in (("missed_per_100", PRESENT), ("invented_per_100", ABSENT)):
        wrong = partial(_mistakes, cuts, labels, label) if cuts else None
        yield row(measure, "lower", wrong, factor=100)


def _too_few(finding: str, keys: Sequence[str], shared: Shared) -> str:
    """Why a finding is not compared on the prompts that all generators have; empty if it is."""
    counts = count_labels([shared.labels[key].get(finding) for key in dict.fromkeys(keys)])
    if min(counts["positives"], counts["negatives"]) >= shared.min_positives:
        return ""
    return (
        f"{counts['positives']} of the prompts that all have are with it and "
        f"{counts['negatives']} without; {shared.min_positives} of each are needed"
    )


def _area(labels: Mapping[str, Array], finding: str, of: Probabilities) -> Measure:
    return auroc(labels[finding], of[finding])


def _mistakes(
    cuts: Mapping[str, float], labels: Mapping[str, Array], label: int, of: Probabilities
) -> Measure:
    """Share of all (picture, finding) with this label in which the judge sees the opposite."""
    n = len(next(iter(of.values())))
    wrong, among = np.zeros(n), np.zeros(n)
    for finding, cut in cuts.items():
        asked = labels[finding] == label
        among += asked
        wrong += asked & ((of[finding] >= cut) != (label == PRESENT))
    return ratio(wrong, among)
