import numpy as np
import pytest
import scipy.linalg

from arra_med.eval.fidelity import (
    frechet_distance,
    frechet_infinity,
)
from arra_med.eval.frechet import _dealt


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


def test_frechet_distance_is_symmetric_and_float64():
    x, y = samples(100, 8, 7).astype(np.float32), samples(90, 8, 8).astype(np.float32)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)
    assert frechet_distance(x, y) == frechet_distance(x.astype(float), y.astype(float))


def test_frechet_distance_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="at least 2 vectors in each set, got 1 and 5"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="floating-point features, got int64"):
        frechet_distance(np.zeros((5, 3), int), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="got \\(5, 3\\) and \\(5, 4\\)"):
        frechet_distance(np.zeros((5, 3)), np.zeros((5, 4)))


def test_the_limit_is_the_intercept_over_one_over_n():
    """By hand: for the fit through n, n/2, n/3, n/4, with numpy's polyfit over 1/n."""
    x, y = samples(240, 5, 13), samples(240, 5, 14, shift=0.2)
    limit = frechet_infinity(x, y, generator=np.random.default_rng(4))
    rng = np.random.default_rng(4)
    places = rng.permutation(480)
    x, y = x[np.argsort(places[:240])], y[np.argsort(places[240:])]
    means = []
    for parts in (1, 2, 3, 4):
        pairs = [(x[first::parts], y[first::parts]) for first in range(parts)]
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


def test_the_limit_of_equal_distributions_is_zero_with_many_pictures_a_patient():
    """Cut by picture, parts hold nearly all patients: 0.13 on average, 0 in 75 % of intervals."""
    values, inside = [], 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        alike = np.repeat(rng.normal(size=(60, 8)), 20, axis=0)
        real = np.sqrt(0.5) * (alike + rng.normal(size=(1200, 8)))
        limit = frechet_infinity(
            real,
            rng.normal(size=(1200, 8)),
            generator=rng,
            clusters_x=[f"p{i // 20}" for i in range(1200)],
            clusters_y=[f"q{i}" for i in range(1200)],
        )
        values.append(limit.value)
        inside += limit.low <= 0 <= limit.high
    assert inside >= 19
    assert abs(np.mean(values)) < 0.05


def test_a_patient_of_both_sets_is_in_the_same_part_of_each():
    x = samples(120, 4, 17)
    patients = [f"p{i // 3}" for i in range(120)]
    order = np.random.default_rng(0).permutation(120)
    limit = frechet_infinity(
        x,
        x[order],
        generator=np.random.default_rng(1),
        clusters_x=patients,
        clusters_y=[patients[i] for i in order],
    )
    assert (limit.value, limit.low, limit.high) == pytest.approx((0, 0, 0), abs=1e-9)


def test_patients_are_dealt_evenly_in_both_sets():
    of_a, of_b = np.arange(70), np.arange(47, 130)  # 23 of both
    dealt = _dealt(of_a, of_b, np.random.default_rng(2))
    assert sorted(dealt) == list(range(130))
    for parts in (2, 3, 4, 20):
        for of in (of_a, of_b):
            counts = [np.isin(of, dealt[first::parts]).sum() for first in range(parts)]
            assert max(counts) - min(counts) <= 1


def test_the_limit_is_refused_with_few_patients_a_dimension():
    x = samples(300, 16, 18)
    patients = [f"p{i % 30}" for i in range(300)]
    arguments = {"clusters_x": patients, "clusters_y": patients}
    with pytest.raises(ValueError, match="of different patients, in each set, got 30 and 30"):
        frechet_infinity(x, x, generator=np.random.default_rng(0), **arguments)
    limit = frechet_infinity(x, x, generator=np.random.default_rng(0), forced=True, **arguments)
    assert limit.parts == (1, 2)
