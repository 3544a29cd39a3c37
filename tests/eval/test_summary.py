"""The words of the summary follow from the numbers by the printed rules."""

import copy
import re
from typing import Any

import numpy as np
import pytest

from arra_med.eval import consistency
from arra_med.eval.caveats import fails, where_it_fails, worth
from arra_med.eval.checklist import checklist
from arra_med.eval.explanations import (
    primary_judge,
    scored_findings,
)
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.summary import answers
from arra_med.eval.summary_asked import judges_agreement, show_what_was_asked
from arra_med.eval.summary_errors import invent_or_miss
from tests.eval.estimates import ends


@pytest.mark.parametrize(
    ("made", "real", "verdict"),
    [
        (ends(0.88, 0.84, 0.92), ends(0.92, 0.9, 0.94), "Yes"),
        (ends(0.84, 0.81, 0.87), ends(0.95, 0.94, 0.96), "In part"),  # 0.11 under the ceiling
        (ends(0.84, 0.79, 0.89), ends(0.9, 0.88, 0.92), "In part"),  # the interval reaches 0.79
        (ends(0.55, 0.49, 0.61), ends(0.9, 0.88, 0.92), "Not shown"),
        (ends(0.49, 0.47, 0.5), ends(0.9, 0.88, 0.92), "Not shown"),  # the interval reaches 0.5
        (ends(0.3, 0.18, 0.45), ends(0.9, 0.88, 0.92), "No"),
        ({"value": 0.95, "low": None, "high": None}, ends(0.9, 0.88, 0.92), "Cannot say"),
        (ends(0.88, 0.84, 0.92), ends(0.69, 0.6, 0.75), "Cannot say"),  # the judge is too weak
        (None, ends(0.9, 0.88, 0.92), "Cannot say"),
        (ends(0.88, 0.84, 0.92), None, "Cannot say"),
    ],
)
def test_show_what_was_asked(results: Any, made: Any, real: Any, verdict: str) -> None:
    assert show_what_was_asked(judged(results, made, real)).verdict == verdict


@pytest.mark.parametrize(("high", "tone"), [(0.79, "poor"), (0.9, "unknown")])
def test_an_interval_that_reaches_chance_shows_nothing(
    results: Any, high: float, tone: str
) -> None:
    answer = show_what_was_asked(
        judged(results, ends(0.72, 0.48, high), ends(0.9, 0.88, 0.92))
    )  # fmt: skip
    assert (answer.verdict, answer.tone) == ("Not shown", tone)
    assert "was not shown" in answer.headline


def test_a_handful_of_views_is_counted_without_a_rate(results: Any) -> None:
    made, real = ends(2 / 3, 0.09, 0.99) | {"n": 3}, ends(0.957, 0.94, 0.974) | {"n": 300}
    results["view"] |= {"agreement": made, "agreement_real": real}
    answer = show_what_was_asked(results)
    [words] = [line for line in answer.sentences if line.startswith("The view asked for")]
    assert "is drawn in 2 of 3 pictures, and recognised in 96 of 100 (94 to 97)" in words


def test_prompts_that_are_contradicted_are_not_called_chance(results: Any) -> None:
    changed = judged(results, ends(0.3, 0.18, 0.45), ends(0.9, 0.88, 0.92))
    first, second = changed["judges"][0]["findings"]
    first["auroc_generated"] = ends(0.3, 0.18, 0.45)
    second["auroc_generated"] = ends(0.45, 0.35, 0.55)
    answer = show_what_was_asked(changed)
    assert answer.tone == "poor"
    assert answer.headline.startswith("Prompts are contradicted: the judge sees findings more")
    assert (
        f"Contradicted, below chance with the whole interval: {first['finding']}."
        in answer.sentences
    )
    assert f"No better than chance, within the interval: {second['finding']}." in answer.sentences


def judged(results: Any, made: Any, real: Any, rows: int = 2) -> dict[str, Any]:
    """One judge with such means over its first findings; view and side are as in real images."""
    judge = results["judges"][0] | {"overall": {"auroc_generated": made, "auroc_real": real}}
    judge["findings"] = judge["findings"][:rows]  # none of the first two is at chance
    return results | {"judges": [judge], "view": None, "laterality": None}


STRONG = (ends(0.88, 0.84, 0.92), ends(0.9, 0.88, 0.92))


def test_a_finding_at_chance_forbids_yes_and_is_named(results: Any) -> None:
    answer = show_what_was_asked(judged(results, *STRONG, rows=8))
    assert answer.verdict == "In part"
    assert "No better than chance, within the interval: Nodule." in answer.sentences
    assert "With a warning in the table: Support Devices." in answer.sentences


def test_a_finding_without_an_interval_forbids_yes_and_is_not_said_to_be_at_chance(
    results: Any,
) -> None:
    changed = judged(results, *STRONG)
    changed["judges"][0]["findings"][0]["auroc_generated"] = ends(1.0, None, None)
    answer = show_what_was_asked(changed)
    assert answer.verdict == "In part"
    assert not any("chance, within" in sentence for sentence in answer.sentences)


def test_a_side_view_or_text_that_is_not_followed_forbids_yes(results: Any) -> None:
    changed = judged(results, *STRONG)
    assert show_what_was_asked(changed).verdict == "Yes"
    for section in ("view", "laterality"):
        answer = show_what_was_asked(changed | {section: results[section] | _poor(section)})
        assert answer.verdict == "In part"
        side = (
            "the side (less often than in real images)"
            if section == "laterality"
            else "the view (less"
        )
        assert side in answer.headline
        biased = results[section] | _poor(section) | {"independent": False}
        assert show_what_was_asked(changed | {section: biased}).verdict == "Yes"
    shuffled = results["text"][0] | {"normalised": ends(0.02, -0.01, 0.05)}
    assert show_what_was_asked(changed | {"text": [shuffled]}).verdict == "In part"


def _poor(section: str) -> dict[str, Any]:
    """0.11 under the real value."""
    name = "agreement" if section == "view" else "followed"
    return {name: ends(0.79, 0.7, 0.88), f"{name}_real": ends(0.9, 0.85, 0.95)}


def test_a_judge_that_is_not_independent_settles_nothing(results: Any) -> None:
    results["judges"] = [results["judges"][0] | {"independent": False}]
    assert show_what_was_asked(results).verdict == "Cannot say"
    assert invent_or_miss(results).verdict == "Cannot say"
    assert fails(results).verdict == "Cannot say"
    assert "not independent" in invent_or_miss(results).headline
    assert "not independent" in fails(results).headline


def test_the_first_independent_judge_is_shown_and_the_worst_counts(results: Any) -> None:
    first, second = results["judges"]
    biased = first | {"independent": False}
    assert primary_judge(results | {"judges": [biased, second]}) is second
    assert primary_judge(results | {"judges": [biased]}) is biased
    assert primary_judge(results | {"judges": []}) is None
    assert len(scored_findings(results)) == 6
    good = judged(results, *STRONG)["judges"][0]
    chance = good | {
        "name": "other",
        "overall": {"auroc_generated": ends(0.5, 0.45, 0.55), "auroc_real": ends(0.9, 0.88, 0.92)},
    }
    both = judged(results, *STRONG) | {"judges": [good, chance]}
    assert show_what_was_asked(both).verdict == "Not shown"
    assert "Judges disagree, by up to 0.38" in str(judges_agreement(both))
    weak = {"auroc_generated": ends(0.5, 0.45, 0.55), "auroc_real": ends(0.69, 0.6, 0.75)}
    with_weak = both | {"judges": [good, chance | {"overall": weak}]}
    assert show_what_was_asked(with_weak).verdict == "Yes"
    assert (
        "Not counted: The judge (other) is too weak" in show_what_was_asked(with_weak).sentences[2]
    )
    assert judges_agreement(with_weak) is None
    assert "same answer" in str(judges_agreement(results))


def with_rates(
    results: Any, *rates: tuple[int, float, float], half: float | None = 2.0, **overall: Any
) -> Any:
    """Findings with (asked, missed, missed on real), an interval of ± ``half`` about what is missed
    more over all of them, and as much invented as on real images."""
    rows = []
    for number, (asked, missed, real) in enumerate(rates):
        row = copy.deepcopy(results["judges"][0]["findings"][0])
        row |= {"finding": f"f{number}", "positives": asked, "negatives": 500}
        row |= {"missed_per_100": missed, "real_missed_per_100": real}
        rows.append(row | {"invented_per_100": 4.0, "real_invented_per_100": 4.0})
    asked = sum(number for number, _, _ in rates)
    more = sum(number * (missed - real) for number, missed, real in rates) / asked
    counted = {
        "missed_more": {"value": more, "n": asked}
        | {"low": half and more - half, "high": half and more + half},
        "invented_more": ends(0.0, -1.0, 1.0) | {"n": 500 * len(rates)},
    }
    judge = results["judges"][0]
    judge |= {"findings": rows, "overall": judge["overall"] | counted | overall}
    return results | {"judges": [judge]}


@pytest.mark.parametrize(
    ("rates", "half", "verdict"),
    [
        (((300, 12.0, 10.0),), 2.0, "Rarely"),  # 2 more per 100, at most 4
        (((99, 12.0, 10.0),), 2.0, "Cannot say"),  # too few cases
        (((300, 12.0, 10.0),), None, "Cannot say"),  # no interval
        (((300, 14.0, 10.0),), 2.0, "Sometimes"),  # 2 to 6 more
        (((300, 15.0, 10.0),), 39.0, "Cannot say"),  # −34 to 44
        (((300, 31.0, 10.0),), 2.0, "Sometimes"),  # 19 to 23 more
        (((300, 31.0, 10.0),), 0.5, "Often"),
        (((970, 10.0, 10.0), (30, 31.0, 10.0)), 2.0, "Cannot say"),  # few over all, 21 in one
    ],
)
def test_invent_or_miss(results: Any, rates: Any, half: float | None, verdict: str) -> None:
    answer = invent_or_miss(with_rates(results, *rates, half=half))
    assert answer.verdict == verdict


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        (ends(2.0, -1.0, 5.0) | {"n": 100}, "Rarely"),
        (ends(2.0, -1.0, 5.1) | {"n": 100}, "Cannot say"),
        (ends(2.0, -1.0, 5.0) | {"n": 99}, "Cannot say"),
        (ends(25.0, 20.1, 30.0) | {"n": 99}, "Often"),  # few cases do not excuse
        (None, "Cannot say"),
    ],
)
def test_what_is_invented_counts_as_what_is_missed(results: Any, more: Any, verdict: str) -> None:
    changed = with_rates(results, (300, 10.0, 10.0), invented_more=more)
    answer = invent_or_miss(changed)
    assert answer.verdict == verdict
    if more:
        assert f"to cnn-judge-64: 0.0 (−2.0 to 2.0) are missed, {more['value']:.1f}" in " ".join(
            answer.sentences
        )


def test_few_pictures_are_not_said_to_miss_rarely() -> None:
    """The judge misses 20 of 100 on real pictures, 35 on generated ones; 20 show the finding."""
    said = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels = np.array([1.0] * 20 + [0.0] * 60)
        sides = {}
        for side, missed in (("generated", 0.35), ("real", 0.2)):
            seen = np.where(labels == 1, rng.random(80) > missed, rng.random(80) < 0.2)
            sides[side] = np.where(seen, 0.75, 0.25)
        verdicts = consistency.Verdicts(labels=labels, threshold=0.5, **sides)
        bootstrap = ClusteredBootstrap(
            [f"p{i}" for i in range(80)], replicates=200, generator=rng
        )  # fmt: skip
        row = {"finding": "Edema", "status": "scored", "positives": 20, "negatives": 60}
        row |= consistency.judge_finding(verdicts, bootstrap)
        overall = consistency.overall([verdicts], bootstrap)
        judge = {"name": "j", "independent": True, "findings": [row], "overall": overall}
        said.add(invent_or_miss({"judges": [judge]}).verdict)
    assert "Rarely" not in said
    assert "Cannot say" in said


@pytest.mark.parametrize(
    ("p", "high", "verdict", "tone"),
    [
        (0.04, -0.01, "2 of 2 findings", "poor"),
        (0.05, -0.01, "Nothing shown", "mixed"),  # after correction for the number of findings
        (None, -0.01, "Nothing shown", "mixed"),
        (0.04, 0.0, "Nothing shown", "mixed"),
    ],
)
def test_a_finding_fails_by_the_adjusted_p(
    results: Any, p: float | None, high: float, verdict: str, tone: str
) -> None:
    changed = judged(results, *STRONG)
    for row in changed["judges"][0]["findings"]:
        row |= {"auroc_difference": ends(-0.1, -0.2, high), "auroc_difference_p_adjusted": p}
    answer = fails(changed)
    assert (answer.verdict, answer.tone) == (verdict, tone)


def test_a_judge_that_is_too_weak_finds_no_failure(results: Any) -> None:
    """Another one that may decide is asked in its place."""
    changed = judged(results, ends(0.45, 0.4, 0.5), ends(0.55, 0.5, 0.6))
    answer = fails(changed)
    assert answer.verdict == "Cannot say"
    assert "too weak" in answer.headline
    changed["judges"].append(results["judges"][1])
    assert fails(changed).verdict == "1 of 3 findings"
    assert where_it_fails(changed)[0].startswith("Consolidation")


def test_no_finding_counts_as_failed_that_the_judge_hardly_knows(results: Any) -> None:
    changed = judged(results, *STRONG)
    for row in changed["judges"][0]["findings"]:
        row |= {"auroc_difference": ends(-0.1, -0.2, -0.05), "auroc_difference_p_adjusted": 0.01}
        row["auroc_real"] = ends(0.65, 0.6, 0.7)
    assert fails(changed).headline == (
        "No finding was scored that the judge reads well in real images."
    )  # fmt: skip


def test_rates_are_pooled_by_the_number_of_cases(results: Any) -> None:
    answer = invent_or_miss(with_rates(results, (90, 10.0, 2.0), (10, 60.0, 12.0)))
    # (90 × 10 + 10 × 60) / 100 = 15 and (90 × 2 + 10 × 12) / 100 = 3
    assert "15 are missing, and the judge misses 3" in answer.sentences[0]
    assert "100 asked; by finding 10 to 60, most often f1" in answer.sentences[0]
    faultless = invent_or_miss(with_rates(results, (90, 0.0, 0.0), (10, 0.0, 0.0)))
    assert "100 asked; by finding 0 to 0)" in faultless.sentences[0]
    assert "most often" not in faultless.sentences[0]


def test_every_answer_prints_its_rule(results: Any) -> None:
    given = answers(results)
    assert [answer.question for answer in given] == [
        "Do they look right?",
        "Do they show what was asked?",
        "Do they invent or miss findings?",
        "Are they varied?",
        "Could a patient be recognised?",
        "Where does it fail?",
        "Were the goals reached?",
        "What was not checked?",
    ]
    for answer in given:
        word = re.split(r"[:,]", answer.verdict)[0].split(" of ")[-1].lstrip("0123456789 ")
        assert word.lower() in answer.rule.lower()
        assert answer.headline


def test_nothing_measured_is_answered_with_cannot_say(results: Any) -> None:
    for section in results:
        if section not in ("kind", "schema_version", "status", "status_reasons"):
            results[section] = None
    *given, goals, unchecked = answers(results)
    assert {answer.verdict for answer in given} == {"Cannot say"}
    assert goals.headline == "No goals were set beforehand."
    assert unchecked.verdict == "12 points"
    assert where_it_fails(results) == []
    assert worth(results) == []
    assert not any(item.covered for item in checklist(results) if item.source == "FDA/CDRH 7 Cs"
                   and "Comprehension" not in item.item)  # fmt: skip
