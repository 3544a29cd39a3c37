"""Answers about findings: is what was asked there, and what was not asked absent?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arra_med.eval.consistency import USABLE_JUDGE
from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    finite,
    listed,
    percent,
    with_interval,
)
from arra_med.eval.summary_answer import Answer, Verdict, cannot_say
from arra_med.eval.summary_evidence import (
    CHANCE,
    MIN_PICTURES,
    Results,
    judge_obstacle,
    primary_judge,
    scored_rows,
    usable_judges,
)
from arra_med.eval.summary_prompt import (
    CEILING_GAP,
    falls_short,
    laterality_sentences,
    text_sentences,
    view_sentences,
)

GOOD_AUROC = 0.8
FEW_MORE = 5.0
MANY_MORE = 20.0
DISAGREEMENT = 0.1
"""Difference between two judges' mean AUROCs that is said to be one."""


def show_what_was_asked(results: Results) -> Answer:
    """Do independent judges find in the pictures what their prompts asked for?"""
    primary = primary_judge(results)
    judges = usable_judges(results)
    levels = [level for level in map(_asked_level, judges) if level is not None]
    short = falls_short(results)
    verdict: Verdict
    if not judges:
        verdict = cannot_say(judge_obstacle(primary) or "No judge read the pictures.")
    elif not levels:
        verdict = cannot_say("No mean over findings has an interval.")
    elif min(levels) == _YES and short:
        reason = f"Findings can be recognised, but not followed: {listed(short)}."
        verdict = ("In part", "mixed", reason)
    else:
        word, tone, reason = _ASKED[min(levels)]
        if short and min(levels) == _IN_PART:
            reason += f" Not followed, either: {listed(short)}."
        verdict = (word, tone, reason)
    return Answer.of(
        verdict,
        question="Do they show what was asked?",
        sentences=(
            *_auroc_sentences(results),
            # the first sentence of each says how it stands; the page has the others further down
            *view_sentences(results)[:1],
            *laterality_sentences(results)[:1],
            *text_sentences(results)[:1],
        ),
        rule=(
            "Independent judges that reach at least "
            f"{decimal(USABLE_JUDGE)} on real images; the worst of them counts. Yes: the mean "
            f"AUROC's interval lies above {decimal(GOOD_AUROC)}, the mean is at most "
            f"{decimal(CEILING_GAP)} below the judge's value on real images, no scored finding's "
            f"interval reaches {decimal(CHANCE)}, and neither view nor side, where an independent "
            f"model tested them, lies more than {decimal(CEILING_GAP)} below real images, nor does "
            "the text's fit reach that of shuffled prompts. No: the mean's interval lies below "
            f"{decimal(CHANCE)}. Not shown: the mean's interval reaches "
            f"{decimal(CHANCE)}; coloured as poor if it ends below {decimal(GOOD_AUROC)}. In part: "
            "anything between. Cannot say: no such judge, or no interval."
        ),
    )


_NOT_SHOWN = (
    "That the judge can tell pictures with an asked finding from those without was not shown: the "
    f"interval of its mean AUROC reaches {decimal(CHANCE)}"
)
_ASKED: tuple[Verdict, ...] = (
    (
        "No",
        "poor",
        "Prompts are contradicted: the judge sees findings more where they were not asked, and the "
        f"interval of its mean AUROC lies below {decimal(CHANCE)}.",
    ),
    ("Not shown", "poor", f"{_NOT_SHOWN}, and ends below {decimal(GOOD_AUROC)}."),
    ("Not shown", "unknown", f"{_NOT_SHOWN}, and {decimal(GOOD_AUROC)} too."),
    (
        "In part",
        "mixed",
        "Asked findings can be seen, but not all of them, or less surely than in real images.",
    ),
    (
        "Yes",
        "good",
        "What a prompt asks for can be recognised almost as well as in real images.",
    ),
)
_IN_PART, _YES = 3, 4


def judges_agreement(results: Results) -> str | None:
    """Whether the judges that may count agree; ``None`` with fewer than two of them."""
    judges = usable_judges(results)
    if len(judges) < 2:
        return None
    first, *others = judges
    made = _mean(first, "auroc_generated")
    means = [(judge, mean) for judge in others if (mean := _mean(judge, "auroc_generated"))]
    if made is None or not means:
        return None
    values = listed(
        f"{judge.get('name')} {with_interval(mean)} over "
        f"{counted(len(scored_rows(judge)), 'finding')} "
        f"(real images {decimal(_value(_mean(judge, 'auroc_real')))})"
        for judge, mean in means
    )
    apart = max(abs(mean.value - made.value) for _, mean in means)
    same = apart <= DISAGREEMENT and len({_asked_level(judge) for judge in (first, *others)}) == 1
    words = (
        "Other judges come to the same answer"
        if same
        else f"Judges disagree, by up to {decimal(apart)} or in the answer that follows"
    )
    return f"{words}: {values}; {first.get('name')} {with_interval(made)}."


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


def _auroc_sentences(results: Results) -> list[str]:
    judges = usable_judges(results)
    judge = judges[0] if judges else primary_judge(results)
    if judge is None:
        return []
    made, real = _mean(judge, "auroc_generated"), _mean(judge, "auroc_real")
    scored = scored_rows(judge)
    sentences = []
    if made is not None:
        sentences.append(
            "Told to choose which of two generated pictures was to show a finding, "
            f"{judge.get('name')} is right {percent(100 * made.value)} times in 100: mean AUROC "
            f"{with_interval(made)} over {counted(len(scored), 'finding')}; 0.50 is chance."
        )
    if real is not None:
        sentences.append(f"On real images it reaches {with_interval(real)}: the ceiling.")
    against = [str(row["finding"]) for row in scored if _contradicted(row)]
    if against:
        sentences.append(f"Contradicted, below chance with the whole interval: {listed(against)}.")
    by_chance = [
        str(row["finding"])
        for row in scored
        if (low := _low(row)) is not None and low <= CHANCE and not _contradicted(row)
    ]
    if by_chance:
        sentences.append(f"No better than chance, within the interval: {listed(by_chance)}.")
    warned = [str(row["finding"]) for row in scored if row.get("warning")]
    if warned:
        sentences.append(f"With a warning in the table: {listed(warned)}.")
    agreement = judges_agreement(results)
    if agreement:
        sentences.append(agreement)
    left_out = [judge_obstacle(other) for other in results.get("judges") or []] if judges else []
    return sentences + [f"Not counted: {reason}" for reason in left_out if reason]


def _asked_level(judge: Mapping[str, Any]) -> int | None:
    """Place in :data:`_ASKED`; ``None`` without a mean over findings that has an interval."""
    made, real = _mean(judge, "auroc_generated"), _mean(judge, "auroc_real")
    if made is None or made.low is None or made.high is None:
        return None
    if made.high < CHANCE:
        return 0
    if made.low <= CHANCE:
        return 1 if made.high < GOOD_AUROC else 2
    near = real is not None and made.value >= real.value - CEILING_GAP
    lows = map(_low, scored_rows(judge))
    unsure = any(low is None or low <= CHANCE for low in lows)
    return _YES if made.low >= GOOD_AUROC and not unsure and near else _IN_PART


def _low(row: Mapping[str, Any]) -> float | None:
    """Lower end of a finding's AUROC on generated pictures; ``None`` if it has no interval."""
    made = Estimate.read(row.get("auroc_generated"))
    return None if made is None else made.low


def _contradicted(row: Mapping[str, Any]) -> bool:
    """Whether the whole interval of a finding's AUROC lies below chance."""
    made = Estimate.read(row.get("auroc_generated"))
    return made is not None and made.high is not None and made.high < CHANCE


def _mean(judge: Mapping[str, Any] | None, name: str) -> Estimate | None:
    overall: Mapping[str, Any] = (judge or {}).get("overall") or {}
    return Estimate.read(overall.get(name))


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value
