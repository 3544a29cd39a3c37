"""Dot-and-interval plots as inline SVG: small, sharp in print, escaped, without a plot library."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from arra_med.eval.explanations import CHANCE, Results, reference, scored_findings
from arra_med.eval.formatting import Estimate, decimal, finite, shared_places, with_interval

WIDTH, LEFT, RIGHT = 690, 226, 610
"""Of the drawing, and of the part of it that holds marks, in SVG units."""
TOP, ROW, TALL_ROW = 34, 38, 52
LONGEST_LABEL = 26


@dataclass(frozen=True, kw_only=True)
class PlotRow:
    """One line of a plot: a generated value and the real one to hold it against."""

    label: str
    made: Estimate | None
    real: Estimate | None
    made_name: str = "generated"
    real_name: str = "real"

    @property
    def words(self) -> str:
        """The line's content for readers who cannot see it."""
        return (
            f"{self.label}: {self.made_name} {with_interval(self.made, None)}, {self.real_name} "
            f"{with_interval(self.real, None)}."
        )

    def extent(self) -> list[float]:
        """Every number that the line's scale must hold."""
        marks = [mark for mark in (self.made, self.real) if mark is not None]
        ends = [end for mark in marks for end in (mark.value, mark.low, mark.high)]
        return [end for end in ends if end is not None]


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
        "AUROC by finding: generated pictures and, as the ceiling, real images",
        rows,
        scale=(max(0.0, low), 1.0),
        line=(CHANCE, "chance"),
    )


def kid_plot(results: Results) -> Markup | None:
    """Per encoder, KID of generated against real beside two sets of real images."""
    rows = [
        PlotRow(
            label=str(row.get("extractor")),
            made=Estimate.read(row.get("kid")),
            real=Estimate.read(row.get("kid_reference")),
            made_name="generated to real",
            real_name="real to real",
        )
        for row in results.get("fidelity") or []
    ]
    rows = [row for row in rows if row.extent()]
    if not rows:
        return None
    return dot_interval_plot("KID by encoder, each on its own scale", rows, line=(0.0, "0"))


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
    if not any(row.extent() for row in rows):
        return None
    title = f"Precision, recall and coverage under {row.get('extractor')}"
    return dot_interval_plot(title, rows, scale=(0.0, 1.0))


def dot_interval_plot(
    title: str,
    rows: Sequence[PlotRow],
    *,
    scale: tuple[float, float] | None = None,
    line: tuple[float, str] | None = None,
) -> Markup:
    """Draw one line a row: a dot for generated, a hollow diamond for real, bars for intervals.

    Args:
        title: what the plot answers; its accessible name.
        rows: from top to bottom.
        scale: the common axis; ``None`` gives every row its own, with its value written beside it.
        line: a vertical reference line and its name.
    """
    top, height = (TOP, ROW) if scale else (4, TALL_ROW)
    bottom = top + height * len(rows)
    parts = [_axis(scale, line, bottom)]
    for index, row in enumerate(rows):
        middle = top + height * index + height / 2 + (0 if scale else 6)
        ends = scale or _own_scale(row.extent(), line)
        parts.append(_row(row, middle, ends, own_scale=scale is None))
    return Markup(
        '<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{title}. {words}">'
        "{parts}</svg>"
    ).format(
        width=WIDTH,
        height=bottom + (26 if scale else 8),
        title=title,
        words=" ".join(row.words for row in rows),
        parts=Markup("").join(parts),
    )


def _bare(value: Any) -> Estimate | None:  # noqa: ANN401 - any JSON value
    number = finite(value)
    return None if number is None else Estimate(value=number)


def _own_scale(extent: list[float], line: tuple[float, str] | None) -> tuple[float, float]:
    ends = [*extent, *([line[0]] if line else [])]
    low, high = min(ends), max(ends)
    margin = 0.06 * (high - low or 1.0)
    return low - margin, high + margin


def _position(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    return round(LEFT + (RIGHT - LEFT) * (value - low) / (high - low), 1)


def _axis(
    scale: tuple[float, float] | None, line: tuple[float, str] | None, bottom: float
) -> Markup:
    parts = []
    if scale is not None:
        steps = round(10 * (scale[1] - scale[0]))
        for tick in (scale[0] + index / 10 for index in range(0, steps + 1, 2 if steps > 7 else 1)):
            parts.append(
                Markup(
                    '<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
                    '<text class="tick" x="{x}" y="{below}" text-anchor="middle">{label}</text>'
                ).format(
                    x=_position(tick, scale),
                    top=TOP,
                    bottom=bottom,
                    below=bottom + 19,
                    label=decimal(tick, 1),
                )
            )
        if line is not None:
            parts.append(
                Markup(
                    '<line class="chance" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
                    '<text class="tick" x="{x}" y="{above}" text-anchor="middle">{label}</text>'
                ).format(
                    x=_position(line[0], scale),
                    top=TOP - 4,
                    bottom=bottom,
                    above=TOP - 10,
                    label=line[1],
                )
            )
    return Markup("").join(parts)


def _row(row: PlotRow, middle: float, scale: tuple[float, float], *, own_scale: bool) -> Markup:
    label = row.label
    short = label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
    parts = [
        Markup(
            '<text class="name" x="{x}" y="{y}" text-anchor="end">{short}'
            "<title>{label}</title></text>"
        ).format(x=LEFT - 14, y=middle + 5, short=short, label=label)
    ]
    if own_scale:
        zero = Markup(
            '<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>'
            '<line class="chance" x1="{x}" x2="{x}" y1="{y1}" y2="{y2}"/>'
            '<text class="tick" x="{x}" y="{above}" text-anchor="middle">0</text>'
        )
        parts.append(
            zero.format(
                left=LEFT,
                right=RIGHT,
                y=middle,
                x=_position(0.0, scale),
                y1=middle - 15,
                y2=middle + 15,
                above=middle - 19,
            )
        )
    if row.real is not None:
        parts.append(_mark(row.real, middle + 6, scale, "real"))
    if row.made is not None:
        parts.append(_mark(row.made, middle - 6, scale, "made"))
        places = shared_places(row.made) if own_scale else 2
        parts.append(
            Markup('<text class="value" x="{x}" y="{y}">{value}</text>').format(
                x=RIGHT + 14, y=middle + 5, value=decimal(row.made.value, places)
            )
        )
    return Markup("").join(parts)


def _mark(estimate: Estimate, y: float, scale: tuple[float, float], kind: str) -> Markup:
    x = _position(estimate.value, scale)
    bar = Markup("")
    if estimate.low is not None and estimate.high is not None:
        bar = Markup('<line class="{kind}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>').format(
            kind=kind, low=_position(estimate.low, scale), high=_position(estimate.high, scale), y=y
        )
    if kind == "made":
        return bar + Markup('<circle class="made" cx="{x}" cy="{y}" r="5.5"/>').format(x=x, y=y)
    return bar + Markup('<path class="real" d="M{x} {top}l6 6l-6 6l-6 -6z"/>').format(
        x=x, top=y - 6
    )
