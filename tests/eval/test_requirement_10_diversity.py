"""Requirement 10: a collapsed generator (one picture over and over) has recall ≈ 0 and MS-SSIM ≈ 1;
nothing depends on batch size.
"""

import numpy as np
import torch

from arra_med.eval.fidelity import prdc
from arra_med.eval.similarity import (
    diversity,
    feature_diversity,
    paired,
    random_pairs,
    same_prompt_pairs,
)
from tests.eval.test_prdc import samples
from tests.eval.test_similarity import pictures, pngs

CPU = torch.device("cpu")


def test_a_collapsed_generator_has_no_recall():
    real = samples(60, 4, 19)
    collapsed = np.tile(real[:1], (60, 1))
    result = prdc(real, collapsed)
    assert result.recall == 0
    assert result.coverage < 0.2
    assert result.precision == 1


def test_nothing_depends_on_the_rows_at_once(monkeypatch):
    real, fake = samples(70, 6, 38), samples(50, 6, 39)
    whole = prdc(real, fake)
    monkeypatch.setattr("arra_med.eval.prdc._ROWS_AT_ONCE", 3)
    assert prdc(real, fake) == whole


def test_paired_does_not_depend_on_batch_size():
    x, y = pngs(pictures(7)), pngs(pictures(7, seed=1))
    one, many = (paired(x, y, batch_size=n, device=CPU) for n in (1, 4))
    np.testing.assert_allclose(one, many, atol=1e-6)
    assert one.shape == (7,)
    assert one.max() < 0.9


def test_a_collapsed_set_has_diversity_one():
    same = pngs(pictures(1)) * 6
    pairs = random_pairs([str(i) for i in range(6)], 10, np.random.default_rng(0))
    collapsed = diversity(same, pairs, batch_size=4, device=CPU)
    np.testing.assert_allclose(collapsed, 1, atol=1e-5)
    varied = diversity(pngs(pictures(6)), pairs, batch_size=4, device=CPU)
    assert varied.mean() < 0.8


def test_diversity_does_not_depend_on_batch_size():
    pairs = random_pairs([str(i) for i in range(6)], 9, np.random.default_rng(0))
    one, many = (diversity(pngs(pictures(6)), pairs, batch_size=n, device=CPU) for n in (1, 5))
    np.testing.assert_allclose(one, many, atol=1e-6)


def test_collapsed_features_have_no_diversity():
    same = np.tile(np.random.default_rng(0).normal(size=(1, 8)), (6, 1))
    pairs = same_prompt_pairs(["a"] * 3 + ["b"] * 3, 100, np.random.default_rng(0))
    np.testing.assert_allclose(feature_diversity(same, pairs), 0)
