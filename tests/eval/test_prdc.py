import numpy as np
import pytest

from arra_med.eval.fidelity import memberships, prdc


def samples(n, d, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mixing + shift


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
    monkeypatch.setattr("arra_med.eval.prdc._ROWS_AT_ONCE", 7)  # several pieces
    monkeypatch.setattr("arra_med.eval.prdc._PAIRS_AT_ONCE", 5)
    real, fake = samples(30, 3, 17), samples(20, 3, 18, shift=0.5)
    result = prdc(real, fake, k)
    found = (result.precision, result.recall, result.density, result.coverage)
    assert found == pytest.approx(naive_prdc(real, fake, k))


def test_prdc_needs_more_vectors_than_neighbours():
    with pytest.raises(ValueError, match="k = 5 needs more than 5"):
        prdc(np.zeros((5, 2)), np.zeros((9, 2)))
    with pytest.raises(ValueError, match="expected \\(N, D\\)"):
        prdc(np.zeros((9, 2)), np.zeros((9, 3)))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        prdc(np.zeros((9, 2)), np.zeros((9, 2)), 0)


def as_tuple(result):
    return result.precision, result.recall, result.density, result.coverage


def test_several_k_at_once_equal_each_alone():
    real, fake = samples(60, 5, 35), samples(50, 5, 36, shift=0.3)
    together = memberships(real, fake, (5, 3, 10))
    for k in (3, 5, 10):
        assert together[k].shares == prdc(real, fake, k)
    assert together[5].balls.shape == (50,)
    assert together[5].recalled.shape == together[5].covered.shape == (60,)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_copies_and_ties_fall_on_the_right_side(offset):
    """A copy of a real picture's k-th neighbour lies on its rim, which is outside."""
    real = samples(40, 16, 37) + offset
    fake = np.concatenate([real[:25], real[:3]])
    for k in (1, 5):
        assert as_tuple(prdc(real, fake, k)) == pytest.approx(naive_prdc(real, fake, k), abs=1e-12)
