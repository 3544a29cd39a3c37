"""Requirement 9: the fit of picture and prompt lies between shuffled prompts and real pairs."""

import numpy as np
import pytest

from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.text_alignment import FOREIGN, Pairs, foreign_prompts, text_alignment


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def pairs(share, *, n=120, noise=1.0, seed=0):
    """Pictures that hold ``share`` of their prompt's direction; the real ones hold all of it."""
    rng = np.random.default_rng(seed)
    texts = unit(rng.normal(size=(n, 24)))
    strange = unit(rng.normal(size=(n, 24)))
    made = unit(share * texts + (1 - share) * strange + 0.2 * noise * rng.normal(size=(n, 24)))
    real = unit(texts + 0.2 * noise * rng.normal(size=(n, 24)))
    return Pairs(
        generated=made,
        real=real,
        texts=texts,
        prompts=[f"prompt {i}" for i in range(n)],
        patients=[f"p{i // 2}" for i in range(n)],
    )


def measure(of, seed=1):
    rng = np.random.default_rng(seed)
    bootstrap = ClusteredBootstrap(of.patients, replicates=300, generator=rng)
    return text_alignment(of, bootstrap, generator=rng)


def test_shuffled_prompts_are_zero_and_real_pairs_one():
    shuffled = measure(pairs(0.0))
    assert shuffled["normalised"]["low"] < 0 < shuffled["normalised"]["high"]
    assert shuffled["retrieval"]["value"] == pytest.approx(1 / (FOREIGN + 1), abs=0.08)
    perfect = measure(pairs(1.0))
    assert perfect["normalised"]["value"] == pytest.approx(1.0, abs=0.03)
    assert perfect["retrieval"]["value"] > 0.95
    half = measure(pairs(0.5))
    assert 0.2 < half["normalised"]["low"] < half["normalised"]["high"] < 0.95
    assert half["floor"]["value"] < half["score"]["value"] < half["ceiling"]["value"]
    assert half["retrieval_of"] == FOREIGN + 1


def test_normalised_is_the_stated_ratio():
    of = pairs(0.6)
    found = measure(of)
    floor, score, ceiling = (found[n]["value"] for n in ("floor", "score", "ceiling"))
    assert found["normalised"]["value"] == pytest.approx((score - floor) / (ceiling - floor))
    by_hand = np.mean([float(a @ b) for a, b in zip(of.generated, of.texts, strict=True)])
    assert score == pytest.approx(by_hand, abs=1e-6)


def test_an_encoder_that_cannot_tell_gives_no_normalised_value():
    rng = np.random.default_rng(3)
    of = pairs(0.5)
    blind = Pairs(
        generated=unit(rng.normal(size=(120, 24))), real=unit(rng.normal(size=(120, 24))),
        texts=of.texts, prompts=of.prompts, patients=of.patients,
    )  # fmt: skip
    found = measure(blind)
    assert found["normalised"] is None
    assert "cannot tell" in found["normalised_note"]
    assert found["score"] is not None


def test_equal_prompts_are_nobodys_mistake():
    """A picture of "no acute process" is not asked to prefer its own copy of those words."""
    prompts = ["no acute process"] * 30 + [f"finding {i}" for i in range(30)]
    patients = [f"p{i}" for i in range(60)]
    places = foreign_prompts(prompts, patients, np.random.default_rng(0))
    assert places.shape == (60, FOREIGN)
    for row, others in enumerate(places):
        texts = [prompts[i] for i in others]
        assert prompts[row] not in texts
        assert len(set(texts)) == FOREIGN
        assert row not in others


def test_too_few_other_prompts_are_said_so():
    found = measure(pairs(1.0, n=8))
    assert found["floor"] is None
    assert found["normalised"] is None
    assert "9 prompts of other words" in found["retrieval_note"]
    assert found["score"]["value"] > 0


def test_pairs_that_do_not_belong_together_are_refused():
    of = pairs(1.0)
    with pytest.raises(ValueError, match="same pairs"):
        Pairs(
            generated=of.generated[:5], real=of.real, texts=of.texts, prompts=of.prompts,
            patients=of.patients,
        )  # fmt: skip
