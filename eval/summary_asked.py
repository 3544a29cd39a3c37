"""Answer about what prompts ask for: can it be recognised in the pictures?"""

from collections.abc import Mapping
from typing import Any

from arra_med.eval.consistency import USABLE_JUDGE
from arra_med.eval.formatting import Estimate, counted, decimal, listed, percent, with_interval
from arra_med.eval.summary_answer import Answer, Verdict, cannot_say
from arra_med.eval.summary_evidence import (
    CHANCE,
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
    means = [
        (judge, mean, _mean(judge, "auroc_real"))
        for judge in others
        if (mean := _mean(judge, "auroc_generated"))
    ]
    if made is None or not means:
        return None
    values = listed(
        f"{judge.get('name')} {with_interval(mean)} over "
        f"{counted(len(scored_rows(judge)), 'finding')} "
        f"(real images {decimal(None if real is None else real.value)})"
        for judge, mean, real in means
    )
    apart = max(abs(mean.value - made.value) for _, mean, _ in means)
    same = apart <= DISAGREEMENT and len({_asked_level(judge) for judge in (first, *others)}) == 1
    words = (
        "Other judges come to the same answer"
        if same
        else f"Judges disagree, by up to {decimal(apart)} or in the answer that follows"
    )
    return f"{words}: {values}; {first.get('name')} {with_interval(made)}."


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
    against = [
        str(row["finding"])
        for row in scored
        if (found := Estimate.read(row.get("auroc_generated"))) is not None and found.below(CHANCE)
    ]
    if against:
        sentences.append(f"Contradicted, below chance with the whole interval: {listed(against)}.")
    by_chance = [
        str(row["finding"])
        for row in scored
        if (low := _low(row)) is not None and low <= CHANCE and row["finding"] not in against
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
    if made.below(CHANCE):
        return 0
    if made.low <= CHANCE:
        return 1 if made.below(GOOD_AUROC) else 2
    near = real is not None and made.value >= real.value - CEILING_GAP
    lows = map(_low, scored_rows(judge))
    unsure = any(low is None or low <= CHANCE for low in lows)
    return _YES if made.low >= GOOD_AUROC and not unsure and near else _IN_PART


def _low(row: Mapping[str, Any]) -> float | None:
    """Lower end of a finding's AUROC on generated pictures; ``None`` if it has no interval."""
    made = Estimate.read(row.get("auroc_generated"))
    return None if made is None else made.low


def _mean(judge: Mapping[str, Any] | None, name: str) -> Estimate | None:
    overall: Mapping[str, Any] = (judge or {}).get("overall") or {}
    return Estimate.read(overall.get(name))
