import numpy as np
import pytest

from arra_med.eval import fidelity as public
from arra_med.eval.fidelity import (
    fidelity,
    kernel_distance,
    real_reference,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_public_names_are_importable_from_here():
    assert all(hasattr(public, name) for name in public.__all__)
    assert {"frechet_distance", "kid", "prdc", "FeatureStats"} <= set(public.__all__)


def test_an_interval_that_patients_do_not_allow_leaves_the_distance():
    real, made = rng(1).normal(size=(60, 4)), rng(2).normal(size=(60, 4))
    few = ["a", "b", "c"] * 20
    row = fidelity(
        real, made, generator=rng(), bootstrap=20, real_clusters=few, generated_clusters=few
    )
    assert row.fd is not None
    assert row.fd_infinity is None
    assert "at least 20 clusters" in row.fd_note


def test_the_whole_pool_is_drawn_once():
    real, pool = rng(1).normal(size=(40, 3)), rng(2).normal(size=(25, 3))
    reference = real_reference(real, 30, generator=rng(), pool=pool)
    assert len(reference.draws) == 1
    assert reference.draws[0]["kid"] == pytest.approx(kernel_distance(real, pool))
    assert reference.size == 25
    assert "25 real pictures of other patients stand for 30" in reference.note


def test_real_pictures_cut_in_two_share_no_patient(monkeypatch):
    real = np.arange(120.0).reshape(60, 2)
    patients = [f"p{i // 3}" for i in range(60)]
    patient_of = dict(zip(map(tuple, real.tolist()), patients, strict=True))
    seen = []
    monkeypatch.setattr(
        "arra_med.eval.fidelity.kernel_distance", lambda a, b: seen.append((a, b)) or 0.0
    )
    reference = real_reference(real, 30, generator=rng(), clusters=patients, draws=5)
    for first, second in seen:
        sides = [{patient_of[tuple(row)] for row in side.tolist()} for side in (first, second)]
        assert not sides[0] & sides[1]
        assert len(first) + len(second) <= 60
        assert 15 <= len(second) <= 25  # 60 · 30 / 90 = 20, up to whole patients
    assert "cut in two" in reference.note
    with pytest.raises(ValueError, match="at least two patients"):
        real_reference(real, 30, generator=rng(), clusters=["a"] * 60)


def test_a_reference_without_enough_pictures_has_no_frechet_distance():
    reference = real_reference(rng(1).normal(size=(30, 16)), 20, generator=rng(), draws=3)
    assert reference.mean("fd") is None
    assert reference.range("fd") is None
    assert reference.mean("kid") is not None
