"""A realistic evaluation folder, drawn and written here: what the report's tests read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.evaluate import evaluate
from arra_med.eval.judge_cnn import CnnJudge
from arra_med.generation.metadata import with_text
from arra_med.images import encode_png
from arra_med.settings import Evaluation, Paths, Settings
from arra_med.store import PreparedFolder
from tests.eval import example_results as example
from tests.eval.example_results import Results
from tests.eval.little import (
    QUICK,
    generation_rows,
    pictures_for,
    write_generated,
    write_prepared,
)

CPU = torch.device("cpu")


def build_results() -> Results:
    """What ``evaluate`` writes for a fair generator of phantoms."""
    return {
        "kind": "evaluation",
        "schema_version": 1,
        "status": "complete",
        "status_reasons": [],
        "goals": example.goals(),
        "model": {
            "name": "phantom-llama-arra",
            "backbone": {"kind": "llama", "layers": 4, "hidden_size": 256},
            "teacher": {"name": "linear", "weights": "ab" * 32},
            "alignment": {"span": "rep", "layer": 2, "objective": "cosine", "weight": 1.0},
            "steps": 1200,
        },
        "cohort": {
            "dataset": "phantom",
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
            "labels_from": {"dataset": 270, "prompt": 30},
            "resized": None,
        },
        "preflight": example.preflight(),
        "fidelity": [
            example.fidelity("cnn-64", independent=True, dimension=128),
            example.fidelity("linear-teacher", independent=False, dimension=64)
            | {"fd": None, "fd_note": "not given: 90 pictures are too few", "recall": 0.61}
            | {"fd_infinity": None},
        ],
        "similarity": {
            "paired": example.estimate(0.412, 0.012, 600),
            "paired_floor": example.estimate(0.355, 0.011, 600),
            "diversity_generated": example.estimate(0.431, 0.009, 2000),
            "diversity_real": example.estimate(0.362, 0.010, 2000),
            "same_prompt_generated": example.estimate(0.634, 0.014, 600) | {"pairs": 300},
            "method": "MS-SSIM (MONAI) at 64 px: 3 scales, data range 255",
        },
        "judges": example.judges(),
        "view": example.view(),
        "laterality": example.laterality(),
        "text": [
            example.text("clip-64", independent=True, normalised=0.58),
            example.text("linear-teacher-text", independent=False, normalised=0.84),
        ],
        "memorisation": example.memorisation(),
        "labels": {
            "labelled": 30,
            "checked": 270,
            "findings": [
                {"finding": "Pleural Effusion", "n": 262, "agreement": 0.97, "kappa": 0.93}
                | {"sensitivity": 0.96, "specificity": 0.98},
                {"finding": "Nodule", "n": 259, "agreement": 0.99, "kappa": 0.95}
                | {"sensitivity": 0.93, "specificity": 1.0},
            ],
            "note": "",
        },
        "comparison": example.comparison(),
        "panels": [example.panel("random", n) for n in range(4)]
        + [example.panel("worst", n) for n in range(3)]
        + [example.panel("best", n) for n in range(1, 3)]
        + [example.panel("closest", n) for n in (1, 3)],
        "protocol": {
            "seed": 7,
            "bootstrap": 1000,
            "min_positives": 20,
            "versions": {"arra_med": "0.1.0", "torch": "2.14.0", "monai": "1.5.1"},
            "prepared": "9f" * 32,
            "generated": "4c" * 32,
            "extractors": [{"plugin": "cnn", "weights": "e1" * 32, "fitted_splits": ["train"]}],
            "judges": [{"plugin": "cnn", "weights": "d3" * 32, "fitted_splits": ["train"]}],
            "intervals": "95 %, percentile bootstrap over patients; KID's over pictures",
            "multiplicity": "Holm over the scored findings of a judge",
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
                png = encode_png(draw_picture(2 * len(name) + 7 * row["index"] + side))
                path.write_bytes(with_text(png, {"key": row["key"]}))  # as drawn pictures are
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


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A prepared folder and a judge fitted on it."""
    folder = tmp_path_factory.mktemp("base")
    prepared = write_prepared(folder / "prepared")
    CnnJudge.fit(CnnOptions(weights=folder / "judge", **QUICK), prepared, CPU)
    return folder


@pytest.fixture
def little(base):
    """The prepared folder of 160 little pictures."""
    return PreparedFolder(base / "prepared")


@pytest.fixture
def run(base, tmp_path):
    """Evaluates the pictures in ``tmp_path/generated``."""

    def run_it(name="evaluation", *, weights=None, prepared_folder=None, **changes):
        options = CnnOptions(weights=weights or base / "judge", **QUICK)
        plugin = PluginConfig(name="cnn", options=options)
        values = {"bootstrap": 100, "min_positives": 8, "panels": 8, "batch_size": 16} | changes
        settings = Settings(
            paths=Paths(
                output=tmp_path,
                prepared=prepared_folder or base / "prepared",
                generated=tmp_path / "generated",
                evaluation=tmp_path / name,
            ),
            evaluation=Evaluation(**{"judges": (plugin,), "extractors": (plugin,)} | values),
        )
        return evaluate(settings, device=CPU)

    return run_it


@pytest.fixture
def generated(little, tmp_path):
    rows = generation_rows(little)
    return write_generated(tmp_path / "generated", rows, pictures_for(little, rows))
