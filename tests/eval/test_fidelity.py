import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from arra_med.eval.fidelity import FeatureStats, frechet_distance, kid, prdc


def samples(n, d, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mixing + shift


def oracle(x, y):
    """The textbook formula, through scipy's own matrix square root."""
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(cov_x @ cov_y)
    shift = np.square(x.mean(0) - y.mean(0)).sum()
    return shift + np.trace(cov_x + cov_y - 2 * np.real(root))


@pytest.mark.parametrize("d", [2, 8, 32])
def test_frechet_distance_equals_sqrtm(d):
    x, y = samples(300, d, 1), samples(200, d, 2, shift=0.3)
    assert frechet_distance(x, y) == pytest.approx(oracle(x, y), rel=1e-8)


@pytest.mark.parametrize(("n", "m"), [(20, 25), (20, 200), (200, 20)])
def test_frechet_distance_with_fewer_vectors_than_dimensions(n, m):
    """The nuclear norm of the Gram matrix equals the general formula on moments."""
    x, y = samples(n, 40, 3), samples(m, 40, 4, shift=0.2)
    general = FeatureStats(40).update(x).frechet_distance(FeatureStats(40).update(y))
    assert frechet_distance(x, y) == pytest.approx(general, rel=1e-7)
    assert frechet_distance(x, y) == pytest.approx(oracle(x, y), rel=1e-4)  # sqrtm is singular


@pytest.mark.parametrize(("n", "d"), [(500, 16), (30, 64)])
def test_identical_sets_are_at_zero(n, d):
    x = samples(n, d, 5)
    assert frechet_distance(x, x) < 1e-6
    assert frechet_distance(x, x[::-1]) < 1e-6


def test_identical_sets_with_dead_features_are_at_zero():
    x = samples(500, 16, 5)
    x[:, 8:] = 0
    assert frechet_distance(x, x[::-1]) < 1e-6


@pytest.mark.parametrize(("n", "d"), [(500, 16), (30, 64)])
def test_a_mean_shift_alone_gives_its_square(n, d):
    x = samples(n, d, 6)
    assert frechet_distance(x, x + 0.5) == pytest.approx(d * 0.25, abs=1e-6)


def test_frechet_distance_is_symmetric_and_float64():
    x, y = samples(100, 8, 7).astype(np.float32), samples(90, 8, 8).astype(np.float32)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)
    assert frechet_distance(x, y) == frechet_distance(x.astype(float), y.astype(float))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 120), max_size=6))
def test_any_partition_merges_to_the_same_moments(cuts):
    x = samples(120, 6, 9, shift=3.0)
    whole = FeatureStats(6).update(x)
    merged = FeatureStats(6)
    for part in np.split(x, sorted(cuts)):  # some of them empty
        merged.merge(FeatureStats(6).update(part))
    assert merged.n == 120
    np.testing.assert_allclose(merged.mean, whole.mean, atol=1e-9)
    np.testing.assert_allclose(merged.cov, whole.cov, atol=1e-9)
    np.testing.assert_allclose(merged.mean, x.mean(0), atol=1e-9)
    np.testing.assert_allclose(merged.cov, np.cov(x, rowvar=False), atol=1e-9)
    y = FeatureStats(6).update(samples(80, 6, 10))
    assert merged.frechet_distance(y) == pytest.approx(whole.frechet_distance(y), abs=1e-9)


def test_feature_stats_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="expected \\(N, 4\\)"):
        FeatureStats(4).update(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="1 of 3 feature vectors hold NaN"):
        FeatureStats(2).update([[0, 1], [np.nan, 1], [0, 0]])
    with pytest.raises(ValueError, match="at least 2 vectors, has 1"):
        _ = FeatureStats(2).update([[0, 1]]).cov
    with pytest.raises(ValueError, match="cannot merge"):
        FeatureStats(2).merge(FeatureStats(3))


def naive_kid(x, y):
    d = x.shape[1]

    def kernel(a, b):
        return (float(a @ b) / d + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    across = sum(kernel(a, b) for a in x for b in y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)


def test_kid_equals_a_double_loop():
    x, y = samples(17, 5, 11), samples(23, 5, 12, shift=0.4)
    result = kid(x, y, generator=np.random.default_rng(0))
    assert result.value == pytest.approx(naive_kid(x, y), rel=1e-10)
    assert result.low < result.value < result.high


def test_kid_in_subsets_is_the_mean_over_them():
    x, y = samples(40, 3, 13), samples(41, 3, 14)
    rng = np.random.default_rng(3)
    parts_x = np.array_split(x[rng.permutation(40)], 4)
    parts_y = np.array_split(y[rng.permutation(41)], 4)
    expected = np.mean([naive_kid(a, b) for a, b in zip(parts_x, parts_y, strict=True)])
    result = kid(x, y, generator=np.random.default_rng(3), subset_size=10)
    assert result.value == pytest.approx(expected, rel=1e-10)


def test_kid_interval_contains_zero_for_equal_distributions():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        x, y = rng.normal(size=(50, 6)), rng.normal(size=(40, 6))
        result = kid(x, y, generator=rng, bootstrap=200)
        inside += result.low <= 0 <= result.high
    assert inside >= 90
    far = kid(rng.normal(size=(50, 6)), rng.normal(1, 1, size=(50, 6)), generator=rng)
    assert far.low > 0


def test_kid_is_seeded():
    x, y = samples(30, 4, 15), samples(30, 4, 16)
    first = kid(x, y, generator=np.random.default_rng(1), subset_size=10)
    assert first == kid(x, y, generator=np.random.default_rng(1), subset_size=10)


def naive_prdc(real, fake, k):
    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - p) for p in points)[k]

    real_radii = [radius(real, i) for i in range(len(real))]
    fake_radii = [radius(fake, i) for i in range(len(fake))]
    distance = [[np.linalg.norm(r - f) for f in fake] for r in real]
    rows, columns = range(len(real)), range(len(fake))
    inside = [[distance[i][j] < real_radii[i] for j in columns] for i in rows]
    return (
        np.mean([any(inside[i][j] for i in rows) for j in columns]),
        np.mean([any(distance[i][j] < fake_radii[j] for j in columns) for i in rows]),
        np.mean([sum(inside[i][j] for i in rows) for j in columns]) / k,
        np.mean([any(inside[i]) for i in rows]),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc_equals_loops(k, monkeypatch):
    monkeypatch.setattr("arra_med.eval.fidelity._ROWS_AT_ONCE", 7)  # several pieces
    real, fake = samples(30, 3, 17), samples(20, 3, 18, shift=0.5)
    result = prdc(real, fake, k)
    found = (result.precision, result.recall, result.density, result.coverage)
    assert found == pytest.approx(naive_prdc(real, fake, k))


def test_a_collapsed_generator_has_no_recall():
    real = samples(60, 4, 19)
    collapsed = np.tile(real[:1], (60, 1))
    result = prdc(real, collapsed)
    assert result.recall == 0
    assert result.coverage < 0.2
    assert result.precision == 1


def test_prdc_needs_more_vectors_than_neighbours():
    with pytest.raises(ValueError, match="k = 5 needs more than 5"):
        prdc(np.zeros((5, 2)), np.zeros((9, 2)))
    with pytest.raises(ValueError, match="expected \\(N, D\\)"):
        prdc(np.zeros((9, 2)), np.zeros((9, 3)))
