"""Plots of what a judge sees: by finding, by view, by side, and how text is followed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from arra_med.eval.explanations import CHANCE, Results, scored_findings
from arra_med.eval.formatting import Estimate, counted
from arra_med.eval.plots import PlotRow, dot_interval_plot, wide_scale


def auroc_plot(results: Results) -> Markup | None:
    """Per finding, how well a judge reads generated and real pictures; ``None`` without rows."""
    rows = [
        PlotRow(
            label=str(row["finding"]),
            made=Estimate.read(row.get("auroc_generated")),
            real=Estimate.read(row.get("auroc_real")),
        )
        for row in scored_findings(results)
    ]
    rows.sort(key=lambda row: -1.0 if row.made is None else -row.made.value)
    extent = [value for row in rows for value in row.extent()]
    if not extent:
        return None
    low = min(0.4, math.floor(10 * min(extent)) / 10)
    return dot_interval_plot(
        "How well can a judge tell who was to have the finding? AUROC by finding: generated "
        "pictures and, as the ceiling, real images",
        rows,
        scale=(max(0.0, low), 1.0),
        lines=((CHANCE, "chance"),),
    )


def share_plot(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    name: str,
    made: str,
    real: str,
    lines: Sequence[tuple[float, str]] = (),
) -> Markup | None:
    """Shares from 0 to 1, generated beside real, one line a row.

    Args:
        title: what the plot answers.
        rows: of the results file; each may carry ``n``.
        name: the field that labels a row.
        made: the field of the generated share.
        real: the field of the real one.
        lines: vertical reference lines.
    """
    drawn = [
        PlotRow(
            label=str(row.get(name)),
            made=Estimate.read(row.get(made)),
            real=Estimate.read(row.get(real)),
            detail="" if row.get("n") is None else counted(row["n"], "picture"),
        )
        for row in rows
    ]
    if not any(row.extent() for row in drawn):
        return None
    return dot_interval_plot(title, drawn, scale=(0.0, 1.0), lines=lines)


def alignment_plot(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Per text encoder, the score between shuffled prompts (0) and real pairs (1)."""
    drawn = [
        PlotRow(label=str(row.get("encoder")), made=Estimate.read(row.get("normalised")), real=None)
        for row in rows
    ]
    extent = [value for row in drawn for value in row.extent()]
    if not extent:
        return None
    return dot_interval_plot(
        "How much of what real pairs share do prompt and picture share? 0 is shuffled prompts, 1 "
        "is real pairs",
        drawn,
        scale=wide_scale([0.0, 1.0, *extent]),
        lines=((0.0, "shuffled"), (1.0, "real pairs")),
    )
