"""No sentence of the summary contradicts its numbers, whatever the numbers are."""

import re
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from arra_med.eval.caveats import not_checked, where_it_fails, worth
from arra_med.eval.explanations import (
    fidelity_measures,
    finding_sentence,
    group_measures,
    similarity_measures,
)
from arra_med.eval.formatting import Estimate
from arra_med.eval.goals import goal_rows
from arra_med.eval.summary import answers
from arra_med.eval.summary_comparison import beyond_real, comparison_sentences
from arra_med.eval.summary_prompt import (
    laterality_sentences,
    text_measures,
    text_sentences,
    view_sentences,
)
from arra_med.settings import Goal
from tests.eval.conftest import build_results

SECTIONS = (
    "goals", "model", "cohort", "preflight", "fidelity", "similarity", "judges", "view",
    "laterality", "text", "memorisation", "labels", "comparison", "panels", "protocol",
)  # fmt: skip
SEEDS = st.integers(0, 2**32)
SHARES = ("precision", "recall", "density", "coverage")


def scrambled(value: Any, rng: np.random.Generator, rate: float) -> Any:
    """The same shape with other numbers in estimates and shares, some of them missing."""
    if isinstance(value, dict) and "value" in value and "low" in value:
        if rng.random() < rate:
            return None
        size = 10 ** rng.uniform(-3, 0.2)
        low, middle, high = np.sort(rng.uniform(-0.2 * size, size, 3)).tolist()
        bare = rng.random() < rate
        return value | {
            "value": middle,
            "low": None if bare else low,
            "high": None if bare else high,
        }
    if isinstance(value, dict):
        return {name: _field(name, inner, rng, rate) for name, inner in value.items()}
    if isinstance(value, list):
        return [scrambled(inner, rng, rate) for inner in value]
    return value


def _field(name: str, value: Any, rng: np.random.Generator, rate: float) -> Any:
    if name == "independent" or name == "detects":
        return bool(rng.random() < 0.7)
    if name in SHARES and isinstance(value, float):
        return None if rng.random() < rate else float(rng.random())
    if name.endswith("per_100") and isinstance(value, float):
        return None if rng.random() < rate else float(rng.uniform(0, 100))
    if (name == "p" or "_p" in name) and isinstance(value, float):
        return float(rng.random() ** 3)
    if name in ("n_generated", "n_real", "num_matches"):
        return int(rng.choice([0, 1, 7, 99, 100, 600]))
    return scrambled(value, rng, rate)


def random_results(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    rate = float(rng.choice([0.0, 0.1, 0.5]))
    results = {name: scrambled(value, rng, rate) for name, value in build_results().items()}
    for name in SECTIONS:
        if rng.random() < 0.3 * rate:
            results[name] = None
    return results


def bounds(source: Any) -> tuple[float, float]:
    """The ends of an interval, NaN where there is none: NaN fails every comparison."""
    row = source or {}
    low, high = row.get("low"), row.get("high")
    return (np.nan if low is None else low, np.nan if high is None else high)


def all_words(results: dict[str, Any]) -> list[str]:
    given = answers(results)
    rows = list(results["fidelity"] or [])
    measures = [m for row in rows for m in (*fidelity_measures(row), *group_measures(row))]
    measures += [m for group in similarity_measures(results).values() for m in group]
    measures += [m for _, table in text_measures(results) for m in table]
    return [
        *(answer.headline for answer in given),
        *(words for answer in given for words in answer.sentences),
        *(measure.sentence for measure in measures),
        *worth(results), *where_it_fails(results), *view_sentences(results),
        *laterality_sentences(results), *text_sentences(results), *comparison_sentences(results),
    ]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_every_sentence_is_whole(seed: int) -> None:
    results = random_results(seed)
    for words in all_words(results):
        assert words.endswith((".", ":"))
        assert not re.search(r"\bNone\b|\bnan\b|\{|  |\.\.", words), words
    assert all(item.what and item.because for item in not_checked(results))


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_a_good_answer_has_all_that_its_rule_asks(seed: int) -> None:
    results = random_results(seed)
    by_question = {answer.question: answer for answer in answers(results)}
    rows = [row for row in results["fidelity"] or [] if row["independent"]]
    if by_question["Do they look right?"].verdict == "Yes":
        for row in rows:
            if row["kid"] and row["kid"]["low"] is not None and row["kid_reference"]:
                real = row["kid_reference"]
                assert row["kid"]["low"] <= max(real["value"], real["high"] or -1)
            if row["precision"] is not None and row["prdc_reference"]:
                assert row["precision"] >= 0.8 * (row["prdc_reference"]["precision"] or 0)
            assert min(row["n_real"], row["n_generated"]) >= 100
    variety = by_question["Are they varied?"]
    assert ("collapsed" in variety.verdict) == ("collapsed" in variety.headline)
    if variety.verdict == "Yes":
        for row in rows:
            if row["recall"] is not None and row["prdc_reference"]:
                assert row["recall"] >= 0.8 * (row["prdc_reference"]["recall"] or 0)
    asked = by_question["Do they show what was asked?"]
    judges = [judge for judge in results["judges"] or [] if judge["independent"]]
    if asked.tone in ("good", "mixed", "poor"):
        assert any(
            (judge["overall"]["auroc_real"] or {"value": 0})["value"] >= 0.7 for judge in judges
        )
    search = results["memorisation"]
    privacy = by_question["Could a patient be recognised?"]
    if privacy.verdict == "No copy found":
        assert search["detects"]
        assert search["num_matches"] == 0
    if privacy.verdict.startswith("Yes"):
        assert search["share"]["low"] > search["false_match_rate"]


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_a_finding_s_sentence_agrees_with_its_intervals(seed: int) -> None:
    for judge in random_results(seed)["judges"] or []:
        for row in judge["findings"]:
            words = finding_sentence(row, 20)
            made, gap = bounds(row["auroc_generated"]), bounds(row["auroc_difference"])
            if words.startswith("Follows"):
                assert made[0] > 0.5
            if "less clearly" in words:
                assert gap[1] < 0
            if "no difference" in words:
                assert gap[0] <= 0 <= gap[1]
            if "contradicted" in words:
                assert made[1] < 0.5
            if "after correction" in words:
                assert row["auroc_difference_p_adjusted"] < 0.05


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_who_is_better_follows_from_sign_and_aim(seed: int) -> None:
    comparison = random_results(seed)["comparison"]
    if comparison is None:
        return
    measures = {(row["measure"], row["subject"]): row for row in comparison["measures"]}
    said = comparison_sentences({"comparison": comparison})
    claims = [words for words in said if re.search(" is better than | lies (higher|lower) ", words)]
    expected = 0
    for row in comparison["differences"]:
        gap = Estimate.read(row["difference"])
        if gap is None or gap.low is None or gap.high is None or gap.includes(0):
            continue
        if row["p_adjusted"] is None or row["p_adjusted"] >= 0.05:
            continue
        expected += 1
        larger, smaller = row["first"], row["second"]
        if gap.value < 0:
            larger, smaller = smaller, larger
        measure = measures[row["measure"], row["subject"]]
        aim = measure["aim"]
        better, worse = (smaller, larger) if aim == "lower" else (larger, smaller)
        beyond = beyond_real(measure, better)
        pair = f"{better} {f'lies {aim}' if beyond else 'is better'} than {worse}"
        assert any(pair in words and f"({row['subject']})" in words for words in claims)
    assert len(claims) == expected


@settings(deadline=None, max_examples=60)
@given(
    SEEDS,
    st.sampled_from(["auroc", "precision", "kid_over_reference", "text_alignment",
                     "copies_per_100", "view_agreement", "side_agreement"]),
    st.floats(0.001, 1),
    st.booleans(),
)  # fmt: skip
def test_a_decided_goal_has_its_whole_interval_on_one_side(
    seed: int, measure: Any, limit: float, least: bool
) -> None:
    goal = Goal(measure=measure, **{"at_least" if least else "at_most": limit})
    (row,) = goal_rows([goal], random_results(seed))
    if row["met"] is None:
        assert row["note"]
        return
    low, high = bounds(row["value"])
    if row["met"]:
        assert low >= limit if least else high <= limit
    else:
        assert high < limit if least else low > limit
