"""Requirement 3: small-n honesty: n, d, FD∞ and KID with intervals and a size-matched reference in
every row; raw FD refused below 2 d unless forced; intervals of one distribution contain 0.
"""

import numpy as np
import pytest

from arra_med.eval.fidelity import (
    by_group,
    fidelity,
    frechet_distance,
    frechet_infinity,
    kernel_distance,
    kid,
    prdc,
    real_reference,
)
from tests.eval.test_frechet import samples


def rng(seed=0):
    return np.random.default_rng(seed)


def test_intervals_of_equal_distributions_contain_zero():
    rng, inside, values, raw = np.random.default_rng(0), 0, [], []
    for _ in range(100):
        x, y = rng.normal(size=(40, 6)), rng.normal(size=(32, 6))
        limit = frechet_infinity(x, y, generator=rng)
        inside += limit.low <= 0 <= limit.high
        values.append(limit.value)
        raw.append(frechet_distance(x, y))
    assert inside >= 90
    assert abs(np.mean(values)) < 0.2 * np.mean(raw)  # most of the bias is gone


def test_the_limit_is_refused_below_twice_the_dimension():
    x = samples(30, 16, 15)
    with pytest.raises(ValueError, match="at least 32 vectors of 16 features"):
        frechet_infinity(x, x, generator=np.random.default_rng(0))
    assert frechet_infinity(x, x, generator=np.random.default_rng(0), forced=True).parts == (1, 2)
    with pytest.raises(ValueError, match="both sets or for neither"):
        frechet_infinity(
            samples(40, 4, 1), samples(40, 4, 2), generator=np.random.default_rng(0),
            clusters_x=["a"] * 40,
        )  # fmt: skip
    with pytest.raises(
        ValueError, match="at least 20 clusters in each set for an interval, got 1 and 1"
    ):
        frechet_infinity(
            samples(40, 4, 1), samples(40, 4, 2), generator=np.random.default_rng(0),
            clusters_x=["a"] * 40, clusters_y=["b"] * 40,
        )  # fmt: skip


def test_kid_interval_contains_zero_for_equal_distributions():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        x, y = rng.normal(size=(50, 6)), rng.normal(size=(40, 6))
        result = kid(x, y, generator=rng, bootstrap=200)
        inside += result.low <= 0 <= result.high
    assert inside >= 90
    far = kid(rng.normal(size=(50, 6)), rng.normal(1, 1, size=(50, 6)), generator=rng)
    assert far.low > 0


def test_kid_intervals_hold_the_true_distance():
    """The true one by means over many large sets."""
    rng = np.random.default_rng(1)

    def draw(n):
        return rng.normal(size=(n, 4)), rng.normal(0.15, 1.1, size=(n, 4))

    true = np.mean([kernel_distance(*draw(2000)) for _ in range(20)])
    results = [kid(*draw(80), generator=rng, bootstrap=200) for _ in range(100)]
    assert sum(r.low <= true <= r.high for r in results) >= 90
    assert np.mean([r.value for r in results]) == pytest.approx(true, abs=0.01)


def test_a_row_carries_every_distance():
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


def test_small_numbers_are_refused_in_words_unless_forced():
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
def test_a_few_pictures_give_notes_and_no_error(n):
    row = fidelity(rng(1).normal(size=(50, 4)), rng(2).normal(size=(n, 4)), generator=rng())
    assert row.fd is None
    assert (row.kid is None) == (n < 2)
    assert sorted(row.prdc) == [k for k in (3, 5, 10) if n > k]
    assert f"{n} pictures" in row.prdc_note


def test_the_reference_is_size_matched():
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


def test_groups_with_few_pictures_have_a_note():
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
