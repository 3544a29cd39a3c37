"""The evaluation report: ``results.json`` and its panels become one self-contained HTML file.

The page needs no network, holds its pictures as data URIs, prints on A4, and runs one small
script (table sorting) that is the only one its content security policy lets run. Equal results
give equal bytes. Sample keys stay out of the page unless they are asked for.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from arra_med.errors import RequestError
from arra_med.eval.explanations import Results
from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    finite,
    interval,
    percent,
    shared_places,
    significant,
)
from arra_med.eval.report_content import content
from arra_med.eval.report_pictures import Panel, panel_groups, panels
from arra_med.eval.report_shape import SECTIONS, with_nulls
from arra_med.schema import SCHEMA_VERSION
from arra_med.store import write_atomic

TEMPLATES = Path(__file__).parent / "templates"
RESULTS, REPORT = "results.json", "report.html"
_DIGEST = re.compile("[0-9a-f]{12,}")


def write_report(folder: Path, *, show_keys: bool = False) -> Path:
    """Write ``report.html`` beside ``results.json``.

    Args:
        folder: what ``evaluate`` wrote: ``results.json`` and the pictures that its panels name.
        show_keys: whether the page names samples by their keys, which may hold a data set's
            patient numbers; without it, panels have numbers only.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: if the results or a panel's picture are not there.
        RequestError: if the results are not ours, of another version or incomplete, or a panel's
            picture is not a PNG inside the folder.
    """
    results = read_results(folder)
    page = folder / REPORT
    text = render(results, panels(results, folder), show_keys=show_keys)
    write_atomic(page, text.encode())
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
    again = f"delete {folder} and run 'arra-med evaluate' again"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RequestError(f"{path} is not JSON: {error}; {again}") from error
    if not isinstance(results, dict) or results.get("kind") != "evaluation":
        raise RequestError(f"{path} does not hold an evaluation: run 'arra-med evaluate'")
    if results.get("schema_version") != SCHEMA_VERSION:
        raise RequestError(
            f"{path} has schema version {results.get('schema_version')!r}, this version of "
            f"arra_med reads {SCHEMA_VERSION}: {again}"
        )
    absent = [name for name in SECTIONS if name not in results]
    if absent:
        raise RequestError(f"{path} lacks {', '.join(absent)}: {again}")
    return results


def render(results: Results, pictures: Sequence[Panel], *, show_keys: bool = False) -> str:
    """The whole page.

    Args:
        results: the content of ``results.json``.
        pictures: its panels.
        show_keys: whether to name samples by their keys.
    """
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("report.html")
        .render(
            **content(with_nulls(results)),
            show_keys=show_keys,
            panel_groups=panel_groups(pictures),
            panel_of={(panel.key, panel.index): panel.number for panel in reversed(pictures)},
            # Ours, from a file of this package, and not to be escaped: the page's policy names
            # its hash.
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "estimate": Estimate.read,
        "times": _times,
        "interval": interval,
        "decimal": decimal,
        "significant": significant,
        "finite": finite,
        "percent": percent,
    }
    environment.tests["digest"] = lambda value: bool(_DIGEST.fullmatch(str(value)))
    environment.globals |= {"counted": counted, "shared_places": shared_places}
    return environment


def _times(source: Mapping[str, Any] | None, factor: float) -> Estimate | None:
    estimate = Estimate.read(source)
    return None if estimate is None else estimate.times(factor)
