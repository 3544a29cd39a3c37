"""Left and right in prompts: exchanged without leaving a contradiction, read without guessing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.schema import CHEXPERT_LABELS
from arra_med.sides import asked_sides, exchange, exchange_one_side, sides_named

EFFUSION, PNEUMOTHORAX = "Pleural Effusion", "Pneumothorax"


def asked(prompt: str) -> dict[str, str]:
    return asked_sides(prompt, CHEXPERT_LABELS)


@pytest.mark.parametrize(
    ("text", "exchanged"),
    [
        ("Small left pleural effusion.", "Small right pleural effusion."),
        ("Left-sided PICC.", "Right-sided PICC."),
        ("RIGHT LUNG CLEAR", "LEFT LUNG CLEAR"),
        ("opacity (right base)", "opacity (left base)"),
        ("LLL collapse", "RLL collapse"),
        ("rul nodule", "lul nodule"),
        ("RIJ line", "LIJ line"),
        ("left pneumothorax, rightward shift", "right pneumothorax, leftward shift"),
        (
            "Left-sided pacemaker with leads in the right atrium and right ventricle",
            "Right-sided pacemaker with leads in the right atrium and right ventricle",
        ),
        ("left effusion, tube left in place", "right effusion, tube left in place"),
        ("bright upright leftover", "bright upright leftover"),
    ],
)
def test_sides_are_exchanged_in_whole_words_and_keep_their_case(text: str, exchanged: str) -> None:
    assert exchange(text) == exchanged
    assert exchange(exchanged) == text


_PIECES = st.sampled_from(
    ["left", "Right", "LLL", "rightward", "RIGHT", "right atrium", "lung", "left in place", ", ",
     "-sided", ". ", "Ölerguß", " "]
)  # fmt: skip


@given(st.lists(_PIECES).map(" ".join))
def test_exchanging_twice_gives_the_text_back(text: str) -> None:
    assert exchange(exchange(text)) == text
    other = {"left": "right", "right": "left"}
    assert sides_named(exchange(text)) == {other[side] for side in sides_named(text)}


@pytest.mark.parametrize(
    "text",
    [
        "No acute process.",
        "Left effusion and right pneumothorax.",
        "Leads in the right atrium.",
        "Right middle lobe pneumonia.",
        "RML pneumonia, right effusion.",
        "Lingular opacity, left base.",
        "Left lateral decubitus view, left effusion.",
        "LLD film, left effusion.",
        "R PICC, right effusion.",  # the letter would stay and contradict the word
        "R/O right pneumonia.",
        "Right effusion, 4 L drained.",
    ],
)
def test_a_text_that_cannot_be_turned_round_is_left_out(text: str) -> None:
    assert exchange_one_side(text) is None


def test_a_text_that_names_one_side_is_turned_round() -> None:
    text = "Left effusion. Bilateral opacities. L1 fracture, left ventricle large."
    turned = "Right effusion. Bilateral opacities. L1 fracture, left ventricle large."
    assert exchange_one_side(text) == turned


@pytest.mark.parametrize(
    ("prompt", "sides"),
    [
        ("PA view chest x-ray image, Small left pleural effusion.", {EFFUSION: "left"}),
        ("Right-sided pneumothorax, moderate.", {PNEUMOTHORAX: "right"}),
        ("1. 2.3 cm nodule in the right\nupper lung.", {"Lung Lesion": "right"}),
        ("Left lower lobe consolidation, which may represent pneumonia.",
         {"Consolidation": "left"}),
        ("LLL atelectasis.", {"Atelectasis": "left"}),
        ("Right effusion but no pneumothorax.", {EFFUSION: "right"}),
        ("Large left pneumothorax with mediastinal shift to the right.", {PNEUMOTHORAX: "left"}),
        ("Tension pneumothorax on the left shifting the heart to the right.",
         {PNEUMOTHORAX: "left"}),
        ("Left effusion. Right pneumothorax.", {EFFUSION: "left", PNEUMOTHORAX: "right"}),
        ("Left effusion, right pneumothorax.", {EFFUSION: "left", PNEUMOTHORAX: "right"}),
        ("Left effusion is unchanged. The effusion is moderate.", {EFFUSION: "left"}),
        ("Left hydropneumothorax.", {EFFUSION: "left", PNEUMOTHORAX: "left"}),
        ("Infiltration of the right lung.", {"Lung Opacity": "right"}),
    ],
)  # fmt: skip
def test_the_side_stands_in_the_finding_s_clause(prompt: str, sides: dict[str, str]) -> None:
    assert asked(prompt) == sides


@pytest.mark.parametrize(
    "prompt",
    [
        "Bilateral pleural effusions, left greater than right.",
        "Pleural effusions, right greater than left.",
        "Right and left pleural effusions.",
        "Right > left effusion.",
        "Left effusion. Small right effusion.",
        "Left effusion and bilateral effusions.",
        "No left pleural effusion.",
        "No pneumothorax or left pleural effusion.",
        "The left lung is clear without effusion.",
        "Left effusion has resolved.",
        "Possible left effusion.",
        "Left effusion cannot be excluded.",
        "Effusion. Left pacemaker.",
        "Pericardial effusion, left ventricle enlarged.",
        "Effusion, leads in the right atrium.",
        "Left cardiomegaly. Left PICC.",
        "Both lungs show consolidation, left too.",
        "",
    ],
)
def test_what_is_on_both_sides_negated_or_uncertain_is_not_asked(prompt: str) -> None:
    assert asked(prompt) == {}


def test_findings_of_other_names_are_looked_for_by_their_name() -> None:
    found = asked_sides("Left rib  notching. Right sail sign.", ["Rib notching", "sail-sign", "?"])
    assert found == {"Rib notching": "left", "sail-sign": "right"}


def test_exchanged_prompts_ask_for_the_other_side() -> None:
    prompt = "PA view chest x-ray image, Large left pneumothorax. 3.1 cm left lung mass. No edema."
    turned = exchange_one_side(prompt)
    assert turned is not None
    assert set(asked(prompt).values()) == {"left"}
    assert asked(turned) == dict.fromkeys(asked(prompt), "right")
