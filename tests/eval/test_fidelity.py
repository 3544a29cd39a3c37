import numpy as np
import pytest

from arra_med.eval import fidelity as public
from arra_med.eval.comparison_statistics import clustered_kid
from arra_med.eval.fidelity import (
    by_group,
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


def test_a_patients_pictures_are_not_compared_with_each_other():
    draws = rng(4)
    alike = np.repeat(draws.normal(size=(50, 16)), 6, axis=0)
    real = np.sqrt(0.5) * (alike + draws.normal(size=(300, 16)))
    made, pool = draws.normal(size=(300, 16)), draws.normal(size=(300, 16))
    whose, own = [f"p{i // 6}" for i in range(300)], [f"q{i}" for i in range(300)]
    row = fidelity(
        real, made, generator=rng(), bootstrap=100, real_clusters=whose, generated_clusters=own
    )
    expected = clustered_kid(real, made, whose, own)(np.ones((1, 300)))[0]
    assert row.kid.value == pytest.approx(expected)
    assert kernel_distance(real, made) > expected + 0.02
    reference = real_reference(
        real, 300, generator=rng(), pool=pool, clusters=whose, pool_clusters=own
    )
    assert reference.mean("kid") == pytest.approx(
        clustered_kid(real, pool, whose, own)(np.ones((1, 300)))[0]
    )


def test_one_patient_gives_a_note_and_no_kernel_distance():
    real, made = rng(1).normal(size=(60, 4)), rng(2).normal(size=(60, 4))
    mine = [f"p{i}" for i in range(60)]
    row = fidelity(real, made, generator=rng(), real_clusters=mine, generated_clusters=["p0"] * 60)
    assert row.kid is None
    assert row.kid_note == "needs pictures of at least two patients in each set"
    everyone = np.ones(60, bool), np.ones(60, bool)
    [group] = by_group(
        real, made, {"PA": everyone}, generator=rng(), clusters=["p0"] * 60,
        generated_clusters=mine,
    )  # fmt: skip
    assert (group.kid, group.reference) == (None, None)
    assert "all of one patient" in group.note


def test_a_forced_limit_of_few_patients_is_marked():
    real, made = rng(1).normal(size=(200, 16)), rng(2).normal(size=(200, 16))
    whose = [f"p{i // 8}" for i in range(200)]
    arguments = {"real_clusters": whose, "generated_clusters": whose, "bootstrap": 20}
    row = fidelity(real, made, generator=rng(), **arguments)
    assert (row.fd is None, row.fd_infinity) == (False, None)
    assert "of different patients, in each set, got 25 and 25" in row.fd_note
    row = fidelity(real, made, generator=rng(), forced=True, **arguments)
    assert row.fd_infinity is not None
    assert "biased upwards: 25 patients are fewer than twice the 16 features" in row.fd_note


def test_a_group_is_held_against_as_many_real_pictures_of_it():
    real, made = rng(1).normal(size=(60, 8)), rng(2).normal(size=(70, 8))
    pool = rng(3).normal(size=(500, 8))
    of_pool = np.arange(500) < 200
    pool[~of_pool] += 3.0  # without the finding
    everyone = np.ones(60, bool), np.ones(70, bool)
    arguments = {"generator": rng(), "bootstrap": 50, "pool": pool}
    [group] = by_group(real, made, {"Edema": everyone}, pool_groups={"Edema": of_pool}, **arguments)
    reference = group.reference
    assert (reference.n_real, reference.size, reference.note) == (60, 70, "")
    assert len(reference.draws) == 10
    assert max(map(abs, reference.range("kid"))) < 0.5
    for few in ({"Edema": np.arange(500) < 69}, {}):
        [group] = by_group(real, made, {"Edema": everyone}, pool_groups=few, **arguments)
        assert group.reference.n_real + group.reference.size == 60
        assert "cut in two, a lenient reference: 28 against 32, not 60 against 70" in (
            group.reference.note
        )
    with pytest.raises(ValueError, match="500 of the pool"):
        by_group(real, made, {"Edema": everyone}, pool_groups={"Edema": of_pool[1:]}, **arguments)


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
        "arra_med.eval.fidelity.kernel_distance",
        lambda a, b, **_: seen.append((a, b)) or 0.0,
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
