import numpy as np
import pytest

from arra_med.eval import fidelity as public
from arra_med.eval.fidelity import (
    by_group,
    fidelity,
    frechet_distance,
    kernel_distance,
    prdc,
    real_reference,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_public_names_are_importable_from_here():
    assert all(hasattr(public, name) for name in public.__all__)
    assert {"frechet_distance", "kid", "prdc", "FeatureStats"} <= set(public.__all__)


def test_requirement_3_a_row_carries_every_distance():
    real, made = rng(1).normal(size=(90, 6)), rng(2).normal(0.3, 1, size=(70, 6))
    row = fidelity(real, made, generator=rng(), bootstrap=100)
    assert (row.n_real, row.n_generated, row.dimension) == (90, 70, 6)
    assert row.fd == frechet_distance(real, made)
    assert row.fd_infinity.low < row.fd_infinity.value < row.fd_infinity.high
    assert row.fd_infinity.value < row.fd  # less its bias
    assert row.kid.low < row.kid.value < row.kid.high
    assert row.prdc == {k: prdc(real, made, k) for k in (5, 3, 10)}
    assert row.fd_note == row.kid_note == row.prdc_note == ""
    assert row == fidelity(real, made, generator=rng(), bootstrap=100)


def test_requirement_3_small_numbers_are_refused_in_words_unless_forced():
    real, made = rng(1).normal(size=(90, 16)), rng(2).normal(size=(31, 16))
    row = fidelity(real, made, generator=rng(), bootstrap=20)
    assert row.fd is None
    assert row.fd_infinity is None
    assert "31 pictures are fewer than twice the 16 features" in row.fd_note
    assert row.kid is not None
    forced = fidelity(real, made, generator=rng(), bootstrap=20, forced=True)
    assert forced.fd == frechet_distance(real, made)
    assert forced.fd_infinity is not None
    assert forced.fd_note.startswith("mostly bias")


@pytest.mark.parametrize("n", [1, 2, 6])
def test_requirement_3_a_few_pictures_give_notes_and_no_error(n):
    row = fidelity(rng(1).normal(size=(50, 4)), rng(2).normal(size=(n, 4)), generator=rng())
    assert row.fd is None
    assert (row.kid is None) == (n < 2)
    assert sorted(row.prdc) == [k for k in (3, 5, 10) if n > k]
    assert f"{n} pictures" in row.prdc_note


def test_an_interval_that_patients_do_not_allow_leaves_the_distance():
    real, made = rng(1).normal(size=(60, 4)), rng(2).normal(size=(60, 4))
    few = ["a", "b", "c"] * 20
    row = fidelity(
        real, made, generator=rng(), bootstrap=20, real_clusters=few, generated_clusters=few
    )
    assert row.fd is not None
    assert row.fd_infinity is None
    assert "at least 20 clusters" in row.fd_note


def test_requirement_3_the_reference_is_size_matched():
    """Same distribution, so its Fréchet distance is the bias of n = 200 against 30 and no less."""
    real, pool = rng(1).normal(size=(200, 5)), rng(2).normal(size=(900, 5))
    reference = real_reference(real, 30, generator=rng(), pool=pool, draws=20)
    assert (reference.n_real, reference.size, reference.note) == (200, 30, "")
    assert len(reference.draws) == 20
    low, high = reference.range("fd")
    assert low <= reference.mean("fd") <= high
    expected = np.mean(
        [frechet_distance(rng(s).normal(size=(200, 5)), rng(s + 99).normal(size=(30, 5)))
         for s in range(100, 140)]
    )  # fmt: skip
    assert reference.mean("fd") == pytest.approx(expected, rel=0.3)
    assert abs(reference.mean("kid")) < 0.1
    assert reference.mean("precision") > 0.8


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


def test_requirement_3_groups_with_few_pictures_have_a_note():
    real, made = rng(1).normal(size=(100, 4)), rng(2).normal(size=(80, 4))
    made[:40] += 1.0  # the first 40 are drawn wrong
    first = np.arange(100) < 50, np.arange(80) < 40
    second = np.arange(100) >= 50, np.arange(80) >= 40
    rare = np.arange(100) < 90, np.arange(80) < 7
    rows = by_group(
        real, made, {"PA": first, "lateral": second, "rare": rare}, generator=rng(), bootstrap=200
    )
    wrong, right, few = rows
    assert [row.group for row in rows] == ["PA", "lateral", "rare"]
    assert wrong.kid.low > 0
    assert wrong.kid.value > 5 * max(abs(v) for v in wrong.reference.range("kid"))
    assert right.kid.low <= 0 <= right.kid.high
    assert (few.kid, few.reference, few.n_generated) == (None, None, 7)
    assert few.note == "not given: 90 real and 7 generated pictures; 20 of each are needed"
    with pytest.raises(ValueError, match="masks of 100 and 80"):
        by_group(real, made, {"PA": (first[0], first[0])}, generator=rng())
