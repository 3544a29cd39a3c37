"""From the numbers of an evaluation to plain words, by rules that the report prints.

Every function is pure: ``results.json`` as a mapping in, sentences out. No sentence says more
than its numbers: an answer is "yes" only where a stated rule allows it, and "cannot say" wherever
the evidence is not independent, too small or not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from arra_med.eval.explanations import (
    CHANCE,
    USABLE_JUDGE,
    Results,
    encoder_sentences,
    kid_reaches_reference,
    reference,
    scored_findings,
    share_of_real,
    times_100,
)
from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    finite,
    listed,
    percent,
    with_interval,
)

Tone = Literal["good", "mixed", "poor", "unknown"]

MIN_PICTURES = 100
CLOSE_SHARE = 0.8
HALF_SHARE = 0.5
COLLAPSED_SHARE = 0.1
GOOD_AUROC = 0.8
CEILING_GAP = 0.1
FEW_MORE = 5.0
MANY_MORE = 20.0

NOT_INDEPENDENT = "Every measurement here comes from a model that is not independent of training."


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one question of the summary.

    Attributes:
        question: as it is printed.
        verdict: one to three words.
        tone: how the verdict is coloured.
        headline: the answer in one plain sentence.
        sentences: the numbers behind it.
        rule: how the verdict follows from the numbers.
    """

    question: str
    verdict: str
    tone: Tone
    headline: str
    sentences: tuple[str, ...]
    rule: str


def answers(results: Results) -> list[Answer]:
    """The answers on the report's first page, in the order in which they are read."""
    return [
        look_right(results),
        show_what_was_asked(results),
        invent_or_miss(results),
        varied(results),
    ]


def look_right(results: Results) -> Answer:
    """Do generated pictures look like real ones to frozen encoders?"""
    rows = list(results.get("fidelity") or [])
    trusted = [row for row in rows if row.get("independent")]
    levels = [level for level in map(_fidelity_level, trusted) if level is not None]
    shown = trusted or rows
    sentences = [sentence for row in shown for sentence in encoder_sentences(row)]
    verdict: tuple[str, Tone, str]
    if not levels:
        reason = (
            "Too few pictures to compare the sets."
            if trusted
            else "No encoder compared the pictures."
        )
        verdict = ("Cannot say", "unknown", NOT_INDEPENDENT if rows and not trusted else reason)
    elif min(levels) == 2 and not _enough(trusted):
        reason = f"No difference was found, but a yes needs {MIN_PICTURES} pictures on each side."
        verdict = ("Cannot say", "unknown", reason)
    else:
        verdict = _LOOKS[min(levels)]
    left_out = [str(row.get("extractor")) for row in rows if not row.get("independent")]
    if trusted and left_out:
        sentences.append(f"Not counted, because not independent: {listed(left_out)}.")
    sentences.append("This is what encoders measure; no reader has checked these images.")
    return Answer(
        question="Do they look right?",
        verdict=verdict[0],
        tone=verdict[1],
        headline=verdict[2],
        sentences=tuple(sentences),
        rule=(
            "Independent encoders only; the worst of them counts. Yes: the KID interval reaches "
            "down to the interval of real against real, precision is at least "
            f"{percent(100 * CLOSE_SHARE)} % of its real–real value, and there are at least "
            f"{MIN_PICTURES} pictures on each side. No: precision is under "
            f"{percent(100 * HALF_SHARE)} % of its real–real value. In part: anything between."
        ),
    )


_LOOKS: tuple[tuple[str, Tone, str], ...] = (
    ("No", "poor", "Most generated pictures lie outside what real images look like."),
    ("In part", "mixed", "Many could be real, but as a set they can be told from real images."),
    ("Yes", "good", "Independent encoders find no difference from real images."),
)


def show_what_was_asked(results: Results) -> Answer:
    """Does a judge find in the pictures what their prompts asked for?"""
    overall: Mapping[str, Any] = results.get("overall") or {}
    real = Estimate.read(overall.get("auroc_real"))
    made = Estimate.read(overall.get("auroc_generated"))
    scored = scored_findings(results)
    by_chance = [row["finding"] for row in scored if _at_chance(row)]
    sentences = []
    obstacle = _judge_obstacle(results)
    if made is not None:
        sentences.append(
            "Told to choose which of two generated pictures was to show a finding, the judge is "
            f"right {percent(100 * made.value)} times in 100: mean AUROC {with_interval(made)} "
            f"over {counted(len(scored), 'finding')}; 0.50 is chance."
        )
    if real is not None:
        sentences.append(f"On real images it reaches {with_interval(real)}: the ceiling.")
    if by_chance:
        sentences.append(f"No better than chance, within the interval: {listed(by_chance)}.")
    exaggerated = [row["finding"] for row in scored if row.get("warning")]
    if exaggerated:
        sentences.append(f"With a warning in the table: {listed(exaggerated)}.")
    verdict: tuple[str, Tone, str]
    if obstacle or made is None:
        reason = obstacle or "No mean over findings was computed."
        verdict = ("Cannot say", "unknown", reason)
    elif made.low is None or made.low <= CHANCE:
        reason = "The judge cannot tell pictures with an asked finding from those without."
        verdict = ("No sign of it", "poor", reason)
    elif made.low >= GOOD_AUROC and not by_chance and _near_ceiling(made, real):
        reason = "What a prompt asks for can be recognised almost as well as in real images."
        verdict = ("Yes", "good", reason)
    else:
        reason = (
            "Asked findings can be seen, but not all of them, or less surely than in real images."
        )
        verdict = ("In part", "mixed", reason)
    return Answer(
        question="Do they show what was asked?",
        verdict=verdict[0],
        tone=verdict[1],
        headline=verdict[2],
        sentences=tuple(sentences),
        rule=(
            f"Yes: the mean AUROC's interval lies above {decimal(GOOD_AUROC)}, the mean is at most "
            f"{decimal(CEILING_GAP)} below the judge's value on real images, and no scored "
            f"finding's interval reaches {decimal(CHANCE)}. No sign of it: the mean's interval "
            f"reaches {decimal(CHANCE)}. In part: anything between. Cannot say: the judge is not "
            f"independent, or reaches less than {decimal(USABLE_JUDGE)} on real images."
        ),
    )


def invent_or_miss(results: Results) -> Answer:
    """How often is an asked finding missing, or one there that was not asked?"""
    question = "Do they invent or miss findings?"
    rule = (
        "More per 100 than on real images, missed or invented, whichever is larger. Rarely: at "
        f"most {percent(FEW_MORE)} over all findings and at most {percent(MANY_MORE)} for each. "
        f"Often: more than {percent(MANY_MORE)} over all findings. Sometimes: anything between. "
        "The mean over findings is weighted by how often each was asked, or was not to be there."
    )
    missed = _pooled(results, "missed_per_100", "positives")
    invented = _pooled(results, "invented_per_100", "negatives")
    obstacle = _judge_obstacle(results)
    if missed is None or invented is None:
        reason = obstacle or "Missed and invented findings were not counted."
        return Answer(
            question=question,
            verdict="Cannot say",
            tone="unknown",
            headline=reason,
            sentences=(),
            rule=rule,
        )
    sentences = [
        f"Of 100 findings that prompts ask for, {percent(missed.value)} are missing, and the judge "
        f"misses {percent(missed.real)} when it reads the real images ({missed.n:,} asked; by "
        f"finding {percent(missed.lowest)} to {percent(missed.highest)}, most often "
        f"{missed.worst}).",
        f"Where a finding is stated to be absent, {percent(invented.value)} of 100 pictures show "
        f"it all the same, and {percent(invented.real)} of the real images ({invented.n:,} cases; "
        f"by finding {percent(invented.lowest)} to {percent(invented.highest)}, most often "
        f"{invented.worst}).",
    ]
    verdict: tuple[str, Tone, str]
    excess = max(missed.excess, invented.excess)
    if obstacle:
        verdict = ("Cannot say", "unknown", obstacle)
    elif excess > MANY_MORE:
        verdict = ("Often", "poor", "Far more findings are missed or invented than in real images.")
    elif excess <= FEW_MORE and max(missed.worst_excess, invented.worst_excess) <= MANY_MORE:
        verdict = ("Rarely", "good", "Hardly more than the judge's own errors on real images.")
    else:
        verdict = ("Sometimes", "mixed", "More often than the judge errs on real images.")
    return Answer(
        question=question,
        verdict=verdict[0],
        tone=verdict[1],
        headline=verdict[2],
        sentences=tuple(sentences),
        rule=rule,
    )


def varied(results: Results) -> Answer:
    """Are the pictures as different from each other as real images are?"""
    similarity: Mapping[str, Any] = results.get("similarity") or {}
    made = Estimate.read(similarity.get("diversity_generated"))
    real = Estimate.read(similarity.get("diversity_real"))
    trusted = [row for row in results.get("fidelity") or [] if row.get("independent")]
    shares = [
        share for share in (share_of_real(row, "recall") for row in trusted) if share is not None
    ]
    sentences = []
    for row in trusted:
        recall = finite(row.get("recall"))
        if recall is not None:
            sentences.append(
                f"{percent(100 * recall)} of 100 real images have something like them among the "
                f"generated ones ({row.get('extractor')}; real images among themselves: "
                f"{percent(times_100(reference(row, 'recall')))})."
            )
    if made is not None and real is not None:
        sentences.append(
            f"Two generated pictures resemble each other by {with_interval(made)} (MS-SSIM, 1 is "
            f"identical), two real images by {with_interval(real)}."
        )
    more_alike = (
        made is not None
        and real is not None
        and made.low is not None
        and made.low > (real.value if real.high is None else real.high)
    )
    verdict: tuple[str, Tone, str]
    if not shares:
        reason = "No independent encoder could measure how much of the real variety is covered."
        verdict = ("Cannot say", "unknown", reason)
    elif min(shares) < COLLAPSED_SHARE:
        reason = "The generator has collapsed: it repeats itself, almost no real variety appears."
        verdict = ("No, collapsed", "poor", reason)
    elif min(shares) < HALF_SHARE:
        verdict = ("Little", "poor", "Less than half of the variety of real images appears.")
    elif min(shares) < CLOSE_SHARE or more_alike:
        verdict = ("Less than real", "mixed", "They are more alike than real images are.")
    elif not _enough(trusted):
        reason = f"No loss was found, but a yes needs {MIN_PICTURES} pictures on each side."
        verdict = ("Cannot say", "unknown", reason)
    else:
        verdict = ("Yes", "good", "They cover about as much as real images do.")
    return Answer(
        question="Are they varied?",
        verdict=verdict[0],
        tone=verdict[1],
        headline=verdict[2],
        sentences=tuple(sentences),
        rule=(
            "Recall of the worst independent encoder as a share of its real–real value: Yes from "
            f"{percent(100 * CLOSE_SHARE)} %, provided that generated pictures are not more alike "
            "than real ones (MS-SSIM intervals apart) and that there are at least "
            f"{MIN_PICTURES} pictures on each side. Less than real from "
            f"{percent(100 * HALF_SHARE)} %. Little below that. Collapsed under "
            f"{percent(100 * COLLAPSED_SHARE)} %."
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Pooled:
    value: float
    real: float | None
    n: int
    lowest: float
    highest: float
    worst: str
    worst_excess: float

    @property
    def excess(self) -> float:
        return self.value - (self.real or 0.0)


def _pooled(results: Results, rate: str, weight: str) -> _Pooled | None:
    """A rate over all scored findings, weighted by the number of cases behind each."""
    rows = [
        row
        for row in scored_findings(results)
        if finite(row.get(rate)) is not None and finite(row.get(weight))
    ]
    if not rows:
        return None
    weights = [float(row[weight]) for row in rows]
    rates = [float(row[rate]) for row in rows]
    reals = [finite(row.get(f"real_{rate}")) for row in rows]
    total = sum(weights)
    known = [(real, w) for real, w in zip(reals, weights, strict=True) if real is not None]
    real_mean = sum(real * w for real, w in known) / sum(w for _, w in known) if known else None
    worst = max(range(len(rows)), key=rates.__getitem__)
    return _Pooled(
        value=sum(r * w for r, w in zip(rates, weights, strict=True)) / total,
        real=real_mean,
        n=int(total),
        lowest=min(rates),
        highest=max(rates),
        worst=str(rows[worst]["finding"]),
        worst_excess=max(r - (real or 0.0) for r, real in zip(rates, reals, strict=True)),
    )


def _fidelity_level(row: Mapping[str, Any]) -> int | None:
    share, reaches = share_of_real(row, "precision"), kid_reaches_reference(row)
    if share is None or reaches is None:
        return None
    if share < HALF_SHARE:
        return 0
    return 2 if reaches and share >= CLOSE_SHARE else 1


def _judge_obstacle(results: Results) -> str | None:
    """Why the judge's verdicts settle nothing, or ``None``."""
    judge: Mapping[str, Any] | None = results.get("judge")
    if not judge:
        return "No judge read the pictures."
    if not scored_findings(results):
        return "No finding was asked for often enough to be scored."
    if not judge.get("independent"):
        return (
            f"The judge ({judge.get('name')}) is not independent, so its verdict settles nothing."
        )
    overall: Mapping[str, Any] = results.get("overall") or {}
    real = Estimate.read(overall.get("auroc_real"))
    if real is None:
        return "How well the judge reads real images is not known."
    if real.value < USABLE_JUDGE:
        return (
            f"The judge is too weak to decide: it reaches {decimal(real.value)} on real images, "
            f"and {decimal(USABLE_JUDGE)} are needed."
        )
    return None


def _near_ceiling(made: Estimate, real: Estimate | None) -> bool:
    return real is not None and made.value >= real.value - CEILING_GAP


def _at_chance(row: Mapping[str, Any]) -> bool:
    made = Estimate.read(row.get("auroc_generated"))
    return made is None or made.low is None or made.low <= CHANCE


def _enough(rows: list[Mapping[str, Any]]) -> bool:
    return all(
        (finite(row.get(side)) or 0) >= MIN_PICTURES
        for row in rows
        for side in ("n_real", "n_generated")
    )
