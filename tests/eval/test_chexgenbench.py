"""Rows by the benchmark's own libraries, and what is said of whether ours compare with theirs."""

import json

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from prdc import compute_prdc
from torchmetrics.image.fid import FrechetInceptionDistance

from arra_med.eval.chexgenbench import PUBLISHED, benchmark_row, benchmark_section
from arra_med.eval.results_schema import results_schema

OFFICIAL = {
    "extractor": "raddino-cxgb-compat@dbfb9f54",
    "dataset": "mimic-cxr",
    "split": "test",
    "n_real": 2000,
    "n_generated": 1900,
}


class Identity(torch.nn.Module):
    """Features as they are, through torchmetrics' own interface."""

    num_features = 16

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def samples(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 16)) @ np.random.default_rng(99).normal(size=(16, 16)) + shift


def test_requirement_5_rows_equal_torchmetrics_and_prdc():
    real, made = samples(300, 1), samples(260, 2, shift=0.4)
    row = benchmark_row("ours", real, made)
    metric = FrechetInceptionDistance(feature=Identity(), normalize=False).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(made), real=False)
    assert row["fd"] == pytest.approx(float(metric.compute()), abs=1e-4)
    expected = compute_prdc(real, made, nearest_k=5)
    for name in ("precision", "recall", "coverage"):
        assert row[name] == pytest.approx(expected[name], abs=1e-4)
    assert "fd_note" not in row


def test_requirement_3_too_few_pictures_give_no_distance_unless_forced():
    real, made = samples(300, 3), samples(20, 4)
    row = benchmark_row("ours", real, made)
    assert row["fd"] is None
    assert row["fd_note"] == "not given: 20 pictures, 32 are needed for 16 features"
    assert row["recall"] is not None
    forced = benchmark_row("ours", real, made, forced=True)
    assert forced["fd"] > 0
    assert forced["fd_note"].startswith("mostly bias")
    assert "5 neighbours" in benchmark_row("ours", real, made[:4])["recall_note"]


def test_the_section_has_the_form_of_the_results_file_and_ours_first():
    row = benchmark_row("ours", samples(40, 5), samples(40, 6))
    section = benchmark_section([row], **OFFICIAL)
    form = results_schema()["properties"]["comparison"]["properties"]["chexgenbench"]
    Draft202012Validator(form | {"$defs": results_schema()["$defs"]}).validate(
        json.loads(json.dumps(section, allow_nan=False))
    )
    assert section["comparable"]
    assert [one["ours"] for one in section["rows"]] == [True, *[False] * len(PUBLISHED)]
    assert "2000 real and 1900 generated" in section["note"]
    assert "LLaVA-Rad" in section["note"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extractor": "cnn-64"}, "the extractor is cnn-64"),
        ({"extractor": "rad-dino/cls@0123abcd"}, "the benchmark's is raddino-cxgb-compat"),
        (
            {"extractor": "raddino-cxgb-compat@0123abcd"},
            "not those published as microsoft/rad-dino",
        ),
        ({"extractor": None}, "no row of ours"),
        ({"dataset": "phantom-cxr"}, "the pictures are of phantom-cxr"),
        ({"split": "validate"}, "the validate split was drawn"),
    ],
)
def test_what_differs_is_said(change, words):
    section = benchmark_section([], **(OFFICIAL | change))
    assert not section["comparable"]
    assert words in section["note"]


def test_published_rows_and_their_sources():
    rows = {one.name: (one.fd, one.recall, one.coverage) for one in PUBLISHED}
    assert rows == {
        "Sana .60B": (54.2, 0.614, 0.548),
        "PixArt-Σ": (60.2, 0.522, 0.506),
        "RadEdit": (69.7, 0.544, 0.285),
        "LLM-CXR": (71.2, 0.041, 0.459),
        "UniX-512": (54.0, 0.479, 0.550),
    }
    sources = {one.name: one.source for one in PUBLISHED}
    assert "shards" in sources["UniX-512"]
    assert sources["Sana .60B"] == "CheXGenBench, arXiv 2505.10496"
    assert next(one for one in PUBLISHED if one.name == "LLM-CXR").precision == 0.782
