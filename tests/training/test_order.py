"""Order of the data: nothing lost, nothing repeated, whatever the number of ranks."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arra_med.training.order import Draws, Order, Steps


def pairs(draws: Draws) -> list[tuple[int, int]]:
    return list(zip(draws.source.tolist(), draws.sample.tolist(), strict=True))


def make_steps(sizes, ratios, *, batch_size: int, bucket: int, seed: int = 0) -> Steps:
    order = Order(sizes, ratios, seed=seed, prompt_dropout=0.3)
    lengths = [np.random.default_rng(n).integers(20, 60, n) for n in sizes]
    return Steps(order, lengths, promptless=10, batch_size=batch_size, bucket_batches=bucket)


sources = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0])),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(sources, st.integers(0, 99))
def test_an_epoch_takes_of_each_source_its_share(given_sources, seed: int) -> None:
    sizes, ratios = zip(*given_sources, strict=True)
    order = Order(sizes, ratios, seed=seed)
    size = len(order)
    seen: Counter = Counter()
    for epoch in range(4):
        draws = order.draws(epoch * size, (epoch + 1) * size)
        counts = Counter(draws.source.tolist())
        for source, (num, ratio) in enumerate(given_sources):
            share = Fraction(ratio) * num
            assert abs(counts[source] - share) <= Fraction(1, 2) or counts[source] == 1
        seen.update(pairs(draws))
        # Of one source no sample is ever two passes ahead of another.
        for source, num in enumerate(sizes):
            taken = [seen[source, sample] for sample in range(num)]
            assert max(taken) - min(taken) <= 1


def test_half_of_a_source_and_then_the_other_half() -> None:
    order = Order([10, 4], [0.5, 2], seed=3)
    assert len(order) == 5 + 8
    halves = [[s for f, s in pairs(order.draws(13 * e, 13 * e + 13)) if f == 0] for e in (0, 1)]
    assert sorted(halves[0] + halves[1]) == list(range(10))
    twice = Counter(s for f, s in pairs(order.draws(0, 13)) if f == 1)
    assert twice == dict.fromkeys(range(4), 2)


@settings(max_examples=60, deadline=None)
@given(sources, st.integers(1, 12), st.integers(0, 5), st.integers(0, 99))
def test_bucketing_keeps_every_epochs_samples(
    given_sources, batch_size: int, bucket: int, seed: int
) -> None:
    """The steps that begin in an epoch take the same samples with and without bucketing."""
    sizes, ratios = zip(*given_sources, strict=True)
    plain = make_steps(sizes, ratios, batch_size=batch_size, bucket=0, seed=seed)
    steps = make_steps(sizes, ratios, batch_size=batch_size, bucket=bucket, seed=seed)
    for epoch in range(3):
        these = range(steps.first_step(epoch), steps.first_step(epoch + 1))
        found = Counter(pair for step in these for pair in pairs(steps.step(step)))
        assert found == Counter(pair for step in these for pair in pairs(plain.step(step)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.integers(0, 30))
def test_any_step_is_the_same_when_asked_for_first(bucket: int, step: int) -> None:
    """Resuming needs the step's number alone."""
    arguments = {"batch_size": 6, "bucket": bucket}
    through = make_steps([17, 9], [1, 0.5], **arguments)
    for earlier in range(step):
        through.step(earlier)
    fresh = make_steps([17, 9], [1, 0.5], **arguments)
    for a, b in zip(through.step(step), fresh.step(step), strict=True):
        assert np.array_equal(a, b)


def test_a_window_of_one_step_orders_its_samples_by_length() -> None:
    plain = make_steps([50], [1], batch_size=12, bucket=0)
    steps = make_steps([50], [1], batch_size=12, bucket=1)
    for step in range(9):
        assert Counter(pairs(steps.step(step))) == Counter(pairs(plain.step(step)))
        lengths = steps.lengths(steps.step(step))
        assert (np.diff(lengths) >= 0).all()
        assert (lengths[steps.step(step).dropped] == 10).all()


def test_steps_of_a_window_are_shuffled() -> None:
    steps = make_steps([1200], [1], batch_size=12, bucket=50)
    means = [steps.lengths(steps.step(step)).mean() for step in range(100)]
    assert np.std(means) > 5, "steps are alike in length"
    assert abs(np.corrcoef(means, np.arange(100) % 50)[0, 1]) < 0.4, "not the short ones first"


def test_prompts_are_dropped_anew_in_each_epoch() -> None:
    order = Order([1000], [1], seed=0, prompt_dropout=0.1)
    dropped = [
        {sample for (_, sample), d in zip(pairs(draws), draws.dropped, strict=True) if d}
        for draws in (order.draws(0, 1000), order.draws(1000, 2000))
    ]
    assert all(60 < len(which) < 140 for which in dropped)
    assert len(dropped[0] & dropped[1]) < 30


@pytest.mark.parametrize("seed", [0, 1])
def test_another_seed_is_another_order(seed: int) -> None:
    a, b = (Order([100], [1], seed=s).draws(0, 100).sample for s in (seed, seed + 1))
    assert not np.array_equal(a, b)
