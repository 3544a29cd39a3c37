"""Clinical-classifier consistency: does a judge see in the picture what the prompt asked for?

Per finding, three things are set against each other: the prompt's label, the judge on the
generated picture, and the judge on the real picture of the same prompt, which is the ceiling.
Uncertain labels are left out; prompts that do not mention a finding only count as such. Intervals
keep the pictures of one patient together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arra_med.eval.estimators import (
    Array,
    Measure,
    Statistic,
    auroc,
    average,
    difference,
    ratio,
    weighted_mean,
)
from arra_med.eval.formatting import Estimate, counted
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.multiplicity import holm
from arra_med.schema import ABSENT, PRESENT, UNCERTAIN

THRESHOLD_RULE = (
    "balanced point: the threshold at which sensitivity and specificity on the real pictures of "
    "the validate split differ least, halfway between neighbouring probabilities"
)
UNCERTAIN_POLICY = "left out"
TESTS = ("auroc_difference_p", "missed_more_p")
"""p values of one finding; each is adjusted by Holm over the scored findings of a judge."""
_BY_AUROC = (
    "auroc_real", "auroc_generated", "auroc_difference", "auroc_difference_p",
)  # fmt: skip
_BY_THRESHOLD = (
    "threshold", "sensitivity", "specificity", "missed_per_100", "invented_per_100",
    "real_missed_per_100", "real_invented_per_100", "missed_more", "missed_more_p",
    "invented_unmentioned_per_100", "real_invented_unmentioned_per_100", "agreement",
    "agreement_kappa",
)  # fmt: skip
MEASURES = (
    *_BY_AUROC, *_BY_THRESHOLD, *(f"{name}_adjusted" for name in TESTS), "unmentioned", "histogram",
)  # fmt: skip
_POOLED = (
    "missed_per_100", "real_missed_per_100", "missed_more", "invented_per_100",
    "real_invented_per_100", "invented_more",
)  # fmt: skip

USABLE_JUDGE = 0.7
"""AUROC on real images below which a judge's verdict on generated ones says nothing."""

_EDGES = tuple(edge / 10 for edge in range(11))
_WEAK_JUDGE = 0.5


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """One finding over N generated pictures.

    Attributes:
        labels: ``(N,)`` the prompt's label: 1, 0, -1 uncertain, NaN unknown.
        generated: ``(N,)`` the judge's probability on each generated picture.
        real: ``(N,)`` on the real picture of the same prompt.
        threshold: from :func:`balanced_threshold`; ``None`` if there is none.
        prompts: which prompt each picture is of, so that numbers of prompts and of real pictures
            count each once; ``None`` if each has its own.
    """

    labels: Array
    generated: Array
    real: Array
    threshold: float | None
    prompts: Sequence[str] | None = None

    @property
    def first(self) -> NDArray[np.bool_]:
        """``(N,)`` the first picture of each prompt."""
        mask = np.ones(len(self.labels), dtype=bool)
        if self.prompts is not None:
            mask[:] = False
            mask[np.unique(np.asarray(self.prompts), return_index=True)[1]] = True
        return mask

    def shown(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """``(N,)`` whether the judge sees the finding, generated and real."""
        if self.threshold is None:
            return None
        return self.generated >= self.threshold, self.real >= self.threshold


def label_array(values: Sequence[int | None]) -> Array:
    """Labels as floats, NaN for unknown."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def count_labels(values: Sequence[int | None]) -> dict[str, int]:
    """How many prompts are positive, negative, uncertain and unknown; they add up to all."""
    return {
        "positives": sum(value == PRESENT for value in values),
        "negatives": sum(value == ABSENT for value in values),
        "uncertain": sum(value == UNCERTAIN for value in values),
        "unknown": sum(value is None for value in values),
    }


def balanced_threshold(labels: Array, probabilities: NDArray[Any]) -> float | None:
    """The threshold of :data:`THRESHOLD_RULE`; a picture shows the finding at or above it.

    Args:
        labels: ``(N,)``: 1 and 0 count, others are left out.
        probabilities: ``(N,)`` in [0, 1].

    Returns:
        The threshold, the smallest on a tie, or ``None`` without a positive and a negative.
    """
    positive = np.asarray(probabilities[labels == PRESENT], dtype=np.float64)
    negative = np.asarray(probabilities[labels == ABSENT], dtype=np.float64)
    if not len(positive) or not len(negative):
        return None
    levels = np.unique(np.concatenate([positive, negative]))
    candidates = np.concatenate([levels[:1], (levels[:-1] + levels[1:]) / 2])
    below = [np.searchsorted(np.sort(values), candidates) for values in (positive, negative)]
    sensitivity = (len(positive) - below[0]) / len(positive)
    specificity = below[1] / len(negative)
    return float(candidates[np.argmin(np.abs(sensitivity - specificity))])


def judge_finding(verdicts: Verdicts, bootstrap: ClusteredBootstrap) -> dict[str, Any]:
    """All measures of one finding, as the results file holds them.

    Rates "missed" are per 100 prompts that ask for the finding, "invented" per 100 that explicitly
    exclude it, "invented, unmentioned" per 100 that say nothing of it; ``missed_more`` is the rate
    missed less that on the real pictures of the same prompts. p values are two-sided.
    ``agreement`` and its kappa are over all prompts, labelled or not.

    Raises:
        ValueError: if a probability is not in [0, 1].
    """
    made, real = auroc(verdicts.labels, verdicts.generated), auroc(verdicts.labels, verdicts.real)
    result: dict[str, Any] = {
        "threshold": verdicts.threshold,
        "unmentioned": int((np.isnan(verdicts.labels) & verdicts.first).sum()),
        "histogram": _histogram(verdicts),
    }
    bootstrap.interval(real).write(result, "auroc_real")
    bootstrap.interval(made).write(result, "auroc_generated")
    gap = bootstrap.interval(difference(made, real))
    gap.write(result, "auroc_difference")
    result["auroc_difference_p"] = gap.p
    result |= _rates(verdicts, bootstrap)
    result["warning"] = _warning(result)
    return result


def _rates(verdicts: Verdicts, bootstrap: ClusteredBootstrap) -> dict[str, Any]:
    """What a threshold is needed for."""
    both, result = verdicts.shown(), dict[str, Any]()
    if both is None:
        note = "no threshold: the validate split has no positive or no negative picture"
        notes = {f"{name}_note": note for name in _BY_THRESHOLD}
        return {**dict.fromkeys(_BY_THRESHOLD), **notes}
    shown, real_shown = both
    asked, excluded = verdicts.labels == PRESENT, verdicts.labels == ABSENT
    unmentioned = np.isnan(verdicts.labels)
    bootstrap.interval(_share(shown, asked)).write(result, "sensitivity")
    bootstrap.interval(_share(~shown, excluded)).write(result, "specificity")
    for name, hits, among in (
        ("missed_per_100", ~shown, asked),
        ("invented_per_100", shown, excluded),
        ("real_missed_per_100", ~real_shown, asked),
        ("real_invented_per_100", real_shown, excluded),
        ("invented_unmentioned_per_100", shown, unmentioned),
        ("real_invented_unmentioned_per_100", real_shown, unmentioned),
    ):
        result[name] = _per_100(hits, among)
    more = bootstrap.interval(difference(_share(~shown, asked), _share(~real_shown, asked)))
    more.times(100).write(result, "missed_more")
    result["missed_more_p"] = more.p
    same, everywhere = shown == real_shown, np.ones(len(shown), dtype=bool)
    bootstrap.interval(_share(same, everywhere)).write(result, "agreement")
    bootstrap.interval(_kappa(shown, real_shown)).write(result, "agreement_kappa")
    return result


def nothing(reason: str) -> dict[str, Any]:
    """Every measure of a finding as null, with the reason beside it."""
    return {**dict.fromkeys(MEASURES), "warning": None, "status_note": reason}


def adjust_tests(scored: Sequence[dict[str, Any]]) -> None:
    """Write Holm-adjusted p values into the rows of the findings that are read together.

    Args:
        scored: from :func:`judge_finding`, changed in place; a p value that is null stays so.
    """
    for name in TESTS:
        rows = [row for row in scored if row[name] is not None]
        for row in scored:
            row[f"{name}_adjusted"] = None
        for row, p in zip(rows, holm([row[name] for row in rows]), strict=True):
            row[f"{name}_adjusted"] = p


def overall(findings: Sequence[Verdicts], bootstrap: ClusteredBootstrap) -> dict[str, Any]:
    """Mean AUROC over the scored findings and pooled rates, real, generated and their difference.

    The pooled rates count every finding that a prompt asks for, or excludes, once: ``n`` of them.
    Findings without a threshold are left out there.
    """
    names = ("auroc_real", "auroc_generated", "auroc_difference")
    if not findings:
        note, every = "no finding was scored", (*names, *_POOLED)
        return {**dict.fromkeys(every), **{f"{name}_note": note for name in every}}
    real = average([auroc(v.labels, v.real) for v in findings])
    made = average([auroc(v.labels, v.generated) for v in findings])
    result: dict[str, Any] = {}
    for name, statistic in zip(names, (real, made, difference(made, real)), strict=True):
        bootstrap.interval(statistic).write(result, name)
    return result | _pooled(findings, bootstrap)


def shown_in_normal(
    findings: Sequence[Verdicts],
    normal: NDArray[np.bool_],
    bootstrap: ClusteredBootstrap,
    *,
    least: int,
) -> dict[str, Any]:
    """How often a picture of a prompt that asks for a normal film shows a finding all the same.

    Args:
        findings: those that the judge recognises in real pictures.
        normal: ``(N,)`` whether the prompt says that there is no finding.
        bootstrap: over patients.
        least: normal prompts below which there is a note and no rate.
    """
    name = "normal_with_finding_per_100"
    shown = [both for verdicts in findings if (both := verdicts.shown()) is not None]
    note = None
    if not shown:
        note = "the judge recognises no finding that has a threshold"
    elif (prompts := int((normal & findings[0].first).sum())) < least:
        note = f"{counted(prompts, 'prompt')} for a normal film; {least} are needed"
    if note:
        return dict.fromkeys((name, f"real_{name}")) | {
            f"{key}_note": note for key in (name, f"real_{name}")
        }
    result: dict[str, Any] = {}
    for key, side in ((name, 0), (f"real_{name}", 1)):
        some = np.any([both[side] for both in shown], axis=0)
        interval = bootstrap.interval(_share(some, normal)).times(100)
        interval.write(result, key, n=int(normal.sum()))
    return result


def _pooled(findings: Sequence[Verdicts], bootstrap: ClusteredBootstrap) -> dict[str, Any]:
    """Missed and invented findings, all findings together."""
    result: dict[str, Any] = {}
    for name, label, wrong in (("missed", PRESENT, False), ("invented", ABSENT, True)):
        counts = np.zeros((3, len(findings[0].labels)))  # concerned, wrong generated, wrong real
        for verdicts in findings:
            both, concerned = verdicts.shown(), verdicts.labels == label
            if both is not None:
                counts += [concerned, *(concerned & (shown == wrong) for shown in both)]
        made, real = ratio(counts[1], counts[0]), ratio(counts[2], counts[0])
        for key, statistic in (
            (f"{name}_per_100", made),
            (f"real_{name}_per_100", real),
            (f"{name}_more", difference(made, real)),
        ):
            bootstrap.interval(statistic).times(100).write(result, key, n=int(counts[0].sum()))
    return result


def recognised(row: Mapping[str, Any]) -> bool:
    """Whether the judge recognises a finding well in real images; if not, it is to blame.

    Args:
        row: of the judge's findings.
    """
    real = Estimate.read(row.get("auroc_real"))
    return real is not None and real.value >= USABLE_JUDGE


def disagreement(
    labels: Mapping[str, Array], generated: Mapping[str, Array], num_pictures: int
) -> Array:
    """``(N,)`` mean distance of the judge's probabilities from the known labels; NaN if none."""
    total, count = np.zeros(num_pictures), np.zeros(num_pictures)
    for name, probabilities in generated.items():
        known = (labels[name] == PRESENT) | (labels[name] == ABSENT)
        total += np.where(known, np.abs(labels[name] - probabilities), 0)
        count += known
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _share(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Measure:
    return weighted_mean(np.where(among, hits.astype(np.float64), np.nan))


def _per_100(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(100 * hits[among].mean()) if among.any() else None


def _kappa(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Statistic:
    """Cohen's kappa: agreement beyond that of two judges who draw lots at their own rates."""
    one, other, same = (
        weighted_mean(np.asarray(hits, np.float64)) for hits in (first, second, first == second)
    )

    def statistic(weights: Array) -> Array:
        p, q = one(weights), other(weights)
        chance = p * q + (1 - p) * (1 - q)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((same(weights) - chance) / (1 - chance))

    return statistic


def _histogram(verdicts: Verdicts) -> dict[str, list[float] | list[int]]:
    """Numbers of probabilities in ten bins, generated pictures and, once a prompt, real ones."""
    for name, values in (("generated", verdicts.generated), ("real", verdicts.real)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"a judge's verdicts must be probabilities in [0, 1], got {values.min():.3g} to "
                f"{values.max():.3g} on {name} pictures: apply its sigmoid"
            )
    result: dict[str, list[float] | list[int]] = {"edges": list(_EDGES)}
    for asked, label in (("asked", PRESENT), ("excluded", ABSENT)):
        among = verdicts.labels == label
        for name, values, chosen in (
            ("generated", verdicts.generated, among),
            ("real", verdicts.real, among & verdicts.first),
        ):
            counts = np.histogram(values[chosen], bins=_EDGES)[0]
            result[f"{asked}_{name}"] = [int(count) for count in counts]
    return result


def _warning(result: Mapping[str, Any]) -> str | None:
    gap, real = result["auroc_difference"], result["auroc_real"]
    if real is not None and real["low"] is not None and real["low"] <= _WEAK_JUDGE:
        return (
            "the judge hardly recognises this finding in real pictures, so its verdict on "
            "generated ones says little"
        )
    if gap is not None and gap["low"] is not None and gap["low"] > 0:
        return (
            "the judge recognises this finding better in generated than in real pictures: a sign "
            "of caricature, not of quality"
        )
    return None
