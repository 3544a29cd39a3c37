"""Write docs/study.md and its figures from the study's raw results, or check that they still agree.

    python scripts/study/document.py            # writes docs/study.md and docs/study/*.svg
    python scripts/study/document.py --check    # exit status 1 if either says something else

Every number and every verdict comes from the results (``analysis``) or from the table of the
paper's figures (``questions``); ``study.md.jinja`` holds the words between them. What a reader
makes of the results is written by hand, in ``reading.md`` beside them: its first line names the
results it is about, and it is left out if they have changed since.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import figures
from analysis import (
    FEWEST_SEEDS,
    LEVEL,
    Contrast,
    Difference,
    Spread,
    catching_up,
    curve_sets,
    difference,
    endings,
    half_width,
    spread,
    twice,
    unpaired,
)
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from measures import MEASURES
from questions import MAIN, NUMBERS, PAIR, PAPER, QUESTIONS, SIZES, Theirs, was_run
from records import Arm, Run, Study, load

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
from arra_med.schema import CHEXPERT_LABELS
from arra_med.store import fingerprint, write_atomic

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TEMPLATE, PAGE, FOLDER, FILMS = "study.md.jinja", "study.md", "study", "films.png"
READING = "reading.md"
NOT_RUN, NOTHING = "not yet run", "–"
BESIDE = (
    "fd_infinity", "density", "view_agreement", "fine_detail", "diversity", "copies",
)  # fmt: skip
SHORT = ("fd", "fd_unlabelled", "auroc", "side_agreement", "text_alignment", "cross_entropy")
FURTHER = (
    "missed_per_100", "invented_per_100", "precision", "recall", "coverage", "view_agreement",
)  # fmt: skip
ASKED = ("fd", "auroc", "side_agreement")
"""What the answers at the top are about."""


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

    def counted_seeds(self, arm: Arm) -> str:
        """``3 seeds``."""
        found = len(self.study.of(arm))
        return counted(found, "seed") if found else NOT_RUN

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

    def unpaired(self, contrast: Contrast) -> str:
        """Intervals of what is asked first as if seeds were not paired; empty if there is none."""
        found = {measure: unpaired(self.study, contrast, measure) for measure in ASKED}
        return listed([
            f"{MEASURES[measure].label} {interval(one, self.places(measure) + 1)}"
            for measure, one in found.items() if one is not None
        ])  # fmt: skip

    def excluding(self) -> int:
        """How many of the intervals told do not hold 0."""
        verdicts = [self.verdict(contrast, measure) for contrast, measure in self.told]
        return sum(word.startswith(("lower", "higher")) for word in verdicts)

    def verdict(self, contrast: Contrast, measure: str) -> str:
        """What the interval says, in words."""
        return difference(self.study, contrast, measure).verdict

    def diagnosed(self) -> str:
        """How many pictures models were looked into with."""
        return listed(
            sorted({str(run.record["diagnosis"]["samples"]) for run in self.study.every_run})
        )

    def inside(self, arm: Arm, name: str, *, last: bool = True) -> str:
        """Mean over seeds of what was measured on an arm's first or last checkpoint.

        Args:
            arm: any.
            name: ``prompt`` for the nats a picture that the prompt saves; of an aligned arm also
                ``ratio`` of the weighted alignment term's gradient to that of cross-entropy, their
                ``cosine``, or the alignment ``loss`` on the validation split.
            last: at the last point rather than at the first.
        """
        values = []
        for run in self.study.of(arm).values():
            evaluated = run.points[-1 if last else 0]
            step, codes = evaluated["step"], evaluated["tokens"] / evaluated["samples"]
            found = run.record["diagnosis"]
            point = next(point for point in found["points"] if point["step"] == step)
            pull = point["pull"]
            if name == "prompt":
                values.append(codes * (point["dropped"] - point["prompted"]))
            elif pull is None:
                return NOTHING
            elif name == "loss":
                lines = run.record["validation"]
                values.append(next(line["alignment"] for line in lines if line["step"] == step))
            elif name == "ratio":
                values.append(found["weight"] * pull["alignment"] / pull["cross_entropy"])
            else:
                values.append(pull[name])
        return decimal(sum(values) / len(values))

    def findings(self, arms: Sequence[Arm]) -> list[str]:
        """Findings that any run of the arms was judged by, in the schema's order."""
        runs = [run for arm in arms for run in self.study.of(arm).values()]
        judged = {name for run in runs for name in run.record["findings"]}
        return [name for name in CHEXPERT_LABELS if name in judged]

    def finding(self, arm: Arm, name: str, key: str) -> str:
        """Mean over seeds of a finding's final ``auroc`` or ``side``."""
        values = [
            value
            for run in self.study.of(arm).values()
            if (value := run.record["findings"].get(name, {}).get(key)) is not None
        ]
        return decimal(sum(values) / len(values)) if values else NOTHING

    def pairs(self, contrast: Contrast) -> str:
        """How many seeds a contrast has."""
        return str(len(difference(self.study, contrast, "fd").by_seed) or NOTHING)

    def repeated(self, contrasts: Sequence[Contrast]) -> list[Contrast]:
        """Those that have an interval: more than one seed."""
        return [one for one in contrasts if len(difference(self.study, one, "fd").by_seed) > 1]

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
        if row.contrast is None or row.lower is None:
            return NOTHING
        ours = self.verdict(row.contrast, row.measure)
        direction = ours.partition(" (")[0]
        if direction not in ("lower", "higher"):
            return ours
        theirs = "lower" if row.lower else "higher"
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


def results_id(study: Study) -> str:
    """Names all that was measured."""
    points = {run.path.stem: run.record["points"] for run in study.every_run}
    return fingerprint({"points": points, "setup": study.setup, "choice": study.choice})


def reading(results: Path, study: Study) -> str:
    """What was written by hand about these results; empty, with a word on stderr, if of others."""
    path = results / READING
    if not path.is_file():
        return ""
    first, _, text = path.read_text("utf-8").partition("\n")
    wanted = f"<!-- about results {results_id(study)} -->"
    if first == wanted:
        return text.strip()
    print(f"{path} is not about these results; its first line would be\n{wanted}", file=sys.stderr)
    return ""


def page(study: Study, drawn: Collection[str], *, films: bool, read: str = "") -> str:
    """The document's text, with the figures that are ``drawn`` and what was made of the results."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    runs, words = study.every_run, Words(study)
    text = environment.get_template(TEMPLATE).render(
        words=words, study=study, references=references(study.setup),
        known=known_value, facts=facts, decimal=decimal, million=million, counted=counted,
        listed=listed, catching_up=catching_up, was_run=was_run,
        questions=QUESTIONS, main=MAIN, numbers=NUMBERS, paper=PAPER, sizes=SIZES,
        main_measures=figures.MAIN_MEASURES, beside=BESIDE, short=SHORT,
        further=FURTHER, answers=ASKED,
        answer_titles=[MEASURES[name].title for name in ASKED], measures=MEASURES,
        level=LEVEL, reaches={n: half_width(n) for n in (FEWEST_SEEDS, 5)},
        most_seeds=max(
            len(difference(study, contrast, "fd").by_seed)
            for question in QUESTIONS for contrast in question.contrasts
        ),
        largest=max(run.record["parameters"] for run in runs),
        endings=endings(study), curve_sets=curve_sets(study),
        twice=trained_twice(study, words.places),
        devices=sorted({run.record[where] for run in runs for where in ("device", "evaluated_on")}),
        mean_seconds=mean_seconds,
        versions=sorted({f"{k} {v}" for run in runs for k, v in run.record["versions"].items()}),
        drawn=drawn, films=films, read=read, folder=FOLDER,
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", text)


def trained_twice(study: Study, places: Callable[[str], int]) -> list[list[str]]:
    """Rows of what was trained twice: of each arm, then of the main arms' difference."""
    sizes, (plain, aligned) = ("small", "longer"), PAIR
    both = twice(study, *sizes)
    rows = []
    for arm in sorted({arm for _, arm in both.runs}):
        values = {name: [spread(both, (size, arm), name) for size in sizes] for name in SHORT}
        rows += _by_seed(f"`{arm}`", values, places)
    label = f"`{aligned}` − `{plain}`"
    contrasts = [
        Contrast(label=label, plus=((size, aligned),), minus=((size, plain),)) for size in sizes
    ]
    gaps = {name: [difference(both, one, name) for one in contrasts] for name in SHORT}
    return rows + _by_seed(label, gaps, lambda name: places(name) + 1)


def _by_seed(
    label: str,
    values: Mapping[str, Sequence[Spread | Difference]],
    places: Callable[[str], int],
) -> list[list[str]]:
    """A row for each seed and one for their mean; a cell holds all of a measure's values."""
    columns = {
        name: [
            {**one.by_seed, "mean": one.seeds.value} if one.seeds is not None else {}
            for one in found
        ]
        for name, found in values.items()
    }
    seeds = {seed for found in values.values() for one in found for seed in one.by_seed}
    rows: list[int | str] = [*sorted(seeds), *(["mean"] if seeds else [])]

    def cell(name: str, row: int | str) -> str:
        known = [one.get(row) for one in columns[name]]
        return ", ".join(NOTHING if v is None else decimal(v, places(name)) for v in known)

    return [[label, str(row), *(cell(name, row) for name in values)] for row in rows]


def mean_seconds(runs: Iterable[Run], stage: str) -> float | None:
    """Of runs whose evaluation was on the machine that trained them, if it is asked for."""
    seconds = [
        float(run.record["seconds"][stage])
        for run in runs
        if stage != "evaluate" or run.record["evaluated_on"] == run.record["device"]
    ]
    return statistics.fmean(seconds) if seconds else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--results", type=Path, help="what run.py wrote (default: the repository's)")
    add("--docs", type=Path, help="where the page goes (default: the repository's)")
    add("--check", action="store_true", help="write nothing; 1 if out of date")
    options = parser.parse_args(arguments)
    if options.results and not options.docs:
        parser.error("--results needs --docs: the repository's page is about its own results")
    options.results = options.results or HERE / "results"
    options.docs = options.docs or ROOT / "docs"
    try:
        study = load(options.results)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for name, there in (("setup", study.setup), ("choice", study.choice)):
        if not there:
            print(f"{options.results} has no {name}.json: the page says less", file=sys.stderr)
    drawings = figures.payloads(study)
    films = (options.docs / FOLDER / FILMS).is_file()
    text = page(study, drawings, films=films, read=reading(options.results, study))
    if options.check:
        wrong = list(figures.not_drawn(options.docs / FOLDER, drawings))
        path = options.docs / PAGE
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            wrong.append(f"{path} is not what the results give")
        print("\n".join(wrong) or "the document agrees with the results", file=sys.stderr)
        return 1 if wrong else 0
    try:
        (options.docs / FOLDER).mkdir(parents=True, exist_ok=True)
        write_atomic(options.docs / PAGE, text.encode())
        for name, payload in drawings.items():
            figures.draw(payload, options.docs / FOLDER / f"{name}.svg")
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    print(options.docs / PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
