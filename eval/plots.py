"""Dot-and-interval plots as inline SVG: small, sharp in print, escaped, without a plot library.

Generated values are filled dots on thick bars, real ones hollow diamonds on thin bars, so that
nothing rests on colour alone; the whole content stands in words in the accessible name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from arra_med.eval.formatting import Estimate, decimal, shared_places, with_interval

WIDTH, LEFT, RIGHT = 690, 226, 610
"""Of the drawing, and of the part of it that holds marks, in SVG units."""
TOP, SLIM, ROW, TALL_ROW = 34, 6, 38, 52
LONGEST_LABEL = 26

Scale = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class PlotRow:
    """One line of a plot: a generated value and the real one to hold it against.

    Attributes:
        label: left of the line.
        made: the generated value.
        real: the real one.
        made_name: what ``made`` is, in words.
        real_name: what ``real`` is, in words.
        detail: small print under the label.
    """

    label: str
    made: Estimate | None
    real: Estimate | None
    made_name: str = "generated"
    real_name: str = "real"
    detail: str = ""

    @property
    def words(self) -> str:
        """The line's content for readers who cannot see it."""
        names = ((self.made_name, self.made), (self.real_name, self.real))
        known = [f"{name} {with_interval(mark, None)}" for name, mark in names if mark is not None]
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.label}{detail}: {', '.join(known) or 'not available'}."

    def extent(self) -> list[float]:
        """Every number that the line's scale must hold."""
        marks = [mark for mark in (self.made, self.real) if mark is not None]
        ends = [end for mark in marks for end in (mark.value, mark.low, mark.high)]
        return [end for end in ends if end is not None]


def dot_interval_plot(
    title: str,
    rows: Sequence[PlotRow],
    *,
    scale: Scale | None = None,
    lines: Sequence[tuple[float, str]] = (),
    digits: int | None = 2,
) -> Markup:
    """Draw one line a row: a dot for generated, a hollow diamond for real, bars for intervals.

    Args:
        title: what the plot answers; its accessible name.
        rows: from top to bottom.
        scale: the common axis; ``None`` gives every row its own, with 0 marked on it.
        lines: vertical reference lines and their names, on a common axis.
        digits: of the value written at the end of each line; ``None`` chooses them by size.
    """
    height = ROW if scale else TALL_ROW
    top = (TOP if lines else SLIM) if scale else 4
    bottom = top + height * len(rows)
    parts = [axis(scale, lines, (top, bottom))] if scale else []
    for index, row in enumerate(rows):
        middle = top + height * index + height / 2 + (0 if scale else 6)
        parts.append(_label(row, middle))
        if scale is None:
            own = _own_scale([*row.extent(), 0.0])
            parts += [_own_axis(middle, own), _marks(row, middle, own, None)]
        else:
            parts.append(_marks(row, middle, scale, digits))
    return drawing(title, [row.words for row in rows], bottom + (26 if scale else 8), parts)


def drawing(title: str, words: Sequence[str], height: float, parts: Sequence[Markup]) -> Markup:
    """The ``svg`` element around drawn parts, with everything they show in its accessible name."""
    return Markup(
        '<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{title} {words}">'
        "{parts}</svg>"
    ).format(
        width=WIDTH,
        height=round(height),
        title=title if title.endswith("?") else f"{title}.",
        words=" ".join(words),
        parts=Markup("").join(parts),
    )


def wide_scale(values: Sequence[float]) -> Scale:
    """An axis that holds ``values``, with a little air at both ends."""
    low, high = min(values), max(values)
    margin = 0.04 * ((high - low) or abs(high) or 1.0)
    return low - margin, high + margin


def ticks(scale: Scale, most: int = 7) -> list[tuple[float, str]]:
    """At most ``most`` round numbers within ``scale``, and how each is written."""
    span = scale[1] - scale[0]
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if span / (factor * step) < most)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(scale[0] / step - 1e-9), math.floor(scale[1] / step + 1e-9)
    return [(index * step, decimal(index * step, places)) for index in range(first, last + 1)]


def position(value: float, scale: Scale, ends: tuple[float, float] = (LEFT, RIGHT)) -> float:
    """Where ``value`` lies between two horizontal ``ends``; outside the scale, at its end."""
    share = (value - scale[0]) / (scale[1] - scale[0])
    return round(ends[0] + (ends[1] - ends[0]) * min(1.0, max(0.0, share)), 1)


def axis(scale: Scale, lines: Sequence[tuple[float, str]], span: tuple[float, float]) -> Markup:
    """Grid lines with their numbers below, dashed reference lines with their names above.

    Args:
        scale: of the axis.
        lines: reference lines.
        span: upper and lower end of the lines, in SVG units.
    """
    upper, lower = span
    grid = Markup(
        '<line class="grid" x1="{x}" x2="{x}" y1="{upper}" y2="{lower}"/>'
        '<text class="tick" x="{x}" y="{below}" text-anchor="middle">{label}</text>'
    )
    mark = Markup(
        '<line class="chance" x1="{x}" x2="{x}" y1="{top}" y2="{lower}"/>'
        '<text class="tick" x="{x}" y="{above}" text-anchor="middle">{label}</text>'
    )
    parts = [
        grid.format(
            x=position(value, scale), upper=upper, lower=lower, below=lower + 19, label=label
        )
        for value, label in ticks(scale)
    ]
    parts += [
        mark.format(
            x=position(value, scale), top=upper - 4, lower=lower, above=upper - 10, label=label
        )
        for value, label in lines
        if scale[0] <= value <= scale[1]
    ]
    return Markup("").join(parts)


def mark(estimate: Estimate, y: float, scale: Scale, kind: str) -> Markup:
    """A value and its interval; ``kind`` is ``made`` (dot), ``real`` or ``open`` (hollow)."""
    x = position(estimate.value, scale)
    bar = Markup("")
    if estimate.low is not None and estimate.high is not None:
        bar = Markup('<line class="{kind}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>').format(
            kind=kind, low=position(estimate.low, scale), high=position(estimate.high, scale), y=y
        )
    if kind == "real":
        return bar + Markup('<path class="real" d="M{x} {top}l6 6l-6 6l-6 -6z"/>').format(
            x=x, top=y - 6
        )
    return bar + Markup('<circle class="{kind}" cx="{x}" cy="{y}" r="5.5"/>').format(
        kind=kind, x=x, y=y
    )


def name_text(label: str, x: float, y: float) -> Markup:
    """A label that ends at ``x``, cut if it is long; the whole of it shows on pointing."""
    short = label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
    return Markup(
        '<text class="name" x="{x}" y="{y}" text-anchor="end">{short}<title>{label}</title></text>'
    ).format(x=x, y=y, short=short, label=label)


def _label(row: PlotRow, middle: float) -> Markup:
    text = name_text(row.label, LEFT - 14, middle + (-1 if row.detail else 5))
    if not row.detail:
        return text
    return text + Markup(
        '<text class="tick" x="{x}" y="{y}" text-anchor="end">{detail}</text>'
    ).format(x=LEFT - 14, y=middle + 13, detail=row.detail)


def _own_scale(extent: list[float]) -> Scale:
    low, high = min(extent), max(extent)
    margin = 0.06 * (high - low or 1.0)
    return low - margin, high + margin


def _own_axis(middle: float, scale: Scale) -> Markup:
    return Markup(
        '<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>'
        '<line class="chance" x1="{x}" x2="{x}" y1="{y1}" y2="{y2}"/>'
        '<text class="tick" x="{x}" y="{above}" text-anchor="middle">0</text>'
    ).format(
        left=LEFT,
        right=RIGHT,
        y=middle,
        x=position(0.0, scale),
        y1=middle - 15,
        y2=middle + 15,
        above=middle - 19,
    )


def _marks(row: PlotRow, middle: float, scale: Scale, digits: int | None) -> Markup:
    parts = []
    if row.real is not None:
        parts.append(mark(row.real, middle + 6, scale, "real"))
    if row.made is not None:
        parts.append(mark(row.made, middle - 6, scale, "made"))
        places = shared_places(row.made) if digits is None else digits
        parts.append(
            Markup('<text class="value" x="{x}" y="{y}">{value}</text>').format(
                x=RIGHT + 14, y=middle + 5, value=decimal(row.made.value, places)
            )
        )
    return Markup("").join(parts)
