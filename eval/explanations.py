"""One plain sentence for each row of the report's tables."""

from collections.abc import Mapping
from typing import Any

from arra_med.eval.consistency import USABLE_JUDGE
from arra_med.eval.formatting import (
    MISSING,
    Estimate,
    counted,
    decimal,
    finite,
    interval,
    p_words,
    percent,
    shared_places,
    significant,
    with_interval,
)
from arra_med.eval.summary_evidence import (
    CHANCE,
    SIGNIFICANT,
    Measure,
    Results,
    kid_reaches_reference,
    not_computed,
    over_draws,
    pictures_and_pairs,
    primary_judge,
    reference,
    scored_findings,
    scored_rows,
    sentence,
    share_of_real,
    times_100,
    value_over_draws,
)

__all__ = [
    "CHANCE",
    "USABLE_JUDGE",
    "Measure",
    "Results",
    "encoder_sentences",
    "fd_ratio_words",
    "fidelity_measures",
    "finding_sentence",
    "group_measures",
    "kid_reaches_reference",
    "primary_judge",
    "reference",
    "scored_findings",
    "scored_rows",
    "share_of_real",
    "similarity_measures",
    "times_100",
]


def encoder_sentences(row: Mapping[str, Any]) -> list[str]:
    """What one encoder sees, for the summary: distance, then the share of plausible pictures."""
    name = str(row.get("extractor"))
    kid, reaches = Estimate.read(row.get("kid")), kid_reaches_reference(row)
    sentences = []
    if kid is not None and reaches is not None:
        what = "no difference from real images was found" if reaches else "the sets differ"
        places = shared_places(kid)
        sentences.append(
            f"To {name}, {what}: KID {with_interval(kid, places)}; two sets of real images give "
            f"{value_over_draws(row.get('kid_reference'), places)}."
        )
    precision = finite(row.get("precision"))
    if precision is not None:
        sentences.append(
            f"{percent(100 * precision)} of 100 generated pictures lie among the real ones "
            f"({name}; real images among themselves: "
            f"{percent(times_100(reference(row, 'precision')))})."
        )
    return sentences


def fd_ratio_words(row: Mapping[str, Any]) -> str:
    """How large FD is beside two samples of real images of the same size."""
    value, real = finite(row.get("fd")), finite(row.get("fd_reference"))
    if value is None:
        return not_computed(row, "fd")
    note = f" {sentence(str(row['fd_note']))}" if row.get("fd_note") else ""
    if not real or real <= 0:
        return f"No real–real value to compare with, so its size cannot be judged.{note}"
    return f"{significant(value / real, 2)} times what two sets of real images give.{note}"


def fidelity_measures(row: Mapping[str, Any]) -> list[Measure]:
    """All that one encoder measured, each beside its real–real value.

    KID's reference has a range over draws of real images in place of an interval.
    """
    n = _sides(row)
    fd, fd_real = finite(row.get("fd")), finite(row.get("fd_reference"))
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
        _fd_infinity(row, n),
        _kid(row, "Kernel distance (KID)", n),
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
                sentence=not_computed(row, measure)
                if value is None
                else words.format(
                    share=percent(100 * value), times=decimal(value), k=row.get("prdc_k")
                ),
            )
        )
    if "diversity_generated" in row:
        measures += [
            _paired(
                row,
                "Distance to the real image of the same prompt (beside it: of another patient's)",
                "lower is closer",
                -1,
            ),
            _diversity(row, "Distance of generated pictures to each other", -1),
        ]
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


def group_measures(row: Mapping[str, Any]) -> list[Measure]:
    """One encoder's kernel distance within each view and finding; empty without groups."""
    return [
        _kid(
            {**group, "kid_note": group.get("note")},
            str(group.get("group")),
            _sides(group),
        )
        for group in row.get("groups") or []
    ]


def similarity_measures(results: Results) -> dict[str, list[Measure]]:
    """MS-SSIM's two uses, kept apart: ``paired`` and ``diversity``."""
    values: Mapping[str, Any] = results.get("similarity") or {}
    diversity = [_diversity(values, "Of generated pictures to each other", 1)]
    if values and "same_prompt_generated" in values:
        diversity.append(_same_prompt(values))
    return {
        "paired": [_paired(values, "To the real image of the same prompt", "higher is closer", 1)],
        "diversity": diversity,
    }


def finding_sentence(row: Mapping[str, Any], min_positives: int | None) -> str:
    """What one finding's numbers say, starting with whatever forbids a conclusion."""
    if row.get("status") != "scored":
        if row.get("status_note"):
            return f"Not scored: {sentence(str(row['status_note']))}"
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
        return f"Warning: {str(row['warning']).rstrip('.')}."
    if made.below(CHANCE):
        return "The judge sees it more where it was not asked: the prompt is contradicted."
    if made.low <= CHANCE:
        return "No sign that the prompt is followed: the interval reaches chance."
    if difference is None or difference.low is None or difference.high is None:
        return "Follows the prompt better than chance; not compared with real images."
    if difference.includes(0):
        return "Follows the prompt; no difference from real images shown, within the interval."
    if difference.low > 0:
        return "Easier to recognise than in real images: it may be exaggerated."
    return (
        "Follows the prompt, less clearly than real images: AUROC lower by "
        f"{decimal(abs(difference.value))}{_corrected(row.get('auroc_difference_p_adjusted'))}."
    )


def _corrected(adjusted: Any) -> str:  # noqa: ANN401 - any JSON value
    """What is left of a difference when as many tests as findings are allowed for."""
    p = finite(adjusted)
    if p is None:
        return ""
    if p < SIGNIFICANT:
        return f" ({p_words(p)} after correction for the number of findings)"
    return f", which correction for the number of findings does not bear out ({p_words(p)})"


def _fd_infinity(row: Mapping[str, Any], n: str) -> Measure:
    value = Estimate.read(row.get("fd_infinity"))
    if value is None:
        words = not_computed(row, "fd")
    elif value.low is None:
        words = "No interval, so nothing can be concluded."
    elif value.low <= 0:
        words = "The interval reaches 0, what equal sets give: no difference found at this size."
    else:
        words = "Above 0, what equal sets give, by more than the interval."
    places = shared_places(value or Estimate(value=0.0))
    return Measure(
        name="FD∞, FD without the bias of few pictures",
        aim="lower is better",
        value=MISSING if value is None else decimal(value.value, places),
        interval=interval(value, places),
        reference="0 for equal sets",
        reference_interval="",
        n=n,
        sentence=words,
    )


def _kid(row: Mapping[str, Any], name: str, n: str) -> Measure:
    kid, real = Estimate.read(row.get("kid")), Estimate.read(row.get("kid_reference"))
    places = shared_places(kid or real or Estimate(value=0.0))
    reaches = kid_reaches_reference(row)
    if kid is None:
        words = not_computed(row, "kid")
    elif reaches is None:
        words = "No interval or no real–real value to compare with: nothing can be concluded."
    elif reaches:
        words = "Within what two sets of real images give: no difference found at this size."
    else:
        words = "Beyond what two sets of real images give: chance does not explain it."
    if kid is not None and real is not None and row.get("kid_reference_note"):
        words += f" {sentence(str(row['kid_reference_note']))}"
    return Measure(
        name=name,
        aim="lower is better",
        value=MISSING if kid is None else decimal(kid.value, places),
        interval=interval(kid, places),
        reference=MISSING if real is None else decimal(real.value, places),
        reference_interval=over_draws(row.get("kid_reference"), places),
        n=n,
        sentence=words,
    )


def _paired(values: Mapping[str, Any], name: str, aim: str, sign: int) -> Measure:
    """Likeness to the own real image; ``sign`` is -1 for distances, which fall as it grows."""
    paired, floor = Estimate.read(values.get("paired")), Estimate.read(values.get("paired_floor"))
    if paired is None:
        words = not_computed(values, "paired")
    elif floor is None or paired.low is None or paired.high is None:
        words = "No interval or no value for mismatched pairs: nothing can be concluded."
    elif _apart(paired, floor, sign):
        words = "Closer to its own real image than to another patient's: the prompt has an effect."
    elif _apart(floor, paired, sign):
        words = "Less like its own real image than another patient's."
    else:
        words = "No closer to its own real image than to another patient's, within the intervals."
    return _of_estimates(name, aim, paired, floor, pictures_and_pairs(values.get("paired")), words)


def _diversity(values: Mapping[str, Any], name: str, sign: int) -> Measure:
    made = Estimate.read(values.get("diversity_generated"))
    real = Estimate.read(values.get("diversity_real"))
    if made is None:
        words = not_computed(values, "diversity_generated")
    elif real is None or None in (made.low, made.high, real.low, real.high):
        words = "No interval or no real value to compare with: nothing can be concluded."
    elif _apart(made, real, sign):
        words = "Generated pictures are more alike than real ones: less variety."
    elif _apart(real, made, sign):
        words = "Generated pictures differ more than real ones do, which can also mean noise."
    else:
        words = "As alike as real images are, within the interval."
    n = pictures_and_pairs(values.get("diversity_generated"))
    return _of_estimates(name, "as near the real value as possible", made, real, n, words)


def _same_prompt(values: Mapping[str, Any]) -> Measure:
    within = Estimate.read(values.get("same_prompt_generated"))
    across = Estimate.read(values.get("diversity_generated"))
    if within is None:
        words = not_computed(values, "same_prompt_generated")
    elif across is None or within.low is None:
        words = "Nothing to compare with: how alike they should be is not known."
    elif _apart(within, across, 1):
        words = "Pictures of one prompt are more alike than pictures of different prompts."
    else:
        words = "Pictures of one prompt are no more alike than pictures of different prompts."
    measure = _of_estimates(
        "Of pictures of one prompt to each other", "above different prompts, below 1", within,
        across, pictures_and_pairs(values.get("same_prompt_generated")), words,
    )  # fmt: skip
    ends = f"different prompts: {measure.reference_interval}" if across else ""
    return Measure(**{**vars(measure), "reference_interval": ends})


def _of_estimates(
    name: str, aim: str, made: Estimate | None, real: Estimate | None, n: str, words: str
) -> Measure:
    return Measure(
        name=name,
        aim=aim,
        value=decimal(None if made is None else made.value),
        interval=interval(made),
        reference=decimal(None if real is None else real.value),
        reference_interval=interval(real),
        n=n,
        sentence=words,
    )


def _apart(first: Estimate, second: Estimate, sign: int) -> bool:
    """Whether ``first``'s interval lies wholly above ``second``'s; below it for ``sign`` -1."""
    high, low = (first, second) if sign > 0 else (second, first)
    bottom = high.value if high.low is None else high.low
    return bottom > (low.value if low.high is None else low.high)


def _sides(row: Mapping[str, Any]) -> str:
    return f"{_count(row.get('n_generated'))} generated, {_count(row.get('n_real'))} real"


def _count(value: Any) -> str:  # noqa: ANN401 - any JSON value
    count = finite(value)
    return "an unknown number of" if count is None else f"{int(count):,}"
