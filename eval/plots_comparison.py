"""Differences between generators: dot and interval, filled where chance is no explanation."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from arra_med.eval.formatting import Estimate, finite, shared_places, with_interval
from arra_med.eval.plots import LEFT, RIGHT, Scale, axis, drawing, mark, name_text, wide_scale

ROW, TOP, GAP = 42, 36, 30
CLEAR = 0.05
"""Adjusted p below which a difference is drawn as clear."""


def difference_plot(
    title: str, rows: Sequence[Mapping[str, Any]], aim: str | None
) -> Markup | None:
    """Do two generators differ, and which is better? One measure's differences on one axis.

    Args:
        title: names the measure and what it was measured with.
        rows: of ``comparison.differences``, all of the same measure and subject.
        aim: ``lower`` or ``higher``: which is better; ``None`` if neither is.
    """
    known = [(row, Estimate.read(row.get("difference"))) for row in rows]
    drawn = [(row, difference) for row, difference in known if difference is not None]
    if not drawn:
        return None
    ends = [end for _, d in drawn for end in (d.value, d.low, d.high) if end is not None]
    reach = max(map(abs, wide_scale([0.0, *ends])))
    scale = (-reach, reach)
    bottom = TOP + ROW * len(drawn)
    parts = [axis(scale, ((0.0, "no difference"),), (TOP, bottom)), _sides(aim, bottom)]
    for index, (row, difference) in enumerate(drawn):
        parts.append(_row(row, difference, TOP + ROW * (index + 0.5), scale))
    words = [f"{_pair(row)}: {with_interval(d, None)}, {p_words(row)}." for row, d in drawn]
    question = "do generators differ?" if aim is None else "which generator is better?"
    return drawing(f"{title}: {question}", words, bottom + 26 + GAP, parts)


def is_clear(row: Mapping[str, Any]) -> bool:
    """Whether chance is no likely reason for a difference, counting all comparisons made."""
    p = finite(row.get("p_adjusted"))
    return p is not None and p < CLEAR


def p_words(row: Mapping[str, Any]) -> str:
    """``adjusted p 0.012``; never 0, which no test of finitely many draws can give."""
    p = finite(row.get("p_adjusted"))
    if p is None:
        return "no adjusted p"
    return "adjusted p < 0.001" if p < 0.001 else f"adjusted p {p:.3f}"


def _row(row: Mapping[str, Any], difference: Estimate, y: float, scale: Scale) -> Markup:
    places = shared_places(difference, 2)
    value = with_interval(Estimate(value=difference.value), places).removesuffix(" (no interval)")
    return Markup("").join(
        [
            name_text(str(row.get("first")), LEFT - 14, y - 1),
            name_text(f"− {row.get('second')}", LEFT - 14, y + 14),
            mark(difference, y, scale, "made" if is_clear(row) else "open"),
            Markup(
                '<text class="value" x="{x}" y="{y}">{value}</text>'
                '<text class="tick" x="{x}" y="{below}">{p}</text>'
            ).format(
                x=RIGHT + 8,
                y=y - 1,
                below=y + 14,
                value=value,
                p=p_words(row).replace("adjusted ", ""),
            ),
        ]
    )


def _sides(aim: str | None, bottom: float) -> Markup:
    """Under the axis, at which end the first generator of each pair is better."""
    if aim not in ("lower", "higher"):
        return Markup("")
    left, right = ("first better", "second better")[:: 1 if aim == "lower" else -1]
    text = Markup('<text class="tick" x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>')
    below = bottom + 26 + GAP - 14
    return text.format(x=LEFT, y=below, anchor="start", words=f"← {left}") + text.format(
        x=RIGHT, y=below, anchor="end", words=f"{right} →"
    )


def _pair(row: Mapping[str, Any]) -> str:
    return f"{row.get('first')} minus {row.get('second')}"
