"""``results.json`` has a form, and a message about it shows places, not contents."""

import copy
from pathlib import Path
from typing import Any

import pytest

from arra_med.errors import RequestError
from arra_med.eval.goals import goal_rows
from arra_med.eval.report import read_results
from arra_med.eval.results_schema import check_results, results_schema
from arra_med.settings import Goal


def test_the_example_has_the_form(results: Any) -> None:
    check_results(results)
    check_results(results | {"view": None, "view_note": "no classifier of views"})
    for section in ("view", "laterality", "memorisation", "labels", "comparison", "similarity"):
        check_results(results | {section: None, f"{section}_note": "it was switched off"})
    check_results(results | {"status": "incomplete", "status_reasons": ["no independent judge"]})


def test_goal_rows_have_the_form(results: Any) -> None:
    measures = (
        "auroc missed_per_100 invented_per_100 precision recall coverage kid_over_reference "
        "text_alignment copies_per_100 view_agreement side_agreement"
    )
    goals = [Goal(measure=measure, at_least=0.5) for measure in measures.split()]  # type: ignore[arg-type]
    check_results(results | {"goals": goal_rows(goals, results)})


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("kind",), "training", 'kind: expected const "evaluation"'),
        (("schema_version",), 2, "schema_version: expected const 1"),
        (("status",), "incomplete", "status_reasons: expected at least 1 entries, got 0"),
        (("judge",), {}, "the whole: expected no fields ['judge']"),
        (("judges",), None, "judges: expected array, got null"),
        (
            ("judges", 0, "findings", 3, "auroc_real", "value"),
            None,
            "judges[0].findings[3].auroc_real.value: expected number, got null",
        ),
        (
            ("judges", 0, "findings", 0, "missed_per_100"),
            101,
            "judges[0].findings[0].missed_per_100: expected at most 100",
        ),
        (("judges", 1, "findings", 0, "status"), "fine", "expected enum"),
        (("fidelity", 0, "fd"), float("nan"), "fidelity[0].fd: expected a finite number"),
        (("fidelity", 0, "precision"), 1.01, "fidelity[0].precision: expected at most 1"),
        (("fidelity", 0, "saw"), ("a",), "fidelity[0].saw: expected array, got a tuple"),
        (("memorisation", "num_matches"), -1, "memorisation.num_matches: expected at least 0"),
        (("panels", 0, "rule"), "nicest", "panels[0].rule: expected enum"),
        (("panels", 9, "distance"), ..., "panels[9]: expected the fields ['distance']"),
        (("cohort", "flow"), ..., "cohort: expected the fields ['flow']"),
    ],
)
def test_a_wrong_form_is_refused_by_its_place(
    results: Any, path: Any, value: Any, expected: str
) -> None:
    *way, last = path
    row = results
    for step in way:
        row = row[step]
    if value is ...:
        del row[last]
    else:
        row[last] = value
    with pytest.raises(RequestError) as caught:
        check_results(results)
    assert expected in str(caught.value)


def test_a_scored_finding_has_its_numbers_and_another_its_reason(results: Any) -> None:
    scored, few = results["judges"][0]["findings"][0], results["judges"][0]["findings"][6]
    del scored["histogram"], few["status_note"]
    with pytest.raises(RequestError) as caught:
        check_results(results)
    assert "findings[0]: expected the fields ['histogram']" in str(caught.value)
    assert "findings[6]: expected the fields ['status_note']" in str(caught.value)


def test_messages_hold_no_content(results: Any) -> None:
    secret = "Mr Miller's lung"
    results["panels"][0]["prompt"] = [secret]
    results["panels"][1]["asked"] = secret
    results["panels"][2]["rule"] = secret
    with pytest.raises(RequestError) as caught:
        check_results(results)
    assert "Miller" not in str(caught.value)
    assert "panels[0].prompt: expected string, got array" in str(caught.value)


def test_many_mistakes_are_counted(results: Any) -> None:
    for row in results["panels"]:
        row["index"] = "first"
    with pytest.raises(RequestError, match="and 6 more"):
        check_results(results)


def test_every_object_of_the_schema_is_closed_but_two() -> None:
    """A field that evaluation adds must be described here; ``model`` and ``protocol`` are free."""
    open_ones: list[str] = []

    def walk(schema: Any, place: str) -> None:
        if not isinstance(schema, dict):
            return
        if "object" in str(schema.get("type")) and schema.get("additionalProperties", True) is True:
            open_ones.append(place)
        for name, inner in schema.get("properties", {}).items():
            walk(inner, f"{place}.{name}")
        walk(schema.get("items"), f"{place}[]")

    whole = copy.deepcopy(results_schema())
    walk(whole, "results")
    for name, inner in whole["$defs"].items():
        walk(inner, name)
    assert sorted(open_ones) == [
        "results.comparison.generators[].model",
        "results.model",
        "results.protocol",
        "results.protocol.versions",
    ]


@pytest.mark.parametrize("text", ['{"kind": ', '{"kind": "evaluation", "schema_version": "0.0"}'])
def test_damaged_results_say_to_delete_the_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RequestError, match=rf"delete {tmp_path} and run 'arra-med evaluate' again"):
        read_results(tmp_path)
