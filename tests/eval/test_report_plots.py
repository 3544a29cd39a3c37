"""The report's plots: right places, right words, nothing told by colour alone."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from arra_med.eval.formatting import Estimate
from arra_med.eval.plots import LEFT, RIGHT, PlotRow, dot_interval_plot, position, ticks
from arra_med.eval.plots_comparison import difference_plot
from arra_med.eval.plots_fidelity import group_plot, kid_plot, prdc_plot
from arra_med.eval.plots_findings import alignment_plot, auroc_plot, share_plot
from arra_med.eval.plots_privacy import distance_plot
from arra_med.eval.plots_scores import score_plot

CSS = Path(__file__).parents[2] / "eval/templates/report.css"
BAD = '"><script>alert(1)</script>'


def drawn(plot: Markup | None) -> ElementTree.Element:
    assert plot is not None
    element = ElementTree.fromstring(str(plot))
    assert element.get("role") == "img"
    assert element.get("aria-label")
    return element


def words(plot: Markup | None) -> str:
    return str(drawn(plot).get("aria-label"))


def marks(plot: Markup | None, tag: str, kind: str) -> list[ElementTree.Element]:
    return [e for e in drawn(plot).iter(tag) if kind in str(e.get("class")).split()]


def test_places_are_linear_and_stay_on_the_drawing() -> None:
    assert position(0.0, (0.0, 1.0)) == LEFT
    assert position(1.0, (0.0, 1.0)) == RIGHT
    assert position(0.25, (0.0, 1.0)) == LEFT + (RIGHT - LEFT) / 4
    assert position(-3.0, (0.0, 1.0)) == LEFT
    assert position(9.0, (0.0, 1.0)) == RIGHT


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ((0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((0.4, 1.0), ["0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]),
        ((-0.021, 0.021), ["−0.02", "−0.01", "0.00", "0.01", "0.02"]),
        ((0.0, 12.0), ["0", "2", "4", "6", "8", "10", "12"]),
        ((0.0, 2300.0), ["0", "500", "1,000", "1,500", "2,000"]),
    ],
)
def test_ticks_are_round_numbers(scale: tuple[float, float], expected: list[str]) -> None:
    found = ticks(scale)
    assert [label for _, label in found] == expected
    assert all(scale[0] - 1e-9 <= value <= scale[1] + 1e-9 for value, _ in found)


def test_a_dot_and_its_interval_lie_where_the_numbers_say() -> None:
    row = PlotRow(label="A", made=Estimate(value=0.5, low=0.25, high=1.0), real=Estimate(value=0.0))
    plot = dot_interval_plot("Is it so?", [row], scale=(0.0, 1.0))
    middle = (LEFT + RIGHT) / 2
    assert [float(str(e.get("cx"))) for e in marks(plot, "circle", "made")] == [middle]
    (bar,) = marks(plot, "line", "made")
    assert (float(str(bar.get("x1"))), float(str(bar.get("x2")))) == (
        LEFT + (RIGHT - LEFT) / 4,
        RIGHT,
    )
    assert marks(plot, "line", "real") == []  # no interval, no bar
    assert len(marks(plot, "path", "real")) == 1  # another shape, not only another colour
    said = words(plot)
    assert said.startswith("Is it so? A: generated ")
    assert [float(number) for number in re.findall(r"[0-9.]+\d", said)] == [0.5, 0.25, 1.0, 0.0]


def test_every_plot_says_its_numbers_in_words(results: Any) -> None:
    judge, fidelity = results["judges"][0], results["fidelity"][0]
    assert "Pneumothorax: generated 0.630 (0.530 to 0.730)" in words(auroc_plot(results))
    assert "cnn-64: generated to real 0.0213" in words(kid_plot(results))
    assert "Recall: generated 0.440" in words(prdc_plot(fidelity))
    assert "view AP (192 to 96 real)" in words(group_plot(fidelity))
    assert "Fracture" not in words(group_plot(fidelity))  # nothing was measured there
    assert "clip-64: generated 0.580" in words(alignment_plot(results["text"]))
    view = share_plot(
        "Is it?", results["view"]["by_view"], name="view", made="agreement", real="agreement_real"
    )
    assert "AP (192 pictures): generated 0.823" in words(view)
    assert "Asked: 168 generated, 84 real." in words(score_plot(judge["findings"][0]))
    privacy = words(distance_plot(results["memorisation"]["spaces"][0]))
    assert "Threshold 0.110." in privacy
    assert "Generated (600)" in privacy
    assert "Planted copies (600)" in privacy


def test_a_score_histogram_keeps_areas(results: Any) -> None:
    row = results["judges"][0]["findings"][0]
    histogram = row["histogram"]
    plot = score_plot(row)
    heights = [float(str(bar.get("height"))) for bar in marks(plot, "rect", "made")]
    counts = [c for part in ("asked", "excluded") for c in histogram[f"{part}_generated"] if c]
    sizes = [sum(histogram[f"{part}_generated"]) for part in ("asked", "excluded")]
    assert len(heights) == len(counts)
    asked = [c for c in histogram["asked_generated"] if c]
    shares = [c / sizes[0] for c in asked] + [c / sizes[1] for c in counts[len(asked) :]]
    ratio = max(heights) / max(shares)
    assert heights == pytest.approx([ratio * share for share in shares], abs=0.2)
    assert len(marks(plot, "path", "step")) == 2  # real images are an outline, not a colour
    assert score_plot(row | {"histogram": None}) is None


def test_a_difference_is_filled_only_if_chance_is_no_explanation(results: Any) -> None:
    rows = [
        row
        for row in results["comparison"]["differences"]
        if (row["measure"], row["subject"]) == ("auroc", "cnn-judge-64")
    ]
    plot = difference_plot("AUROC", rows, "higher")
    assert len(marks(plot, "circle", "made")) == 2
    assert len(marks(plot, "circle", "open")) == 1
    assert "phantom-llama-arra minus diffusion peer: −0.0100" in words(plot)
    assert "adjusted p 0.800" in words(plot)
    text = [str(e.text) for e in drawn(plot).iter("text")]
    assert "first better →" in text
    lower = [str(e.text) for e in drawn(difference_plot("KID", rows, "lower")).iter("text")]
    assert "← first better" in lower
    tiny = [rows[0] | {"p_adjusted": 0.0}]
    assert "adjusted p < 0.001" in words(difference_plot("AUROC", tiny, None))


def test_without_numbers_there_is_no_plot(results: Any) -> None:
    assert auroc_plot(results | {"judges": []}) is None
    assert kid_plot({"fidelity": [{"extractor": "x", "kid": None}]}) is None
    assert prdc_plot({"extractor": "x"}) is None
    assert group_plot({"extractor": "x", "groups": None}) is None
    assert alignment_plot([]) is None
    assert distance_plot({"name": "x", "histogram": None}) is None
    assert difference_plot("x", [{"difference": None}], "lower") is None


def test_names_are_escaped(results: Any) -> None:
    spaces = results["memorisation"]["spaces"][0] | {"name": BAD}
    finding = results["judges"][0]["findings"][0] | {"finding": BAD}
    rows = [results["comparison"]["differences"][0] | {"first": BAD, "second": BAD}]
    row = PlotRow(label=BAD, made=Estimate(value=0.2), real=None, detail=BAD)
    for plot in (
        distance_plot(spaces),
        score_plot(finding),
        difference_plot(BAD, rows, BAD),
        dot_interval_plot(BAD, [row], lines=((0.0, BAD),), scale=(0.0, 1.0)),
    ):
        assert "<script" not in str(plot)
        assert BAD in words(plot)


def test_colours_have_enough_contrast() -> None:
    css = CSS.read_text(encoding="utf-8")
    colour = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", css))

    def luminance(name: str) -> float:
        channels = [int(colour[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(first: str, second: str) -> float:
        light, dark = sorted((luminance(first), luminance(second)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    text = [(name, f"{name}-tint") for name in ("good", "mixed", "poor", "unknown")]
    text += [("warn", "poor-tint"), ("calm", "tint"), ("hold", "mixed-tint"), ("ink", "tint")]
    text += [("soft", "poor-tint")]  # a plot's numbers on the ground where copies lie
    text += [(name, on) for name in ("ink", "soft", "made", "real") for on in ("paper", "ground")]
    for name, ground in text:
        assert contrast(name, ground) >= 4.5, (name, ground)
    for name in ("made", "real", "unknown", "poor", "rule"):  # marks and lines of plots
        assert contrast(name, "paper") >= 3.0, name
