"""View, side and text: how far the pictures follow what else their prompts say, in sentences."""

from collections.abc import Mapping
from typing import Any

from arra_med.eval.formatting import (
    MISSING,
    Estimate,
    counted,
    decimal,
    finite,
    interval,
    listed,
    per_100,
    with_interval,
)
from arra_med.eval.summary_evidence import CHANCE, Measure, Results, sentence

CEILING_GAP = 0.1
"""How far below the real value a share or an AUROC may lie and still be near it."""

HANDFUL = 20
"""Below so many pictures they are counted, without a rate per 100."""


def view_sentences(results: Results) -> list[str]:
    """How often the view asked for is drawn."""
    view: Mapping[str, Any] | None = results.get("view")
    made = Estimate.read((view or {}).get("agreement"))
    if view is None or made is None:
        return [_not_tested("View", results.get("view_note"))]
    real = Estimate.read(view.get("agreement_real"))
    sentences = [
        f"The view asked for is drawn in {_of_pictures(made)} pictures, and recognised in "
        f"{_of_pictures(real)} real images ({view.get('classifier')}, "
        f"{counted(view.get('n'), 'picture')}{_standing(view)})."
    ]
    known = [
        (estimate, row)
        for row in view.get("by_view") or []
        if (estimate := Estimate.read(row.get("agreement"))) is not None
    ]
    if len(known) > 1:
        lowest, row = min(known, key=lambda pair: pair[0].value)
        others = {
            name: count
            for name, count in (row.get("shown_as") or {}).items()
            if name != row.get("view") and count
        }
        mistaken = max(others, key=lambda name: others[name]) if others else None
        taken = f", most often taken for {mistaken}" if mistaken else ""
        sentences.append(f"Least often for {row.get('view')}: {_of_pictures(lowest)}{taken}.")
    return sentences + _reasons(view)


def _of_pictures(share: Estimate | None) -> str:
    """``2 of 3`` for a handful of pictures, which give no rate; for more, :func:`per_100`."""
    if share is None or share.n is None or share.n >= HANDFUL:
        return per_100(share)
    return f"{round(share.value * share.n)} of {share.n}"


def laterality_sentences(results: Results) -> list[str]:
    """How often the side asked for is drawn, and whether it moves with the prompt."""
    sides: Mapping[str, Any] | None = results.get("laterality")
    made = Estimate.read((sides or {}).get("followed"))
    if sides is None or made is None:
        return [_not_tested("Side", results.get("laterality_note"))]
    real = Estimate.read(sides.get("followed_real"))
    sentences = [
        f"Of the findings asked for on one side, {per_100(made)} are seen there; 50 is chance. "
        f"Real images: {per_100(real)} ({sides.get('judge')}, "
        f"{counted(sides.get('n'), 'finding')} in pictures{_standing(sides)})."
    ]
    if real is not None and real.low is not None and real.low <= CHANCE:
        sentences.append("Even in real images the judge tells sides no better than chance.")
    elif made.below(CHANCE):
        sentences.append(
            "Sides are exchanged: findings are seen on the other side more often than by chance."
        )
    elif made.low is not None and made.low <= CHANCE:
        sentences.append("No sign that the side is followed: the interval reaches chance.")
    swapped: Mapping[str, Any] | None = sides.get("swapped")
    if swapped:
        followed = Estimate.read(swapped.get("followed"))
        flipped = Estimate.read(swapped.get("flipped"))
        if followed is not None:
            sentences.append(
                "With left and right exchanged in the prompt, of the findings "
                f"{per_100(followed)} are seen on the new side."
            )
        if flipped is not None:
            sentences.append(f"The side changes with the prompt for {per_100(flipped)} findings.")
        lost = int(swapped.get("unreadable") or 0)
        if lost:
            drawn = counted(lost, "picture")
            sentences.append(f"{drawn} with exchanged sides could not be read.")
    else:
        sentences.append(_not_tested("Exchanged sides", sides.get("swapped_note")))
    return sentences + _reasons(sides)


def text_sentences(results: Results) -> list[str]:
    """How well pictures fit their prompts, in one sentence an encoder."""
    rows = list(results.get("text") or [])
    if not rows:
        return [_not_tested("Fit of picture and text", results.get("text_note"))]
    sentences = []
    for row in sorted(rows, key=lambda row: not row.get("independent")):
        fit = Estimate.read(row.get("normalised"))
        words = f"To {row.get('encoder')}, pictures fit their prompts by {with_interval(fit)}"
        words += ", where shuffled prompts give 0 and real images with their own text 1"
        if fit is None:
            words = f"{row.get('encoder')} gives no fit of pictures and prompts"
        elif fit.low is not None and fit.low <= 0:
            words += "; the interval reaches what shuffled prompts give"
        sentences.append(f"{words}{_standing(row)}.")
    truncated = [row for row in rows if finite(row.get("truncated"))]
    if truncated:
        cut = listed(f"{row.get('encoder')} {int(row['truncated']):,}" for row in truncated)
        sentences.append(f"Prompts too long for the encoder and cut: {cut}.")
    return sentences


def text_measures(results: Results) -> list[tuple[Mapping[str, Any], list[Measure]]]:
    """Each encoder's row of section ``text`` with the rows of its table."""
    return [(row, _text_table(row)) for row in results.get("text") or []]


def falls_short(results: Results) -> list[str]:
    """What else was asked and is followed less well than in real images, or not at all."""
    found = []
    view: Mapping[str, Any] = results.get("view") or {}
    sides: Mapping[str, Any] = results.get("laterality") or {}
    if view.get("independent") and _below(view.get("agreement"), view.get("agreement_real")):
        found.append("the view (less often than in real images)")
    if sides.get("independent") and _below(sides.get("followed"), sides.get("followed_real")):
        share = Estimate.read(sides.get("followed"))
        chance = share is not None and share.low is not None and share.low <= CHANCE
        found.append(
            f"the side ({'not told from chance' if chance else 'less often than in real images'})"
        )
    fits = [
        fit
        for row in results.get("text") or []
        if row.get("independent") and (fit := Estimate.read(row.get("normalised"))) is not None
    ]
    if any(fit.low is not None and fit.low <= 0 for fit in fits):
        found.append("the text as a whole")
    return found


def _below(made: Any, real: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Whether a share lies more than :data:`CEILING_GAP` under the real one."""
    share, ceiling = Estimate.read(made), Estimate.read(real)
    if share is None or ceiling is None:
        return False
    return share.value < ceiling.value - CEILING_GAP


def _text_table(row: Mapping[str, Any]) -> list[Measure]:
    n = counted(row.get("n"), "picture")
    fit, score = Estimate.read(row.get("normalised")), Estimate.read(row.get("score"))
    floor, ceiling = Estimate.read(row.get("floor")), Estimate.read(row.get("ceiling"))
    found, found_real = (
        Estimate.read(row.get("retrieval")),
        Estimate.read(row.get("retrieval_real")),
    )
    among = finite(row.get("retrieval_of"))
    chance = None if not among else 1 / among
    return [
        Measure(
            name="Fit of picture and text",
            aim="higher is better; 1 is as real images",
            value=decimal(None if fit is None else fit.value),
            interval=interval(fit),
            reference="1",
            reference_interval="shuffled prompts: 0",
            n=n,
            sentence=_fit_words(row, fit),
        ),
        Measure(
            name="Similarity of picture and text, as the encoder gives it",
            aim="between shuffled prompts and real images",
            value=decimal(None if score is None else score.value, 3),
            interval=interval(score, 3),
            reference=decimal(None if ceiling is None else ceiling.value, 3),
            reference_interval=f"shuffled prompts: {decimal(floor.value, 3)}" if floor else "",
            n=n,
            sentence=_score_words(row, score, floor),
        ),
        Measure(
            name="Own prompt found" + (f" among {int(among)}" if among else ""),
            aim="higher is better",
            value=decimal(None if found is None else found.value),
            interval=interval(found),
            reference=decimal(None if found_real is None else found_real.value),
            reference_interval=interval(found_real),
            n=n,
            sentence=_found_words(row, found, chance),
        ),
    ]


def _fit_words(row: Mapping[str, Any], fit: Estimate | None) -> str:
    if fit is None:
        return sentence(str(row.get("normalised_note") or f"{MISSING}; no reason was recorded"))
    if fit.low is None or fit.high is None:
        return "No interval, so nothing can be concluded."
    if fit.low <= 0:
        return "The interval reaches 0: no sign that the prompt is followed."
    if fit.low > 1:
        return "Fits its text better than real images do: it may be exaggerated."
    if fit.high >= 1:
        return "Follows the prompt; no difference from real images shown, within the interval."
    return "Follows the prompt, less closely than real images fit their own text."


def _score_words(row: Mapping[str, Any], score: Estimate | None, floor: Estimate | None) -> str:
    if score is None:
        return sentence(str(row.get("score_note") or f"{MISSING}; no reason was recorded"))
    if floor is None or score.low is None:
        return "No interval or no value of shuffled prompts: nothing can be concluded."
    if score.low > (floor.value if floor.high is None else floor.high):
        return "Nearer to its own prompt than to others'."
    return "Not shown to be nearer to its own prompt than to others'."


def _found_words(row: Mapping[str, Any], found: Estimate | None, chance: float | None) -> str:
    if found is None:
        return sentence(str(row.get("retrieval_note") or f"{MISSING}; no reason was recorded"))
    if chance is None or found.low is None:
        return "No interval or no number of prompts to choose from: nothing can be concluded."
    by_chance = f"chance gives {decimal(chance)}"
    if found.low > chance:
        return f"Its own prompt is picked more often than by chance; {by_chance}."
    return f"The interval reaches chance; {by_chance}."


def _not_tested(what: str, note: Any) -> str:  # noqa: ANN401 - any JSON value
    reason = str(note or "").strip().rstrip(".") or "no reason was recorded"
    return f"{what}: not tested because {reason}."


def _standing(section: Mapping[str, Any]) -> str:
    return "" if section.get("independent") else "; not independent, so it settles nothing"


def _reasons(section: Mapping[str, Any]) -> list[str]:
    reasons = listed(str(reason) for reason in section.get("not_independent_because") or [])
    return [f"Not independent because {reasons}."] if reasons else []
