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
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import figures
from analysis import (
    FEWEST_SEEDS,
    LEVEL,
    catching_up,
    curve_sets,
    difference,
    endings,
    half_width,
)
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from measures import MEASURES
from questions import MAIN, NUMBERS, PAPER, QUESTIONS, SIZES, was_run
from records import Run, Study, load
from words import ASKED, SHORT, Words, trained_twice, written

from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    finite,
    listed,
    shared_places,
    significant,
)
from arra_med.store import fingerprint, write_atomic

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TEMPLATE, PAGE, FOLDER, FILMS = "study.md.jinja", "study.md", "study", "films.png"
READING = "reading.md"
BESIDE = (
    "fd_infinity", "density", "view_agreement", "fine_detail", "diversity", "copies",
)  # fmt: skip
FURTHER = (
    "missed_per_100", "invented_per_100", "precision", "recall", "coverage", "view_agreement",
)  # fmt: skip


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
