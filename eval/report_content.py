"""What each section of the report shows: words, rows and plots, from the numbers alone."""

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from arra_med.eval.caveats import drawn, not_checked, worth
from arra_med.eval.checklist import checklist
from arra_med.eval.explanations import (
    Results,
    fidelity_measures,
    finding_sentence,
    primary_judge,
    scored_findings,
    similarity_measures,
)
from arra_med.eval.formatting import Estimate, finite
from arra_med.eval.glossary import glossary
from arra_med.eval.goals import goal_lines, goals_reached
from arra_med.eval.plots_comparison import difference_plot
from arra_med.eval.plots_fidelity import group_plot, kid_plot, prdc_plot
from arra_med.eval.plots_findings import alignment_plot, auroc_plot, share_plot
from arra_med.eval.plots_privacy import distance_plot
from arra_med.eval.plots_scores import score_plot
from arra_med.eval.summary import answers
from arra_med.eval.summary_asked import judges_agreement
from arra_med.eval.summary_comparison import beyond_real, comparison_sentences, measure_name
from arra_med.eval.summary_privacy import memorisation_sentences
from arra_med.eval.summary_prompt import (
    laterality_sentences,
    text_measures,
    text_sentences,
    view_sentences,
)

ANCHORS = (
    ("summary", "In words"),
    ("evidence", "Numbers behind"),
    ("pictures", "Pictures"),
    ("findings", "Findings"),
    ("prompt", "View, side, text"),
    ("fidelity", "Fidelity"),
    ("variety", "Variety"),
    ("privacy", "Privacy"),
    ("comparison", "Comparison"),
    ("cohort", "Who was compared"),
    ("open", "Not checked"),
    ("method", "Method"),
    ("protocol", "Protocol"),
    ("checklist", "Checklist"),
    ("glossary", "Glossary"),
)
"""Sections of the page in order: id, and name in the list of sections."""


def content(results: Results) -> dict[str, Any]:
    """The variables of the templates.

    Args:
        results: the content of ``results.json`` in which nothing is absent
            (:func:`~arra_med.eval.report_shape.with_nulls`).
    """
    return {
        "r": results,
        "sections": ANCHORS,
        "cohort": results["cohort"],
        "generator": generator_name(results["model"]),
        "drawn": drawn(results),
        "min_positives": results["protocol"]["min_positives"],
        "answers": answers(results),
        "goals": goal_lines(results),
        "goals_question": goals_reached(results).question,
        "worth": worth(results),
        "not_checked": not_checked(results),
        **_findings(results),
        **_prompt(results),
        **_fidelity(results),
        **_privacy(results),
        **_comparison(results),
        "protocol": {name: value for name, value in results["protocol"].items() if value},
        "checklist": checklist(results),
        "glossary": glossary(),
    }


def generator_name(model: Mapping[str, Any] | None) -> str:
    """What the page's title calls the generator."""
    for field in ("name", "backbone", "kind"):
        value = (model or {}).get(field)
        if isinstance(value, Mapping):
            value = value.get("name")
        if isinstance(value, str) and value:
            return value
    return "generator without a name"


def finding_cells(
    row: Mapping[str, Any], min_positives: int | None
) -> tuple[Estimate | None, Estimate | None, str]:
    """Missed and invented per 100 with their intervals, and the row's sentence.

    The intervals are those of sensitivity and specificity, turned round.
    """
    return (
        _per_100(row.get("missed_per_100"), row.get("sensitivity")),
        _per_100(row.get("invented_per_100"), row.get("specificity")),
        finding_sentence(row, min_positives),
    )


def _per_100(rate: Any, of_right: Any) -> Estimate | None:  # noqa: ANN401 - any JSON value
    right = Estimate.read(of_right)
    if finite(rate) is None:
        return None
    wrong = None if right is None else right.times(100.0).rest_of(100.0)
    return Estimate(
        value=float(rate),
        low=None if wrong is None else wrong.low,
        high=None if wrong is None else wrong.high,
    )


def _findings(results: Results) -> dict[str, Any]:
    judge = primary_judge(results)
    rows = [] if judge is None else judge["findings"]
    least = results["protocol"]["min_positives"]
    scored = scored_findings(results)
    plots = [(row, score_plot(row)) for row in scored]
    return {
        "judge": judge,
        "judges": results["judges"],
        "judges_agree": judges_agreement(results),
        "by_judge": list(_by_judge(results)),
        "findings": [(row, *finding_cells(row, least)) for row in rows],
        "scored": scored,
        "auroc_plot": auroc_plot(results),
        "score_plots": [(row, plot) for row, plot in plots if plot is not None],
    }


def _by_judge(results: Results) -> Iterator[tuple[str, list[Mapping[str, Any] | None]]]:
    """Each finding that a judge scored, with every judge's row of it or ``None``."""
    tables = [
        {row["finding"]: row for row in judge["findings"] if row["status"] == "scored"}
        for judge in results["judges"]
    ]
    for finding in dict.fromkeys(name for table in tables for name in table):
        yield finding, [table.get(finding) for table in tables]


def _prompt(results: Results) -> dict[str, Any]:
    view: Mapping[str, Any] = results["view"] or {}
    side: Mapping[str, Any] = results["laterality"] or {}
    asked = view.get("by_view") or []
    views = [str(row["view"]) for row in asked]
    views += [name for row in asked for name in row["shown_as"] or {}]
    return {
        "view_names": list(dict.fromkeys(views)),
        "view_sentences": view_sentences(results),
        "view_plot": share_plot(
            "Is the view drawn that was asked for? Share of pictures by view",
            asked,
            name="view",
            made="agreement",
            real="agreement_real",
        ),
        "laterality_sentences": laterality_sentences(results),
        "side_plot": share_plot(
            "Is the side drawn that was asked for? Share of pictures by finding",
            side.get("by_finding") or [],
            name="finding",
            made="followed",
            real="followed_real",
            lines=((0.5, "chance"),),
        ),
        "text": text_measures(results),
        "text_sentences": text_sentences(results),
        "alignment_plot": alignment_plot(results["text"]),
    }


def _fidelity(results: Results) -> dict[str, Any]:
    return {
        "kid_plot": kid_plot(results),
        "fidelity": [
            (
                row,
                fidelity_measures(row),
                prdc_plot(row),
                group_plot(row),
                [(group["group"], group["note"]) for group in row["groups"]],
            )
            for row in results["fidelity"]
        ],
        "similarity": similarity_measures(results),
    }


def _privacy(results: Results) -> dict[str, Any]:
    found: Mapping[str, Any] = results["memorisation"] or {}
    return {
        "memorisation_sentences": memorisation_sentences(results),
        "spaces": [(space, distance_plot(space)) for space in found.get("spaces") or []],
    }


def _comparison(results: Results) -> dict[str, Any]:
    comparison: Mapping[str, Any] = results["comparison"] or {}
    names = [row["name"] for row in comparison.get("generators") or []]
    measures: list[dict[str, Any]] = []
    plots: list[tuple[str, Markup]] = []
    for row in comparison.get("measures") or []:
        values = {value["generator"]: value["value"] for value in row["values"]}
        name = measure_name(row["measure"])
        measures.append({**row, "name": name, "by_generator": [values.get(one) for one in names]})
        pairs = [
            difference
            for difference in comparison.get("differences") or []
            if (difference["measure"], difference["subject"]) == (row["measure"], row["subject"])
        ]
        title = f"{name}, {row['subject']}"
        beyond = any(beyond_real(row, one) for one in names)
        plot = difference_plot(title, pairs, None if beyond else row["aim"])
        if plot is not None:
            plots.append((title, plot))
    return {
        "comparison_sentences": comparison_sentences(results),
        "measures": measures,
        "difference_plots": plots,
    }
