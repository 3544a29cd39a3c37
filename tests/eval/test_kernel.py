import tracemalloc

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.kid import poly_mmd

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


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_requirement_5_kid_equals_torchmetrics_and_torch_fidelity(shift):
    """Both want sets of one size; one subset holds all vectors, so that nothing is drawn."""
    x, y = samples(60, 12, 21), samples(60, 12, 22, shift=shift)
    one = kid(x, y, generator=np.random.default_rng(0), bootstrap=10).value
    ours = kernel_distance(x, y)
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=1, kid_subset_size=60,
        kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1.0, rng_seed=0, verbose=False,
    )  # fmt: skip
    assert ours == pytest.approx(one, rel=1e-9)
    assert ours == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert ours == pytest.approx(
        float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y))), rel=1e-9
    )


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


def test_requirement_3_kid_intervals_hold_the_true_distance():
    """The true one by means over many large sets."""
    rng = np.random.default_rng(1)

    def draw(n):
        return rng.normal(size=(n, 4)), rng.normal(0.15, 1.1, size=(n, 4))

    true = np.mean([kernel_distance(*draw(2000)) for _ in range(20)])
    results = [kid(*draw(80), generator=rng, bootstrap=200) for _ in range(100)]
    assert sum(r.low <= true <= r.high for r in results) >= 90
    assert np.mean([r.value for r in results]) == pytest.approx(true, abs=0.01)


def test_kid_refuses_what_it_cannot_use():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 2 vectors in each set, got 1 and 3"):
        kid(np.zeros((1, 2)), np.zeros((3, 2)), generator=rng)
    with pytest.raises(ValueError, match="floating-point features, got uint8"):
        kid(np.zeros((5, 2), np.uint8), np.zeros((5, 2)), generator=rng)
