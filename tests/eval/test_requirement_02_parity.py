"""Requirement 2: equal to independent oracles within 1e-6 (n > d, n < d), with any SciPy or none;
Inception FD equals torch-fidelity's within 1e-3; identical sets and known shifts come out right.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import _compute_fid

from arra_med.eval.fidelity import (
    FeatureStats,
    frechet_distance,
    frechet_infinity,
    frechet_of_stats,
)
from arra_med.eval.inception import FILE, Inception, InceptionOptions
from tests.eval.test_frechet import oracle, samples
from tests.eval.test_inception import save_inception


@pytest.mark.parametrize("d", [2, 8, 32])
def test_frechet_distance_equals_sqrtm(d):
    x, y = samples(300, d, 1), samples(200, d, 2, shift=0.3)
    assert frechet_distance(x, y) == pytest.approx(oracle(x, y), rel=1e-8)


@pytest.mark.parametrize(("n", "m"), [(20, 25), (20, 200), (200, 20)])
def test_frechet_distance_with_fewer_vectors_than_dimensions(n, m):
    """The nuclear norm of the Gram matrix equals the general formula on moments."""
    x, y = samples(n, 40, 3), samples(m, 40, 4, shift=0.2)
    general = frechet_of_stats(FeatureStats(40).update(x), FeatureStats(40).update(y))
    assert frechet_distance(x, y) == pytest.approx(general, rel=1e-7)
    assert frechet_distance(x, y) == pytest.approx(oracle(x, y), rel=1e-4)  # sqrtm is singular


@pytest.mark.parametrize(("n", "d"), [(500, 16), (30, 64)])
def test_identical_sets_are_at_zero(n, d):
    x = samples(n, d, 5)
    assert frechet_distance(x, x) < 1e-6
    assert frechet_distance(x, x[::-1]) < 1e-6


def test_identical_sets_with_dead_features_are_at_zero():
    x = samples(500, 16, 5)
    x[:, 8:] = 0
    assert frechet_distance(x, x[::-1]) < 1e-6


@pytest.mark.parametrize(("n", "d"), [(500, 16), (30, 64)])
def test_a_mean_shift_alone_gives_its_square(n, d):
    x = samples(n, d, 6)
    assert frechet_distance(x, x + 0.5) == pytest.approx(d * 0.25, abs=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 24), (15, 20, 24)])
def test_equals_torch_fidelity_and_torchmetrics(n, m, d):
    x, y = samples(n, d, 9), samples(m, d, 10, shift=0.2)
    first, second = (fid_features_to_statistics(torch.from_numpy(z)) for z in (x, y))
    theirs = fid_statistics_to_metric(first, second, verbose=False)["frechet_inception_distance"]
    tensors = [torch.from_numpy(s[name]) for s in (first, second) for name in ("mu", "sigma")]
    # with n < d their eigenvalues of 0 come out as ±1e-14, and the roots of those count
    tolerance = 1e-8 if n > d else 1e-5
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=tolerance)
    assert frechet_distance(x, y) == pytest.approx(float(_compute_fid(*tensors)), rel=tolerance)


def test_fewer_vectors_in_one_set_only():
    x, y = samples(10, 30, 11), samples(200, 30, 12)
    x2, y2 = x - x.mean(0), y - y.mean(0)
    cross = np.linalg.svd(x2 @ y2.T, compute_uv=False).sum() / np.sqrt(9 * 199)
    traces = np.square(x2).sum() / 9 + np.square(y2).sum() / 199
    expected = np.square(x.mean(0) - y.mean(0)).sum() + traces - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_a_known_shift_lies_in_the_interval():
    """Means apart by δ and scales 1 and 1.2: d (δ² + 0.2²)."""
    rng, true, inside, values = np.random.default_rng(1), 8 * (0.3**2 + 0.2**2), 0, []
    for _ in range(40):
        limit = frechet_infinity(
            rng.normal(size=(100, 8)), rng.normal(0.3, 1.2, size=(100, 8)), generator=rng
        )
        inside += limit.low <= true <= limit.high
        values.append(limit.value)
    assert inside >= 36  # of 40
    assert np.mean(values) == pytest.approx(true, abs=0.25 * true)


DISTANCES = """
import importlib
import numpy as np
from arra_med.eval import feature_stats, frechet

def print_distances():
    for module in (feature_stats, frechet):  # with the SciPy of this moment
        importlib.reload(module)
    r = np.random.default_rng(0)
    x, y = r.normal(size=(60, 8)), r.normal(0.2, 1, size=(50, 8))
    stats = [feature_stats.FeatureStats(8).update(z) for z in (x, y)]
    print(frechet.frechet_distance(x, y), frechet.frechet_distance(x[:6], y[:7]))
    print(frechet.frechet_of_stats(*stats))
"""
SOME_SCIPY = f"""
import scipy.linalg
{DISTANCES}
print_distances()

def sqrtm(matrix, *args, **options):
    assert scipy.__version__ == "1.17.0" or not args and not options, "unexpected argument"
    raise AssertionError("the distance needs no sqrtm")

scipy.linalg.sqrtm = sqrtm
for version in ("1.17.0", "1.18.0"):
    scipy.__version__ = version
    print_distances()
"""
NO_SCIPY = f"""
import sys
sys.modules["scipy"] = None
{DISTANCES}
print_distances()
from arra_med.eval.fidelity import fidelity, real_reference
r = np.random.default_rng(0)
x, y = r.normal(size=(2, 60, 4))
row = fidelity(x, y, generator=r, bootstrap=10)
assert row.fd > 0 and row.kid and row.prdc and row.fd_infinity
real_reference(x, 20, generator=r, draws=2)
"""


@pytest.mark.parametrize(
    ("code", "times"), [(SOME_SCIPY, 3), (NO_SCIPY, 1)], ids=["installed, 1.17, 1.18", "absent"]
)
def test_runs_with_any_scipy(code, times):
    """SciPy 1.17 has ``sqrtm(disp=)``, 1.18 refuses it: the distance asks for neither.

    Without SciPy the whole row is measured too.
    """
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found = np.array(ran.stdout.split(), dtype=float).reshape(times, 3)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 8)), rng.normal(0.2, 1, size=(50, 8))
    for whole, few, of_stats in found.tolist():
        assert whole == pytest.approx(oracle(x, y), rel=1e-8)
        assert of_stats == pytest.approx(whole, rel=1e-8)
        assert few == pytest.approx(
            oracle(x[:6], y[:7]), rel=1e-4
        )  # its sqrtm is of a singular one


def test_inception_distance_equals_torch_fidelity(tmp_path):
    """On the same pictures and weights, random ones in torch-fidelity's format."""
    path = save_inception(tmp_path / FILE)
    ours = Inception(InceptionOptions(weights=path))
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], str(path))
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=generator)
    second = torch.randint(40, 200, (7, 3, 64, 64), dtype=torch.uint8, generator=generator)
    some = slice(0, 2048, 512)  # their eigenvalues of all 2048 take a minute
    with torch.inference_mode():
        x, y = (ours(images)[:, some].numpy() for images in (first, second))
        statistics = [
            fid_features_to_statistics(theirs(images)[0][:, some].double())
            for images in (first, second)
        ]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    scale = 1 / expected  # so that 1e-3 means something, whatever random weights give
    assert frechet_distance(x, y) * scale == pytest.approx(1, abs=1e-3)
    stats = [FeatureStats(4).update(z) for z in (x, y)]
    assert frechet_of_stats(*stats) * scale == pytest.approx(1, abs=1e-3)
