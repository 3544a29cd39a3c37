"""What the comparison of several generators shows, in sentences."""

from collections.abc import Mapping
from typing import Any

from arra_med.eval.formatting import (
    Estimate,
    counted,
    finite,
    listed,
    p_words,
    with_interval,
)
from arra_med.eval.summary_evidence import SIGNIFICANT, Results, sentence

_NAMES = {
    "auroc": "AUROC",
    "missed_per_100": "Missed findings per 100",
    "invented_per_100": "Invented findings per 100",
    "fd": "FD",
    "fd_infinity": "FD∞",
    "kid": "KID",
    "kid_over_reference": "KID, as a multiple of real to real",
    "text_alignment": "Fit of picture and text",
    "copies_per_100": "Near copies of training pictures per 100",
    "view_agreement": "View as asked",
    "side_agreement": "Side as asked",
    "diversity_generated": "Likeness among generated pictures",
    "paired": "Likeness to the real image of the prompt",
}


def measure_name(measure: str) -> str:
    """What a reader calls a measure of a comparison or a goal."""
    return _NAMES.get(measure, measure.replace("_", " ").capitalize())


def comparison_sentences(results: Results) -> list[str]:
    """Who is better at what; empty if nothing was compared.

    Only a difference whose interval leaves out 0 and whose p value stays under 0.05 after
    correction is called one.
    """
    comparison: Mapping[str, Any] | None = results.get("comparison")
    if not comparison:
        return []
    names = [str(row.get("name")) for row in comparison.get("generators") or []]
    aims = {
        (row.get("measure"), row.get("subject")): row.get("aim")
        for row in comparison.get("measures") or []
    }
    clear, open_ = [], 0
    for row in comparison.get("differences") or []:
        words = _difference(row, aims.get((row.get("measure"), row.get("subject"))))
        if words:
            clear.append(words)
        else:
            open_ += 1
    sentences = [f"Compared on the same prompts: {listed(names)}."]
    if comparison.get("generators_note"):
        sentences.append(sentence(str(comparison["generators_note"])))
    sentences += clear or ["No difference was shown."]
    if open_ and clear:
        sentences.append(f"In {counted(open_, 'other comparison')} no difference was shown.")
    if comparison.get("adjustment"):
        sentences.append(f"Corrected for several comparisons: {comparison['adjustment']}.")
    return sentences


def _difference(row: Mapping[str, Any], aim: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """A difference in words if there is one beyond doubt, or ``None``."""
    gap, p = Estimate.read(row.get("difference")), finite(row.get("p_adjusted"))
    if gap is None or gap.low is None or gap.high is None or gap.includes(0):
        return None
    if p is None or p >= SIGNIFICANT:
        return None
    first, second = str(row.get("first")), str(row.get("second"))
    if gap.value < 0:
        first, second = second, first
    # the first now has the larger value
    size = Estimate(
        value=abs(gap.value),
        low=min(abs(gap.low), abs(gap.high)),
        high=max(abs(gap.low), abs(gap.high)),
    )
    better = {"higher": (first, second), "lower": (second, first)}.get(str(aim))
    relation = (
        f"{better[0]} is better than {better[1]}"
        if better
        else f"{first} lies higher than {second}"
    )
    what = measure_name(str(row.get("measure")))
    return (
        f"{what} ({row.get('subject')}): {relation}, by {with_interval(size, None)}, {p_words(p)} "
        "after correction."
    )
