"""Every row of a table has a sentence that its numbers bear out, and what is open has a reason."""

from typing import Any

import pytest

from arra_med.eval.caveats import drawn, not_checked, same_source, where_it_fails, worth
from arra_med.eval.checklist import checklist
from arra_med.eval.explanations import (
    fidelity_measures,
    finding_sentence,
    group_measures,
    similarity_measures,
)
from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    listed,
    p_words,
    per_100,
    percent,
    significant,
    with_interval,
)
from arra_med.eval.glossary import glossary
from arra_med.eval.summary_comparison import comparison_sentences
from arra_med.eval.summary_prompt import (
    laterality_sentences,
    text_measures,
    text_sentences,
    view_sentences,
)
from tests.eval.estimates import ends


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"auroc_difference": ends(-0.01, -0.04, 0.02)}, "no difference from real images shown"),
        (
            {"auroc_difference": ends(-0.08, -0.13, -0.03), "auroc_difference_p_adjusted": 0.01},
            "AUROC lower by 0.08 (p = 0.01 after",
        ),
        (
            {"auroc_difference": ends(-0.08, -0.13, -0.03), "auroc_difference_p_adjusted": 0.09},
            "does not bear out (p = 0.09)",
        ),
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
    assert expected in finding_sentence(results["judges"][0]["findings"][0] | changes, 20)


def test_every_measure_has_a_real_reference_n_and_a_sentence(results: Any) -> None:
    measures = fidelity_measures(results["fidelity"][0])
    values = ["21.4", "18.9", "0.0213", "0.71", "0.44", "0.83", "0.58", "0.77", "0.83"]
    assert [m.value for m in measures] == values
    assert measures[0].sentence == "3.5 times what two sets of real images give."
    assert (measures[1].interval, measures[1].reference) == ("16.2 to 21.7", "0 for equal sets")
    assert (measures[2].reference, measures[2].reference_interval) == (
        "0.0002",
        "10 draws: −0.0011 to 0.0016",
    )
    assert all(m.n and m.reference and m.sentence for m in measures)
    refused = fidelity_measures(results["fidelity"][1])
    assert [row.value for row in refused[:2]] == ["not available", "not available"]
    assert refused[0].sentence == "Not given: 90 pictures are too few."
    at_zero = results["fidelity"][0] | {"fd_infinity": ends(0.1, -0.2, 0.4)}
    assert "reaches 0" in fidelity_measures(at_zero)[1].sentence


def test_groups_have_their_own_reference_or_a_reason(results: Any) -> None:
    groups = group_measures(results["fidelity"][0])
    assert [g.name for g in groups] == ["view AP", "view PA", "Pleural Effusion", "Fracture"]
    assert groups[0].n == "192 generated, 96 real"
    assert "Beyond" in groups[0].sentence
    assert groups[3].sentence.startswith("Not given: 1 real and 2 generated")


def test_the_two_similarities_say_different_things(results: Any) -> None:
    rows = similarity_measures(results)
    assert rows["paired"][0].aim == "higher is closer"
    assert "the prompt has an effect" in rows["paired"][0].sentence
    assert "less variety" in rows["diversity"][0].sentence
    assert "more alike than pictures of different prompts" in rows["diversity"][1].sentence
    results["similarity"]["diversity_generated"] = ends(0.2, 0.19, 0.21)
    assert "noise" in similarity_measures(results)["diversity"][0].sentence


def test_distances_and_likeness_run_in_opposite_directions(results: Any) -> None:
    row = results["fidelity"][0] | {
        "paired": ends(0.7, 0.69, 0.71),
        "paired_floor": ends(0.9, 0.89, 0.91),
    }
    assert "the prompt has an effect" in fidelity_measures(row)[-2].sentence
    row |= {"paired": ends(0.95, 0.93, 0.97)}
    assert "Less like its own" in fidelity_measures(row)[-2].sentence
    row |= {"diversity_generated": ends(0.2, 0.1, 0.3), "diversity_real": ends(0.9, 0.8, 1.0)}
    assert "less variety" in fidelity_measures(row)[-1].sentence


def test_view_side_and_text_are_told_or_the_reason_is(results: Any) -> None:
    assert "88 of 100 (86 to 91) pictures" in view_sentences(results)[0]
    assert "Least often for AP" in view_sentences(results)[1]
    assert "most often taken for PA" in view_sentences(results)[1]
    assert "73 of 100 (66 to 80) are seen there; 50 is chance" in laterality_sentences(results)[0]
    assert "142 findings in pictures)" in laterality_sentences(results)[0]  # two a picture, perhaps
    assert any("exchanged" in sentence for sentence in laterality_sentences(results))
    assert "clip-64" in text_sentences(results)[0]
    assert "settles nothing" in text_sentences(results)[1]
    table = text_measures(results)[0][1]
    assert [row.value for row in table] == ["0.58", "0.338", "0.38"]
    assert "chance gives 0.10" in table[2].sentence
    at_chance = results["laterality"] | {"followed": ends(0.55, 0.48, 0.62)}
    assert "No sign" in laterality_sentences({"laterality": at_chance})[1]
    mirrored = results["laterality"] | {"followed": ends(0.2, 0.15, 0.25)}
    assert "Sides are exchanged" in laterality_sentences({"laterality": mirrored})[1]
    blind = at_chance | {"followed_real": ends(0.52, 0.44, 0.6)}
    assert "Even in real images" in laterality_sentences({"laterality": blind})[1]
    assert view_sentences({"view": None, "view_note": "no classifier of views"}) == [
        "View: not tested because no classifier of views."
    ]
    assert text_sentences({"text": []}) == [
        "Fit of picture and text: not tested because no reason was recorded."
    ]


def test_comparisons_name_the_better_one_only_after_correction(results: Any) -> None:
    said = comparison_sentences(results)
    assert any(
        line.startswith("KID (cnn-64): phantom-llama-arra is better than without alignment")
        for line in said
    )
    assert any(
        line.startswith("KID (cnn-64): diffusion peer is better than phantom-llama-arra")
        for line in said
    )
    assert not any("Pneumothorax" in line for line in said)
    assert "In 4 other comparisons no difference was shown." in said
    assert comparison_sentences({"comparison": None}) == []


def test_worth_names_phantoms_judge_and_sample_size(results: Any) -> None:
    text = " ".join(worth(results))
    assert "drawn phantoms, not patients" in text
    assert "not by a physician" in text
    assert "same data set" in text
    assert "600 generated pictures are a small sample" in text
    assert "Warning: Support Devices is easier to recognise" in text
    assert "labels of 30 prompts were read from their text" in text
    for judge in results["judges"]:
        judge["trained_on"] = "NIH ChestX-ray14"
    results["fidelity"] = []
    results["cohort"]["dataset"] = "mimic-cxr"
    results["protocol"]["judges"] = [{"plugin": "xrv"}]
    assert not drawn(results)
    assert not same_source(results)


def test_what_fails_and_what_is_open(results: Any) -> None:
    assert [line.split(":")[0] for line in where_it_fails(results)][:3] == [
        "Nodule",
        "Pneumothorax",
        "Consolidation",
    ]
    assert "Not followed: the side (less often than in real images)." in where_it_fails(results)
    assert any(
        line.startswith("Missed more often than in real images") and "Nodule" in line
        for line in where_it_fails(results)
    )
    results["similarity"] = None
    results["similarity_note"] = "pictures are under 11 px"
    results |= {"memorisation": None, "memorisation_note": "it was switched off"}
    results["view"]["independent"] = False
    open_questions = {item.what: item.because for item in not_checked(results)}
    assert any("no reader has checked" in what for what in open_questions)
    assert any("Fracture (1 with, 279 without)" in what for what in open_questions)
    assert open_questions["FD under linear-teacher"] == "90 pictures are too few"
    assert open_questions["Variety (MS-SSIM)"] == "pictures are under 11 px"
    memorised = "Whether a patient could be recognised (memorised training images)"
    assert open_questions[memorised] == "it was switched off"
    assert open_questions["View, by an independent model"] == "only cnn-view-64 tested it"
    assert all(open_questions.values())


def test_a_finding_missed_less_often_than_in_real_images_is_no_failure(results: Any) -> None:
    """Its p value is two-sided and small, too."""
    for row in results["judges"][0]["findings"]:
        row |= {"missed_more": ends(-20, -26, -14), "missed_more_p_adjusted": 0.001}
    assert not any("Missed more often" in line for line in where_it_fails(results))


def test_the_checklist_says_where_or_why_not(results: Any) -> None:
    items = checklist(results)
    assert 20 <= len(items) <= 30
    for item in items:
        assert item.covered == (item.anchor is not None)
        assert item.where.startswith("Not covered because ") != item.covered
    named = {item.item: item for item in items}
    assert not named["Judgement by human experts"].covered
    assert named["Comparison with other models"].anchor == "comparison"
    results["comparison"] = None
    changed = {item.item: item for item in checklist(results)}
    assert not changed["Comparison with other models"].covered


def test_the_glossary_is_sorted_and_explains_every_new_term() -> None:
    terms = [term for term, _ in glossary()]
    assert terms == sorted(terms, key=str.casefold)
    assert {"FD∞", "Near copy", "Range over draws", "Side as asked", "Goal"} <= set(terms)
    assert all(explanation.endswith(".") for _, explanation in glossary())


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
    assert [p_words(p) for p in (0.0004, 0.0123, 0.5, None)] == [
        "p < 0.001",
        "p = 0.012",
        "p = 0.5",
        "",
    ]
    assert per_100(Estimate(value=0.73, low=0.66, high=0.8)) == "73 of 100 (66 to 80)"
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
