import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import _compute_fid

from arra_med.eval.fidelity import (
    FeatureStats,
    frechet_distance,
    frechet_infinity,
    frechet_of_stats,
)


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
def test_requirement_2_frechet_distance_equals_sqrtm(d):
    x, y = samples(300, d, 1), samples(200, d, 2, shift=0.3)
    assert frechet_distance(x, y) == pytest.approx(oracle(x, y), rel=1e-8)


@pytest.mark.parametrize(("n", "m"), [(20, 25), (20, 200), (200, 20)])
def test_requirement_2_frechet_distance_with_fewer_vectors_than_dimensions(n, m):
    """The nuclear norm of the Gram matrix equals the general formula on moments."""
    x, y = samples(n, 40, 3), samples(m, 40, 4, shift=0.2)
    general = frechet_of_stats(FeatureStats(40).update(x), FeatureStats(40).update(y))
    assert frechet_distance(x, y) == pytest.approx(general, rel=1e-7)
    assert frechet_distance(x, y) == pytest.approx(oracle(x, y), rel=1e-4)  # sqrtm is singular


@pytest.mark.parametrize(("n", "d"), [(500, 16), (30, 64)])
def test_requirement_2_identical_sets_are_at_zero(n, d):
    x = samples(n, d, 5)
    assert frechet_distance(x, x) < 1e-6
    assert frechet_distance(x, x[::-1]) < 1e-6


def test_requirement_2_identical_sets_with_dead_features_are_at_zero():
    x = samples(500, 16, 5)
    x[:, 8:] = 0
    assert frechet_distance(x, x[::-1]) < 1e-6


@pytest.mark.parametrize(("n", "d"), [(500, 16), (30, 64)])
def test_requirement_2_a_mean_shift_alone_gives_its_square(n, d):
    x = samples(n, d, 6)
    assert frechet_distance(x, x + 0.5) == pytest.approx(d * 0.25, abs=1e-6)


def test_frechet_distance_is_symmetric_and_float64():
    x, y = samples(100, 8, 7).astype(np.float32), samples(90, 8, 8).astype(np.float32)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)
    assert frechet_distance(x, y) == frechet_distance(x.astype(float), y.astype(float))


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 24), (15, 20, 24)])
def test_requirement_2_equals_torch_fidelity_and_torchmetrics(n, m, d):
    x, y = samples(n, d, 9), samples(m, d, 10, shift=0.2)
    first, second = (fid_features_to_statistics(torch.from_numpy(z)) for z in (x, y))
    theirs = fid_statistics_to_metric(first, second, verbose=False)["frechet_inception_distance"]
    tensors = [torch.from_numpy(s[name]) for s in (first, second) for name in ("mu", "sigma")]
    # with n < d their eigenvalues of 0 come out as ±1e-14, and the roots of those count
    tolerance = 1e-8 if n > d else 1e-5
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=tolerance)
    assert frechet_distance(x, y) == pytest.approx(float(_compute_fid(*tensors)), rel=tolerance)


def test_requirement_2_fewer_vectors_in_one_set_only():
    x, y = samples(10, 30, 11), samples(200, 30, 12)
    x2, y2 = x - x.mean(0), y - y.mean(0)
    cross = np.linalg.svd(x2 @ y2.T, compute_uv=False).sum() / np.sqrt(9 * 199)
    traces = np.square(x2).sum() / 9 + np.square(y2).sum() / 199
    expected = np.square(x.mean(0) - y.mean(0)).sum() + traces - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_requirement_2_runs_without_scipy():
    code = (
        "import sys; sys.modules['scipy'] = None\n"
        "import numpy as np\n"
        "from arra_med.eval.fidelity import fidelity, real_reference\n"
        "r = np.random.default_rng(0)\n"
        "x, y = r.normal(size=(2, 60, 4))\n"
        "row = fidelity(x, y, generator=r, bootstrap=10)\n"
        "assert row.fd > 0 and row.kid and row.prdc and row.fd_infinity\n"
        "real_reference(x, 20, generator=r, draws=2)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_frechet_distance_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="at least 2 vectors in each set, got 1 and 5"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="floating-point features, got int64"):
        frechet_distance(np.zeros((5, 3), int), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="got \\(5, 3\\) and \\(5, 4\\)"):
        frechet_distance(np.zeros((5, 3)), np.zeros((5, 4)))


def test_requirement_3_intervals_of_equal_distributions_contain_zero():
    rng, inside, values, raw = np.random.default_rng(0), 0, [], []
    for _ in range(100):
        x, y = rng.normal(size=(40, 6)), rng.normal(size=(32, 6))
        limit = frechet_infinity(x, y, generator=rng)
        inside += limit.low <= 0 <= limit.high
        values.append(limit.value)
        raw.append(frechet_distance(x, y))
    assert inside >= 90
    assert abs(np.mean(values)) < 0.2 * np.mean(raw)  # most of the bias is gone


def test_requirement_2_a_known_shift_lies_in_the_interval():
    """Means apart by δ and scales 1 and 1.2: d (δ² + 0.2²)."""
    rng, true, inside, values = np.random.default_rng(1), 8 * (0.3**2 + 0.2**2), 0, []
    for _ in range(40):
        limit = frechet_infinity(
            rng.normal(size=(100, 8)), rng.normal(0.3, 1.2, size=(100, 8)), generator=rng
        )
        inside += limit.low <= true <= limit.high
        values.append(limit.value)
    assert inside >= 36
    assert np.mean(values) == pytest.approx(true, abs=0.25 * true)


def test_the_limit_is_the_intercept_over_one_over_n():
    """By hand: for the fit through n, n/2, n/3, n/4, with numpy's polyfit over 1/n."""
    x, y = samples(240, 5, 13), samples(240, 5, 14, shift=0.2)
    limit = frechet_infinity(x, y, generator=np.random.default_rng(4))
    rng = np.random.default_rng(4)
    rng.permutation(240), rng.permutation(240)  # the groups of the interval
    x, y = x[rng.permutation(240)], y[rng.permutation(240)]
    means = []
    for parts in (1, 2, 3, 4):
        pairs = zip(np.split(x, parts), np.split(y, parts), strict=True)
        means.append(np.mean([oracle(a, b) for a, b in pairs]))
    inverse = np.array([1, 2, 3, 4]) / 240
    assert limit.parts == (1, 2, 3, 4)
    assert limit.value == pytest.approx(np.polyfit(inverse, means, 1)[1], rel=1e-7)
    assert limit == frechet_infinity(
        samples(240, 5, 13), samples(240, 5, 14, shift=0.2), generator=np.random.default_rng(4)
    )


def test_the_limits_interval_keeps_a_patients_pictures_together():
    """Ten copies of each vector are worth one: the interval must be that of single ones."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(60, 2)), rng.normal(0.5, 1, size=(60, 2))
    names = [f"p{i}" for i in range(60)]
    many = [np.repeat(z, 10, axis=0) for z in (x, y)]
    who = list(np.repeat(names, 10))
    width = {}
    for kind, clusters in (("patients", who), ("pictures", None)):
        limit = frechet_infinity(
            *many, generator=np.random.default_rng(0), clusters_x=clusters, clusters_y=clusters
        )
        width[kind] = limit.high - limit.low
    assert width["patients"] > 2 * width["pictures"]


def test_requirement_3_the_limit_is_refused_below_twice_the_dimension():
    x = samples(30, 16, 15)
    with pytest.raises(ValueError, match="at least 32 vectors of 16 features"):
        frechet_infinity(x, x, generator=np.random.default_rng(0))
    assert frechet_infinity(x, x, generator=np.random.default_rng(0), forced=True).parts == (1, 2)
    with pytest.raises(ValueError, match="both sets or for neither"):
        frechet_infinity(
            samples(40, 4, 1), samples(40, 4, 2), generator=np.random.default_rng(0),
            clusters_x=["a"] * 40,
        )  # fmt: skip
    with pytest.raises(ValueError, match="at least 20 clusters for an interval, got 2"):
        frechet_infinity(
            samples(40, 4, 1), samples(40, 4, 2), generator=np.random.default_rng(0),
            clusters_x=["a"] * 40, clusters_y=["b"] * 40,
        )  # fmt: skip
