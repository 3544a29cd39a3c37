"""Histograms as inline SVG: filled bars for one set, an outline for another drawn over it."""

from collections.abc import Sequence

from markupsafe import Markup

from arra_med.eval.plots import position


def bars(
    edges: Sequence[float],
    heights: Sequence[float],
    base: float,
    unit: float,
    ends: tuple[float, float],
    kind: str = "made",
) -> Markup:
    """A histogram as filled bars standing on ``base``; ``unit`` is SVG units a height of 1."""
    scale = (edges[0], edges[-1])
    drawn = [
        Markup('<rect class="bar {kind}" x="{x}" y="{y}" width="{w}" height="{h}"/>').format(
            kind=kind,
            x=position(left, scale, ends),
            y=round(base - unit * height, 1),
            w=round(position(right, scale, ends) - position(left, scale, ends) - 1, 1),
            h=round(unit * height, 1),
        )
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True)
        if height
    ]
    line = Markup('<line class="base" x1="{a}" x2="{b}" y1="{y}" y2="{y}"/>')
    return Markup("").join([*drawn, line.format(a=ends[0], b=ends[1], y=base)])


def outline(
    edges: Sequence[float],
    heights: Sequence[float],
    base: float,
    unit: float,
    ends: tuple[float, float],
) -> Markup:
    """A histogram as a line of steps."""
    scale = (edges[0], edges[-1])
    steps = [f"M{position(edges[0], scale, ends)} {base}"]
    for right, height in zip(edges[1:], heights, strict=True):
        steps.append(f"V{round(base - unit * height, 1)}H{position(right, scale, ends)}")
    return Markup('<path class="step" d="{d}"/>').format(d="".join([*steps, f"V{base}"]))
