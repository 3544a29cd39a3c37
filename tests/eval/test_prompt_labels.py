"""Labels read from prompts: where they stand in, and how they compare with a data set's own."""

from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from arra_med.datasets.phantom.cxr_plan import plan_studies
from arra_med.datasets.reports import to_prompt
from arra_med.eval.prompt_labels import with_labels
from arra_med.eval.results_schema import results_schema
from arra_med.schema import CHEXPERT_LABELS

NAMES = ("Pleural Effusion", "Pneumothorax", "Edema")


def sample(prompt: str, **labels: int | None) -> dict[str, Any]:
    named = dict(zip(NAMES, (labels.get(k) for k in ("effusion", "air", "edema")), strict=True))
    return {"key": prompt, "prompt": f"PA view chest x-ray image, {prompt}", "labels": named}


def labels_of(samples: list[dict[str, Any]]) -> list[tuple[int | None, ...]]:
    return [tuple(row["labels"][name] for name in NAMES) for row in samples]


def test_only_samples_without_any_label_are_filled_in() -> None:
    samples = [
        sample("Small effusion, no pneumothorax."),
        sample("Small effusion, no pneumothorax.", air=1),
        sample("Possible edema."),
    ]
    before = labels_of(samples)
    filled, section = with_labels(samples, "dataset")
    assert labels_of(filled) == [(1, 0, None), (None, 1, None), (None, None, -1)]
    assert labels_of(samples) == before
    assert [row["key"] for row in filled] == [row["key"] for row in samples]
    assert (section["labelled"], section["checked"]) == (2, 1)


def test_mode_prompt_replaces_all() -> None:
    samples = [sample("Small effusion, no pneumothorax.", air=1), sample("Edema.")]
    filled, section = with_labels(samples, "prompt")
    assert labels_of(filled) == [(1, 0, None), (None, None, 1)]
    assert (section["labelled"], section["checked"]) == (2, 1)


def test_figures_are_those_of_scikit_learn() -> None:
    samples = [
        *(sample("Effusion.", effusion=1) for _ in range(5)),
        *(sample("No effusion.", effusion=1) for _ in range(2)),
        *(sample("Effusion.", effusion=0) for _ in range(1)),
        *(sample("Possible effusion.", effusion=0) for _ in range(2)),
        *(sample("Clear.", effusion=None, air=0) for _ in range(4)),
        *(sample("Effusion.", effusion=-1) for _ in range(3)),
        sample("Effusion."),
    ]
    _, section = with_labels(samples, "dataset")
    rows = {row["finding"]: row for row in section["findings"]}
    own, read = [1] * 7 + [0] * 7, [1] * 5 + [0] * 2 + [1] + [0] * 6
    assert rows["Pleural Effusion"] == pytest.approx(
        {
            "finding": "Pleural Effusion", "n": 14, "agreement": 11 / 14, "sensitivity": 5 / 7,
            "specificity": 6 / 7, "kappa": cohen_kappa_score(own, read),
        }
    )  # fmt: skip
    air = rows["Pneumothorax"]
    assert (air["n"], air["agreement"], air["specificity"]) == (17, 1, 1)
    assert air["sensitivity"] is air["kappa"] is None
    assert "Edema" not in rows
    assert section["note"] == ""


def test_labels_with_other_names_are_left_alone() -> None:
    samples = [
        {"prompt": "drusen, effusion", "labels": {"drusen": None, "glaucoma": None}},
        {"prompt": "no drusen", "labels": {"drusen": 0, "glaucoma": 1}},
    ]
    for mode in ("dataset", "prompt"):
        filled, section = with_labels(samples, mode)
        assert filled == samples
        assert (section["labelled"], section["checked"], section["findings"]) == (0, 0, [])
        assert "not CheXpert's" in section["note"]


def test_names_beside_chexpert_s_are_kept() -> None:
    samples = [{"prompt": "Effusion.", "labels": {"Pleural Effusion": None, "drusen": None}}]
    filled, section = with_labels(samples, "dataset")
    assert filled[0]["labels"] == {"Pleural Effusion": 1, "drusen": None}
    assert "not measured" in section["note"]


def test_no_sample() -> None:
    assert with_labels([], "dataset")[1]["labelled"] == 0


def test_drawn_reports_agree_in_every_finding() -> None:
    samples = []
    for study in plan_studies(400, seed=4, shares=(0.8, 0.1, 0.1)):
        prompt = to_prompt(study.report.text, "PA")
        assert prompt is not None
        labels = dict.fromkeys(CHEXPERT_LABELS) | study.report.labels
        samples.append({"prompt": prompt.text, "labels": labels})
    filled, section = with_labels(samples, "prompt")
    assert filled == samples
    assert section["checked"] == section["labelled"] == len(samples) > 300
    for row in section["findings"]:
        assert row["agreement"] == row["specificity"] == 1, row
        assert row["sensitivity"] in (1, None)
    assert set(section) <= set(results_schema()["properties"]["labels"]["properties"])
