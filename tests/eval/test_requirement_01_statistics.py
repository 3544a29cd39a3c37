"""Requirement 1: exact, mergeable statistics: any partition within 1e-9; a two-process run equals
one process; a rank with no batch works.
"""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from arra_med.eval.fidelity import FeatureStats, frechet_of_stats
from tests.forks import ForkedProcess


def samples(n, d, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mixing + shift


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
    assert frechet_of_stats(merged, y) == pytest.approx(frechet_of_stats(whole, y), abs=1e-9)


def test_a_mean_far_from_zero_costs_no_digits():
    """Sums of squares would leave 1e12 · 1e-16 = 1e-4 of error in each entry."""
    x = samples(500, 4, 11)
    stats = FeatureStats(4)
    for batch in np.split(x + 1e6, 50):
        stats.update(batch)
    np.testing.assert_allclose(stats.cov, np.cov(x, rowvar=False), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_any_batch_size_equals_one_pass(batch_size):
    x = samples(200, 6, 12, shift=50.0)
    stats = FeatureStats(6)
    for start in range(0, len(x), batch_size):
        stats.update(x[start : start + batch_size].astype(np.float32))
    exact = x.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(stats.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(stats.cov, np.cov(exact, rowvar=False), atol=1e-10)


def _rank(rank, folder, counts):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(counts)
    )
    start = sum(counts[:rank])
    own = FeatureStats(5).update(samples(90, 5, 13)[start : start + counts[rank]])
    merged = own.merged_over_ranks()
    np.savez(folder / f"{rank}.npz", n=merged.n, mean=merged.mean, cov=merged.cov)
    dist.destroy_process_group()


@pytest.mark.parametrize("counts", [(50, 40), (90, 0)])
def test_two_processes_equal_one(counts, tmp_path):
    processes = [ForkedProcess(target=_rank, args=(rank, tmp_path, counts)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    x = samples(90, 5, 13)
    for rank in (0, 1):
        with np.load(tmp_path / f"{rank}.npz") as found:
            assert int(found["n"]) == 90
            np.testing.assert_allclose(found["mean"], x.mean(0), atol=1e-12)
            np.testing.assert_allclose(found["cov"], np.cov(x, rowvar=False), atol=1e-10)
