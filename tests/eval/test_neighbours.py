import numpy as np
import pytest
from scipy.spatial.distance import cdist

from arra_med.eval.neighbours import nearest, pair_distances


def vectors(n, d=12, seed=0, offset=0.0):
    return (np.random.default_rng(seed).normal(size=(n, d)) + offset).astype(np.float32)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_nearest_equals_all_distances(metric, offset, monkeypatch):
    monkeypatch.setattr("arra_med.eval.neighbours._BANK_ROWS", 13)
    monkeypatch.setattr("arra_med.eval.neighbours._QUERY_ROWS", 7)
    queries, bank = vectors(20, seed=1, offset=offset), vectors(90, seed=2, offset=offset)
    a, b = queries.astype(np.float64), bank.astype(np.float64)
    if metric == "cosine":
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    distances = cdist(a, b)
    expected = np.argsort(distances, axis=1)[:, :3]
    found = nearest(queries, bank, k=3, metric=metric)
    np.testing.assert_array_equal(found.rows, expected)
    np.testing.assert_allclose(
        found.distances, np.take_along_axis(distances, expected, axis=1), rtol=1e-10
    )


def test_requirement_11_a_copy_lies_at_zero_however_long_the_vectors():
    bank = vectors(500, 64, offset=1000.0)
    found = nearest(bank[100:110], bank)
    np.testing.assert_array_equal(found.rows[:, 0], np.arange(100, 110))
    np.testing.assert_array_equal(found.distances, 0)


def test_the_same_patient_is_passed_over():
    bank, owners = vectors(60), np.arange(60) // 6
    found = nearest(bank, bank, k=2, query_owners=owners, bank_owners=owners)
    distances = cdist(bank.astype(np.float64), bank.astype(np.float64))
    distances[owners[:, None] == owners] = np.inf
    np.testing.assert_array_equal(found.rows, np.argsort(distances, axis=1)[:, :2])
    anybody = nearest(bank, bank, query_owners=np.full(60, -1), bank_owners=owners)
    np.testing.assert_array_equal(anybody.rows[:, 0], np.arange(60))
    alone = nearest(bank, bank, query_owners=np.zeros(60, int), bank_owners=np.zeros(60, int))
    assert np.isinf(alone.distances).all()
    assert (alone.rows == -1).all()


def test_fewer_rows_than_asked_for_and_half_precision(tmp_path):
    file = np.memmap(tmp_path / "bank", dtype=np.float16, mode="w+", shape=(2, 4))
    file[:] = [[0, 0, 0, 0], [1, 0, 0, 0]]
    found = nearest(np.full((1, 4), 0.25), file, k=3)
    np.testing.assert_array_equal(found.rows, [[0, 1, -1]])
    expected = [0.5, np.sqrt(0.75**2 + 3 * 0.25**2), np.inf]
    np.testing.assert_allclose(found.distances[0], expected)
    assert nearest(np.zeros((0, 4)), file, k=3).distances.shape == (0, 3)


def test_what_cannot_be_searched_is_refused():
    bank = vectors(5)
    with pytest.raises(ValueError, match="floating-point vectors, got uint8"):
        nearest(np.zeros((2, 12), np.uint8), bank)
    with pytest.raises(ValueError, match="got \\(2, 3\\), \\(5, 12\\)"):
        nearest(np.zeros((2, 3)), bank)
    with pytest.raises(ValueError, match="1 of 2 vectors hold NaN"):
        nearest(np.array([[np.nan] * 12, [0.0] * 12]), bank)
    with pytest.raises(ValueError, match="length 0 has no direction"):
        nearest(np.zeros((2, 12)), bank, metric="cosine")
    with pytest.raises(ValueError, match="bank of vectors"):
        nearest(bank, bank[:0])
    with pytest.raises(ValueError, match="both sides"):
        nearest(bank, bank, query_owners=np.zeros(5, int))
    with pytest.raises(ValueError, match="5 owners, got \\(4,\\)"):
        nearest(bank, bank, query_owners=np.zeros(4, int), bank_owners=np.zeros(5, int))


def test_pair_distances_by_hand(monkeypatch):
    monkeypatch.setattr("arra_med.eval.neighbours._QUERY_ROWS", 1)
    points = np.array([[3.0, 0], [0, 4], [6, 0]])
    pairs = np.array([[0, 1], [0, 2]])
    np.testing.assert_allclose(pair_distances(points, pairs), [5, 3])
    np.testing.assert_allclose(pair_distances(points, pairs, metric="cosine"), [np.sqrt(2), 0])
