"""The form of ``results.json``, checked against its JSON Schema when it is written and read.

Messages name the place and what was expected there, never the value: it may be report text.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError

from arra_med.errors import RequestError

SCHEMA = Path(__file__).with_name("results.schema.json")
_MOST_SHOWN = 5


@cache
def results_schema() -> dict[str, Any]:
    """The schema, JSON Schema draft 2020-12."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return schema


def check_results(results: Mapping[str, Any]) -> None:
    """Refuse results of another form than the schema's.

    Args:
        results: as ``json.loads`` gives them.

    Raises:
        RequestError: naming the first places that are wrong, and what was expected there.
    """
    errors = Draft202012Validator(results_schema()).iter_errors(results)
    problems = [_words(error) for error in sorted(errors, key=lambda error: _order(error.path))]
    problems += [f"{place}: expected a finite number" for place in _not_finite(results, [])]
    if problems:
        more = len(problems) - _MOST_SHOWN
        raise RequestError(
            f"these are not results of an evaluation by this version: "
            f"{'; '.join(problems[:_MOST_SHOWN])}"
            + (f"; and {more} more" if more > 0 else "")
            + ". Delete their folder and run 'arra-med evaluate' again"
        )


def _words(error: ValidationError) -> str:
    return f"{_place(error.absolute_path)}: expected {_expected(error)}"


def _expected(error: ValidationError) -> str:
    rule = str(error.validator)
    wanted, found = cast(Any, error.validator_value), cast(Any, error.instance)
    if rule == "required":
        return f"the fields {[name for name in wanted if name not in found]}"
    if rule == "additionalProperties" and wanted is False:
        schema = error.schema if isinstance(error.schema, Mapping) else {}
        patterns = schema.get("patternProperties", {})
        unknown = [
            name
            for name in found
            if name not in schema.get("properties", {})
            and not any(re.search(pattern, name) for pattern in patterns)
        ]
        return f"no fields {sorted(unknown)}"
    if rule == "type":
        kinds = wanted if isinstance(wanted, list) else [wanted]
        return f"{' or '.join(map(str, kinds))}, got {_KINDS.get(type(found), 'another type')}"
    if rule in ("minItems", "maxItems"):
        return f"at {'least' if rule == 'minItems' else 'most'} {wanted} entries, got {len(found)}"
    if rule in ("minimum", "maximum"):
        return f"at {'least' if rule == 'minimum' else 'most'} {wanted}"
    return f"{rule} {json.dumps(wanted, ensure_ascii=False)}"


_KINDS = {
    bool: "boolean",
    dict: "object",
    float: "number",
    int: "integer",
    list: "array",
    str: "string",
    tuple: "a tuple (write a list)",
    type(None): "null",
}


def _place(path: Iterable[str | int]) -> str:
    """``judges[0].findings[3].auroc_real``."""
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return words.removeprefix(".") or "the whole"


def _order(path: Iterable[str | int]) -> list[str]:
    return [f"{step:06d}" if isinstance(step, int) else step for step in path]


def _not_finite(value: Any, path: list[str | int]) -> Iterator[str]:  # noqa: ANN401 - any JSON
    """Places of NaN and infinity, which JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        yield _place(path)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_finite(inner, [*path, name])
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _not_finite(inner, [*path, place])
