"""What a reader must know before believing a number: worth, failures, and what was not checked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from arra_med.eval.consistency import recognised
from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    finite,
    listed,
    p_words,
    with_interval,
)
from arra_med.eval.summary_answer import Answer, Tone, Verdict, cannot_say
from arra_med.eval.summary_evidence import (
    SIGNIFICANT,
    Results,
    judge_obstacle,
    primary_judge,
    scored_findings,
    scored_rows,
    usable_judges,
)
from arra_med.eval.summary_prompt import falls_short

SMALL_SAMPLE = 1000
"""Generated pictures below which distances between sets are mostly bias."""


@dataclass(frozen=True, kw_only=True)
class NotDone:
    """Something that this evaluation did not check, and why.

    Attributes:
        what: it is.
        because: the reason.
        detail: whether it is one value among others, which the first page only counts.
    """

    what: str
    because: str
    detail: bool = False


def worth(results: Results) -> list[str]:
    """What a conclusion from this report may and may not rest on."""
    sentences = []
    if results.get("model_note"):
        sentences.append(f"Warning: {results['model_note']}")
    if drawn(results):
        sentences.append(
            "The pictures are drawn phantoms, not patients: the report shows that the method runs "
            "and what it measures, and says nothing about medical images."
        )
    judge = primary_judge(results)
    if judge:
        trust = (
            "independent of the generator's training"
            if judge.get("independent")
            else "not independent of the generator's training"
        )
        sentences.append(
            f"Findings are read by a classifier ({judge.get('name')}), not by a physician; it was "
            f"trained on {judge.get('trained_on')} and is {trust}."
        )
    if same_source(results):
        sentences.append(
            "That classifier learned from other pictures of the same data set: it knows that set's "
            "habits, and a judge from elsewhere could see less or more."
        )
    caricatured = [
        str(row["finding"])
        for row in scored_findings(results)
        if _above_0(row.get("auroc_difference"))
    ]
    if caricatured:
        sentences.append(
            f"Warning: {listed(caricatured)} {'is' if len(caricatured) == 1 else 'are'} easier to "
            "recognise in generated than in real pictures, a sign of caricature, not of quality."
        )
    cohort: Mapping[str, Any] = results.get("cohort") or {}
    generated = finite(cohort.get("generated"))
    if generated is not None and generated < SMALL_SAMPLE:
        sentences.append(
            f"{int(generated):,} generated pictures are a small sample: read intervals, not single "
            "values, and do not compare distances with those of other publications."
        )
    from_prompts = finite((cohort.get("labels_from") or {}).get("prompt"))
    if from_prompts:
        sentences.append(
            f"The labels of {int(from_prompts):,} prompts were read from their text by rules, not "
            "by a person."
        )
    if cohort.get("resized"):
        sentences.append(f"Generated pictures were resized: {cohort['resized']}.")
    return sentences


def same_source(results: Results) -> bool:
    """Whether the primary judge was fitted on a split of the very folder that is evaluated."""
    protocol: Mapping[str, Any] = results.get("protocol") or {}
    primary = primary_judge(results)
    identities = list(protocol.get("judges") or [])
    places = [place for place, judge in enumerate(results.get("judges") or []) if judge is primary]
    if not places or places[0] >= len(identities):
        return False
    identity: Mapping[str, Any] = identities[places[0]]
    prepared = protocol.get("prepared")
    return bool(identity.get("fitted_splits")) or (
        prepared is not None and prepared in (identity.get("prepared"), identity.get("fitted_on"))
    )


def drawn(results: Results) -> bool:
    """Whether the results call their pictures phantoms, in any description they carry."""
    cohort: Mapping[str, Any] = results.get("cohort") or {}
    texts = [cohort.get("dataset")]
    texts += [judge.get("trained_on") for judge in results.get("judges") or []]
    texts += [row.get("trained_on") for row in results.get("fidelity") or []]
    return any("phantom" in str(text).lower() for text in texts)


def where_it_fails(results: Results) -> list[str]:
    """The three findings that are hardest to recognise, and those missed more than by chance."""
    judged = scored_rows(_judge_of_failures(results))
    rows = {str(row["finding"]): row for row in judged}
    sentences = [
        f"{name}: AUROC {with_interval(Estimate.read(rows[name].get('auroc_generated')))}; real "
        f"images {with_interval(Estimate.read(rows[name].get('auroc_real')))}."
        for name in _hardest(judged)
    ]
    missed = [
        f"{row['finding']} ({p_words(p)})"
        for row in judged
        if recognised(row)
        and (p := finite(row.get("missed_more_p_adjusted"))) is not None
        and p < SIGNIFICANT
        and _above_0(row.get("missed_more"))  # p is two-sided
    ]
    if missed:
        sentences.append(
            f"Missed more often than in real images, after correction for the number of findings: "
            f"{listed(missed)}."
        )
    short = falls_short(results)
    if short:
        sentences.append(f"Not followed: {listed(short)}.")
    return sentences


def _judge_of_failures(results: Results) -> Mapping[str, Any] | None:
    """The first judge that may decide, or else the one that the first page is about."""
    return next(iter(usable_judges(results)), primary_judge(results))


def _hardest(rows: list[Mapping[str, Any]]) -> list[str]:
    """The three scored findings with the lowest AUROC on generated pictures, lowest first."""
    known = [
        (estimate.value, str(row["finding"]))
        for row in rows
        if (estimate := Estimate.read(row.get("auroc_generated"))) is not None and recognised(row)
    ]
    return [name for _, name in sorted(known)[:3]]


def _value(estimate: Any) -> float | None:  # noqa: ANN401 - any JSON value
    read = Estimate.read(estimate)
    return None if read is None else read.value


def fails(results: Results) -> Answer:
    """Where is the generator weakest?"""
    judge = _judge_of_failures(results)
    obstacle, rows = judge_obstacle(judge), scored_rows(judge)
    known = [row for row in rows if _gap_end(row) is not None and recognised(row)]
    lower = [str(row["finding"]) for row in sorted(known, key=_auroc) if _shown_lower(row)]
    verdict: Verdict
    if obstacle:
        verdict = cannot_say(obstacle)
    elif not known:
        verdict = cannot_say("No finding was scored that the judge reads well in real images.")
    elif lower:
        share = f"{len(lower)} of {len(known)} findings"
        words = f"Recognised less surely than in real images: {listed(lower)}."
        tone: Tone = "poor" if 2 * len(lower) > len(known) else "mixed"
        verdict = (share, tone, words)
    else:
        reason = "No finding was shown to be recognised less surely than in real images."
        verdict = ("Nothing shown", "mixed", reason)
    return Answer.of(
        verdict,
        question="Where does it fail?",
        sentences=tuple(where_it_fails(results)),
        rule=(
            "The first independent judge that reads real images well enough counts. Counted are "
            "findings whose AUROC on generated pictures lies below that on real ones by more than "
            f"the interval of the difference, and with p under {decimal(SIGNIFICANT)} after "
            "correction for the number of findings; coloured as poor if most do. Nothing shown: "
            "none does. Cannot say: no such judge, or no finding that it reads so well. They are "
            "named, those of the lowest AUROC first; below, the three of the lowest AUROC, "
            "whatever it is."
        ),
    )


def _auroc(row: Mapping[str, Any]) -> float:
    return _value(row.get("auroc_generated")) or 0.0


def _gap_end(row: Mapping[str, Any]) -> float | None:
    """Upper end of the difference in AUROC to real images."""
    gap = Estimate.read(row.get("auroc_difference"))
    return None if gap is None else gap.high


def _shown_lower(row: Mapping[str, Any]) -> bool:
    """Whether a finding is recognised less surely than in real images."""
    high, p = _gap_end(row), finite(row.get("auroc_difference_p_adjusted"))
    return high is not None and high < 0 and p is not None and p < SIGNIFICANT


def open_questions(results: Results) -> Answer:
    """What was not checked, as the last answer of the first page."""
    items = not_checked(results)
    details = sum(item.detail for item in items)
    more = [f"Single values that are missing: {details}; they stand below."] if details else []
    return Answer(
        question="What was not checked?",
        verdict=counted(len(items) - details, "point"),
        tone="unknown",
        headline="Nothing may be concluded on these:",
        sentences=(*(f"{item.what}." for item in items if not item.detail), *more),
        rule=(
            "These are the points that a reader may expect and that have no value or nothing "
            "independent behind them, whether or not this version can check them; each has its "
            "reason in the list below."
        ),
    )


def not_checked(results: Results) -> list[NotDone]:
    """Everything that a reader may expect and that this evaluation leaves open."""
    items = [
        NotDone(
            what="Realism to the eye: no reader has checked these images",
            because="no reader study was done; this version has none",
        ),
        *_sections(results),
        NotDone(
            what=_subgroups(results),
            because="the samples carry no such columns",
        ),
    ]
    rare = [
        row
        for row in (primary_judge(results) or {}).get("findings") or []
        if row.get("status") == "too few"
    ]
    if rare:
        names = listed(
            f"{row['finding']} ({row.get('positives')} with, {row.get('negatives')} without)"
            for row in rare
        )
        items.append(
            NotDone(what=f"Findings that could not be scored: {names}", because=_too_few(results))
        )
    for judge in results.get("judges") or []:
        for finding, why in (judge.get("not_judged") or {}).items():
            items.append(
                NotDone(
                    what=f"{finding}, by {judge.get('name')}", because=_because(why), detail=True
                )
            )
    items += [NotDone(what=name, because=_because(note)) for name, note in _missing(results)]
    items += [
        NotDone(what=name, because=_because(note), detail=True) for name, note in _nulls(results)
    ]
    return items


def _sections(results: Results) -> Iterator[NotDone]:
    """The tests that were not run as a whole, or that nothing independent ran."""
    for name, what in (
        ("memorisation", "Whether a patient could be recognised (memorised training images)"),
        ("view", "Whether the view asked for is drawn"),
        ("laterality", "Whether the side asked for is drawn"),
        ("text", "How well pictures fit the text of their prompts"),
        ("preflight", "Damaged, constant and repeated files"),
    ):
        section = results.get(name)
        if not section:
            yield NotDone(what=what, because=_because(results.get(f"{name}_note")))
    search: Mapping[str, Any] = results.get("memorisation") or {}
    if search and not search.get("detects"):
        yield NotDone(
            what="Whether a patient could be recognised, to the standard set",
            because="the search missed planted copies",
        )
    for name, what in (("view", "View"), ("laterality", "Side")):
        tested: Mapping[str, Any] = results.get(name) or {}
        if tested and not tested.get("independent"):
            who = tested.get("classifier") or tested.get("judge")
            yield NotDone(what=f"{what}, by an independent model", because=f"only {who} tested it")
    texts = list(results.get("text") or [])
    if texts and not any(row.get("independent") for row in texts):
        yield NotDone(
            what="Fit of picture and text, by an independent encoder",
            because=f"only {listed(str(row.get('encoder')) for row in texts)} measured it",
        )
    sides: Mapping[str, Any] = results.get("laterality") or {}
    if sides and not sides.get("swapped"):
        yield NotDone(
            what="Whether the side changes with the prompt (left and right exchanged)",
            because=_because(sides.get("swapped_note")),
        )


def _subgroups(results: Results) -> str:
    groups = [
        str(group.get("group"))
        for row in results.get("fidelity") or []
        for group in row.get("groups") or []
    ]
    by_view = any(name.startswith("view ") for name in groups)
    beyond = " (views and findings are broken down)" if by_view else ""
    return f"Subgroups: age, sex, scanner, hospital{beyond}"


def _too_few(results: Results) -> str:
    protocol: Mapping[str, Any] = results.get("protocol") or {}
    least = protocol.get("min_positives")
    needed = "too few prompts ask" if least is None else f"at least {least} prompts must ask"
    return f"{needed} for a finding, and as many exclude it, before its rates mean anything"


def _because(note: Any) -> str:  # noqa: ANN401 - any JSON value
    words = str(note or "").strip().rstrip(".").removeprefix("not given: ")
    return words or "no reason was recorded"


def _missing(results: Results) -> list[tuple[str, str | None]]:
    """Kinds of measurement that have no value at all, with the reason beside them."""
    found: list[tuple[str, str | None]] = []
    if not results.get("fidelity"):
        found.append(("Distances between the sets", results.get("fidelity_note")))
    if not results.get("judges"):
        found.append(("Findings", results.get("judges_note")))
    similarity: Mapping[str, Any] = results.get("similarity") or {}
    names = {
        "paired": "Likeness to the real image",
        "diversity_generated": "Variety (MS-SSIM)",
        "same_prompt_generated": "Variety within a prompt (MS-SSIM)",
    }
    return found + [
        (title, similarity.get(f"{name}_note") or results.get("similarity_note"))
        for name, title in names.items()
        if similarity.get(name) is None
    ]


def _nulls(results: Results) -> list[tuple[str, str | None]]:
    """Single values of an encoder that are null, with the reason beside them."""
    found: list[tuple[str, str | None]] = []
    for row in results.get("fidelity") or []:
        name = row.get("extractor")
        found += [
            (f"{title} under {name}", row.get(f"{measure}_note"))
            for measure, title in (
                ("fd", "FD"),
                ("kid", "KID"),
                ("kid_reference", "KID of real against real"),
                ("precision", "Precision, recall, density and coverage"),
            )
            if row.get(measure) is None
        ]
        small = [str(group["group"]) for group in row.get("groups") or [] if not group.get("kid")]
        if small:
            found.append(
                (f"KID under {name} of {listed(small)}", "there are too few pictures of each")
            )
    return found


def _above_0(difference: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Whether the whole interval of a difference lies above 0."""
    gap = Estimate.read(difference)
    return gap is not None and gap.low is not None and gap.low > 0
