"""Whether pictures look right and are varied follows from the numbers by the printed rules."""

from typing import Any

import pytest

from arra_med.eval.goals import goal_rows
from arra_med.eval.summary_sets import look_right, varied
from arra_med.settings import Goal
from tests.eval.estimates import ends


def only_independent(results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    row = results["fidelity"][0] | changes
    return results | {"fidelity": [row]}


@pytest.mark.parametrize(
    ("kid_low", "precision", "n", "verdict"),
    [
        (0.0010, 0.80, 600, "Yes"),  # 0.80 / 0.88 = 0.91 of the real–real precision
        (0.0010, 0.80, 99, "Cannot say"),  # too few pictures for a yes
        (0.0017, 0.80, 600, "In part"),  # above the reference's upper end, 0.0016
        (0.0010, 0.70, 600, "In part"),  # 0.70 / 0.88 = 0.795
        (0.0010, 0.43, 600, "No"),  # 0.43 / 0.88 = 0.49
        (0.0010, 0.43, 99, "No"),  # few pictures do not excuse
    ],
)
def test_look_right(results: Any, kid_low: float, precision: float, n: int, verdict: str) -> None:
    kid = ends(0.02, kid_low, 0.03)
    changed = only_independent(results, kid=kid, precision=precision, n_generated=n)
    assert look_right(changed).verdict == verdict


def test_the_worst_independent_encoder_counts_and_a_dependent_one_never(results: Any) -> None:
    good = results["fidelity"][0] | {"kid": ends(0.001, 0.0, 0.002), "precision": 0.87}
    poor = good | {"extractor": "other", "precision": 0.1}
    assert look_right(results | {"fidelity": [good, poor]}).verdict == "No"
    biased = [good, poor | {"independent": False}]
    answer = look_right(results | {"fidelity": biased})
    assert answer.verdict == "Yes"
    assert any("not independent: other" in sentence for sentence in answer.sentences)
    assert look_right(results | {"fidelity": biased[1:]}).verdict == "Cannot say"
    assert look_right(results | {"fidelity": []}).verdict == "Cannot say"


@pytest.mark.parametrize(
    ("recall", "made", "n", "verdict"),
    [
        (0.80, ends(0.36, 0.35, 0.37), 600, "Yes"),
        (0.80, ends(0.36, 0.35, 0.37), 60, "Cannot say"),
        (0.80, ends(0.40, 0.39, 0.41), 600, "Less than real"),  # real: 0.352 to 0.372
        (0.60, ends(0.36, 0.35, 0.37), 600, "Less than real"),
        (0.30, ends(0.36, 0.35, 0.37), 600, "Little"),
        (0.02, ends(0.99, 0.98, 1.0), 600, "No, collapsed"),
    ],
)
def test_varied(results: Any, recall: float, made: Any, n: int, verdict: str) -> None:
    changed = only_independent(results, recall=recall, n_generated=n)
    changed["similarity"] = results["similarity"] | {"diversity_generated": made}
    answer = varied(changed)
    assert answer.verdict == verdict
    assert ("collapsed" in answer.headline) == (verdict == "No, collapsed")


@pytest.mark.parametrize(
    ("made", "real", "within", "verdict"),
    [
        (ends(0.97, 0.95, 0.99), ends(0.4, 0.3, 0.5), None, "No, collapsed"),
        (ends(0.97, 0.94, 0.99), ends(0.4, 0.3, 0.5), None, "Less than real"),
        (ends(0.97, 0.95, 0.99), ends(0.96, 0.94, 0.98), None, "Yes"),  # real ones are as alike
        (ends(0.36, 0.35, 0.37), ends(0.36, 0.35, 0.37), ends(1, 1, 1), "No, collapsed"),
        (ends(0.36, 0.35, 0.37), ends(0.36, 0.35, 0.37), ends(0.97, 0.94, 1), "Yes"),
    ],
)
def test_the_same_picture_over_and_over_is_a_collapse_whatever_recall_says(
    results: Any, made: Any, real: Any, within: Any, verdict: str
) -> None:
    changed = only_independent(results, recall=0.80)
    changed["similarity"] = results["similarity"] | {
        "diversity_generated": made,
        "diversity_real": real,
        "same_prompt_generated": within,
    }
    answer = varied(changed)
    assert answer.verdict == verdict
    assert ("collapsed" in answer.headline) == (verdict == "No, collapsed")
    if verdict == "No, collapsed":
        assert varied(changed | {"fidelity": []}).verdict == verdict


@pytest.mark.parametrize(
    ("precision", "recall", "made", "verdict"),
    [
        (0.0, 0.0, ends(0.32, 0.31, 0.33), "Cannot say"),  # varied mud
        (0.087, 0.8, ends(0.32, 0.31, 0.33), "Cannot say"),  # 0.087 / 0.88 = 0.099
        (0.089, 0.0, ends(0.32, 0.31, 0.33), "No, collapsed"),
        (0.0, 0.0, ends(0.40, 0.39, 0.41), "No, collapsed"),  # more alike than real: 0.372
        (0.0, 0.0, ends(0.99, 0.98, 1.0), "No, collapsed"),
        (0.0, 0.0, None, "Cannot say"),
    ],
)
def test_variety_of_pictures_unlike_any_real_one_is_not_measured_by_recall(
    results: Any, precision: float, recall: float, made: Any, verdict: str
) -> None:
    changed = only_independent(results, precision=precision, recall=recall)
    changed["similarity"] = results["similarity"] | {"diversity_generated": made}
    answer = varied(changed)
    assert answer.verdict == verdict
    if verdict == "Cannot say":
        assert answer.headline == "Too unlike real pictures for their variety to be measured."
        another = results["fidelity"][0] | {"extractor": "other", "recall": 0.05}
        changed["fidelity"].append(another)  # one that can measure it decides
        assert varied(changed).verdict == "No, collapsed"


def test_prompts_of_one_kind_do_not_settle_looks_and_variety(results: Any) -> None:
    """Real images of the whole split differ from theirs, whoever draws."""
    results["fidelity"][0] |= {"recall": 0.1, "precision": 0.1}
    assert (look_right(results).verdict, varied(results).verdict) == ("No", "Little")
    results["cohort"] |= {"represents_split": False, "prompts": 120}
    for answer in (look_right(results), varied(results)):
        assert answer.verdict == "Cannot say"
        assert answer.headline.startswith("120 prompts of a split of 300 were drawn, not evenly")
    row = goal_rows([Goal(measure="recall", at_least=0.5)], results)[0]
    assert (row["met"], "not evenly spread" in row["note"]) == (None, True)
