"""What the comparison of generators rests on: patients kept together, variances added."""

import numpy as np
import pytest
import torch

from arra_med.eval.comparison_statistics import (
    clustered_kid,
    coverage_contrasts,
    patient_halves,
    recall_contrasts,
    widened,
)
from arra_med.eval.intervals import Interval
from arra_med.eval.kernel import kernel_distance
from arra_med.eval.prdc import prdc


def test_clustered_kid_of_single_pictures_is_the_kernel_distance():
    rng = np.random.default_rng(10)
    real, made = rng.normal(size=(30, 4)), rng.normal(size=(25, 4)) + 0.3
    statistic = clustered_kid(real, made, [*map(str, range(30))], [*map(str, range(25))])
    found = statistic(np.ones((1, 25)))[0]
    assert found == pytest.approx(kernel_distance(real, made), rel=1e-10)


def test_clustered_kid_equals_loops_over_patients(monkeypatch):
    monkeypatch.setattr("arra_med.eval.comparison_statistics._ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(11)
    real, made = rng.normal(size=(16, 3)), rng.normal(size=(18, 3))
    of_real, of_made = rng.integers(0, 6, 16).astype(str), rng.integers(0, 7, 18).astype(str)
    drawn = {name: int(rng.integers(0, 3)) for name in np.unique(of_made)}

    def mean(x, y, of_x, of_y, same):
        total = pairs = 0.0
        for i in range(len(x)):
            for j in range(len(y)):
                if not (same and of_x[i] == of_y[j]):
                    weight = drawn[of_x[i]] * drawn[of_y[j]] if x is made and y is made else (
                        drawn[of_x[i]] if x is made else 1)  # fmt: skip
                    total += weight * (x[i] @ y[j] / 3 + 1) ** 3
                    pairs += weight
        return total / pairs

    expected = (
        mean(real, real, of_real, of_real, True)
        + mean(made, made, of_made, of_made, True)
        - 2 * mean(made, real, of_made, of_real, False)
    )
    weights = np.array([[drawn[name] for name in of_made]], dtype=float)
    found = clustered_kid(real, made, list(of_real), list(of_made))(weights)[0]
    assert found == pytest.approx(expected, rel=1e-10)


def test_clustered_kid_resamples_are_not_shifted():
    """A patient drawn twice must not raise the distance."""
    rng = np.random.default_rng(12)
    real = np.repeat(rng.normal(size=(60, 4)), 2, axis=0) + 0.1 * rng.normal(size=(120, 4))
    made = np.repeat(rng.normal(size=(60, 4)), 2, axis=0) + 0.1 * rng.normal(size=(120, 4))
    patients = [str(i // 2) for i in range(120)]
    statistic = clustered_kid(real, made, patients, patients)
    counts = rng.multinomial(60, np.full(60, 1 / 60), size=2000)
    values = statistic(np.repeat(counts, 2, axis=1).astype(float))
    centre = statistic(np.ones((1, 120)))[0]
    assert abs(values.mean() - centre) < 0.15 * values.std()


def test_widening_adds_variances_and_moves_p_with_the_interval():
    found = Interval(0.2, 0.2 - 1.96 * 0.1, 0.2 + 1.96 * 0.1, p=0.0455)
    wide = widened(found, np.full(4, 0.1 * np.sqrt(3)))  # three times the variance
    assert wide.high - 0.2 == pytest.approx(2 * 1.96 * 0.1, rel=1e-4)
    assert wide.p == pytest.approx(2 * 0.1587, rel=1e-2)  # one standard error
    assert widened(found, None) == found
    far = widened(Interval(0.9, 0.7, 1.0, p=0.01), np.full(4, 0.5))
    assert (far.high, far.low < 0.7) == (1, True)
    assert widened(Interval(-0.9, -0.9, -0.9, p=0.5), np.full(4, 0.5)).low == -1
    assert widened(Interval(0.1, 0.05, 0.2), np.full(4, 0.5)).low == 0  # a share, no difference
    assert widened(found, np.zeros(3)) == found


@pytest.mark.parametrize("value", [-0.127, 0.31, 0.8])
@pytest.mark.parametrize("below", [-0.01, 0, 0.05, 0.12, 0.3])
@pytest.mark.parametrize("above", [-0.02, 0, 0.04, 0.2])
def test_p_of_a_widened_difference_is_under_005_where_the_interval_leaves_out_0(
    value, below, above
):
    found = Interval(value, value - below, value + above, p=0.01)
    for extra in (0.01, 0.03, 0.1, 0.3):
        wide = widened(found, np.full(3, extra))
        assert (wide.p < 0.05) == (wide.low > 0 or wide.high < 0)
        assert wide.low < value < wide.high
        assert 0 <= wide.p <= 1


def test_halves_split_no_patient_and_are_bounded(monkeypatch):
    patients = [f"p{i // 3}" for i in range(90)]
    rng = np.random.default_rng(13)
    for first, second in patient_halves(patients, rng, least=6):
        assert {patients[i] for i in first}.isdisjoint(patients[i] for i in second)
        assert len(first) + len(second) == 90
    assert patient_halves(patients[:9], rng, least=6) == []
    monkeypatch.setattr("arra_med.eval.comparison_statistics.MOST_IN_HALF", 15)
    assert {len(rows) for half in patient_halves(patients, rng, least=6) for rows in half} == {15}


def test_recall_contrasts_are_differences_of_recall_on_the_scale_of_all():
    rng = np.random.default_rng(14)
    real, made = rng.normal(size=(50, 4)), rng.normal(size=(60, 4))
    half = (np.arange(30), np.arange(30, 60))
    device = torch.device("cpu")
    expected = prdc(real, made[:30]).recall - prdc(real, made[30:]).recall
    (found,) = recall_contrasts(real, made, [half], k=5, device=device)
    assert found == pytest.approx(expected / 2, abs=1e-12)  # half of the whole's pictures each


def test_coverage_contrasts_are_the_jackknife_over_patients():
    rng = np.random.default_rng(15)
    real, made = rng.normal(size=(40, 4)), rng.normal(size=(45, 4)) + 1
    patients = np.array([str(i // 3) for i in range(45)])
    found = coverage_contrasts(real, made, list(patients), k=5, device=torch.device("cpu"))
    without = np.array(
        [prdc(real, made[patients != name]).coverage for name in np.unique(patients)]
    )
    variance = 14 / 15 * np.square(without - without.mean()).sum()
    assert variance > 0
    assert np.square(found).mean() == pytest.approx(variance, rel=1e-10)
