"""Goals set before the pictures were seen: reached, missed, or not to be said."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arra_med.eval.formatting import Estimate, counted, finite, percent, with_interval
from arra_med.eval.intervals import exact_share
from arra_med.eval.memorisation_result import ByChance
from arra_med.eval.summary_answer import Answer, Tone, Verdict, cannot_say
from arra_med.eval.summary_comparison import measure_name
from arra_med.eval.summary_errors import pooled_rate
from arra_med.eval.summary_evidence import (
    MIN_PICTURES,
    Results,
    enough_pictures,
    independent_encoders,
    judge_obstacle,
    scored_rows,
    unlike_split,
)
from arra_med.eval.summary_privacy import by_chance, identical, most_by_chance
from arra_med.settings import Goal

_OF_PICTURES = "the interval is exact for pictures taken as independent, and leaves out that the "
_SECTIONS = {"view_agreement": ("view", "agreement"), "side_agreement": ("laterality", "followed")}
_SIDES = {"precision": "n_generated", "recall": "n_real", "coverage": "n_real"}


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One judge's, encoder's or search's value for a goal.

    Attributes:
        value: in the goal's unit; ``None`` with a note where there is none.
        trusted: whether it may decide; if not, the note says why.
        note: what a reader must know of it.
    """

    value: Estimate | None
    trusted: bool = True
    note: str = ""


def goal_rows(goals: Sequence[Goal], results: Results) -> list[dict[str, Any]]:
    """Section ``goals`` of the results file.

    A goal is met if the worse end of the interval reaches it, not met if the better end does not,
    and otherwise open (``null``, with a note). Of several independent judges or encoders the one
    that does worst counts; what is not independent leaves a goal open.

    Args:
        goals: from the settings.
        results: all other sections.
    """
    return [_row(goal, results) for goal in goals]


def _row(goal: Goal, results: Results) -> dict[str, Any]:
    sources = _sources(goal, results)
    decided = [(source, *_met(goal, source)) for source in sources if source.trusted]
    if not decided:
        decided = [(source, None, source.note) for source in sources]
    row = {
        "measure": goal.measure,
        "finding": goal.finding,
        "at_least": goal.at_least,
        "at_most": goal.at_most,
    }
    if not decided:
        return row | {"value": None, "met": None, "note": "not measured"}
    order = {False: 0, None: 1, True: 2}
    source, met, note = min(
        decided, key=lambda entry: (order[entry[1]], _badness(goal, entry[0].value))
    )
    return row | {"value": _json(source.value), "met": met, "note": note}


def _met(goal: Goal, source: _Source) -> tuple[bool | None, str]:
    value = source.value
    if value is None:
        return None, source.note or "not measured"
    if value.low is None or value.high is None:
        return None, source.note or "cannot say: there is no interval"
    if goal.at_least is not None:
        met, missed = value.low >= goal.at_least, value.high < goal.at_least
    else:
        assert goal.at_most is not None  # a goal has one of the two
        met, missed = value.high <= goal.at_most, value.low > goal.at_most
    if met or missed:
        return met, source.note
    note = "cannot say: the interval contains the goal"
    return None, f"{note}; {source.note}" if source.note else note


def _badness(goal: Goal, value: Estimate | None) -> float:
    """Smallest for the value that is farthest from the goal, or not there."""
    if value is None:
        return float("-inf")
    return value.value if goal.at_least is not None else -value.value


def _sources(goal: Goal, results: Results) -> list[_Source]:
    if goal.measure in ("auroc", "missed_per_100", "invented_per_100"):
        return [_of_judge(goal, judge) for judge in results.get("judges") or []]
    if goal.measure in (*_SIDES, "kid_over_reference"):
        rows = independent_encoders(results) or list(results.get("fidelity") or [])
        of = _kid_ratio if goal.measure == "kid_over_reference" else _share(goal.measure)
        sources = [_trusting(of(row), row, str(row.get("extractor"))) for row in rows]
        why = unlike_split(results)
        if not why and not enough_pictures(rows):
            why = f"{MIN_PICTURES} pictures are needed on each side"
        if why:
            note = f"cannot say: {why.rstrip('.')}"
            return [replace(source, trusted=False, note=note) for source in sources]
        return sources
    if goal.measure == "text_alignment":
        return [
            _trusting(_estimate(row, "normalised"), row, str(row.get("encoder")))
            for row in results.get("text") or []
        ] or [_Source(value=None, note=_reason(results.get("text_note")))]
    if goal.measure == "copies_per_100":
        return [_copies(goal, results)]
    name, value = _SECTIONS[goal.measure]
    section: Mapping[str, Any] | None = results.get(name)
    if not section:
        return [_Source(value=None, note=_reason(results.get(f"{name}_note")))]
    who = str(section.get("classifier") or section.get("judge"))
    return [_trusting(_estimate(section, value), section, who)]


def _trusting(source: _Source, row: Mapping[str, Any], name: str) -> _Source:
    if row.get("independent"):
        return source
    return _Source(value=source.value, trusted=False, note=f"cannot say: {name} is not independent")


def _of_judge(goal: Goal, judge: Mapping[str, Any]) -> _Source:
    name = str(judge.get("name"))
    if goal.finding is not None:
        rows = [row for row in scored_rows(judge) if row.get("finding") == goal.finding]
        if not rows:
            note = f"cannot say: {name} has no score for {goal.finding}"
            # a second judge that does not know the finding must not leave the goal open
            return _Source(value=None, trusted=False, note=note)
        return _of_usable(_of_finding(goal.measure, rows[0]), judge)
    overall: Mapping[str, Any] = judge.get("overall") or {}
    field = "auroc_generated" if goal.measure == "auroc" else goal.measure
    source = _estimate(overall, field)
    if source.value is None and goal.measure != "auroc":
        rate = pooled_rate(judge, goal.measure)
        if rate is not None:
            note = "cannot say: the rate over all findings has no interval"
            source = _Source(value=Estimate(value=rate), note=note)
    return _of_usable(source, judge)


def _of_usable(source: _Source, judge: Mapping[str, Any]) -> _Source:
    obstacle = judge_obstacle(judge)
    if obstacle is None:
        return source
    note = f"cannot say: {obstacle[:1].lower()}{obstacle[1:].rstrip('.')}"
    return _Source(value=source.value, trusted=False, note=note)


def _of_finding(measure: str, row: Mapping[str, Any]) -> _Source:
    if measure == "auroc":
        return _estimate(row, "auroc_generated")
    right = Estimate.read(row.get("sensitivity" if measure == "missed_per_100" else "specificity"))
    value = finite(row.get(measure))
    if right is None or value is None:
        return _Source(value=None, note=_reason(row.get(f"{measure}_note")))
    wrong = right.times(100).rest_of(100)
    return _Source(value=Estimate(value=value, low=wrong.low, high=wrong.high))


def _share(measure: str) -> Any:  # noqa: ANN401 - a function of a row
    def of_row(row: Mapping[str, Any]) -> _Source:
        value, n = finite(row.get(measure)), finite(row.get(_SIDES[measure]))
        if value is None or not n:
            return _Source(value=None, note=_reason(row.get(f"{measure}_note")))
        ends = exact_share(round(value * n), int(n))
        other = "real" if measure == "precision" else "generated"
        return _Source(
            value=Estimate(value=value, low=ends.low, high=ends.high),
            note=f"{_OF_PICTURES}{other} pictures are a sample too",
        )

    return of_row


def _kid_ratio(row: Mapping[str, Any]) -> _Source:
    """KID divided by the largest of the real–real draws.

    Their mean is near 0, by which nothing can be divided.
    """
    kid, real = Estimate.read(row.get("kid")), Estimate.read(row.get("kid_reference"))
    if kid is None or real is None:
        note = row.get("kid_note") if kid is None else row.get("kid_reference_note")
        return _Source(value=None, note=_reason(note))
    largest = real.value if real.high is None else real.high
    if largest <= 0:
        note = "cannot say: real images are at no distance from each other to divide by"
        return _Source(value=None, note=note)
    return _Source(
        value=kid.times(1 / largest),
        note="1 is the largest distance among the draws of real against real",
    )


def _copies(goal: Goal, results: Results) -> _Source:
    search: Mapping[str, Any] | None = results.get("memorisation")
    if not search:
        return _Source(value=None, note=_reason(results.get("memorisation_note")))
    share = Estimate.read(search.get("share"))
    if share is None:
        return _Source(value=None, note="not measured")
    chance = by_chance(search)
    if chance is None:
        value, note = share.times(100), ""
    else:
        equal = identical(results) / (finite(search.get("n_generated")) or 1)
        value = _beyond_chance(
            share, replace(chance, most=most_by_chance(search, chance)), equal
        ).times(100)
        note = f"beyond the {percent(100 * chance.expected)} in 100 that the limits let through"
    source = _Source(value=value, note=note)
    if not search.get("detects") and _met(goal, source)[0] is not False:
        note = "cannot say: the search missed planted copies"
        return _Source(value=value, trusted=False, note=note)
    if results.get("model_note") and _met(goal, source)[0] is not False:
        note = "cannot say: the generator learned from pictures that were not searched"
        return _Source(value=value, trusted=False, note=note)
    return source


def _beyond_chance(share: Estimate, chance: ByChance, equal: float) -> Estimate:
    """Share of near copies less that of real pictures of other patients, which copy nobody.

    Both are uncertain: the distances to the ends of their intervals are squared and added (MOVER,
    as in :mod:`~arra_med.eval.intervals`). ``equal`` is the share that equals a training picture in
    every pixel; those are never put down to chance.
    """
    value = share.value - chance.expected
    low, high = share.low, share.high
    if low is not None and high is not None:
        low = value - math.hypot(share.value - low, chance.most - chance.expected)
        high = value + math.hypot(high - share.value, chance.expected - chance.least)
        low, high = max(equal, low), max(equal, high)
    return Estimate(value=max(equal, value), low=low, high=high)


def _estimate(row: Mapping[str, Any], name: str) -> _Source:
    value = Estimate.read(row.get(name))
    return _Source(value=value, note="" if value else _reason(row.get(f"{name}_note")))


def _reason(note: Any) -> str:  # noqa: ANN401 - any JSON value
    words = str(note or "").strip()
    return f"cannot say: {words}" if words else "not measured"


def _json(value: Estimate | None) -> dict[str, Any] | None:
    if value is None:
        return None
    ends: dict[str, Any] = {"value": value.value, "low": value.low, "high": value.high}
    return ends if value.n is None else ends | {"n": value.n}


@dataclass(frozen=True, kw_only=True)
class GoalLine:
    """One goal as the page prints it."""

    name: str
    goal: str
    value: str
    verdict: str
    tone: Tone
    note: str


def goal_lines(results: Results) -> list[GoalLine]:
    """The goals and what became of them; empty if none were set."""
    lines = []
    for row in results.get("goals") or []:
        finding = f", {row['finding']}" if row.get("finding") else ""
        least, most = finite(row.get("at_least")), finite(row.get("at_most"))
        verdict, tone = _LINES[row.get("met")]
        lines.append(
            GoalLine(
                name=f"{measure_name(str(row.get('measure')))}{finding}",
                goal=f"at least {least:g}" if least is not None else f"at most {most or 0:g}",
                value=with_interval(Estimate.read(row.get("value")), None),
                verdict=verdict,
                tone=tone,
                note=str(row.get("note") or ""),
            )
        )
    return lines


_LINES: dict[bool | None, tuple[str, Tone]] = {
    True: ("Reached", "good"),
    False: ("Missed", "poor"),
    None: ("Cannot say", "unknown"),
}


def goals_reached(results: Results) -> Answer:
    """Were the goals reached that were set beforehand?"""
    lines = goal_lines(results)
    reached = sum(line.verdict == "Reached" for line in lines)
    missed = sum(line.verdict == "Missed" for line in lines)
    verdict: Verdict
    if not lines:
        verdict = ("None set", "unknown", "No goals were set beforehand.")
    elif missed:
        words = f"{missed} of {counted(len(lines), 'goal')} {_was(missed)} missed."
        left = len(lines) - reached - missed
        undecided = f", and {left} cannot be decided" if left else ""
        verdict = ("No", "poor", f"{words} {reached} {_was(reached)} reached{undecided}.")
    elif reached == len(lines):
        words = "The goal was reached." if reached == 1 else f"All {reached} goals were reached."
        verdict = ("Yes", "good", words)
    else:
        left = len(lines) - reached
        verdict = cannot_say(
            f"{left} of {counted(len(lines), 'goal')} cannot be decided; {reached} "
            f"{_was(reached)} reached."
        )
    return Answer.of(
        verdict,
        question="Were the goals reached?",
        sentences=tuple(
            f"{line.name}, {line.goal}: {line.verdict.lower()}, {line.value}"
            + (f"; {line.note.removeprefix('cannot say: ')}." if line.note else ".")
            for line in lines
        ),
        rule=(
            "A goal is reached if the worse end of its interval reaches it, missed if the better "
            "end does not; the worst independent judge or encoder counts. Yes: all are. No: one is "
            "missed. Cannot say: none is missed, and an interval contains its goal, or nothing "
            "independent measured it. None set: there were none before the pictures were seen."
        ),
    )


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
