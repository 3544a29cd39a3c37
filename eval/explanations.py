"""One plain sentence for each row of the report's tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arra_med.eval.formatting import (
    MISSING,
    Estimate,
    counted,
    decimal,
    finite,
    interval,
    percent,
    shared_places,
    significant,
    with_interval,
)

Results = Mapping[str, Any]
"""The content of ``results.json``."""

CHANCE = 0.5
"""AUROC of a judge that tosses a coin."""
USABLE_JUDGE = 0.7
"""AUROC on real images below which a judge's verdict on generated ones says nothing."""


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


def scored_findings(results: Results) -> list[Mapping[str, Any]]:
    """The findings that had enough asked cases to be scored."""
    return [row for row in results.get("findings") or [] if row.get("status") == "scored"]


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


def encoder_sentences(row: Mapping[str, Any]) -> list[str]:
    """What one encoder sees, for the summary: distance, then the share of plausible pictures."""
    name = str(row.get("extractor"))
    kid, real = Estimate.read(row.get("kid")), Estimate.read(row.get("kid_reference"))
    sentences = []
    reaches = kid_reaches_reference(row)
    if kid is not None and real is not None and reaches is not None:
        what = "no difference from real images was found" if reaches else "the sets differ"
        places = shared_places(kid)
        sentences.append(
            f"To {name}, {what}: KID {with_interval(kid, places)}; two sets of real images give "
            f"{with_interval(real, places)}."
        )
    precision = finite(row.get("precision"))
    if precision is not None:
        sentences.append(
            f"{percent(100 * precision)} of 100 generated pictures lie among the real ones "
            f"({name}; real images among themselves: "
            f"{percent(times_100(reference(row, 'precision')))})."
        )
    return sentences


def times_100(value: float | None) -> float | None:
    """A share as a rate per 100, if it is known."""
    return None if value is None else 100 * value


def fd_ratio_words(row: Mapping[str, Any]) -> str:
    """How large FD is beside two samples of real images of the same size."""
    value, real = finite(row.get("fd")), finite(row.get("fd_reference"))
    if value is None:
        return _not_computed(row, "fd")
    if not real or real <= 0:
        return "No real–real value to compare with, so its size cannot be judged."
    note = f" {row['fd_note']}" if row.get("fd_note") else ""
    return f"{significant(value / real, 2)} times what two sets of real images give.{note}"


def fidelity_measures(row: Mapping[str, Any]) -> list[Measure]:
    """All that one encoder measured, each beside its real–real value."""
    n = f"{_count(row.get('n_generated'))} generated, {_count(row.get('n_real'))} real"
    fd, fd_real = finite(row.get("fd")), finite(row.get("fd_reference"))
    kid, kid_real = Estimate.read(row.get("kid")), Estimate.read(row.get("kid_reference"))
    places = shared_places(kid or kid_real or Estimate(value=0.0))
    measures = [
        Measure(
            name="Fréchet distance (FD)",
            aim="lower is better",
            value=significant(fd),
            interval="",
            reference=significant(fd_real),
            reference_interval="",
            n=n,
            sentence=fd_ratio_words(row),
        ),
        Measure(
            name="Kernel distance (KID)",
            aim="lower is better",
            value=MISSING if kid is None else decimal(kid.value, places),
            interval=interval(kid, places),
            reference=MISSING if kid_real is None else decimal(kid_real.value, places),
            reference_interval=interval(kid_real, places),
            n=n,
            sentence=_kid_words(row),
        ),
    ]
    for measure, aim, words in _PRDC:
        value = finite(row.get(measure))
        measures.append(
            Measure(
                name=measure.capitalize(),
                aim=aim,
                value=decimal(value),
                interval="",
                reference=decimal(reference(row, measure)),
                reference_interval="",
                n=n,
                sentence=_not_computed(row, measure)
                if value is None
                else words.format(
                    share=percent(100 * value), times=decimal(value), k=row.get("prdc_k")
                ),
            )
        )
    return measures


_PRDC = (
    (
        "precision",
        "higher is better",
        "{share} of 100 generated pictures lie among the real ones.",
    ),
    (
        "recall",
        "higher is better",
        "{share} of 100 real images have something like them among the generated ones.",
    ),
    (
        "density",
        "near the real value",
        "A generated picture lies in the neighbourhood of {times} times as many real images as "
        "expected (k = {k}).",
    ),
    (
        "coverage",
        "higher is better",
        "{share} of 100 real images have a generated picture among their nearest.",
    ),
)


def similarity_measures(results: Mapping[str, Any]) -> dict[str, list[Measure]]:
    """MS-SSIM's two uses, kept apart: ``paired`` and ``diversity``."""
    values: Mapping[str, Any] = results.get("similarity") or {}
    paired, floor = Estimate.read(values.get("paired")), Estimate.read(values.get("paired_floor"))
    made = Estimate.read(values.get("diversity_generated"))
    real = Estimate.read(values.get("diversity_real"))
    return {
        "paired": [
            Measure(
                name="To the real image of the same prompt",
                aim="higher is closer",
                value=decimal(None if paired is None else paired.value),
                interval=interval(paired),
                reference=decimal(None if floor is None else floor.value),
                reference_interval=interval(floor),
                n=_pairs(values.get("paired")),
                sentence=_paired_words(values, paired, floor),
            )
        ],
        "diversity": [
            Measure(
                name="Of generated pictures to each other",
                aim="as near the real value as possible",
                value=decimal(None if made is None else made.value),
                interval=interval(made),
                reference=decimal(None if real is None else real.value),
                reference_interval=interval(real),
                n=_pairs(values.get("diversity_generated")),
                sentence=_diversity_words(values, made, real),
            )
        ],
    }


def finding_sentence(row: Mapping[str, Any], min_positives: int | None) -> str:
    """What one finding's numbers say, starting with whatever forbids a conclusion."""
    if row.get("status") != "scored":
        if row.get("status_note"):
            return f"Not scored: {row['status_note']}."
        least = "more" if min_positives is None else f"at least {min_positives}"
        return (
            f"Not scored: {counted(row.get('positives'), 'prompt')} "
            f"{'asks' if row.get('positives') == 1 else 'ask'} for it, {least} are needed."
        )
    real, made = Estimate.read(row.get("auroc_real")), Estimate.read(row.get("auroc_generated"))
    difference = Estimate.read(row.get("auroc_difference"))
    if made is None or made.low is None:
        return "No interval, so nothing can be concluded."
    if real is not None and real.value < USABLE_JUDGE:
        return (
            f"The judge recognises it poorly even in real images ({decimal(real.value)}): nothing "
            "follows."
        )
    if row.get("warning"):
        return f"Warning: {row['warning']}"
    if made.high is not None and made.high < CHANCE:
        return "The judge sees it more where it was not asked: the prompt is contradicted."
    if made.low <= CHANCE:
        return "No sign that the prompt is followed: the interval reaches chance."
    if difference is None or difference.low is None or difference.high is None:
        return "Follows the prompt better than chance; not compared with real images."
    if difference.includes(0):
        return "As recognisable as in real images, within the interval."
    if difference.low > 0:
        return "Easier to recognise than in real images: it may be exaggerated."
    return f"Follows the prompt, less clearly than real images: AUROC lower by {_gap(difference)}."


def _gap(difference: Estimate) -> str:
    return decimal(abs(difference.value))


def _kid_words(row: Mapping[str, Any]) -> str:
    reaches = kid_reaches_reference(row)
    if Estimate.read(row.get("kid")) is None:
        return _not_computed(row, "kid")
    if reaches is None:
        return "No interval or no real–real value to compare with: nothing can be concluded."
    if reaches:
        return "Within what two sets of real images give: no difference found at this size."
    return "Beyond what two sets of real images give: a difference that chance does not explain."


def _paired_words(
    values: Mapping[str, Any], paired: Estimate | None, floor: Estimate | None
) -> str:
    if paired is None:
        return _not_computed(values, "paired")
    if floor is None or paired.low is None:
        return "No value for mismatched pairs to compare with."
    if paired.low > (floor.value if floor.high is None else floor.high):
        return "Closer to its own real image than to another patient's: the prompt has an effect."
    return "No closer to its own real image than to another patient's."


def _diversity_words(
    values: Mapping[str, Any], made: Estimate | None, real: Estimate | None
) -> str:
    if made is None:
        return _not_computed(values, "diversity_generated")
    if real is None or None in (made.low, made.high, real.low, real.high):
        return "No interval or no real value to compare with: nothing can be concluded."
    assert made.low is not None
    assert made.high is not None
    assert real.low is not None
    assert real.high is not None
    if made.low > real.high:
        return "Generated pictures are more alike than real ones: less variety."
    if made.high < real.low:
        return "Generated pictures differ more than real ones do, which can also mean noise."
    return "As alike as real images are, within the interval."


def _not_computed(row: Mapping[str, Any], name: str) -> str:
    note = str(row.get(f"{name}_note") or "Not computed; no reason was recorded.")
    return note[0].upper() + note[1:]


def _pairs(source: Mapping[str, Any] | None) -> str:
    """``600 pairs``; when pairs were drawn among n pictures, both numbers."""
    row = source or {}
    if row.get("pairs") is None:
        return counted(row.get("n"), "pair")
    return f"{counted(row.get('n'), 'picture')}, {counted(row['pairs'], 'pair')}"


def _count(value: Any) -> str:  # noqa: ANN401 - any JSON value
    count = finite(value)
    return "an unknown number of" if count is None else f"{int(count):,}"
