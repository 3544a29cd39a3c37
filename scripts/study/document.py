"""Write docs/study.md and its figures from the study's raw results, or check that they still agree.

    python scripts/study/document.py            # writes docs/study.md and docs/study/*.svg
    python scripts/study/document.py --check    # exit status 1 if either says something else

Every number and every verdict comes from the results (``analysis``) or from the table of the
paper's figures below; ``study.md.jinja`` holds the words between them.
"""

import argparse
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import figures
from analysis import (
    FEWEST_SEEDS,
    LEVEL,
    Arm,
    Contrast,
    Question,
    Study,
    catching_up,
    curve_sets,
    difference,
    endings,
    half_width,
    load,
    spread,
)
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from measures import MEASURES

from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    finite,
    interval,
    listed,
    shared_places,
    significant,
)
from arra_med.store import write_atomic

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TEMPLATE, PAGE, FOLDER, FILMS = "study.md.jinja", "study.md", "study", "films.png"
NOT_RUN, NOTHING = "not yet run", "–"
SIZES = {
    "small": "Small model",
    "large": "Large model",
    "longer": "Small model, trained twice as long",
}
BESIDE = (
    "fd_unlabelled", "fd_infinity", "density", "coverage", "side_agreement", "view_agreement",
    "fine_detail", "diversity", "copies",
)  # fmt: skip
SHORT = ("fd", "fd_unlabelled", "auroc", "side_agreement", "text_alignment", "cross_entropy")


def _small(*arms: tuple[str, str]) -> tuple[tuple[Arm, str], ...]:
    return tuple((("small", arm), f"`{arm}`: {label}") for arm, label in arms)


def _less(arm: str, other: str, size: str = "small") -> Contrast:
    where = "" if size == "small" else f", {size}"
    return Contrast(
        label=f"`{arm}` − `{other}`{where}", plus=((size, arm),), minus=((size, other),)
    )


def _gain(first: tuple[str, str], second: tuple[str, str], sizes: tuple[str, str]) -> Contrast:
    """How much more the aligned arm of ``first`` differs from its unaligned one than of ``second``.

    Each pair is (aligned, unaligned), and each size belongs to one.
    """
    (aligned, plain), (aligned_2, plain_2) = first, second
    names = [f"(`{a}` − `{b}`)" for a, b in (first, second)]
    if sizes[0] != sizes[1]:
        names = [f"{name} {size}" for name, size in zip(names, sizes, strict=True)]
    return Contrast(
        label=f"{names[0]} − {names[1]}",
        plus=((sizes[0], aligned), (sizes[1], plain_2)),
        minus=((sizes[0], plain), (sizes[1], aligned_2)),
    )


def _pairs(*sizes: str) -> tuple[tuple[Arm, str], ...]:
    """The two main arms at some sizes."""
    return tuple(((size, arm), f"`{arm}`, {size}") for size in sizes for arm in ("none", "hybnext"))


_PLAIN = ("none", "no alignment")
_PAIR = ("hybnext", "none")
MAIN = Question(
    slug="main",
    title="Does alignment help?",
    arms=_pairs("small", "large"),
    contrasts=(_less(*_PAIR, "small"), _less(*_PAIR, "large")),
)
QUESTIONS = (
    Question(
        slug="span",
        title="Which positions are aligned: all image codes, or one token before them?",
        arms=_small(_PLAIN, ("rep", "one token"), ("hybnext", "every code")),
        contrasts=(_less("rep", "none"), _less("hybnext", "none"), _less("rep", "hybnext")),
    ),
    Question(
        slug="layer",
        title="At which layer?",
        arms=_small(
            _PLAIN, ("hybnext", "first"), ("layer-middle", "middle"), ("layer-late", "late")
        ),
        contrasts=(_less("layer-middle", "hybnext"), _less("layer-late", "hybnext")),
    ),
    Question(
        slug="aggregation",
        title="Which vector of the teacher: its class token, or the mean over patches?",
        arms=_small(_PLAIN, ("hybnext", "class token"), ("mean", "mean")),
        contrasts=(_less("mean", "hybnext"),),
    ),
    Question(
        slug="weight",
        title="How heavy is the alignment term (λ)?",
        arms=_small(
            ("none", "λ 0"),
            ("lambda-0.1", "λ 0.1"),
            ("lambda-0.5", "λ 0.5"),
            ("hybnext", "λ 1"),
            ("lambda-2", "λ 2"),
        ),
        contrasts=(
            _less("lambda-0.1", "none"),
            _less("lambda-0.1", "hybnext"),
            _less("lambda-0.5", "hybnext"),
            _less("lambda-2", "hybnext"),
        ),
    ),
    Question(
        slug="objective",
        title="Cosine or squared distance?",
        arms=_small(_PLAIN, ("hybnext", "cosine"), ("mse", "squared distance")),
        contrasts=(_less("mse", "hybnext"),),
    ),
    Question(
        slug="teacher",
        title="What must the teacher have learned from: text, pictures alone, or known findings?",
        arms=_small(
            _PLAIN,
            ("hybnext", "text"),
            ("vision-only", "pictures alone"),
            ("supervised", "known findings"),
        ),
        contrasts=(
            _less("vision-only", "hybnext"),
            _less("vision-only", "none"),
            _less("supervised", "hybnext"),
            _less("supervised", "none"),
        ),
    ),
    Question(
        slug="start",
        title="Does it matter where training starts: at random, or from a model of text?",
        arms=_small(
            ("none", "random, no alignment"),
            ("hybnext", "random, aligned"),
            ("text-first-none", "text, no alignment"),
            ("text-first-hybnext", "text, aligned"),
        ),
        contrasts=(
            _less("text-first-hybnext", "text-first-none"),
            _gain(("text-first-hybnext", "text-first-none"), _PAIR, ("small", "small")),
        ),
    ),
    Question(
        slug="size",
        title="Does alignment help a larger model as much?",
        arms=MAIN.arms,
        contrasts=(*MAIN.contrasts, _gain(_PAIR, _PAIR, ("large", "small"))),
    ),
    Question(
        slug="budget",
        title="Does the difference last when training goes on?",
        arms=_pairs("small", "longer"),
        contrasts=(
            _less(*_PAIR, "small"),
            _less(*_PAIR, "longer"),
            _gain(_PAIR, _PAIR, ("longer", "small")),
        ),
    ),
)
NUMBERS = {"main": 1, "curves": 2} | {q.slug: n for n, q in enumerate(QUESTIONS, start=3)}
NUMBERS["pull"] = len(NUMBERS) + 1


class Theirs(NamedTuple):
    """A comparison in the paper (arXiv 2503.07334 v4) and what asks the same here.

    Attributes:
        table: of the paper.
        compares: what against what.
        values: its two figures, FID unless ``measure`` says other; ``None`` if none is noted.
        question: slug of ours; or, without a contrast, why nothing here asks it.
        contrast: ours.
        measure: ours.
    """

    table: str
    compares: str
    values: tuple[float, float] | None
    question: str
    contrast: Contrast | None = None
    measure: str = "fd"


_UNALIGNED = "ARRA, Chameleon without alignment"
_TEXT_FIRST = _less("text-first-hybnext", "text-first-none")
_ADAPT = "no start from a model that draws already"
PAPER = (
    Theirs("MIMIC-CXR, main", _UNALIGNED, (5.30, 7.11), "start", _TEXT_FIRST),
    Theirs("the same, CLIP-Score", _UNALIGNED, (0.4532, 0.4460), "start", _TEXT_FIRST,
           "text_alignment"),
    Theirs("variant `base`", "with, without alignment", None, "main", _less(*_PAIR)),
    Theirs("MIMIC-CXR, main: `adapt`", "with, without alignment", (4.15, 5.10), _ADAPT),
    Theirs("DeepEyeNet", _UNALIGNED, (35.01, 38.37), "no second kind of picture"),
    Theirs("DeepEyeNet: `adapt`", "ARRA-Adapt, ARRA", (34.70, 35.01), _ADAPT),
    Theirs("REP or HYBNEXT", "REP, HYBNEXT", (6.26, 5.30), "span", _less("rep", "hybnext")),
    Theirs("the same, `adapt`", "REP, HYBNEXT", (4.85, 4.15), _ADAPT),
    Theirs("aggregation", "mean, class token", (6.56, 5.30), "aggregation",
           _less("mean", "hybnext")),
    Theirs("aggregation", "both, class token", (5.93, 5.30), "both together are not tried"),
    Theirs("teacher", "MedSAM (no text), BioMedCLIP", (6.54, 5.30), "teacher",
           _less("vision-only", "hybnext")),
    Theirs("teacher", "CLIP-L, BioMedCLIP", (5.16, 5.30), "no teacher from other pictures"),
    Theirs("teacher: `adapt`", "MedSAM (no text), BioMedCLIP", (4.08, 4.15), _ADAPT),
    Theirs("teacher: `adapt`", "CLIP-L, BioMedCLIP", (4.63, 4.15), _ADAPT),
    Theirs("projector", "pool, MLP", (5.37, 5.30), "one projector"),
    Theirs("objective", "MSE, cosine", (5.32, 5.30), "objective", _less("mse", "hybnext")),
    Theirs("λ", "0.5, 1", (6.22, 5.30), "weight", _less("lambda-0.5", "hybnext")),
    Theirs("λ", "0.8, 1", (5.38, 5.30), "not tried"),
    Theirs("λ", "1.5, 1", (5.87, 5.30), "not tried"),
    Theirs("λ", "2, 1", (6.12, 5.30), "weight", _less("lambda-2", "hybnext")),
    Theirs("layer", "5, 1", (6.21, 5.30), "not tried"),
    Theirs("layer", "20, 1", (5.70, 5.30), "layer", _less("layer-middle", "hybnext")),
    Theirs("layer", "30, 1", (5.04, 5.30), "not tried"),
    Theirs("layer", "31, 1", (5.71, 5.30), "layer", _less("layer-late", "hybnext")),
    Theirs("resolution 256", "with, without alignment", (6.11, 9.42), "one resolution"),
)  # fmt: skip


class Words:
    """What the template asks of the results: every cell of every table, as text.

    Args:
        study: the results.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.told: set[tuple[Contrast, str]] = set()

    def places(self, measure: str) -> int:
        """Decimals that show three digits of the smallest final mean of a measure."""
        means = [spread(self.study, arm, measure).seeds for arm in self.study.runs]
        sizes = [abs(mean.value) for mean in means if mean is not None and mean.value]
        return shared_places(Estimate(value=min(sizes))) if sizes else 2

    def has(self, arms: Sequence[Arm], measure: str) -> bool:
        """Whether a final point of any of the arms has the measure."""
        return any(spread(self.study, arm, measure).by_seed for arm in arms)

    def seeds(self, arm: Arm) -> str:
        """How many seeds of an arm there are."""
        return str(len(self.study.of(arm)) or NOT_RUN)

    def value(self, arm: Arm, measure: str) -> str:
        """Mean over seeds and its interval, and the number of seeds if some lack the measure."""
        seeds = spread(self.study, arm, measure).seeds
        if seeds is None:
            return NOTHING if self.study.of(arm) else NOT_RUN
        few = "" if seeds.n == len(self.study.of(arm)) else f", {counted(seeds.n, 'seed')}"
        return written(seeds, self.places(measure)) + few

    def pictures(self, arm: Arm, measure: str) -> str:
        """The interval over pictures, averaged over seeds."""
        own = spread(self.study, arm, measure).pictures
        return interval(own, self.places(measure)) or NOTHING

    def gap(self, contrast: Contrast, measure: str) -> str:
        """The paired difference with its interval; every interval told is counted."""
        seeds = difference(self.study, contrast, measure).seeds
        if seeds is None:
            return NOTHING
        if seeds.low is not None:
            self.told.add((contrast, measure))
        return written(seeds, self.places(measure) + 1)

    def verdict(self, contrast: Contrast, measure: str) -> str:
        """What the interval says, in words."""
        return difference(self.study, contrast, measure).verdict

    def pull(self, arm: Arm, name: str, *, last: bool = True) -> str:
        """Mean over seeds of what was measured on an aligned arm's first or last checkpoint.

        Args:
            arm: aligned.
            name: ``ratio`` of the weighted alignment term's gradient to that of cross-entropy,
                their ``cosine``, or the alignment ``loss`` on the validation split.
            last: at the last point rather than at the first.
        """
        values = []
        for run in self.study.of(arm).values():
            at = run.points[-1 if last else 0]["step"]
            found = run.record["gradients"]
            point = next(point for point in found["points"] if point["step"] == at)
            if name == "loss":
                lines = run.record["validation"]
                values.append(next(line["alignment"] for line in lines if line["step"] == at))
            elif name == "ratio":
                values.append(found["weight"] * point["alignment"] / point["cross_entropy"])
            else:
                values.append(point[name])
        return decimal(sum(values) / len(values))

    def pairs(self, contrast: Contrast) -> str:
        """How many seeds a contrast has."""
        return str(len(difference(self.study, contrast, "fd").by_seed) or NOTHING)

    def verdicts(self, contrast: Contrast, measures: Sequence[str]) -> dict[str, str]:
        """Measures by verdict, in words: ``{"lower (better)": "FD and KID"}``."""
        found: dict[str, list[str]] = {}
        for measure in measures:
            if difference(self.study, contrast, measure).seeds is not None:
                found.setdefault(self.verdict(contrast, measure), []).append(
                    MEASURES[measure].label
                )
        return {verdict: listed(labels) for verdict, labels in found.items()}

    def agreement(self, row: Theirs) -> str:
        """Whether our difference has the direction of the paper's."""
        if row.contrast is None or row.values is None:
            return NOTHING
        ours = self.verdict(row.contrast, row.measure)
        direction = ours.partition(" (")[0]
        if direction not in ("lower", "higher"):
            return ours
        theirs = "lower" if row.values[0] < row.values[1] else "higher"
        return "same" if direction == theirs else "opposite"


def written(estimate: Estimate, places: int) -> str:
    """``3.10 (2.90 to 3.30)``, or the value alone where there is no interval."""
    ends = interval(estimate, places)
    return decimal(estimate.value, places) + (f" ({ends})" if ends else "")


def million(count: float) -> str:
    """``16.4 M``."""
    return f"{significant(count / 1e6)} M"


def references(setup: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Measures of what the generators are held against, by its name in ``setup.json``."""
    return dict(setup.get("reference") or {})


def known_value(source: Any) -> str:  # noqa: ANN401 - any JSON value
    """A number in three digits, with its interval if it has one; a word as it is."""
    estimate = Estimate.read(source)
    if estimate is not None:
        return written(estimate, shared_places(estimate))
    number = finite(source)
    if number is None:
        return source if isinstance(source, str) else "not recorded"
    return f"{number:,.0f}" if number == int(number) else significant(number)


def facts(source: Mapping[str, Any] | None, depth: int = 2, name: str = "") -> str:
    """Numbers of a nested mapping with their names, down to some depth; what lies deeper is not."""
    words = []
    for key, value in (source or {}).items():
        full = f"{name} {key}".strip().replace("_", " ")
        if not isinstance(value, Mapping) or "value" in value:
            words.append(f"{full} {known_value(value)}")
        elif depth > 1:
            words.append(facts(value, depth - 1, full))
    return ", ".join(filter(None, words)) or "not recorded"


def page(study: Study, drawn: Collection[str], *, films: bool) -> str:
    """The document's text, with the figures that are ``drawn``."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    runs = [run for seeds in study.runs.values() for run in seeds.values()]
    text = environment.get_template(TEMPLATE).render(
        words=Words(study), study=study, references=references(study.setup),
        known=known_value, facts=facts, decimal=decimal, million=million, counted=counted,
        listed=listed, catching_up=catching_up,
        questions=QUESTIONS, main=MAIN, numbers=NUMBERS, paper=PAPER, sizes=SIZES,
        main_measures=figures.MAIN_MEASURES, beside=BESIDE, short=SHORT, measures=MEASURES,
        fewest=FEWEST_SEEDS, level=LEVEL, reaches={n: half_width(n) for n in (FEWEST_SEEDS, 5)},
        most_seeds=max(map(len, study.runs.values())),
        largest=max(run.record["parameters"] for run in runs),
        endings=endings(study), curve_sets=curve_sets(study),
        devices=sorted({run.record["device"] for run in runs}),
        versions=sorted({f"{k} {v}" for run in runs for k, v in run.record["versions"].items()}),
        drawn=drawn, films=films, folder=FOLDER,
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    options = parser.parse_args(arguments)
    try:
        study = load(options.results)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    drawings = figures.payloads(study, MAIN, QUESTIONS, tuple(SIZES))
    text = page(study, drawings, films=(options.docs / FOLDER / FILMS).is_file())
    if options.check:
        wrong = list(figures.not_drawn(options.docs / FOLDER, drawings))
        path = options.docs / PAGE
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            wrong.append(f"{path} is not what the results give")
        print("\n".join(wrong) or "the document agrees with the results", file=sys.stderr)
        return 1 if wrong else 0
    (options.docs / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomic(options.docs / PAGE, text.encode())
    for name, payload in drawings.items():
        figures.draw(payload, options.docs / FOLDER / f"{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
