"""Requirement 5: what published tables hold equals torchmetrics, torch-fidelity and prdc on the
same features.
"""

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from arra_med.eval.fidelity import fidelity, kernel_distance, kid, prdc
from tests.eval.test_prdc import as_tuple, samples


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_kid_equals_torchmetrics_and_torch_fidelity(shift):
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


@pytest.mark.parametrize("k", [3, 5, 10])
def test_prdc_equals_the_authors(k, capsys):
    real, fake = samples(150, 24, 31), samples(120, 24, 32, shift=0.4)
    theirs = compute_prdc(real, fake, nearest_k=k)
    expected = [theirs[name] for name in ("precision", "recall", "density", "coverage")]
    assert as_tuple(prdc(real, fake, k)) == pytest.approx(expected, abs=1e-12)


def test_precision_and_recall_equal_torch_fidelity():
    real, fake = (torch.from_numpy(samples(90, 8, seed)) for seed in (33, 34))
    precision, recall = calculate_precision_recall_full(fake, real, neighborhood=3)  # its order
    ours = prdc(real.numpy(), fake.numpy(), 3)
    assert (ours.precision, ours.recall) == pytest.approx((float(precision), float(recall)))


class Given(torch.nn.Module):
    """Hands torchmetrics features instead of pictures."""

    num_features = 48

    def forward(self, features):
        return features


@pytest.mark.parametrize(("n_real", "n_generated"), [(300, 240), (40, 36)])
def test_chexgenbench_rows_equal_torchmetrics_and_prdc(n_real, n_generated):
    """Its columns: FD, precision, recall, density, coverage; with many pictures and with few."""
    real, made = samples(n_real, 48, 41), samples(n_generated, 48, 42, shift=0.3)
    row = fidelity(real, made, generator=np.random.default_rng(0), bootstrap=10, forced=True)
    metric = FrechetInceptionDistance(feature=Given(), normalize=False).set_dtype(torch.float64)
    metric.inception.eval()
    metric.orig_dtype = torch.float64
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(made), real=False)
    assert row.fd == pytest.approx(float(metric.compute()), rel=1e-4)
    theirs = compute_prdc(real, made, nearest_k=5)
    expected = [theirs[name] for name in ("precision", "recall", "density", "coverage")]
    assert as_tuple(row.prdc[5]) == pytest.approx(expected, abs=1e-4)
