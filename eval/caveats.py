"""What a reader must know before believing a number: worth, failures, and what was not checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arra_med.eval.explanations import Results, scored_findings
from arra_med.eval.formatting import Estimate, finite, listed, with_interval

SMALL_SAMPLE = 1000
"""Generated pictures below which distances between sets are mostly bias."""


@dataclass(frozen=True, kw_only=True)
class NotDone:
    """Something that this evaluation did not check, and why."""

    what: str
    because: str


def worth(results: Results) -> list[str]:
    """What a conclusion from this report may and may not rest on."""
    sentences = []
    if drawn(results):
        sentences.append(
            "The pictures are drawn phantoms, not patients: the report shows that the method runs "
            "and what it measures, and says nothing about medical images."
        )
    judge: Mapping[str, Any] = results.get("judge") or {}
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
    cohort: Mapping[str, Any] = results.get("cohort") or {}
    generated = finite(cohort.get("generated"))
    if generated is not None and generated < SMALL_SAMPLE:
        sentences.append(
            f"{int(generated):,} generated pictures are a small sample: read intervals, not single "
            "values, and do not compare distances with those of other publications."
        )
    return sentences


def same_source(results: Results) -> bool:
    """Whether the judge was fitted on a split of the very folder that is evaluated."""
    protocol: Mapping[str, Any] = results.get("protocol") or {}
    judge: Mapping[str, Any] = protocol.get("judge") or {}
    prepared = protocol.get("prepared")
    return bool(judge.get("fitted_splits")) or (
        prepared is not None and judge.get("prepared") == prepared
    )


def drawn(results: Results) -> bool:
    """Whether the results call their pictures phantoms, in any description they carry."""
    cohort: Mapping[str, Any] = results.get("cohort") or {}
    judge: Mapping[str, Any] = results.get("judge") or {}
    texts = [cohort.get("dataset"), judge.get("trained_on")]
    texts += [row.get("trained_on") for row in results.get("fidelity") or []]
    return any("phantom" in str(text).lower() for text in texts)


def where_it_fails(results: Results) -> list[str]:
    """The three findings that are hardest to recognise in generated pictures."""
    rows = [
        (estimate, row)
        for row in scored_findings(results)
        if (estimate := Estimate.read(row.get("auroc_generated"))) is not None
    ]
    return [
        f"{row['finding']}: AUROC {with_interval(estimate)}; real images "
        f"{with_interval(Estimate.read(row.get('auroc_real')))}."
        for estimate, row in sorted(rows, key=lambda pair: pair[0].value)[:3]
    ]


def not_checked(results: Results) -> list[NotDone]:
    """Everything that a reader may expect and that this evaluation leaves open."""
    version = "this version of the evaluation does not do it yet"
    items = [
        NotDone(
            what="Realism to the eye: no reader has checked these images",
            because="no reader study was done; this version has none",
        ),
        NotDone(
            what="Whether a patient could be recognised (memorised training images)",
            because=f"the nearest training images were not searched: {version}",
        ),
        NotDone(
            what="Whether side and view asked for are drawn",
            because=f"no laterality or view test was run: {version}",
        ),
        NotDone(
            what="Subgroups (age, sex, scanner, hospital)",
            because="results are not broken down: the samples carry no such columns",
        ),
    ]
    rare = [row for row in results.get("findings") or [] if row.get("status") != "scored"]
    if rare:
        names = listed(f"{row['finding']} ({row.get('positives')})" for row in rare)
        items.append(
            NotDone(what=f"Findings that could not be scored: {names}", because=_too_few(results))
        )
    for name, note in _nulls(results):
        reason = (note or "no reason was recorded").removeprefix("not given: ")
        items.append(NotDone(what=name, because=reason))
    return items


def _too_few(results: Results) -> str:
    protocol: Mapping[str, Any] = results.get("protocol") or {}
    least = protocol.get("min_positives")
    needed = "too few prompts ask" if least is None else f"at least {least} prompts must ask"
    return f"{needed} for a finding before its rates mean anything"


def _nulls(results: Results) -> list[tuple[str, str | None]]:
    """Measurements that are null, with the reason beside them."""
    found = [
        (f"{measure.upper()} under {row.get('extractor')}", row.get(f"{measure}_note"))
        for row in results.get("fidelity") or []
        for measure in ("fd", "kid")
        if row.get(measure) is None
    ]
    similarity: Mapping[str, Any] = results.get("similarity") or {}
    names = {"paired": "Likeness to the real image", "diversity_generated": "Variety (MS-SSIM)"}
    found += [
        (title, similarity.get(f"{name}_note") or results.get("similarity_note"))
        for name, title in names.items()
        if similarity.get(name) is None
    ]
    if not results.get("judge"):
        found.append(("Findings", results.get("judge_note")))
    return found
