"""The section ``fidelity`` from a stage drawn here: what is held against which real pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from arra_med.eval.encoder_sections import Pool, fidelity_section
from arra_med.eval.explanations import group_measures
from arra_med.eval.measures import Resampling

FINDING = "Pleural Effusion"
N = 60


def sample(patient, finding, prompt="A film."):
    return {
        "key": f"{patient}/s",
        "patient_id": patient,
        "view": "PA",
        "labels": {FINDING: finding},
        "prompt": prompt,
    }


def section(pool_samples, pool_features, label_mode="dataset"):
    rng = np.random.default_rng(0)
    samples = [sample(f"p{i}", 1) for i in range(N)]
    patients = [str(row["patient_id"]) for row in samples]
    cohort = SimpleNamespace(
        split="test",
        samples=samples,
        sample_of=samples,
        generated=samples,
        pictures=samples,
        keys=[row["key"] for row in samples],
        patients=patients,
        label_mode=label_mode,
    )
    stage = SimpleNamespace(
        cohort=cohort,
        options=SimpleNamespace(force_fd=False),
        device=torch.device("cpu"),
        resampling=Resampling.of(cohort, 50, rng),
        generator=lambda _: np.random.default_rng(1),
    )
    encoder = SimpleNamespace(
        info=SimpleNamespace(name="e", trained_on="", saw=[], preprocessing=""),
        against=[],
        fitted_splits=[],
        real=rng.normal(size=(N, 8)).astype(np.float32),
        generated=rng.normal(size=(N, 8)).astype(np.float32),
        of=lambda *_: pool_features,
    )
    [row] = fidelity_section(stage, [encoder], Pool(split="train", rows=pool_samples))
    return row, {group["group"]: group for group in row["groups"]}


@pytest.mark.parametrize("label_mode", ["dataset", "prompt"])
def test_groups_are_held_against_as_many_real_pictures_of_the_pool(label_mode):
    features = np.random.default_rng(2).normal(size=(200, 8)).astype(np.float32)
    features[120:] += 3  # a film without the finding is another film
    present = int(label_mode == "dataset")
    pool = [sample(f"t{i}", present, "Large pleural effusion.") for i in range(120)]
    pool += [sample(f"t{i}", 1 - present, "No pleural effusion.") for i in range(120, 200)]
    _, groups = section(pool, features, label_mode)
    view, finding = groups["view PA"], groups[FINDING]
    assert [group["kid_reference_note"] for group in (view, finding)] == ["", ""]
    assert [group["kid_reference"]["draws"] for group in (view, finding)] == [10, 10]
    assert view["kid_reference"]["value"] > 1  # all of the pool
    assert abs(finding["kid_reference"]["value"]) < 0.5


def test_a_pool_that_is_too_small_is_said_beside_the_group():
    features = np.random.default_rng(2).normal(size=(90, 8)).astype(np.float32)
    pool = [sample(f"t{i}", int(i < 40)) for i in range(90)]
    row, groups = section(pool, features)
    words = "Real pictures cut in two, a lenient reference: 30 against 30, not 60 against 60."
    assert {measure.name: words in measure.sentence for measure in group_measures(row)} == {
        "view PA": False,
        FINDING: True,
    }
    assert groups[FINDING]["kid_reference_note"]
