"""The words of the summary follow from the numbers by the printed rules."""

import copy
from typing import Any

import pytest

from arra_med.eval.caveats import drawn, not_checked, same_source, where_it_fails, worth
from arra_med.eval.explanations import (
    fidelity_measures,
    finding_sentence,
    similarity_measures,
)
from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    listed,
    percent,
    significant,
    with_interval,
)
from arra_med.eval.summary import answers, invent_or_miss, look_right, show_what_was_asked, varied


def ends(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


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
    ("made", "real", "verdict"),
    [
        (ends(0.88, 0.84, 0.92), ends(0.92, 0.9, 0.94), "Yes"),
        (ends(0.84, 0.81, 0.87), ends(0.95, 0.94, 0.96), "In part"),  # 0.11 under the ceiling
        (ends(0.84, 0.79, 0.89), ends(0.9, 0.88, 0.92), "In part"),  # the interval reaches 0.79
        (ends(0.55, 0.49, 0.61), ends(0.9, 0.88, 0.92), "No sign of it"),
        (ends(0.88, 0.84, 0.92), ends(0.69, 0.6, 0.75), "Cannot say"),  # the judge is too weak
        (None, ends(0.9, 0.88, 0.92), "Cannot say"),
        (ends(0.88, 0.84, 0.92), None, "Cannot say"),
    ],
)
def test_show_what_was_asked(results: Any, made: Any, real: Any, verdict: str) -> None:
    results["overall"] = {"auroc_generated": made, "auroc_real": real}
    results["findings"] = results["findings"][:2]  # none of them at chance
    assert show_what_was_asked(results).verdict == verdict


def test_a_finding_at_chance_forbids_yes_and_is_named(results: Any) -> None:
    results["overall"] = {
        "auroc_generated": ends(0.88, 0.84, 0.92),
        "auroc_real": ends(0.9, 0.88, 0.92),
    }
    answer = show_what_was_asked(results)
    assert answer.verdict == "In part"
    assert "No better than chance, within the interval: Nodule." in answer.sentences
    assert "With a warning in the table: Support Devices." in answer.sentences


def test_a_judge_that_is_not_independent_settles_nothing(results: Any) -> None:
    results["judge"]["independent"] = False
    assert show_what_was_asked(results).verdict == "Cannot say"
    assert invent_or_miss(results).verdict == "Cannot say"
    assert "not independent" in invent_or_miss(results).headline


def with_rates(results: Any, *rates: tuple[int, float, float]) -> Any:
    """Findings with (asked, missed, missed on real) and nothing invented."""
    rows = []
    for number, (asked, missed, real) in enumerate(rates):
        row = copy.deepcopy(results["findings"][0])
        row |= {"finding": f"f{number}", "positives": asked, "negatives": 10}
        row |= {"missed_per_100": missed, "real_missed_per_100": real}
        rows.append(row | {"invented_per_100": 4.0, "real_invented_per_100": 4.0})
    return results | {"findings": rows}


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        (((30, 14.0, 10.0),), "Rarely"),  # 4 more per 100
        (((30, 16.0, 10.0),), "Sometimes"),  # 6 more
        (((30, 31.0, 10.0),), "Often"),  # 21 more
        (((970, 10.0, 10.0), (30, 31.0, 10.0)), "Sometimes"),  # 0.63 more over all, 21 in one
    ],
)
def test_invent_or_miss(results: Any, rates: Any, verdict: str) -> None:
    assert invent_or_miss(with_rates(results, *rates)).verdict == verdict


def test_rates_are_pooled_by_the_number_of_cases(results: Any) -> None:
    answer = invent_or_miss(with_rates(results, (90, 10.0, 2.0), (10, 60.0, 12.0)))
    # (90 × 10 + 10 × 60) / 100 = 15 and (90 × 2 + 10 × 12) / 100 = 3
    assert "15 are missing, and the judge misses 3" in answer.sentences[0]
    assert "100 asked; by finding 10 to 60, most often f1" in answer.sentences[0]


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
    ("changes", "expected"),
    [
        ({"auroc_difference": ends(-0.01, -0.04, 0.02)}, "As recognisable as in real images"),
        ({"auroc_difference": ends(-0.08, -0.13, -0.03)}, "AUROC lower by 0.08"),
        ({"auroc_difference": ends(0.06, 0.03, 0.09)}, "exaggerated"),
        ({"auroc_difference": None}, "not compared with real images"),
        ({"auroc_generated": ends(0.53, 0.42, 0.64)}, "reaches chance"),
        ({"auroc_generated": ends(0.35, 0.28, 0.42)}, "contradicted"),
        ({"auroc_generated": None}, "nothing can be concluded"),
        ({"auroc_real": ends(0.6, 0.5, 0.7)}, "poorly even in real images (0.60)"),
        ({"warning": "beware"}, "Warning: beware"),
        ({"status": "too few", "positives": 7}, "7 prompts ask for it, at least 20 are needed"),
        ({"status": "too few", "positives": 1}, "1 prompt asks for it"),
    ],
)
def test_finding_sentence(results: Any, changes: Any, expected: str) -> None:
    assert expected in finding_sentence(results["findings"][0] | changes, 20)


def test_every_measure_has_a_real_reference_n_and_a_sentence(results: Any) -> None:
    measures = fidelity_measures(results["fidelity"][0])
    assert [m.value for m in measures] == ["21.4", "0.0213", "0.71", "0.44", "0.83", "0.58"]
    assert measures[0].sentence == "3.5 times what two sets of real images give."
    assert (measures[1].reference, measures[1].reference_interval) == (
        "0.0002",
        "−0.0011 to 0.0016",
    )
    assert all(m.n == "600 generated, 300 real" and m.reference and m.sentence for m in measures)
    refused = fidelity_measures(results["fidelity"][1])[0]
    assert refused.value == "not available"
    assert refused.sentence == "Not given: 90 pictures are too few"


def test_the_two_similarities_say_different_things(results: Any) -> None:
    rows = similarity_measures(results)
    assert rows["paired"][0].aim == "higher is closer"
    assert "the prompt has an effect" in rows["paired"][0].sentence
    assert "less variety" in rows["diversity"][0].sentence
    results["similarity"]["diversity_generated"] = ends(0.2, 0.19, 0.21)
    assert "noise" in similarity_measures(results)["diversity"][0].sentence


def test_worth_names_phantoms_judge_and_sample_size(results: Any) -> None:
    text = " ".join(worth(results))
    assert "drawn phantoms, not patients" in text
    assert "not by a physician" in text
    assert "same data set" in text
    assert "600 generated pictures are a small sample" in text
    results["judge"]["trained_on"] = "NIH ChestX-ray14"
    results["fidelity"] = []
    results["protocol"]["judge"] = {"plugin": "xrv"}
    assert not drawn(results)
    assert not same_source(results)


def test_what_fails_and_what_is_open(results: Any) -> None:
    assert [line.split(":")[0] for line in where_it_fails(results)] == [
        "Nodule",
        "Pneumothorax",
        "Consolidation",
    ]
    results["similarity"] = None
    results["similarity_note"] = "pictures are under 11 px"
    open_questions = {item.what: item.because for item in not_checked(results)}
    assert any("no reader has checked" in what for what in open_questions)
    assert any("Fracture (1)" in what for what in open_questions)
    assert open_questions["FD under linear-teacher"] == "90 pictures are too few"
    assert open_questions["Variety (MS-SSIM)"] == "pictures are under 11 px"
    assert all(open_questions.values())


def test_every_answer_prints_its_rule(results: Any) -> None:
    for answer in answers(results):
        assert answer.verdict.split(",")[0] in answer.rule
        assert answer.headline


def test_nothing_measured_is_answered_with_cannot_say(results: Any) -> None:
    for section in ("fidelity", "similarity", "judge", "findings", "overall", "protocol", "cohort"):
        results[section] = None
    assert {answer.verdict for answer in answers(results)} == {"Cannot say"}
    assert where_it_fails(results) == []
    assert worth(results) == []


def test_numbers_read_well() -> None:
    assert [decimal(v) for v in (0.874, -0.05, -0.001, 1234.5)] == [
        "0.87",
        "−0.05",
        "0.00",
        "1,234.50",
    ]
    assert [percent(v) for v in (31.2, 7.25, 0.4, 0.0, 100.0)] == ["31", "7", "0.4", "0", "100"]
    assert [significant(v) for v in (21.44, 0.012345, 1234.0, 0, 5e-5, 1e-9)] == [
        "21.4",
        "0.0123",
        "1,234",
        "0",
        "0.000050",
        "less than 0.000001",
    ]
    assert [listed(w) for w in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [counted(n, "pair") for n in (1, 1200, None)] == [
        "1 pair",
        "1,200 pairs",
        "an unknown number of pairs",
    ]


def test_estimates_survive_anything() -> None:
    assert Estimate.read(None) is None
    assert Estimate.read({"value": float("nan"), "low": 0, "high": 1}) is None
    assert with_interval(Estimate.read({"value": 0.5, "low": None, "high": None})) == (
        "0.50 (no interval)"
    )
    missed = Estimate(value=0.7, low=0.6, high=0.9).times(100).rest_of(100)
    assert (missed.value, missed.low, missed.high) == pytest.approx((30, 10, 40))
