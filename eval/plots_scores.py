"""A judge's scores: four distributions a finding, small enough to stand side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from arra_med.eval.formatting import decimal, finite
from arra_med.eval.plots import position
from arra_med.eval.plots_histogram import bars, outline

SETS = (("asked", "Asked"), ("excluded", "Stated absent"))
"""Parts of a score histogram, and what they are called."""
SMALL_WIDTH, STRIP, GAP = 300, 58, 26
_ENDS = (8.0, 292.0)


def score_plot(row: Mapping[str, Any]) -> Markup | None:
    """One finding's four distributions of the judge's score; ``None`` where none was counted.

    Two strips, pictures that were asked to show the finding and those whose prompt excludes it;
    in each, generated pictures as bars and real ones as an outline, as shares of their own set.
    """
    histogram: Mapping[str, Any] = row.get("histogram") or {}
    edges = [edge for edge in histogram.get("edges") or [] if finite(edge) is not None]
    counts = {
        f"{part}_{side}": _counts(histogram.get(f"{part}_{side}"), len(edges) - 1)
        for part, _ in SETS
        for side in ("generated", "real")
    }
    if len(edges) < 2 or not any(map(sum, counts.values())):
        return None
    shares = {name: [c / (sum(bins) or 1) for c in bins] for name, bins in counts.items()}
    tallest = max(map(max, shares.values()))
    parts, words = [], []
    for index, (part, title) in enumerate(SETS):
        base = GAP + STRIP + index * (STRIP + GAP)
        made, real = f"{part}_generated", f"{part}_real"
        label = f"{title}: {int(sum(counts[made])):,} generated, {int(sum(counts[real])):,} real"
        parts.append(
            Markup('<text class="tick" x="{x}" y="{y}">{label}</text>').format(
                x=_ENDS[0], y=base - STRIP - 8, label=label
            )
        )
        parts.append(bars(edges, shares[made], base, STRIP / tallest, _ENDS))
        parts.append(outline(edges, shares[real], base, STRIP / tallest, _ENDS))
        words.append(f"{label}.")
        words += [_most(name, shares[key], edges) for name, key in (("Gen", made), ("Real", real))]
    bottom = 2 * (GAP + STRIP)
    parts.append(_threshold(row.get("threshold"), (edges[0], edges[-1]), bottom))
    for value, anchor in ((edges[0], "start"), (edges[-1], "end")):
        parts.append(
            Markup(
                '<text class="tick" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
            ).format(
                x=position(value, (edges[0], edges[-1]), _ENDS),
                y=bottom + 15,
                anchor=anchor,
                text=decimal(value, 0),
            )
        )
    return Markup(
        '<svg class="plot small-plot" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="Which scores does the judge give for {finding}? {words}">{parts}</svg>'
    ).format(
        width=SMALL_WIDTH,
        height=bottom + 20,
        finding=row.get("finding"),
        words=" ".join(word for word in words if word),
        parts=Markup("").join(parts),
    )


def _counts(source: Any, length: int) -> list[float]:  # noqa: ANN401 - any JSON value
    values = [finite(value) or 0.0 for value in source or []]
    return values if len(values) == length else [0.0] * max(length, 0)


def _threshold(value: Any, scale: tuple[float, float], bottom: float) -> Markup:  # noqa: ANN401
    threshold = finite(value)
    if threshold is None:
        return Markup("")
    x = position(threshold, scale, _ENDS)
    return Markup(
        '<line class="chance" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
        '<text class="tick" x="{x}" y="{y}" text-anchor="middle">threshold {value}</text>'
    ).format(x=x, top=GAP - 4, bottom=bottom, y=bottom + 15, value=decimal(threshold, 2))


def _most(name: str, shares: Sequence[float], edges: Sequence[float]) -> str:
    """Where most of a set's scores lie, in words."""
    if not any(shares):
        return ""
    place = max(range(len(shares)), key=shares.__getitem__)
    side = {"Gen": "Generated"}.get(name, name)
    return (
        f"{side}: most often between {decimal(edges[place], 1)} and {decimal(edges[place + 1], 1)}."
    )
