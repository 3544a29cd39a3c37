"""Labels from report text: sentence by sentence, on drawn reports, on real ones."""

import re
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.datasets.labeller import is_english, label_text
from arra_med.datasets.phantom.cxr_plan import plan_studies
from arra_med.datasets.reports import to_prompt
from arra_med.schema import CHEXPERT_LABELS
from tests.datasets import labelled_sentences as said

CASES = (*said.PRESENT, *said.ABSENT, *said.UNCERTAIN, *said.TRAPS)
CASES += tuple((sentence, {}) for sentence in said.NOTHING)


def found(text: str) -> dict[str, int]:
    """What a text says of the 13 findings."""
    labels = label_text(text)
    labels.pop("No Finding")
    return {name: value for name, value in labels.items() if value is not None}


def test_number_of_cases() -> None:
    assert len({sentence for sentence, _ in CASES}) == len(CASES) >= 110


@pytest.mark.parametrize(("sentence", "expected"), CASES, ids=[case[0][:60] for case in CASES])
def test_one_sentence(sentence: str, expected: dict[str, int]) -> None:
    assert found(sentence) == expected
    prompt = f"PA view chest x-ray image, {sentence}"
    assert found(prompt) == expected
    assert found(sentence.upper()) == expected


def test_of_several_mentions_present_wins_then_uncertain() -> None:
    text = "No right effusion. Possible left effusion. Possible nodule. A nodule is seen. No edema."
    assert found(text) == {"Pleural Effusion": -1, "Lung Lesion": 1, "Edema": 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No acute process.", 1),
        ("Left PICC in place. No pneumothorax.", 1),
        ("Possible effusion.", None),
        ("Mild cardiomegaly.", None),
        ("", None),
        ("___.", None),
        ("PA view chest x-ray image, ___", None),
    ],
)
def test_no_finding(text: str, expected: int | None) -> None:
    assert label_text(text)["No Finding"] == expected


def test_numbered_lists_and_placeholders() -> None:
    text = "1. Small XXXX effusion, unchanged from ___. 2. No pneumothorax.\n\n3. Heart is normal."
    assert found(text) == {"Pleural Effusion": 1, "Pneumothorax": 0, "Cardiomegaly": 0}


WORDS = [*"a. ,;:()\n?12_/-'", "no", "effusion", "or", "likely", "heart", "has", "resolved", "with"]


@given(st.lists(st.sampled_from(WORDS)).map(" ".join) | st.text())
def test_any_text_gives_labels(text: str) -> None:
    labels = label_text(text)
    assert tuple(labels) == CHEXPERT_LABELS
    assert set(labels.values()) <= {None, -1, 0, 1}
    assert label_text(text) == labels
    others = {v for name, v in labels.items() if name not in ("No Finding", "Support Devices")}
    assert labels["No Finding"] in (None, 1)
    if labels["No Finding"] == 1:
        assert not others & {1, -1}


def test_drawn_reports_are_read_without_a_fault() -> None:
    """Every one of the 14 labels of some 850 reports, as their table holds them."""
    wrong = []
    studies = plan_studies(1000, seed=11, shares=(0.8, 0.1, 0.1))
    for study in studies:
        report = study.report
        prompt = to_prompt(report.text, "PA")
        assert prompt is not None
        expected = dict.fromkeys(CHEXPERT_LABELS) | report.labels
        if label_text(prompt.text) != expected:
            wrong.append(prompt.text)
    assert len(studies) > 800
    assert not wrong


INDEXED: dict[str, str] = {
    "Pleural Effusion": r"Pleural Effusion|Hydropneumo|Hemopneumo",
    "Pneumothorax": r"Pneumothorax|Hydropneumo|Hemopneumo",
    "Cardiomegaly": r"Cardiomegaly(?!.*borderline)|Cardiac Shadow/enlarged(?!.*borderline)",
    "Atelectasis": r"Pulmonary Atelectasis",
    "Lung Opacity": r"Opacity|Airspace Disease|Infiltrate|Density/lung|Cicatrix/lung"
    r"|Pulmonary Fibrosis|Lung Diseases, Interstitial|Markings/.*interstit",
    "Edema": r"Pulmonary Edema|Pulmonary Congestion|Heart Failure",
    "Consolidation": r"Consolidation",
    "Pneumonia": r"Pneumonia",
    "Fracture": r"Fractures, Bone",
    "Lung Lesion": r"Nodule|Mass|Cavitation|(?:Opacity|Density|Infiltrate).*/round",
    "Support Devices": r"Catheters, Indwelling|Implanted Medical|Tube, Inserted|Medical Device"
    r"|Stents",
}
"""Finding → headings under which the indexers of Indiana University's reports put it."""

FLOORS = {  # sensitivity and specificity for "present"
    "Pleural Effusion": (0.88, 0.995),
    "Pneumothorax": (0.85, 0.995),
    "Cardiomegaly": (0.96, 0.99),
    "Atelectasis": (0.88, 0.99),
    "Lung Opacity": (0.92, 0.98),
    "Edema": (0.90, 0.995),
    "Consolidation": (0.93, 0.995),
    "Pneumonia": (0.82, 0.99),
    "Fracture": (0.92, 0.99),
    "Lung Lesion": (0.82, 0.99),
    "Support Devices": (0.79, 0.99),
}


@pytest.mark.real_data
def test_real_reports_against_their_indexers(
    real_data: Path, record_property: Callable[[str, object], None]
) -> None:
    """Indiana University's reports carry headings that people gave them.

    They are no CheXpert labels: a "probable" effusion is indexed and here uncertain, removed words
    ("XXXX") hide some findings, and headings know no denial. So only "present" is compared.
    The rules were mended after reading where they and these headings differ, so that the figures
    are those of reports already seen, not of new ones.
    """
    present: dict[str, list[tuple[bool, bool]]] = {name: [] for name in INDEXED}
    with tarfile.open(real_data / "iu_xray" / "NLMCXR_reports.tgz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".xml") else None
            if file is None:
                continue
            root = ET.parse(file).getroot()
            headings = [(heading.text or "").strip() for heading in root.iter("major")]
            parts = {part.get("Label"): part.text or "" for part in root.iter("AbstractText")}
            text = f"{parts.get('FINDINGS', '')}\n\n{parts.get('IMPRESSION', '')}"
            unusable = any(h.startswith(("No Indexing", "Technical Quality")) for h in headings)
            if unusable or not text.strip():
                continue
            labels = label_text(text)
            for name, pattern in INDEXED.items():
                indexed = any(re.match(pattern, heading) for heading in headings)
                present[name].append((indexed, labels[name] == 1))
    for name, pairs in present.items():
        said_so = [found for indexed, found in pairs if indexed]
        not_said = [not found for indexed, found in pairs if not indexed]
        measured = (sum(said_so) / len(said_so), sum(not_said) / len(not_said))
        record_property(name, measured)
        least = FLOORS[name]
        assert measured[0] >= least[0], (name, measured)
        assert measured[1] >= least[1], (name, measured)
    assert len(present["Edema"]) == 3746


@pytest.mark.parametrize(
    "text",
    [
        "Kein Pneumothorax.", "Keine Konsolidation, kein Erguss.", "Pas de pneumothorax.",
        "Geen pneumothorax.", "Ausschluss Pneumothorax", "Sin derrame pleural.",
        "No se observa neumotórax.", "Nessun pneumotorace.", "Sem pneumotórax.",
        "PA view chest x-ray image, Herz und Lunge unauffällig.",
    ],
)  # fmt: skip
def test_what_another_language_denies_is_not_taken_for_a_finding(text: str) -> None:
    assert set(label_text(text).values()) == {None}
    assert not is_english(text)
