"""Answers about the generated pictures as a set: do they look right, are they varied?"""

from collections.abc import Mapping
from typing import Any

from arra_med.eval.explanations import encoder_sentences
from arra_med.eval.formatting import Estimate, finite, listed, percent, with_interval
from arra_med.eval.summary_answer import Answer, Verdict, cannot_say
from arra_med.eval.summary_evidence import (
    MIN_PICTURES,
    Results,
    enough_pictures,
    independent_encoders,
    kid_reaches_reference,
    reference,
    sentence,
    share_of_real,
    times_100,
    unlike_split,
)

CLOSE_SHARE = 0.8
HALF_SHARE = 0.5
COLLAPSED_SHARE = 0.1
"""Share of real–real recall, or precision, under which next to nothing of it is there."""
SAME_PICTURE = 0.95
"""MS-SSIM from which two pictures count as one and the same."""

NOT_INDEPENDENT = "Every measurement here comes from a model that is not independent of training."


def look_right(results: Results) -> Answer:
    """Do generated pictures look like real ones to frozen encoders?"""
    rows = list(results.get("fidelity") or [])
    trusted = independent_encoders(results)
    levels = [level for level in map(_fidelity_level, trusted) if level is not None]
    shown = trusted or rows
    sentences = [words for row in shown for words in encoder_sentences(row)]
    chosen = unlike_split(results)
    verdict: Verdict
    if chosen and levels:
        verdict = cannot_say(chosen)
    elif not levels:
        reason = (
            "Too few pictures to compare the sets."
            if trusted
            else "No encoder compared the pictures."
        )
        verdict = cannot_say(NOT_INDEPENDENT if rows and not trusted else reason)
    elif min(levels) == 2 and not enough_pictures(trusted):
        verdict = cannot_say(
            f"No difference was found, but a yes needs {MIN_PICTURES} pictures on each side."
        )
    else:
        verdict = _LOOKS[min(levels)]
    detail = Estimate.read((results.get("similarity") or {}).get("detail_share"))
    if detail is not None:
        sentences.append(
            f"They hold {percent(100 * detail.value)} % of the fine detail (edges, texture, grain) "
            "of the real images of the same prompts."
        )
        if detail.below(HALF_SHARE):
            share = percent(100 * detail.value)
            reason = f"They are blurred: {share} % of the fine detail of real images."
            verdict = ("No", "poor", reason)
    left_out = [str(row.get("extractor")) for row in rows if not row.get("independent")]
    if trusted and left_out:
        sentences.append(f"Not counted, because not independent: {listed(left_out)}.")
    sentences += own_problems(results)
    sentences.append("This is what encoders measure; no reader has checked these images.")
    return Answer.of(
        verdict,
        question="Do they look right?",
        sentences=tuple(sentences),
        rule=(
            "Independent encoders only; the worst of them counts. Yes: the KID interval reaches "
            "down to what two sets of real images give, precision is at least "
            f"{percent(100 * CLOSE_SHARE)} % of its real–real value, and there are at least "
            f"{MIN_PICTURES} pictures on each side. No: precision is under "
            f"{percent(100 * HALF_SHARE)} % of its real–real value, or the interval of fine detail "
            f"(variance of the Laplacian) lies under {percent(100 * HALF_SHARE)} % of the real "
            "images'. In part: anything between. "
            "Cannot say: no independent encoder could measure both, a yes with fewer pictures, or "
            "but a part of the split's prompts was drawn that is not evenly spread over it."
        ),
    )


_LOOKS: tuple[Verdict, ...] = (
    ("No", "poor", "Most generated pictures lie outside what real images look like."),
    (
        "In part",
        "mixed",
        "Encoders place most single pictures among real ones, but tell the set from real images.",
    ),
    ("Yes", "good", "Independent encoders find no difference from real images."),
)


def own_problems(results: Results) -> list[str]:
    """What the check of the files found among the run's own pictures, in its words."""
    preflight: Mapping[str, Any] = results.get("preflight") or {}
    folders = list(preflight.get("folders") or [])[:1]
    return [
        f"Check of the files: {sentence(str(problem))}"
        for folder in folders
        for problem in folder.get("problems") or []
    ]


def varied(results: Results) -> Answer:
    """Are the pictures as different from each other as real images are?"""
    trusted = independent_encoders(results)
    # recall counts real images near generated ones: of pictures unlike any real one it tells no
    # variety, unless they are alike among themselves as well
    unlike = [] if _more_alike(results) else [row for row in trusted if unlike_real(row)]
    measured = (share_of_real(row, "recall") for row in trusted if row not in unlike)
    shares = [share for share in measured if share is not None]
    repeated, chosen = repeats_itself(results), unlike_split(results)
    verdict: Verdict
    if repeated:
        verdict = ("No, collapsed", "poor", repeated)
    elif chosen and (shares or unlike):
        verdict = cannot_say(chosen)
    elif unlike and min(shares, default=1.0) >= HALF_SHARE:
        verdict = cannot_say("Too unlike real pictures for their variety to be measured.")
    elif not shares:
        verdict = cannot_say(
            "No independent encoder could measure how much of the real variety is covered."
        )
    elif min(shares) < COLLAPSED_SHARE:
        reason = "The generator has collapsed: almost none of the variety of real images appears."
        verdict = ("No, collapsed", "poor", reason)
    elif min(shares) < HALF_SHARE:
        reason = "Recall is less than half of what real images reach among themselves."
        verdict = ("Little", "poor", reason)
    elif min(shares) < CLOSE_SHARE:
        reason = "They cover less of the variety of real images than real images do themselves."
        verdict = ("Less than real", "mixed", reason)
    elif _more_alike(results):
        verdict = ("Less than real", "mixed", "They are more alike than real images are.")
    elif not enough_pictures(trusted):
        verdict = cannot_say(
            f"No loss was found, but a yes needs {MIN_PICTURES} pictures on each side."
        )
    else:
        verdict = ("Yes", "good", "By recall they cover about as much as real images do.")
    return Answer.of(
        verdict,
        question="Are they varied?",
        sentences=tuple(_variety_sentences(results)),
        rule=(
            "Recall of the worst independent encoder as a share of its real–real value: Yes from "
            f"{percent(100 * CLOSE_SHARE)} %, provided that generated pictures are not more alike "
            "than real ones (MS-SSIM intervals apart) and that there are at least "
            f"{MIN_PICTURES} pictures on each side, or else Cannot say, as for a part of the "
            "split's prompts that is not evenly spread over it, and where precision is under "
            f"{percent(100 * COLLAPSED_SHARE)} % of its real–real value while they are not more "
            "alike than real ones. Less than real from "
            f"{percent(100 * HALF_SHARE)} %. Little below that. No, collapsed: under "
            f"{percent(100 * COLLAPSED_SHARE)} %, or the whole MS-SSIM interval of pictures of "
            f"different prompts is at least {SAME_PICTURE} and above that of real images, or that "
            f"of pictures of one prompt is at least {SAME_PICTURE}."
        ),
    )


def _variety_sentences(results: Results) -> list[str]:
    sentences = []
    for row in independent_encoders(results):
        recall = finite(row.get("recall"))
        if recall is not None:
            sentences.append(
                f"{percent(100 * recall)} of 100 real images have something like them among the "
                f"generated ones ({row.get('extractor')}; real images among themselves: "
                f"{percent(times_100(reference(row, 'recall')))})."
            )
    made, real, within = _similarities(results)
    if made is not None and real is not None:
        sentences.append(
            f"Two generated pictures resemble each other by {with_interval(made)} (MS-SSIM, 1 is "
            f"identical), two real images by {with_interval(real)}."
        )
    if within is not None:
        sentences.append(f"Two pictures of one prompt: {with_interval(within)}.")
    return sentences


def _similarities(results: Results) -> tuple[Estimate | None, Estimate | None, Estimate | None]:
    """MS-SSIM among generated pictures, among real ones, and among those of one prompt."""
    values: Mapping[str, Any] = results.get("similarity") or {}
    return (
        Estimate.read(values.get("diversity_generated")),
        Estimate.read(values.get("diversity_real")),
        Estimate.read(values.get("same_prompt_generated")),
    )


def _more_alike(results: Results) -> bool:
    made, real, _ = _similarities(results)
    if made is None or real is None or made.low is None:
        return False
    return made.low > (real.value if real.high is None else real.high)


def unlike_real(row: Mapping[str, Any]) -> bool:
    """Whether an encoder finds next to no generated picture among the real ones."""
    share = share_of_real(row, "precision")
    return share is not None and share < COLLAPSED_SHARE


def repeats_itself(results: Results) -> str | None:
    """How the generator repeats itself, or ``None`` if it does not."""
    made, _, within = _similarities(results)
    if made is not None and (made.low or 0) >= SAME_PICTURE and _more_alike(results):
        return "The generator has collapsed: it draws nearly the same picture for every prompt."
    if within is not None and (within.low or 0) >= SAME_PICTURE:
        return (
            "The generator has collapsed within prompts: a prompt gives nearly the same picture "
            "every time."
        )
    return None


def _fidelity_level(row: Mapping[str, Any]) -> int | None:
    share, reaches = share_of_real(row, "precision"), kid_reaches_reference(row)
    if share is None or reaches is None:
        return None
    if share < HALF_SHARE:
        return 0
    return 2 if reaches and share >= CLOSE_SHARE else 1
