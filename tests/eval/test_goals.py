"""A goal is reached only by the worse end of an interval, and only on independent evidence."""

from typing import Any

import numpy as np
import pytest

from arra_med.eval.goals import goal_lines, goal_rows, goals_reached
from arra_med.eval.intervals import exact_share
from arra_med.settings import Goal
from tests.eval.estimates import ends


def one(results: Any, **goal: Any) -> dict[str, Any]:
    (row,) = goal_rows([Goal(**goal)], results)
    return row


@pytest.mark.parametrize(
    ("limit", "met"),
    [
        ({"at_least": 0.856}, True),  # the lower end itself
        ({"at_least": 0.857}, None),
        ({"at_least": 0.908}, None),  # the upper end itself
        ({"at_least": 0.909}, False),
        ({"at_most": 0.908}, True),
        ({"at_most": 0.907}, None),
        ({"at_most": 0.856}, None),
        ({"at_most": 0.855}, False),
    ],
)
def test_the_ends_of_the_interval_decide(results: Any, limit: Any, met: bool | None) -> None:
    results["view"]["agreement"] = ends(0.882, 0.856, 0.908)
    row = one(results, measure="view_agreement", **limit)
    assert row["met"] is met
    assert ("the interval contains the goal" in row["note"]) == (met is None)
    assert row["value"] == ends(0.882, 0.856, 0.908)


def test_goals_between_sets_need_as_many_pictures_as_the_answers(results: Any) -> None:
    assert one(results, measure="recall", at_least=0.01)["met"] is True
    for row in results["fidelity"]:
        row["n_generated"] = 10
    row = one(results, measure="recall", at_least=0.01)
    assert row["met"] is None
    assert row["note"] == "cannot say: 100 pictures are needed on each side"


def test_the_worst_independent_judge_counts_and_a_weak_or_biased_one_does_not(
    results: Any,
) -> None:
    first, second = results["judges"]
    first["overall"]["auroc_generated"] = ends(0.9, 0.88, 0.92)
    second["overall"]["auroc_generated"] = ends(0.8, 0.78, 0.82)
    assert one(results, measure="auroc", at_least=0.85)["met"] is False
    second["independent"] = False
    assert one(results, measure="auroc", at_least=0.85)["met"] is True
    second |= {"independent": True}
    second["overall"]["auroc_real"] = ends(0.65, 0.6, 0.7)
    assert one(results, measure="auroc", at_least=0.85)["met"] is True
    first["independent"] = False
    row = one(results, measure="auroc", at_least=0.85)
    assert row["met"] is None
    assert row["note"].startswith("cannot say: the judge")


def test_rates_of_a_finding_take_the_interval_of_sensitivity_turned_round(results: Any) -> None:
    for judge in results["judges"]:
        for row in judge["findings"]:
            if row["finding"] == "Consolidation":
                row |= {"missed_per_100": 20.0, "sensitivity": ends(0.8, 0.7, 0.88)}
    row = one(results, measure="missed_per_100", finding="Consolidation", at_most=30.0)
    assert row["met"] is True
    assert row["value"]["low"] == pytest.approx(12)
    assert row["value"]["high"] == pytest.approx(30)
    strict = one(results, measure="missed_per_100", finding="Consolidation", at_most=29.0)
    assert strict["met"] is None
    unscored = one(results, measure="auroc", finding="Fracture", at_least=0.5)
    assert (unscored["met"], unscored["value"]) == (None, None)
    assert "has no score for Fracture" in unscored["note"]
    # the second judge does not know it: the first decides
    assert one(results, measure="auroc", finding="Nodule", at_least=0.3)["met"] is True


def test_rates_over_all_findings_need_an_interval(results: Any) -> None:
    row = one(results, measure="missed_per_100", at_most=90.0)
    assert row["met"] is None
    assert 0 < row["value"]["value"] < 90
    for judge in results["judges"]:
        judge["overall"]["missed_per_100"] = ends(17.0, 14.0, 20.0)
    assert one(results, measure="missed_per_100", at_most=20.0)["met"] is True


def test_shares_have_exact_intervals_and_say_what_these_leave_out(results: Any) -> None:
    row = one(results, measure="precision", at_least=0.6)
    expected = exact_share(426, 600)  # 0.71 of 600 generated pictures
    assert row["value"] == ends(0.71, expected.low, expected.high)
    assert row["met"] is True
    assert "pictures taken as independent" in row["note"]
    assert one(results, measure="recall", at_least=0.45)["met"] is None
    # 0.44 of 300; the dependent encoder's 0.61 is no help
    assert one(results, measure="recall", at_least=0.5)["met"] is False
    results["fidelity"] = results["fidelity"][1:]
    assert one(results, measure="precision", at_least=0.1)["met"] is None


def test_kid_is_measured_in_units_of_the_largest_real_distance(results: Any) -> None:
    row = one(results, measure="kid_over_reference", at_most=20.0)
    assert row["value"]["value"] == pytest.approx(0.0213 / 0.0016)
    assert row["met"] is True
    results["fidelity"][0]["kid_reference"] = ends(-0.001, -0.003, -0.0001)
    row = one(results, measure="kid_over_reference", at_most=20.0)
    assert (row["met"], row["value"]) == (None, None)


def test_copies_need_a_search_that_finds_planted_ones(results: Any) -> None:
    assert one(results, measure="copies_per_100", at_most=1.2)["met"] is True
    results["memorisation"]["detects"] = False
    row = one(results, measure="copies_per_100", at_most=1.2)
    assert row["met"] is None
    assert "missed planted copies" in row["note"]
    results["memorisation"]["share"] = ends(0.05, 0.0340, 0.0706)
    found = one(results, measure="copies_per_100", at_most=0.5)
    assert found["met"] is False  # the few that a poor search found are too many already
    results |= {"memorisation": None, "memorisation_note": "it was switched off"}
    row = one(results, measure="copies_per_100", at_most=1.2)
    assert (row["met"], row["note"]) == (None, "cannot say: it was switched off")


def searched(n: int, matches: int, held_out: int) -> dict[str, Any]:
    share = exact_share(matches, n)
    return {"n_generated": n, "num_matches": matches, "n_held_out": held_out} | {
        "share": share.to_json()
    }


@pytest.mark.parametrize(
    ("n", "matches", "held_out", "at_most", "met"),
    [
        (600, 6, 400, 2, True),  # as many as chance brings
        (600, 6, 400, 1, None),
        (2000, 20, 1000, 1, True),
        (2000, 31, 1000, 1, None),
        (2000, 31, 1000, 0, None),
        (2000, 100, 1000, 1, False),
    ],
)
def test_matches_of_chance_do_not_miss_a_goal(
    results: Any, n: int, matches: int, held_out: int, at_most: float, met: bool | None
) -> None:
    results["memorisation"] |= searched(n, matches, held_out)
    row = one(results, measure="copies_per_100", at_most=at_most)
    assert row["met"] is met
    assert row["value"]["value"] == pytest.approx(max(0, 100 * matches / n - 1))
    assert "beyond the 1 in 100 that the limits let through" in row["note"]


def test_a_goal_against_copies_is_seldom_missed_by_who_copies_nothing(results: Any) -> None:
    """Thresholds that let through what their draw brings, 500 times: 1 run in 25 was missed."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(500):
        let_through = rng.beta(5, 996, size=2).sum()  # half of 1 in 100 each, of 1,000 held out
        results["memorisation"] |= searched(600, rng.binomial(600, let_through), 1000)
        missed += one(results, measure="copies_per_100", at_most=0.0)["met"] is False
    assert missed <= 13  # 2.5 %


def test_equal_pictures_are_never_put_down_to_chance(results: Any) -> None:
    results["memorisation"] |= searched(600, 6, 400)
    results["preflight"]["copies_of_training"] = {"num": 6, "pairs": []}
    row = one(results, measure="copies_per_100", at_most=0.5)
    assert row["met"] is False
    assert row["value"]["value"] == pytest.approx(1)


@pytest.mark.parametrize("measure", ["text_alignment", "view_agreement", "side_agreement"])
def test_what_was_not_measured_or_is_not_independent_is_open(results: Any, measure: str) -> None:
    name = {"text_alignment": "text", "view_agreement": "view"}.get(measure, "laterality")
    assert one(results, measure=measure, at_least=0.1)["met"] is True
    section = results[name]
    for row in section if name == "text" else [section]:
        row["independent"] = False
    biased = one(results, measure=measure, at_least=0.1)
    assert biased["met"] is None
    assert "not independent" in biased["note"]
    assert biased["value"] is not None
    results |= {name: [] if name == "text" else None, f"{name}_note": "nobody asked"}
    row = one(results, measure=measure, at_least=0.1)
    assert (row["met"], row["value"], row["note"]) == (None, None, "cannot say: nobody asked")


def test_the_page_says_what_became_of_the_goals(results: Any) -> None:
    lines = goal_lines(results)
    assert [line.verdict for line in lines] == ["Cannot say", "Missed", "Reached", "Cannot say"]
    assert lines[1].name == "Missed findings per 100, Pneumothorax"
    assert (lines[1].goal, lines[1].value) == ("at most 15", "33.3 (26.3 to 40.3)")
    assert goals_reached(results).verdict == "No"
    reached = results["goals"][2]
    assert goals_reached({"goals": [reached]}).verdict == "Yes"
    answer = goals_reached({"goals": [reached, results["goals"][0]]})
    assert (answer.verdict, answer.headline) == (
        "Cannot say",
        "1 of 2 goals cannot be decided; 1 was reached.",
    )
    assert goals_reached({"goals": []}).headline == "No goals were set beforehand."
