"""What the report's sentences read from ``results.json``, and when a number may count at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arra_med.eval.consistency import USABLE_JUDGE
from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    finite,
    interval,
    with_interval,
)

Results = Mapping[str, Any]
"""The content of ``results.json``."""

CHANCE = 0.5
"""AUROC of a judge that tosses a coin."""
MIN_PICTURES = 100
"""On each side, below which no answer is a plain yes."""
SIGNIFICANT = 0.05
"""Below it, a p value after correction for several comparisons counts as a difference."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One row of a table of measurements, ready to print."""

    name: str
    aim: str
    value: str
    interval: str
    reference: str
    reference_interval: str
    n: str
    sentence: str


def primary_judge(results: Results) -> Mapping[str, Any] | None:
    """The judge that the first page is about: the first independent one, or else the first."""
    judges: list[Mapping[str, Any]] = list(results.get("judges") or [])
    independent = [judge for judge in judges if judge.get("independent")]
    return next(iter(independent or judges), None)


def scored_rows(judge: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """A judge's findings that had enough asked cases to be scored."""
    return [row for row in (judge or {}).get("findings") or [] if row.get("status") == "scored"]


def scored_findings(results: Results) -> list[Mapping[str, Any]]:
    """The scored findings of the primary judge."""
    return scored_rows(primary_judge(results))


def judge_obstacle(judge: Mapping[str, Any] | None) -> str | None:
    """Why a judge's verdicts settle nothing, or ``None``."""
    if not judge:
        return "No judge read the pictures."
    if not scored_rows(judge):
        return (
            f"No finding that the judge ({judge.get('name')}) knows was asked for often enough to "
            "be scored."
        )
    if not judge.get("independent"):
        return (
            f"The judge ({judge.get('name')}) is not independent, so its verdict settles nothing."
        )
    overall: Mapping[str, Any] = judge.get("overall") or {}
    real = Estimate.read(overall.get("auroc_real"))
    if real is None:
        return "How well the judge reads real images is not known."
    if real.value < USABLE_JUDGE:
        return (
            f"The judge ({judge.get('name')}) is too weak to decide: it reaches "
            f"{decimal(real.value)} on real images, and {decimal(USABLE_JUDGE)} are needed."
        )
    return None


def usable_judges(results: Results) -> list[Mapping[str, Any]]:
    """Independent judges that read real images well enough, in the results' order."""
    return [judge for judge in results.get("judges") or [] if judge_obstacle(judge) is None]


def independent_encoders(results: Results) -> list[Mapping[str, Any]]:
    """Rows of section ``fidelity`` that may count as evidence."""
    return [row for row in results.get("fidelity") or [] if row.get("independent")]


def unlike_split(results: Results) -> str | None:
    """Why sets of pictures cannot be held against the split's real ones, or ``None``."""
    cohort: Mapping[str, Any] = results.get("cohort") or {}
    if cohort.get("represents_split") is not False:
        return None
    drawn = counted(cohort.get("prompts"), "prompt")
    return (
        f"{drawn} of a split of {cohort.get('real')} were drawn, not evenly spread over it: a "
        "difference from all its real images may come of that choice."
    )


def enough_pictures(rows: list[Mapping[str, Any]]) -> bool:
    """Whether every encoder saw :data:`MIN_PICTURES` real and as many generated pictures."""
    return all(
        (finite(row.get(side)) or 0) >= MIN_PICTURES
        for row in rows
        for side in ("n_real", "n_generated")
    )


def reference(row: Mapping[str, Any], measure: str) -> float | None:
    """The real–real value of ``precision``, ``recall``, ``density`` or ``coverage``."""
    values: Mapping[str, Any] = row.get("prdc_reference") or {}
    return finite(values.get(measure))


def share_of_real(row: Mapping[str, Any], measure: str) -> float | None:
    """``measure`` divided by its real–real value; ``None`` when either is not there."""
    value, real = finite(row.get(measure)), reference(row, measure)
    return None if value is None or not real else value / real


def kid_reaches_reference(row: Mapping[str, Any]) -> bool | None:
    """Whether KID's interval reaches down to real against real; ``None`` when unknown."""
    made, real = Estimate.read(row.get("kid")), Estimate.read(row.get("kid_reference"))
    if made is None or real is None or made.low is None:
        return None
    return made.low <= (real.value if real.high is None else real.high)


def over_draws(source: Any, places: int) -> str:  # noqa: ANN401 - any JSON value
    """``10 draws: −0.0011 to 0.0016``: a reference's ends are a range, not an interval."""
    estimate = Estimate.read(source)
    ends = interval(estimate, places)
    draws = finite(source.get("draws")) if isinstance(source, Mapping) else None
    if not ends:
        return "one draw" if draws == 1 else ""
    return f"{'range' if draws is None else counted(int(draws), 'draw')}: {ends}"


def value_over_draws(source: Any, places: int) -> str:  # noqa: ANN401 - any JSON value
    """``0.0002 (10 draws: −0.0011 to 0.0016)``."""
    estimate = Estimate.read(source)
    if estimate is None:
        return with_interval(None)
    ends = over_draws(source, places)
    return (
        f"{decimal(estimate.value, places)} ({ends})" if ends else decimal(estimate.value, places)
    )


def times_100(value: float | None) -> float | None:
    """A share as a rate per 100, if it is known."""
    return None if value is None else 100 * value


def not_computed(row: Mapping[str, Any], name: str) -> str:
    """Why a value is null, as a sentence."""
    note = str(row.get(f"{name}_note") or "").strip() or "not computed; no reason was recorded"
    return sentence(note)


def sentence(words: str) -> str:
    """``words`` with a capital letter and a full stop."""
    return f"{words[:1].upper()}{words[1:]}" + ("" if words.endswith((".", "!", "?")) else ".")


def pictures_and_pairs(source: Any) -> str:  # noqa: ANN401 - any JSON value
    """``600 pairs``; when pairs were drawn among n pictures, both numbers."""
    row = source if isinstance(source, Mapping) else {}
    if row.get("pairs") is None:
        return counted(row.get("n"), "pair")
    return f"{counted(row.get('n'), 'picture')}, {counted(row['pairs'], 'pair')}"
