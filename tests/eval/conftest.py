"""A realistic evaluation folder, drawn and written here: what the report's tests read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arra_med.images import encode_png

Results = dict[str, Any]


def estimate(value: float, half: float, n: int | None = None) -> Results:
    """A value with a symmetric interval, kept within [-1, 1]."""
    ends: Results = {"value": value, "low": max(-1.0, value - half), "high": min(1.0, value + half)}
    return ends if n is None else ends | {"n": n}


def finding(name: str, positives: int, real: float, made: float, half: float = 0.05) -> Results:
    missed, real_missed = 100 * (1 - made) * 0.9, 100 * (1 - real) * 0.9
    return {
        "finding": name,
        "positives": positives,
        "negatives": 260 - positives,
        "uncertain": 12,
        "unknown": 28,
        "status": "scored",
        "threshold": 0.37,
        "auroc_real": estimate(real, 0.03),
        "auroc_generated": estimate(made, half),
        "auroc_difference": estimate(made - real, half),
        "sensitivity": estimate(1 - missed / 100, 0.07),
        "specificity": estimate(1 - 0.8 * missed / 100, 0.05),
        "missed_per_100": missed,
        "invented_per_100": 0.8 * missed,
        "real_missed_per_100": real_missed,
        "real_invented_per_100": 0.8 * real_missed,
        "agreement": estimate(0.5 + made / 3, 0.04),
        "warning": None,
    }


def too_few(name: str, positives: int) -> Results:
    row = dict.fromkeys(finding(name, positives, 0.9, 0.8))
    return row | {
        "finding": name,
        "positives": positives,
        "negatives": 280 - positives,
        "uncertain": 4,
        "unknown": 16,
        "status": "too few",
        "status_note": "7 prompts with it and 40 without; 20 of each are needed",
    }


def fidelity(name: str, *, independent: bool, trained_on: str, dimension: int) -> Results:
    return {
        "extractor": name,
        "dimension": dimension,
        "trained_on": trained_on,
        "preprocessing": "64 px, grey, values in [0, 1]",
        "independent": independent,
        "n_real": 300,
        "n_generated": 600,
        "fd": 21.4,
        "fd_note": "",
        "fd_reference": 6.1,
        "kid": {"value": 0.0213, "low": 0.0181, "high": 0.0248},
        "kid_reference": {"value": 0.0002, "low": -0.0011, "high": 0.0016},
        "precision": 0.71,
        "recall": 0.44,
        "density": 0.83,
        "coverage": 0.58,
        "prdc_k": 5,
        "prdc_reference": {"precision": 0.88, "recall": 0.87, "density": 0.99, "coverage": 0.95},
    }


def panel(rule: str, number: int) -> Results:
    prompts = (
        "PA view chest x-ray image, moderate left pleural effusion. Heart size is normal.",
        "AP view chest x-ray image, cardiomegaly. No pneumothorax or focal consolidation.",
        "PA view chest x-ray image, right lower lobe consolidation, may represent pneumonia.",
        "Lateral view chest x-ray image, no acute cardiopulmonary process.",
    )
    asked = (["Pleural Effusion"], ["Cardiomegaly"], ["Consolidation"], [])[number % 4]
    names = ("Pleural Effusion", "Cardiomegaly", "Consolidation", "Nodule", "Support Devices")
    rng = np.random.default_rng(number)
    made = {name: float(rng.uniform(0.02, 0.3)) for name in names}
    real = {name: float(rng.uniform(0.02, 0.3)) for name in names}
    for name in asked:
        made[name] = 0.12 if rule == "worst" else 0.83
        real[name] = 0.93
    if rule == "worst":
        made["Nodule"] = 0.71
    stem = f"panels/{rule}-{number}"
    return {
        "rule": rule,
        "key": f"p{1000 + number}/s{number}/d{number}",
        "index": number % 2,
        "view": ("PA", "AP", "PA", "lateral")[number % 4],
        "prompt": prompts[number % 4],
        "generated": f"{stem}-generated.png",
        "real": f"{stem}-real.png",
        "asked": asked,
        "judge_generated": made,
        "judge_real": real,
    }


def build_results() -> Results:
    """What ``evaluate`` writes for a fair generator of phantoms."""
    findings = [
        finding("Pleural Effusion", 84, 0.94, 0.86),
        finding("Cardiomegaly", 71, 0.95, 0.90, 0.04),
        finding("Pneumothorax", 38, 0.91, 0.63, 0.10),
        finding("Consolidation", 52, 0.88, 0.74, 0.07),
        finding("Nodule", 29, 0.83, 0.53, 0.11),
        finding("Support Devices", 60, 0.90, 0.96, 0.03),
        too_few("Enlarged Cardiomediastinum", 7),
        too_few("Fracture", 1),
    ]
    findings[5]["auroc_difference"] = estimate(0.06, 0.03)
    findings[5]["warning"] = (
        "the judge recognises this finding better in generated than in real pictures: a sign of "
        "caricature, not of quality"
    )
    return {
        "kind": "evaluation",
        "schema_version": 1,
        "status": "complete",
        "status_reasons": [],
        "model": {
            "name": "phantom-llama-arra",
            "backbone": {"kind": "llama", "layers": 4, "hidden_size": 256},
            "teacher": {"name": "linear", "weights": "ab" * 32},
            "alignment": {"span": "rep", "layer": 2, "objective": "cosine", "weight": 1.0},
            "steps": 1200,
        },
        "cohort": {
            "split": "test",
            "prompts": 300,
            "generated": 600,
            "images_per_prompt": 2,
            "real": 300,
            "patients": 214,
            "unreadable": [],
            "views": {"AP": 96, "PA": 141, "lateral": 63},
            "flow": [
                {"step": "samples in the prepared folder", "count": 2000},
                {"step": "of other splits than test", "count": 1700},
                {"step": "real pictures of the test split", "count": 300},
                {"step": "of these, not drawn", "count": 0},
                {"step": "prompts drawn", "count": 300},
                {"step": "pictures generated (2 a prompt)", "count": 600},
                {"step": "of these, unreadable and left out", "count": 0},
                {"step": "pictures evaluated", "count": 600},
            ],
        },
        "fidelity": [
            fidelity(
                "cnn-64",
                independent=True,
                trained_on="labels of the train split of drawn phantoms",
                dimension=128,
            ),
            fidelity(
                "linear-teacher",
                independent=False,
                trained_on="labels of the train split of drawn phantoms",
                dimension=64,
            )
            | {"fd": None, "fd_note": "not given: 90 pictures are too few", "recall": 0.61},
        ],
        "similarity": {
            "paired": estimate(0.412, 0.012, 600),
            "paired_floor": estimate(0.355, 0.011, 600),
            "diversity_generated": estimate(0.431, 0.009, 2000),
            "diversity_real": estimate(0.362, 0.010, 2000),
            "method": "MS-SSIM (MONAI) at 64 px: 3 scales, data range 255",
        },
        "judge": {
            "name": "cnn-judge-64",
            "trained_on": "labels of the train split of drawn phantoms",
            "preprocessing": "64 px, grey",
            "independent": True,
            "threshold_rule": "balanced point on the real pictures of the validate split",
        },
        "findings": findings,
        "overall": {"auroc_real": estimate(0.902, 0.014), "auroc_generated": estimate(0.77, 0.028)},
        "panels": [panel("random", n) for n in range(4)]
        + [panel("worst", n) for n in range(3)]
        + [panel("best", n) for n in range(1, 3)],
        "protocol": {
            "seed": 7,
            "bootstrap": 1000,
            "min_positives": 20,
            "versions": {"arra_med": "0.1.0", "torch": "2.14.0", "monai": "1.5.1"},
            "prepared": "9f" * 32,
            "generated": "4c" * 32,
            "extractor": {"plugin": "cnn", "weights": "e1" * 32, "prepared": "9f" * 32},
            "judge": {"plugin": "cnn", "weights": "d3" * 32, "prepared": "9f" * 32},
            "uncertain_labels": "left out",
            "resize": "none: all pictures are 64 px",
        },
    }


def draw_picture(seed: int, size: int = 64) -> np.ndarray:
    """Something like a chest film: two dark lungs, a bright heart, a blurred edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    picture = 150 - 40 * (np.abs(x) > 0.85) + 6 * np.cos(18 * (y + 0.3 * np.abs(x)))
    for side in (-0.42, 0.42):
        lung = ((x - side) / 0.33) ** 2 + ((y + 0.05) / 0.68) ** 2
        picture -= 95 / (1 + np.exp(9 * (lung - 1)))
    heart = ((x - 0.12) / rng.uniform(0.25, 0.42)) ** 2 + ((y - 0.35) / 0.3) ** 2
    picture += 75 / (1 + np.exp(8 * (heart - 1)))
    picture += rng.normal(0, 4, picture.shape)
    return np.asarray(picture.clip(0, 255).astype(np.uint8)[..., None])


def write_example(folder: Path, results: Results) -> Path:
    """Write ``results.json`` and a picture for each panel."""
    for row in results["panels"] or []:
        for side, name in enumerate((row["generated"], row["real"])):
            if name is not None:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode_png(draw_picture(2 * len(name) + 7 * row["index"] + side)))
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


@pytest.fixture
def results() -> Results:
    """A complete evaluation; a test may change its copy."""
    return build_results()


@pytest.fixture
def write_evaluation(tmp_path: Path) -> Callable[[Results], Path]:
    """Writes an evaluation folder for the given results."""
    return lambda content: write_example(tmp_path / "evaluation", content)
