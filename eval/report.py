"""The evaluation report: ``results.json`` and its panels become one self-contained HTML file.

The page needs no network, holds its pictures as data URIs, prints on A4, and runs one small
script (table sorting) that is the only one its content security policy lets run. Equal results
give equal bytes.
"""

import base64
import hashlib
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from arra_med.errors import RequestError
from arra_med.eval.caveats import not_checked, where_it_fails, worth
from arra_med.eval.explanations import (
    Results,
    fidelity_measures,
    finding_sentence,
    scored_findings,
    similarity_measures,
)
from arra_med.eval.formatting import Estimate, counted, decimal, finite, interval, percent
from arra_med.eval.plots import auroc_plot, kid_plot, prdc_plot
from arra_med.eval.summary import answers
from arra_med.schema import SCHEMA_VERSION
from arra_med.store import write_atomic

TEMPLATES = Path(__file__).parent / "templates"
RESULTS, REPORT = "results.json", "report.html"
SECTIONS = (
    "status",
    "status_reasons",
    "model",
    "cohort",
    "fidelity",
    "similarity",
    "judge",
    "findings",
    "overall",
    "panels",
    "protocol",
)
"""What ``results.json`` must hold; any of it may be null, none of it may be absent."""

COHORT_FIELDS = "split prompts generated images_per_prompt real patients unreadable views flow"
JUDGE_FIELDS = "name trained_on independent not_independent_because threshold_rule"
PROTOCOL_FIELDS = "seed bootstrap min_positives versions uncertain_labels"
FIDELITY_FIELDS = (
    "extractor dimension trained_on preprocessing independent not_independent_because reference"
)
FINDING_FIELDS = (
    "finding status positives negatives uncertain unknown threshold sensitivity specificity "
    "missed_per_100 invented_per_100 real_missed_per_100 real_invented_per_100 auroc_real "
    "auroc_generated auroc_difference agreement"
)
PANEL_RULES = {
    "random": (
        "Drawn at random",
        "Typical pictures: drawn with the seed in the protocol, not chosen by anybody.",
    ),
    "worst": (
        "Worst by the judge",
        "The pictures whose judged findings are farthest from what was asked.",
    ),
    "best": (
        "Best by the judge",
        "The pictures whose judged findings are nearest to what was asked: not typical.",
    ),
}
_DIGEST = re.compile("[0-9a-f]{12,}")
SHOWN_FROM = 0.5
"""A probability that is listed under a panel when the finding has no threshold of its own."""


def write_report(folder: Path) -> Path:
    """Write ``report.html`` beside ``results.json``.

    Args:
        folder: what ``evaluate`` wrote: ``results.json`` and the pictures that its panels name.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: if the results or a panel's picture are not there.
        RequestError: if the results are not ours, of another version or incomplete, or a panel's
            picture is not a PNG inside the folder.
    """
    results = read_results(folder)
    page = folder / REPORT
    write_atomic(page, render(results, panels(results, folder)).encode())
    return page


def read_results(folder: Path) -> dict[str, Any]:
    """The content of ``results.json``, checked for kind, version and sections.

    Raises:
        FileNotFoundError: if it is not there.
        RequestError: if it is not what ``evaluate`` of this version writes.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run 'arra-med evaluate' first")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RequestError(f"{path} is not JSON: {error}; run 'arra-med evaluate' again") from error
    if not isinstance(results, dict) or results.get("kind") != "evaluation":
        raise RequestError(f"{path} does not hold an evaluation: run 'arra-med evaluate'")
    if results.get("schema_version") != SCHEMA_VERSION:
        raise RequestError(
            f"{path} has schema version {results.get('schema_version')!r}, this version of "
            f"arra_med reads {SCHEMA_VERSION}: run 'arra-med evaluate' again"
        )
    absent = [name for name in SECTIONS if name not in results]
    if absent:
        raise RequestError(f"{path} lacks {', '.join(absent)}: run 'arra-med evaluate' again")
    return results


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture inside the page: a data URI and its true size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the judge says of one finding in the two pictures of a panel."""

    finding: str
    asked: bool
    generated: float | None
    real: float | None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A generated picture beside the real one of the same prompt."""

    number: int
    rule: str
    key: str
    index: int
    view: str | None
    prompt: str
    asked: tuple[str, ...]
    generated: Picture | None
    real: Picture | None
    readings: tuple[Reading, ...]
    num_below: int


def panels(results: Results, folder: Path) -> list[Panel]:
    """The panels with their pictures read.

    Raises:
        FileNotFoundError: if a picture is not there.
        RequestError: if it is not a PNG inside ``folder``.
    """
    thresholds = {row["finding"]: row.get("threshold") for row in results["findings"] or []}
    made = []
    for number, row in enumerate(results["panels"] or [], start=1):
        readings = _readings(row)
        shown = tuple(reading for reading in readings if _notable(reading, thresholds))
        made.append(
            Panel(
                number=number,
                rule=row["rule"],
                key=row["key"],
                index=row["index"],
                view=row.get("view"),
                prompt=row["prompt"],
                asked=tuple(row.get("asked") or ()),
                generated=_picture(folder, row.get("generated")),
                real=_picture(folder, row.get("real")),
                readings=shown,
                num_below=len(readings) - len(shown),
            )
        )
    return made


def render(results: Results, pictures: Sequence[Panel]) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "estimate": Estimate.read,
        "interval": interval,
        "decimal": decimal,
        "finite": finite,
        "percent": percent,
    }
    environment.tests["digest"] = lambda value: bool(_DIGEST.fullmatch(str(value)))
    environment.globals["counted"] = counted
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    results = with_nulls(results)
    fidelity = results["fidelity"] or []
    return environment.get_template("report.html").render(
        r=results,
        cohort=results["cohort"],
        scored=scored_findings(results),
        generator=generator_name(results["model"]),
        min_positives=results["protocol"]["min_positives"],
        answers=answers(results),
        worth=worth(results),
        fails=where_it_fails(results),
        not_checked=not_checked(results),
        findings=[(row, *finding_cells(row, results)) for row in results["findings"] or []],
        fidelity=[(row, fidelity_measures(row), prdc_plot(row)) for row in fidelity],
        similarity=similarity_measures(results),
        auroc_plot=auroc_plot(results),
        kid_plot=kid_plot(results),
        panel_groups=_groups(pictures),
        # This text is ours, from a file of this package, and must not change by a character: the
        # page's policy names its hash.
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def with_nulls(results: Results) -> dict[str, Any]:
    """A copy in which every field that the templates read is there, null where it was absent."""

    def filled(row: Mapping[str, Any] | None, fields: str) -> dict[str, Any]:
        return {**dict.fromkeys(fields.split()), **(row or {})}

    return {
        **dict.fromkeys(("judge_note", "findings_note", "fidelity_note", "similarity_note")),
        **results,
        "cohort": filled(results["cohort"], COHORT_FIELDS),
        "judge": filled(results["judge"], JUDGE_FIELDS) if results["judge"] else None,
        "similarity": filled(results["similarity"], "method") if results["similarity"] else None,
        "protocol": filled(results["protocol"], PROTOCOL_FIELDS),
        "findings": [filled(row, FINDING_FIELDS) for row in results["findings"] or []],
        "fidelity": [filled(row, FIDELITY_FIELDS) for row in results["fidelity"] or []],
    }


def generator_name(model: Mapping[str, Any] | None) -> str:
    """What the page's title calls the generator."""
    for field in ("name", "backbone", "kind"):
        value = (model or {}).get(field)
        if isinstance(value, Mapping):
            value = value.get("name")
        if isinstance(value, str) and value:
            return value
    return "generator without a name"


def finding_cells(
    row: Mapping[str, Any], results: Results
) -> tuple[Estimate | None, Estimate | None, str]:
    """Missed and invented per 100 with their intervals, and the row's sentence.

    The intervals are those of sensitivity and specificity, turned round.
    """
    return (
        _per_100(row.get("missed_per_100"), row.get("sensitivity")),
        _per_100(row.get("invented_per_100"), row.get("specificity")),
        finding_sentence(row, results["protocol"]["min_positives"]),
    )


def _per_100(rate: Any, of_right: Any) -> Estimate | None:  # noqa: ANN401 - any JSON value
    right = Estimate.read(of_right)
    if finite(rate) is None:
        return None
    wrong = None if right is None else right.times(100.0).rest_of(100.0)
    return Estimate(
        value=float(rate),
        low=None if wrong is None else wrong.low,
        high=None if wrong is None else wrong.high,
    )


def _readings(row: Mapping[str, Any]) -> list[Reading]:
    generated: Mapping[str, Any] = row.get("judge_generated") or {}
    real: Mapping[str, Any] = row.get("judge_real") or {}
    asked = list(row.get("asked") or ())
    names = dict.fromkeys([*asked, *generated, *real])
    return [
        Reading(
            finding=name,
            asked=name in asked,
            generated=finite(generated.get(name)),
            real=finite(real.get(name)),
        )
        for name in names
    ]


def _notable(reading: Reading, thresholds: Mapping[str, Any]) -> bool:
    limit = finite(thresholds.get(reading.finding))
    least = SHOWN_FROM if limit is None else limit
    return reading.asked or any((p or 0.0) >= least for p in (reading.generated, reading.real))


def _groups(pictures: Sequence[Panel]) -> list[tuple[str, str, list[Panel]]]:
    order = [*PANEL_RULES, *dict.fromkeys(panel.rule for panel in pictures)]
    groups = []
    for rule in dict.fromkeys(order):
        chosen = [panel for panel in pictures if panel.rule == rule]
        title, meaning = PANEL_RULES.get(rule, (rule, "Chosen by the rule of this name."))
        if chosen:
            groups.append((title, meaning, chosen))
    return groups


def _picture(folder: Path, name: str | None) -> Picture | None:
    if name is None:
        return None
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RequestError(f"{folder / RESULTS} names a picture outside its folder: {name!r}")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is named in {RESULTS} but is not there: run 'arra-med evaluate' again"
        )
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        raise RequestError(f"{path} is not a PNG picture: run 'arra-med evaluate' again")
    width, height = struct.unpack(">II", data[16:24])
    return Picture(
        uri=f"data:image/png;base64,{base64.b64encode(data).decode()}", width=width, height=height
    )
