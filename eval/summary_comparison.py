"""What the comparison of several generators shows, in sentences."""

from collections.abc import Mapping
from typing import Any

from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    finite,
    listed,
    p_words,
    shared_places,
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
    correction is called one, and a value beyond that of real images is not called better.
    """
    comparison: Mapping[str, Any] | None = results.get("comparison")
    if not comparison:
        return []
    names = [str(row.get("name")) for row in comparison.get("generators") or []]
    measures: dict[Any, Mapping[str, Any]] = {
        (row.get("measure"), row.get("subject")): row for row in comparison.get("measures") or []
    }
    clear, open_ = [], 0
    for row in comparison.get("differences") or []:
        words = _difference(row, measures.get((row.get("measure"), row.get("subject")), {}))
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


def beyond_real(row: Mapping[str, Any], generator: str) -> bool:
    """Whether a generator's value is better than that of real images: exaggeration, not quality.

    By the interval of the difference, or by the value if there is none.

    Args:
        row: of ``comparison.measures``.
        generator: its name.
    """
    gaps = {one.get("generator"): one.get("difference_to_real") for one in row.get("values") or []}
    gap = Estimate.read(gaps.get(generator))
    if gap is None:
        return False
    if row.get("aim") == "higher":
        return (gap.value if gap.low is None else gap.low) > 0
    return row.get("aim") == "lower" and (gap.value if gap.high is None else gap.high) < 0


def _difference(row: Mapping[str, Any], measure: Mapping[str, Any]) -> str | None:
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
    aim, beyond = str(measure.get("aim")), ""
    better = {"higher": (first, second), "lower": (second, first)}.get(aim)
    if better is None:
        relation = f"{first} lies higher than {second}"
    elif beyond_real(measure, better[0]):
        relation = f"{better[0]} lies {aim} than {better[1]}"
        real = Estimate.read(measure.get("real"))
        known = "" if real is None else f" ({decimal(real.value, shared_places(real))})"
        beyond = f", and {aim} than real images{known}, a sign of exaggeration"
    else:
        relation = f"{better[0]} is better than {better[1]}"
    what = measure_name(str(row.get("measure")))
    return (
        f"{what} ({row.get('subject')}): {relation}, by {with_interval(size, None)}, {p_words(p)} "
        f"after correction{beyond}."
    )
