"""The study's figures: dots and intervals by question, curves by tokens seen.

A figure is made in two steps: its data, numbers and words alone, whose digest is written into the
SVG, and its drawing, the same bytes for the same data and library. Unaligned arms are hollow
diamonds and dashed lines, aligned ones dots and full lines, so that nothing rests on colour alone.
"""

import hashlib
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from analysis import (
    Contrast,
    Line,
    curve,
    difference,
    mean_curve,
    spread,
)
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation
from measures import MEASURES
from questions import MAIN, NUMBERS, PAIR, QUESTIONS, SIZES, Question, was_run
from records import Arm, Run, Study

from arra_med.eval.formatting import Estimate, decimal, finite, shared_places
from arra_med.store import canonical_json

Payload = Mapping[str, Any]

INK, SOFT, GRID = "#17232e", "#4d5b68", "#e3e8ec"
PLAIN, ALIGNED = "#8a5310", "#0a6c85"
_SEVERAL = ((ALIGNED, "o"), ("#7b3f98", "s"), ("#4a7c1f", "^"))  # aligned arms of one panel
MAIN_MEASURES = (
    "fd", "kid", "fd_unlabelled", "auroc", "missed_per_100", "invented_per_100", "side_agreement",
    "text_alignment", "cross_entropy", "precision", "recall", "coverage",
)  # fmt: skip
_WIDTH, _ROW = 9.6, 0.36  # inches
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.left": False,
    "svg.hashsalt": "arra-med study",
    "svg.fonttype": "path",
}
_CURVES = (
    ("fd", "FD"),
    ("auroc", "judge's AUROC"),
    ("side_agreement", "side agreement"),
    ("fd_unlabelled", "FD, second extractor"),
    ("cross_entropy", "validation cross-entropy"),
    ("alignment", "alignment loss in training"),
)
_ARM_CURVES = ("fd", "fd_unlabelled", "side_agreement")
_BLOCKS = 60  # points of a training curve that are drawn
_MARKED = 12  # most points of a line that are drawn as dots


def payloads(study: Study) -> dict[str, Payload]:
    """The data of every figure that has any, by file name."""
    arms = [(arm, label.replace("`", "")) for arm, label in MAIN.arms]
    found: dict[str, Payload] = {
        MAIN.slug: {"panels": [_arms_panel(study, arms, name) for name in MAIN_MEASURES]},
        "curves": {"curves": [row for size in SIZES for row in _curves(study, size)]},
    }
    found["curves-arms"] = {
        "questions": [row for q in QUESTIONS for row in _against_main(study, q)]
    }
    for question in QUESTIONS:
        if not was_run(study, question):
            continue
        arms = [(arm, label.replace("`", "")) for arm, label in question.arms]
        panels = [
            panel
            for name in ("fd", "auroc", "side_agreement", "fd_unlabelled")
            for panel in (
                _arms_panel(study, arms, name),
                _differences_panel(study, question.contrasts, name),
            )
        ]
        found[question.slug] = {"panels": panels}
    return {name: _rounded(payload) for name, payload in found.items() if _drawable(payload)}


def _drawable(payload: Payload) -> bool:
    """Whether there is a mark to draw, and what the figure compares, not one arm alone."""
    panels = payload.get("panels")
    if panels is None:
        return any(payload.values())
    answers = [panel for panel in panels if panel["zero"]] or panels
    return any(len(panel["rows"]) > 1 or panel["zero"] for panel in answers if panel["rows"])


def digest(payload: Payload) -> str:
    """Names a figure's data; stands in its SVG."""
    return f"sha256:{hashlib.sha256(canonical_json(payload).encode()).hexdigest()}"


def not_drawn(folder: Path, drawings: Mapping[str, Payload]) -> Iterator[str]:
    """What of the SVG files in ``folder`` is missing, of other data, or of no figure."""
    for name, payload in drawings.items():
        path = folder / f"{name}.svg"
        if not path.is_file() or digest(payload) not in path.read_text(encoding="utf-8"):
            yield f"{path} was not drawn from these results"
    for path in sorted(folder.glob("*.svg")):
        if path.stem not in drawings:
            yield f"{path} belongs to no figure: delete it"


def draw(payload: Payload, path: Path) -> None:
    """Draw a figure's data as SVG, or as PNG if ``path`` says so."""
    with mpl.rc_context(_STYLE):
        if "panels" in payload:
            figure = _dots(payload["panels"])
        else:
            small = "questions" in payload
            figure = _small(payload["questions"]) if small else _lines(payload["curves"])
        if path.suffix == ".svg":
            FigureCanvasSVG(figure)
            about = {"Date": None, "Creator": None, "Identifier": digest(payload)}
            figure.savefig(path, metadata=about)
        else:
            figure.savefig(path, dpi=130)


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Numbers to six digits: equal results give equal data on every processor."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _mark(label: str, kind: str, by_seed: Mapping[int, float], mean: Estimate) -> dict[str, Any]:
    ends = {"mean": mean.value, "low": mean.low, "high": mean.high}
    return {"label": label, "kind": kind, "seeds": list(by_seed.values()), **ends}


def _arms_panel(study: Study, arms: Sequence[tuple[Arm, str]], measure: str) -> dict[str, Any]:
    rows = []
    for arm, label in arms:
        found = spread(study, arm, measure)
        if found.seeds is not None:
            kind = "plain" if arm[1].endswith("none") else "aligned"
            rows.append(_mark(label, kind, found.by_seed, found.seeds))
    known = MEASURES[measure]
    return {"title": known.title, "zero": False, "most": known.most, "rows": rows}


def _differences_panel(study: Study, contrasts: Sequence[Contrast], measure: str) -> dict[str, Any]:
    rows = []
    for contrast in contrasts:
        found = difference(study, contrast, measure)
        if found.seeds is not None:
            kind = "told" if found.verdict.startswith(("lower", "higher")) else "open"
            label = contrast.label.replace("`", "")
            rows.append(_mark(label, kind, found.by_seed, found.seeds))
    title = f"{MEASURES[measure].label}: difference by seed"
    return {"title": title, "zero": True, "rows": rows}


def _seed_lines(runs: Mapping[int, Run], read: Callable[[Run], Line]) -> dict[str, Any] | None:
    lines = [line for line in map(read, runs.values()) if line[0]]
    return {"seeds": lines, "mean": mean_curve(lines)} if lines else None


def _curves(study: Study, size: str) -> list[dict[str, Any]]:
    """One row of panels for a size, if it has a run."""
    row: dict[str, Any] = {"size": size}
    for name, _ in _CURVES:
        read: Callable[[Run], Line] = partial(curve, measure=name)
        if name == "alignment":
            read = _alignment_curve
        lines = {arm: _seed_lines(study.of((size, arm)), read) for arm in PAIR}
        row[name] = {arm: line for arm, line in lines.items() if line is not None}
    return [row] if row["fd"] or row["cross_entropy"] else []


def _against_main(study: Study, question: Question) -> list[dict[str, Any]]:
    """Curves of a question's further arms and of the two main ones of the same seeds, if any."""
    further = [arm for arm, _ in question.arms if arm[1] not in PAIR and study.of(arm)]
    if not further:
        return []
    seeds = {seed for arm in further for seed in study.of(arm)}
    shown = {name: (further[0][0], name) for name in PAIR} | {arm[1]: arm for arm in further}
    curves: dict[str, Any] = {}
    for measure in _ARM_CURVES:
        read = partial(curve, measure=measure)
        lines = {
            name: _seed_lines(
                {seed: run for seed, run in study.of(other).items() if seed in seeds}, read
            )
            for name, other in shown.items()
        }
        curves[measure] = {name: line for name, line in lines.items() if line is not None}
    return [{"question": question.slug, "curves": curves}]


def _alignment_curve(run: Run) -> Line:
    """The training's alignment loss against tokens seen, thinned; empty without alignment."""
    logged = [(line["tokens"], finite(line.get("alignment"))) for line in run.record["losses"]]
    pairs = [(float(tokens), value) for tokens, value in logged if value is not None]
    return _blocks((tuple(tokens for tokens, _ in pairs), tuple(value for _, value in pairs)))


def _blocks(line: Line) -> Line:
    """Means of consecutive points, at most ``_BLOCKS`` of them."""
    size = -(-len(line[0]) // _BLOCKS) or 1
    cut = [[values[i : i + size] for i in range(0, len(values), size)] for values in line]
    tokens, means = (tuple(sum(block) / len(block) for block in blocks) for blocks in cut)
    return tokens, means


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)


def _dots(panels: Sequence[Payload]) -> Figure:
    """Panels side by side, three in a row, or two if one is of differences.

    Those of one row of panels share their rows' order.
    """
    panels = [panel for panel in panels if panel["rows"]]
    columns = min(2 if any(panel["zero"] for panel in panels) else 3, len(panels))
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(len(panel["rows"]) for panel in line) * _ROW + 0.75 for line in lines]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout=_layout())
    grid = figure.add_gridspec(len(lines), columns, height_ratios=heights)
    for top, line in enumerate(lines):
        shared = [row["label"] for row in line[0]["rows"]]
        for left, panel in enumerate(line):
            axes = figure.add_subplot(grid[top, left])
            own = not left or [row["label"] for row in panel["rows"]] != shared
            _dot_panel(axes, panel, labelled=own)
    return figure


def _dot_panel(axes: Axes, panel: Payload, *, labelled: bool) -> None:
    rows = panel["rows"]
    places = shared_places(Estimate(value=max(abs(row["mean"]) for row in rows)))
    points_up = ScaledTranslation(0, 9 / 72, axes.figure.dpi_scale_trans)
    for place, row in enumerate(rows):
        colour = {"plain": PLAIN, "aligned": ALIGNED}.get(row["kind"], INK)
        filled = row["kind"] in ("aligned", "told")
        shape = "D" if row["kind"] == "plain" else "o"
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=colour, lw=1.6, zorder=2)
        axes.plot(
            row["mean"], place, shape, color=colour, ms=6.5 if shape == "o" else 6, mew=1.5,
            mfc=colour if filled else "white", zorder=4,
        )  # fmt: skip
        axes.plot(
            row["seeds"], [place] * len(row["seeds"]), "|", color=colour, ms=5, mew=1.1, zorder=3,
            transform=axes.transData + points_up,
        )  # fmt: skip
        axes.update_datalim([(seed, place) for seed in row["seeds"]])  # not by plot: transformed
        axes.text(
            1.05, place, decimal(row["mean"], places), va="center", fontsize=8,
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    if panel["zero"]:
        axes.axvline(0, color=SOFT, lw=0.9, ls=(0, (3, 2)), zorder=1)
    else:
        _cut(axes, rows, panel["most"])
    labels = [
        textwrap.fill(row["label"], 27, break_on_hyphens=False) if labelled else "" for row in rows
    ]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.set_title(panel["title"])


def _cut(axes: Axes, rows: Sequence[Payload], most: float | None) -> None:
    """End the axis where the values do, if bars reach beyond: they are cut there."""
    lows = [row["low"] for row in rows if row["low"] is not None]
    if min(lows, default=0) < 0 <= min(min(row["seeds"]) for row in rows):
        axes.set_xlim(left=0)  # no distance is below it
    if most and max(row["high"] or 0 for row in rows) > most:
        axes.set_xlim(right=most)


def _lines(rows: Sequence[Payload]) -> Figure:
    """Six panels for each size, in two rows."""
    figure = Figure(figsize=(_WIDTH, 5.8 * len(rows)), layout=_layout())
    for top, row in enumerate(rows):
        for place, (name, title) in enumerate(_CURVES):
            if not row[name]:
                continue
            axes = figure.add_subplot(2 * len(rows), 3, 6 * top + place + 1)
            _curve_panel(axes, row[name], measure=name)
            axes.set_title(f"{title}, {row['size']}" if len(rows) > 1 else title)
    return figure


def _small(questions: Sequence[Payload]) -> Figure:
    """A row of panels for each question, the two main arms behind its further ones in grey."""
    titles = dict(_CURVES)
    figure = Figure(figsize=(_WIDTH, 2.4 * len(questions)), layout=_layout())
    panels = [(question, measure) for question in questions for measure in _ARM_CURVES]
    for place, (question, measure) in enumerate(panels, start=1):
        if not question["curves"][measure]:
            continue
        axes = figure.add_subplot(len(questions), len(_ARM_CURVES), place)
        _curve_panel(axes, question["curves"][measure], measure=measure, behind=PAIR)
        axes.set_title(f"question {NUMBERS[question['question']]}: {titles[measure]}")
    return figure


def _curve_panel(axes: Axes, lines: Payload, *, measure: str, behind: Sequence[str] = ()) -> None:
    """Thin lines by seed and a thick mean for each arm, named at its end."""
    ends = []
    marked: set[float] = set()
    looks = itertools.cycle(_SEVERAL)
    for arm, line in lines.items():
        plain = (SOFT, "o") if arm in behind else (PLAIN, "D") if arm.endswith("none") else None
        colour, shape = plain or next(looks)
        style = (0, (4, 2)) if arm.endswith("none") else "-"
        if arm not in behind:
            for tokens, values in line["seeds"]:
                axes.plot([t / 1e6 for t in tokens], values, color=colour, lw=0.6, alpha=0.6)
        tokens, values = line["mean"]
        if not tokens:
            continue
        width = 1.1 if arm in behind else 2
        dots = shape if len(tokens) <= _MARKED else ""
        seen = [t / 1e6 for t in tokens]
        marked |= set(seen) if dots else set()
        axes.plot(seen, values, color=colour, lw=width, ls=style, marker=dots, ms=2 + 1.2 * width)
        ends.append((values[-1], arm, colour))
    axes.set_xscale("log")
    scales: list[Axis] = [axes.xaxis]
    if measure.startswith("fd"):
        axes.set_yscale("log")
        scales.append(axes.yaxis)
    for scale in scales:
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter(lambda value, _: f"{value:.2g}" if value < 10 else f"{value:.0f}")
        scale.set_minor_formatter(NullFormatter())
    if marked:
        axes.xaxis.set_major_locator(FixedLocator(sorted(marked)))
        axes.xaxis.set_minor_locator(NullLocator())
    if measure == "side_agreement":
        axes.axhline(0.5, color=SOFT, lw=0.9, ls=(0, (1, 2)))
        axes.text(1.02, 0.5, "chance", va="center", fontsize=8, color=SOFT,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.tick_params(axis="y", labelsize=8, colors=SOFT)
    axes.grid(color=GRID, lw=0.8)
    axes.set_xlabel("million tokens seen", fontsize=8)
    if ends:
        _name_ends(axes, ends)


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names right of the axes at the height of each line's end, kept apart."""
    axes.autoscale_view()
    points = [(1.0, value) for value, _, _ in sorted(ends)]
    wanted = axes.transAxes.inverted().transform(axes.transData.transform(points))[:, 1]
    heights: list[float] = []
    for height in wanted:
        heights.append(max(height, heights[-1] + 0.085) if heights else height)
    moved = sum(heights) / len(heights) - float(wanted.mean())
    moved = max(moved, heights[-1] - 0.98)  # below the title
    for height, (_, arm, colour) in zip(heights, sorted(ends), strict=True):
        axes.text(
            1.02, height - moved, arm, color=colour, va="center", fontsize=8,
            transform=axes.transAxes,
        )  # fmt: skip
