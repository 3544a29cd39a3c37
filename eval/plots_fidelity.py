"""Plots of the distances between generated and real pictures."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from arra_med.eval.explanations import Results, reference
from arra_med.eval.formatting import Estimate, finite
from arra_med.eval.plots import PlotRow, dot_interval_plot, wide_scale


def kid_plot(results: Results) -> Markup | None:
    """Per encoder, KID of generated against real beside two sets of real images."""
    rows = [
        _distances(str(row.get("extractor")), row)
        for row in results.get("fidelity") or []
        if isinstance(row, Mapping)
    ]
    rows = [row for row in rows if row.extent()]
    if not rows:
        return None
    return dot_interval_plot(
        "Is the distance larger than between two sets of real images? KID by encoder, each on its "
        "own scale",
        rows,
    )


def group_plot(row: Mapping[str, Any]) -> Markup | None:
    """One encoder's KID by view and finding; ``None`` without a group that could be measured."""
    rows = [
        _distances(
            str(group.get("group")),
            group,
            detail=f"{_count(group, 'n_generated')} to {_count(group, 'n_real')} real",
        )
        for group in row.get("groups") or []
    ]
    rows = [line for line in rows if line.made is not None]
    if not rows:
        return None
    return dot_interval_plot(
        f"Which views and findings are farthest from real images? KID under {row.get('extractor')}",
        rows,
        scale=wide_scale([0.0, *(value for line in rows for value in line.extent())]),
        lines=((0.0, "no difference"),),
        digits=None,
    )


def prdc_plot(row: Mapping[str, Any]) -> Markup | None:
    """One encoder's precision, recall and coverage beside their real–real values."""
    rows = [
        PlotRow(
            label=measure.capitalize(),
            made=_bare(row.get(measure)),
            real=_bare(reference(row, measure)),
        )
        for measure in ("precision", "recall", "coverage")
    ]
    if not any(line.extent() for line in rows):
        return None
    title = (
        f"Are pictures plausible and varied? Precision, recall, coverage: {row.get('extractor')}"
    )
    return dot_interval_plot(title, rows, scale=(0.0, 1.0))


def _distances(label: str, row: Mapping[str, Any], detail: str = "") -> PlotRow:
    return PlotRow(
        label=label,
        made=Estimate.read(row.get("kid")),
        real=Estimate.read(row.get("kid_reference")),
        made_name="generated to real",
        real_name="real to real",
        detail=detail,
    )


def _bare(value: Any) -> Estimate | None:  # noqa: ANN401 - any JSON value
    number = finite(value)
    return None if number is None else Estimate(value=number)


def _count(row: Mapping[str, Any], name: str) -> str:
    number = finite(row.get(name))
    return "?" if number is None else f"{int(number):,}"
