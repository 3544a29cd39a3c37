import tracemalloc

import numpy as np
import pytest

from arra_med.eval.fidelity import kernel_distance, kid


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


def test_kid_refuses_what_it_cannot_use():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 2 vectors in each set, got 1 and 3"):
        kid(np.zeros((1, 2)), np.zeros((3, 2)), generator=rng)
    with pytest.raises(ValueError, match="floating-point features, got uint8"):
        kid(np.zeros((5, 2), np.uint8), np.zeros((5, 2)), generator=rng)
