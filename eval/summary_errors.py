"""Answer about findings that are missing, or there without having been asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arra_med.eval.formatting import (
    Estimate,
    finite,
    percent,
    with_interval,
)
from arra_med.eval.summary_answer import Answer, Verdict, cannot_say
from arra_med.eval.summary_evidence import (
    MIN_PICTURES,
    Results,
    judge_obstacle,
    primary_judge,
    scored_rows,
    usable_judges,
)

FEW_MORE = 5.0
MANY_MORE = 20.0


def invent_or_miss(results: Results) -> Answer:
    """How often is an asked finding missing, or one there that was not asked?"""
    judges = usable_judges(results)
    primary = judges[0] if judges else primary_judge(results)
    levels = [(level, judge) for judge in judges if (level := _error_level(judge)) is not None]
    verdict: Verdict
    if not judges:
        verdict = cannot_say(judge_obstacle(primary) or "No judge read the pictures.")
    elif not levels:
        verdict = cannot_say("Missed and invented findings were not set against real images.")
    else:
        level, decisive = min(levels, key=lambda pair: pair[0])
        word, tone, reason = _ERRORS[level]
        verdict = (word, tone, f"{reason} {_error_summary(decisive)}")
    return Answer.of(
        verdict,
        question="Do they invent or miss findings?",
        sentences=(
            *_error_sentences(primary),
            *map(_error_summary, judges[1:]),
            *map(_more_sentence, judges),
        ),
        rule=(
            "More per 100 than on real images, missed or invented, over all findings; the worst "
            "independent judge counts. Often: one of the two intervals lies above "
            f"{percent(MANY_MORE)}. Rarely: neither reaches above {percent(FEW_MORE)}, each counts "
            f"{MIN_PICTURES} cases or more, and no single finding has more than "
            f"{percent(MANY_MORE)}. Sometimes: neither, and one interval lies above 0. Cannot say: "
            "anything else, or no independent judge reads real images well enough. The mean over "
            "findings is weighted by how often each was asked, or was not to be there."
        ),
    )


_ERRORS: tuple[Verdict, ...] = (
    ("Often", "poor", "Far more findings are missed or invented than in real images."),
    ("Sometimes", "mixed", "More often than the judge errs on real images."),
    cannot_say(
        "Neither was shown: that more are missed or invented than in real images, or that hardly "
        "more are."
    ),
    ("Rarely", "good", "Hardly more than the judge's own errors on real images."),
)


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """A rate per 100 over all scored findings, weighted by the cases behind each.

    Attributes:
        value: on generated pictures.
        real: on real images, if known for every finding.
        n: cases.
        lowest: of one finding.
        highest: of one finding.
        worst: that finding's name.
        worst_excess: largest excess over real images of one finding.
    """

    value: float
    real: float | None
    n: int
    lowest: float
    highest: float
    worst: str
    worst_excess: float | None


def _pooled(judge: Mapping[str, Any] | None, rate: str, weight: str) -> Pooled | None:
    rows = [
        row
        for row in scored_rows(judge)
        if finite(row.get(rate)) is not None and finite(row.get(weight))
    ]
    if not rows:
        return None
    weights = [float(row[weight]) for row in rows]
    rates = [float(row[rate]) for row in rows]
    found = [finite(row.get(f"real_{rate}")) for row in rows]
    reals = [real for real in found if real is not None]
    known = len(reals) == len(rows)
    total = sum(weights)
    worst = max(range(len(rows)), key=rates.__getitem__)
    return Pooled(
        value=sum(r * w for r, w in zip(rates, weights, strict=True)) / total,
        real=sum(r * w for r, w in zip(reals, weights, strict=True)) / total if known else None,
        n=int(total),
        lowest=min(rates),
        highest=max(rates),
        worst=str(rows[worst]["finding"]),
        worst_excess=max(r - real for r, real in zip(rates, reals, strict=True)) if known else None,
    )


def pooled_rate(judge: Mapping[str, Any], measure: str) -> float | None:
    """``missed_per_100`` or ``invented_per_100`` of a judge over all its scored findings."""
    weight = "positives" if measure == "missed_per_100" else "negatives"
    pooled = _pooled(judge, measure, weight)
    return None if pooled is None else pooled.value


def _error_sentences(judge: Mapping[str, Any] | None) -> list[str]:
    missed, invented = _errors(judge)
    if missed is None or invented is None:
        return []
    sentences = [
        f"Of 100 findings that prompts ask for, {percent(missed.value)} are missing, and the judge "
        f"misses {percent(missed.real)} when it reads the real images ({missed.n:,} asked; "
        f"{_by_finding(missed)}).",
        f"Where a finding is stated to be absent, {percent(invented.value)} of 100 pictures show "
        f"it all the same, and {percent(invented.real)} of the real images ({invented.n:,} cases; "
        f"{_by_finding(invented)}).",
    ]
    unmentioned = _pooled(judge, "invented_unmentioned_per_100", "unmentioned")
    if unmentioned is not None:
        sentences.append(
            f"Where the prompt says nothing of a finding, {percent(unmentioned.value)} of 100 "
            f"pictures show it, and {percent(unmentioned.real)} of the real images."
        )
    overall: Mapping[str, Any] = (judge or {}).get("overall") or {}
    normal = Estimate.read(overall.get("normal_with_finding_per_100"))
    if normal is not None:
        real = _value(Estimate.read(overall.get("real_normal_with_finding_per_100")))
        sentences.append(
            f"Of 100 pictures of prompts for a normal film, {percent(normal.value)} show some "
            f"finding to the judge, and {percent(real)} of the real images ({normal.n} pictures; "
            "devices and findings that the judge hardly recognises left out)."
        )
    return sentences


def _by_finding(errors: Pooled) -> str:
    """The range over findings, and the worst of them if there is an error at all."""
    words = f"by finding {percent(errors.lowest)} to {percent(errors.highest)}"
    return words + (f", most often {errors.worst}" if errors.highest else "")


def _error_summary(judge: Mapping[str, Any]) -> str:
    """Both rates of a judge in one sentence."""
    missed, invented = _errors(judge)
    if missed is None or invented is None:
        return f"Missed and invented findings were not counted for {judge.get('name')}."
    return (
        f"To {judge.get('name')}, {percent(missed.value)} of 100 asked findings are missing (real "
        f"images {percent(missed.real)}), and {percent(invented.value)} of 100 absent ones are "
        f"shown (real images {percent(invented.real)})."
    )


def _errors(judge: Mapping[str, Any] | None) -> tuple[Pooled | None, Pooled | None]:
    """Missed and invented findings over all scored ones."""
    return (
        _pooled(judge, "missed_per_100", "positives"),
        _pooled(judge, "invented_per_100", "negatives"),
    )


def _more(judge: Mapping[str, Any]) -> tuple[Estimate, Estimate] | None:
    """How many more per 100 are missed, and invented, than on real images, over all findings."""
    overall: Mapping[str, Any] = judge.get("overall") or {}
    missed = Estimate.read(overall.get("missed_more"))
    invented = Estimate.read(overall.get("invented_more"))
    return None if missed is None or invented is None else (missed, invented)


def _more_sentence(judge: Mapping[str, Any]) -> str:
    more = _more(judge)
    if more is None:
        return f"What {judge.get('name')} misses and invents was not set against real images."
    missed, invented = (with_interval(estimate, 1) for estimate in more)
    return (
        f"More of 100 than on real images, to {judge.get('name')}: {missed} are missed, "
        f"{invented} are invented."
    )


def _error_level(judge: Mapping[str, Any]) -> int | None:
    """0 often, 1 sometimes, 2 not known, 3 rarely; ``None`` where it was not counted."""
    more = _more(judge)
    if more is None:
        return None
    low = max(0.0 if estimate.low is None else estimate.low for estimate in more)
    if low > MANY_MORE:
        return 0
    few = all(
        estimate.high is not None
        and estimate.high <= FEW_MORE
        and (estimate.n or 0) >= MIN_PICTURES
        for estimate in more
    )
    worst = [None if errors is None else errors.worst_excess for errors in _errors(judge)]
    if few and all(excess is not None and excess <= MANY_MORE for excess in worst):
        return 3
    return 1 if low > 0 else 2


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value
