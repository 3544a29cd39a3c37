import tracemalloc

import numpy as np
import pytest

from arra_med.eval.comparison_statistics import clustered_kid
from arra_med.eval.fidelity import Kid, kernel_distance, kid


def samples(n, d, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mixing + shift


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


def test_kid_is_seeded():
    x, y = samples(30, 4, 15), samples(30, 4, 16)
    first = kid(x, y, generator=np.random.default_rng(1), subset_size=10)
    assert first == kid(x, y, generator=np.random.default_rng(1), subset_size=10)


def test_all_against_all_equals_a_double_loop_in_pieces(monkeypatch):
    monkeypatch.setattr("arra_med.eval.kernel._ROWS_AT_ONCE", 7)
    x, y = samples(33, 5, 23), samples(20, 5, 24, shift=0.2)
    result = kid(x, y, generator=np.random.default_rng(0), subset_size=None, bootstrap=20)
    assert result.value == pytest.approx(naive_kid(x, y), rel=1e-10)
    assert kernel_distance(x, y) == pytest.approx(naive_kid(x, y), rel=1e-10)


def test_all_against_all_holds_no_kernel_matrix():
    x = np.random.default_rng(0).normal(size=(4000, 2))
    tracemalloc.start()
    try:
        kernel_distance(x, x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4000 * 4000 * 8  # one kernel matrix; some pieces of it were held


def in_patients(rng, patients, each, d=16):
    """Pictures of which half of the variance is their patient's."""
    alike = np.repeat(rng.normal(size=(patients, d)), each, axis=0)
    return np.sqrt(0.5) * (alike + rng.normal(size=(patients * each, d)))


def test_kid_of_equal_distributions_is_zero_with_many_pictures_a_patient():
    patients, values = np.arange(300) // 6, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = in_patients(rng, 50, 6), in_patients(rng, 50, 6)
        result = kid(x, y, generator=rng, clusters_x=patients, clusters_y=patients, bootstrap=200)
        assert result.low <= 0 <= result.high
        values.append(result.value)
    assert abs(np.mean(values)) < 0.02  # 0.08 when a patient's pictures are compared


@pytest.mark.parametrize(("patients", "shift"), [(20, 0.4), (5, 0.4), (5, 0.0)])
def test_kid_intervals_of_patients_hold_the_true_distance(patients, shift):
    rng = np.random.default_rng(25)
    true = np.mean(
        [
            kernel_distance(rng.normal(size=(1500, 16)), rng.normal(shift, 1, size=(1500, 16)))
            for _ in range(10)
        ]
    )
    who, inside = np.arange(6 * patients) // 6, 0
    for _ in range(100):
        x, y = in_patients(rng, patients, 6), in_patients(rng, patients, 6) + shift
        result = kid(x, y, generator=rng, clusters_x=who, clusters_y=who, bootstrap=200)
        inside += result.low <= true <= result.high
    assert inside >= 90


def test_three_patients_give_no_interval():
    """One resample in nine holds one patient alone, and the others are nearly all alike."""
    rng = np.random.default_rng(31)
    x, y = in_patients(rng, 50, 6), in_patients(rng, 3, 20)
    names = {"clusters_x": np.arange(300) // 6, "clusters_y": np.arange(60) // 20}
    found = kid(x, y, generator=rng, **names)
    assert found == Kid(pytest.approx(kernel_distance(x, y, **names)), None, None)
    assert kid(x, y, generator=rng).low is not None


@pytest.mark.parametrize("subset_size", [None, 1000])
def test_kid_by_patient_equals_that_of_comparisons(subset_size, monkeypatch):
    monkeypatch.setattr("arra_med.eval.kernel._ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(26)
    x, y = samples(40, 5, 27), samples(31, 5, 28, shift=0.3)
    of_x, of_y = rng.integers(0, 9, 40).astype(str), rng.integers(0, 12, 31).astype(str)
    expected = clustered_kid(x, y, list(of_x), list(of_y))(np.ones((1, 31)))[0]
    names = {"clusters_x": of_x, "clusters_y": of_y}
    found = kid(x, y, generator=rng, subset_size=subset_size, bootstrap=20, **names)
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert kernel_distance(x, y, **names) == pytest.approx(expected, rel=1e-10)


def test_subsets_hold_whole_patients():
    x, y = samples(60, 3, 29), samples(80, 3, 30)
    of_x, of_y = np.arange(60) // 3, np.arange(80) // 4  # 20 patients each: two subsets of ten
    rng = np.random.default_rng(6)
    halves = [np.split(rng.permutation(20), 2) for _ in range(2)]
    expected = np.mean(
        [
            kernel_distance(
                x[np.isin(of_x, one)],
                y[np.isin(of_y, other)],
                clusters_x=of_x[np.isin(of_x, one)],
                clusters_y=of_y[np.isin(of_y, other)],
            )
            for one, other in zip(*halves, strict=True)
        ]
    )
    result = kid(
        x, y, generator=np.random.default_rng(6), clusters_x=of_x, clusters_y=of_y, subset_size=5
    )
    assert result.value == pytest.approx(expected, rel=1e-10)


def test_kid_refuses_what_it_cannot_use():
    rng = np.random.default_rng(0)
    two = np.zeros((5, 2))
    with pytest.raises(ValueError, match="all vectors are of one patient"):
        kid(two, two, generator=rng, clusters_x=["a"] * 5)
    with pytest.raises(ValueError, match="expected 5 clusters, one a vector, got 4"):
        kernel_distance(two, two, clusters_y=["a", "b"] * 2)
    with pytest.raises(ValueError, match="at least 2 vectors in each set, got 1 and 3"):
        kid(np.zeros((1, 2)), np.zeros((3, 2)), generator=rng)
    with pytest.raises(ValueError, match="floating-point features, got uint8"):
        kid(np.zeros((5, 2), np.uint8), np.zeros((5, 2)), generator=rng)
