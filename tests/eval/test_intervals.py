import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from arra_med.eval.intervals import (
    ClusteredBootstrap,
    auroc,
    average,
    difference,
    exact_share,
    pair_mean,
    weighted_mean,
)


def bootstrap(clusters, seed=0, replicates=500):
    return ClusteredBootstrap(
        clusters, replicates=replicates, generator=np.random.default_rng(seed)
    )


def test_auroc_equals_sklearn_with_ties_weights_and_masked_labels():
    rng = np.random.default_rng(0)
    labels = rng.choice([1, 0, -1, np.nan], size=200)
    scores = rng.integers(0, 12, size=200) / 12  # many ties
    weights = rng.integers(0, 4, size=(5, 200)).astype(float)
    known = np.isin(labels, [0, 1])
    expected = [
        roc_auc_score(labels[known], scores[known], sample_weight=row[known]) for row in weights
    ]
    np.testing.assert_allclose(auroc(labels, scores)(weights), expected, atol=1e-12)


def test_auroc_without_a_class_is_undefined():
    assert np.isnan(auroc(np.array([1.0, 1.0]), np.array([0.2, 0.4]))(np.ones((1, 2)))).all()


def test_weighted_mean_leaves_out_nan():
    statistic = weighted_mean(np.array([1.0, np.nan, 4.0]))
    np.testing.assert_allclose(statistic(np.array([[1, 1, 1], [2, 9, 1]])), [2.5, 2.0])


def test_pair_mean_weighs_a_pair_by_both_ends():
    statistic = pair_mean(np.array([[0, 1], [1, 2]]), np.array([1.0, 4.0]))
    np.testing.assert_allclose(statistic(np.array([[2.0, 3.0, 1.0]])), [(6 + 12) / 9])


def test_pictures_of_one_patient_are_drawn_together():
    clusters = ["b", "a", "b", "c"]
    seen = []
    bootstrap(clusters, replicates=50).resample(lambda w: seen.append(w) or w.sum(axis=1))
    weights = np.concatenate(seen)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)


def test_interval_covers_the_truth_and_widens_with_clustering():
    """Patients of three pictures whose values share a patient effect; the true mean is 0."""
    rng = np.random.default_rng(1)
    patients = [str(p) for p in range(40) for _ in range(3)]
    singles = [str(i) for i in range(120)]
    covered = naive = 0
    for seed in range(200):
        values = np.repeat(rng.normal(size=40), 3) + 0.3 * rng.normal(size=120)
        interval = bootstrap(patients, seed, 400).interval(weighted_mean(values))
        covered += interval.low <= 0 <= interval.high
        interval = bootstrap(singles, seed, 400).interval(weighted_mean(values))
        naive += interval.low <= 0 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99
    assert naive / 200 < 0.85


def test_paired_difference_is_narrower_than_its_parts():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, size=300).astype(float)
    scores = labels + rng.normal(size=300)
    other = scores + 0.1 * rng.normal(size=300)
    resampler = bootstrap([str(i) for i in range(300)])
    first, second = auroc(labels, scores), auroc(labels, other)
    gap, alone = resampler.interval(difference(first, second)), resampler.interval(first)
    assert gap.value == pytest.approx(
        roc_auc_score(labels, scores) - roc_auc_score(labels, other), abs=1e-12
    )
    assert gap.high - gap.low < (alone.high - alone.low) / 2
    both = resampler.interval(average([first, second]))
    assert both.value == pytest.approx(alone.value - gap.value / 2)


def test_the_same_seed_gives_the_same_interval():
    values = weighted_mean(np.arange(10.0))
    clusters = [str(i) for i in range(10)]
    assert bootstrap(clusters, 4).interval(values) == bootstrap(clusters, 4).interval(values)
    assert bootstrap(clusters, 4).interval(values) != bootstrap(clusters, 5).interval(values)


def test_what_cannot_be_had_says_why():
    one_patient = bootstrap(["a", "a"]).interval(weighted_mean(np.array([1.0, 3.0])))
    assert (one_patient.value, one_patient.low) == (2.0, None)
    assert "one patient" in one_patient.note
    undefined = bootstrap(["a", "b"]).interval(auroc(np.array([1.0, 1.0]), np.zeros(2)))
    assert undefined.value is None
    assert undefined.note
    rare = bootstrap(["a", "b", "c"]).interval(auroc(np.array([1.0, 0, 0]), np.array([1.0, 0, 0])))
    assert rare.value == 1
    assert rare.low is None
    assert "resamples" in rare.note
    with pytest.raises(ValueError, match="empty"):
        bootstrap([])


@pytest.mark.parametrize(("count", "n"), [(0, 20), (3, 20), (20, 20), (1, 1), (5, 4000)])
def test_exact_share_equals_scipys_clopper_pearson(count, n):
    share, expected = exact_share(count, n), binomtest(count, n).proportion_ci(method="exact")
    assert share.value == count / n
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high))
    assert exact_share(0, 0).value is None
