import numpy as np
import pytest

from arra_med.eval.fidelity import FeatureStats, frechet_of_stats


def samples(n, d, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mixing + shift


def test_feature_stats_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="expected \\(N, 4\\)"):
        FeatureStats(4).update(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="1 of 3 feature vectors hold NaN"):
        FeatureStats(2).update([[0.0, 1], [np.nan, 1], [0, 0]])
    with pytest.raises(ValueError, match="at least 2 vectors, has 1"):
        _ = FeatureStats(2).update([[0.0, 1]]).cov
    with pytest.raises(ValueError, match="cannot merge"):
        FeatureStats(2).merge(FeatureStats(3))
    with pytest.raises(ValueError, match="cannot compare"):
        frechet_of_stats(FeatureStats(2), FeatureStats(3))
    for wrong in (np.zeros((3, 2), np.uint8), np.zeros((3, 2), bool), np.zeros((3, 2), complex)):
        with pytest.raises(ValueError, match=f"floating-point features, got {wrong.dtype}"):
            FeatureStats(2).update(wrong)
    with pytest.raises(ValueError, match="expected \\(N, D\\) features, got \\(2,\\)"):
        FeatureStats(2).update(np.zeros(2))


def test_updating_does_not_touch_what_was_handed_out():
    stats = FeatureStats(2).update(np.eye(2))
    mean = stats.mean
    stats.update(np.ones((5, 2)))
    np.testing.assert_array_equal(mean, [0.5, 0.5])
