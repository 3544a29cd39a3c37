"""Clinical-classifier consistency: does a judge see in the picture what the prompt asked for?

Per finding, three things are set against each other: the prompt's label, the judge on the
generated picture, and the judge on the real picture of the same prompt, which is the ceiling.
Uncertain and unknown labels are left out. Intervals draw patients, not pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arra_med.eval.intervals import (
    Array,
    ClusteredBootstrap,
    Interval,
    Statistic,
    auroc,
    average,
    difference,
    weighted_mean,
)
from arra_med.schema import ABSENT, PRESENT, UNCERTAIN

THRESHOLD_RULE = (
    "balanced point: the threshold at which sensitivity and specificity on the real pictures of "
    "the validate split differ least, halfway between neighbouring probabilities"
)
UNCERTAIN_POLICY = "left out"
MEASURES = (
    "threshold", "auroc_real", "auroc_generated", "auroc_difference", "sensitivity",
    "specificity", "missed_per_100", "invented_per_100", "real_missed_per_100",
    "real_invented_per_100", "agreement",
)  # fmt: skip

_WEAK_JUDGE = 0.5


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """One finding over N generated pictures.

    Attributes:
        labels: ``(N,)`` the prompt's label: 1, 0, -1 uncertain, NaN unknown.
        generated: ``(N,)`` the judge's probability on each generated picture.
        real: ``(N,)`` on the real picture of the same prompt.
        threshold: from :func:`balanced_threshold`; ``None`` if there is none.
    """

    labels: Array
    generated: Array
    real: Array
    threshold: float | None


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
    sensitivity = (positive[:, None] >= candidates).mean(axis=0)
    specificity = (negative[:, None] < candidates).mean(axis=0)
    return float(candidates[np.argmin(np.abs(sensitivity - specificity))])


def judge_finding(verdicts: Verdicts, bootstrap: ClusteredBootstrap) -> dict[str, Any]:
    """All measures of one finding, as the results file holds them.

    Rates "missed" and "invented" are per 100 prompts that ask for the finding and per 100 that
    explicitly exclude it; ``agreement`` is over all prompts, labelled or not.
    """
    made, real = auroc(verdicts.labels, verdicts.generated), auroc(verdicts.labels, verdicts.real)
    result: dict[str, Any] = {"threshold": verdicts.threshold}
    _put(result, "auroc_real", bootstrap.interval(real))
    _put(result, "auroc_generated", bootstrap.interval(made))
    _put(result, "auroc_difference", bootstrap.interval(difference(made, real)))
    if verdicts.threshold is None:
        note = "no threshold: the validate split has no positive or no negative picture"
        result |= dict.fromkeys((*MEASURES[4:], "threshold"))
        result |= {f"{name}_note": note for name in (*MEASURES[4:], "threshold")}
    else:
        shown = (verdicts.generated >= verdicts.threshold).astype(np.float64)
        real_shown = (verdicts.real >= verdicts.threshold).astype(np.float64)
        asked, excluded = verdicts.labels == PRESENT, verdicts.labels == ABSENT
        _put(result, "sensitivity", bootstrap.interval(_share(shown == 1, asked)))
        _put(result, "specificity", bootstrap.interval(_share(shown == 0, excluded)))
        result["missed_per_100"] = _per_100(shown == 0, asked)
        result["invented_per_100"] = _per_100(shown == 1, excluded)
        result["real_missed_per_100"] = _per_100(real_shown == 0, asked)
        result["real_invented_per_100"] = _per_100(real_shown == 1, excluded)
        everywhere = np.ones(len(shown), dtype=bool)
        _put(result, "agreement", bootstrap.interval(_share(shown == real_shown, everywhere)))
    result["warning"] = _warning(result)
    return result


def nothing(reason: str) -> dict[str, Any]:
    """Every measure of a finding as null, with the reason beside it."""
    return {**dict.fromkeys(MEASURES), "warning": None, "status_note": reason}


def overall(findings: Sequence[Verdicts], bootstrap: ClusteredBootstrap) -> dict[str, Any]:
    """Mean AUROC over the scored findings, real and generated, and their paired difference."""
    names = ("auroc_real", "auroc_generated", "auroc_difference")
    if not findings:
        note = "no finding was scored"
        return {**dict.fromkeys(names), **{f"{name}_note": note for name in names}}
    real = average([auroc(v.labels, v.real) for v in findings])
    made = average([auroc(v.labels, v.generated) for v in findings])
    result: dict[str, Any] = {}
    for name, statistic in zip(names, (real, made, difference(made, real)), strict=True):
        _put(result, name, bootstrap.interval(statistic))
    return result


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


def _put(result: dict[str, Any], name: str, interval: Interval) -> None:
    """Write an interval under ``name``, null if there is no value, with its note beside it."""
    result[name] = None if interval.value is None else interval.to_json()
    if interval.note:
        result[f"{name}_note"] = interval.note


def _share(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Statistic:
    return weighted_mean(np.where(among, hits.astype(np.float64), np.nan))


def _per_100(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(100 * hits[among].mean()) if among.any() else None


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
