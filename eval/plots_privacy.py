"""Distances to the nearest training picture: a strip a set, one axis, and the threshold."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from arra_med.eval.formatting import decimal, finite, significant
from arra_med.eval.plots import LEFT, RIGHT, axis, drawing, name_text, position
from arra_med.eval.plots_histogram import bars

STRIPS = (
    ("planted", "Planted copies", "must lie left of the line"),
    ("same_patient", "Same patient", "another picture of one person"),
    ("held_out", "Held-out real", "other patients' pictures"),
    ("generated", "Generated", "the pictures tested"),
)
"""Sets in the order in which they are drawn: field, name, what it is."""
STRIP, TOP = 62, 34


def distance_plot(space: Mapping[str, Any]) -> Markup | None:
    """Are generated pictures nearer to training pictures than other real ones are?

    Args:
        space: a row of ``memorisation.spaces``.

    Returns:
        The plot, or ``None`` where no distances were counted.
    """
    histogram: Mapping[str, Any] = space.get("histogram") or {}
    edges = [float(edge) for edge in histogram.get("edges") or [] if finite(edge) is not None]
    rows = [
        (kind, name, meaning, [finite(count) or 0.0 for count in histogram.get(kind) or []])
        for kind, name, meaning in STRIPS
    ]
    rows = [row for row in rows if len(row[3]) == len(edges) - 1 and any(row[3])]
    if not rows:
        return None
    scale, bottom = (edges[0], edges[-1]), TOP + STRIP * len(rows)
    threshold = finite(space.get("threshold"))
    parts = [_copies(threshold, scale, bottom)]
    lines = () if threshold is None else ((threshold, f"threshold {significant(threshold)}"),)
    parts.append(axis(scale, lines, (TOP, bottom)))
    words = [] if threshold is None else [f"Threshold {significant(threshold)}."]
    for index, (kind, name, meaning, counts) in enumerate(rows):
        base = TOP + STRIP * (index + 1) - 6
        shares = [count / sum(counts) for count in counts]
        label = f"{name} ({int(sum(counts)):,})"
        parts += [
            name_text(label, LEFT - 14, base - 18),
            Markup('<text class="tick" x="{x}" y="{y}" text-anchor="end">{text}</text>').format(
                x=LEFT - 14, y=base - 2, text=meaning
            ),
            bars(edges, shares, base, (STRIP - 16) / max(shares), (LEFT, RIGHT), f"of-{kind}"),
        ]
        words.append(f"{label}: half within {decimal(_median_edge(edges, counts), 2)}.")
    title = (
        f"How near are pictures to their nearest training picture? Distances in {space.get('name')}"
    )
    return drawing(title, words, bottom + 26, parts)


def _copies(threshold: float | None, scale: tuple[float, float], bottom: float) -> Markup:
    """The ground on which a picture counts as a copy."""
    if threshold is None:
        return Markup("")
    width = round(position(threshold, scale) - LEFT, 1)
    return Markup('<rect class="copies" x="{x}" y="{y}" width="{w}" height="{h}"/>').format(
        x=LEFT, y=TOP, w=width, h=bottom - TOP
    )


def _median_edge(edges: list[float], counts: list[float]) -> float:
    """The upper end of the bin that holds the middle one."""
    seen = 0.0
    for upper, count in zip(edges[1:], counts, strict=True):
        seen += count
        if 2 * seen >= sum(counts):
            return upper
    return edges[-1]
