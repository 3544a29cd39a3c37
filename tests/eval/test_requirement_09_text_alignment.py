"""Requirement 9: the fit of picture and prompt lies between shuffled prompts and real pairs."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.text_alignment import (
    RETRIEVAL_OF,
    PromptedPictures,
    own_first,
    shuffled,
    text_alignment,
)

NAMES = ("score", "floor", "ceiling", "normalised", "retrieval", "retrieval_real")


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pictures(share: float, *, n: int = 120, seed: int = 0, real: float = 1.0) -> PromptedPictures:
    """Pictures that hold ``share`` of their prompt's direction; two prompts a patient."""
    rng = np.random.default_rng(seed)
    texts, strange, stranger = (unit(rng.normal(size=(n, 24))) for _ in range(3))
    noise = rng.normal(size=(2, n, 24)) / 24
    return PromptedPictures(
        generated=3 * (share * texts + (1 - share) * strange + noise[0]),
        real=real * texts + (1 - real) * stranger + noise[1],
        texts=texts,
        prompts=[f"prompt {i}" for i in range(n)],
        patients=[f"p{i // 2}" for i in range(n)],
    )


def measure(pairs: PromptedPictures, *, replicates: int = 300) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    bootstrap = ClusteredBootstrap(pairs.patients, replicates=replicates, generator=rng)
    return text_alignment(pairs, bootstrap, truncated=3, context=77)


def permuted(pairs: PromptedPictures, places: np.ndarray) -> PromptedPictures:
    """The same with the generated pictures of other rows."""
    return PromptedPictures(**{**vars(pairs), "generated": pairs.generated[places]})


def test_shuffled_prompts_give_0_and_real_pairs_1() -> None:
    pairs = pictures(1.0)
    rng = np.random.default_rng(5)
    draws = [measure(permuted(pairs, rng.permutation(120)), replicates=50) for _ in range(20)]
    of_shuffled = [draw["normalised"]["value"] for draw in draws]
    assert abs(np.mean(of_shuffled)) < 0.02
    assert sum(d["normalised"]["low"] < 0 < d["normalised"]["high"] for d in draws) >= 17
    same = PromptedPictures(**{**vars(pairs), "generated": pairs.real})
    found = measure(same)
    assert found["normalised"]["value"] == pytest.approx(1)
    assert found["score"] == found["ceiling"]
    assert found["retrieval"] == found["retrieval_real"]
    half = measure(pictures(0.5))
    assert 0.3 < half["normalised"]["low"] < half["normalised"]["high"] < 0.95


def test_values_are_those_of_a_loop() -> None:
    pairs = pictures(0.6, n=30)
    found = measure(pairs)
    generated, real = unit(pairs.generated), unit(pairs.real)
    score = np.mean([a @ b for a, b in zip(generated, pairs.texts, strict=True)])
    ceiling = np.mean([a @ b for a, b in zip(real, pairs.texts, strict=True)])
    others = [
        generated[i] @ pairs.texts[j]
        for i in range(30)
        for j in range(30)
        if pairs.patients[i] != pairs.patients[j]
    ]
    floor = np.mean(others)
    assert found["score"]["value"] == pytest.approx(score)
    assert found["ceiling"]["value"] == pytest.approx(ceiling)
    assert found["floor"]["value"] == pytest.approx(floor)
    assert found["normalised"]["value"] == pytest.approx((score - floor) / (ceiling - floor))
    assert (found["n"], found["truncated"], found["context"]) == (30, 3, 77)
    assert found["retrieval_of"] == RETRIEVAL_OF == 10
    for name in NAMES:
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"], name
        assert found[name]["n"] == 30


def test_a_resample_s_floor_leaves_out_all_copies_of_the_patient() -> None:
    """Weights 2, 0 and 1 on three patients against a loop over the pictures so repeated."""
    rng = np.random.default_rng(2)
    images, texts = unit(rng.normal(size=(7, 4))), unit(rng.normal(size=(7, 4)))
    patients = ["a", "a", "b", "c", "c", "c", "b"]
    weight = {"a": 2, "b": 0, "c": 1}
    rows = [i for i, patient in enumerate(patients) for _ in range(weight[patient])]
    expected = np.mean(
        [images[i] @ texts[j] for i in rows for j in rows if patients[i] != patients[j]]
    )
    weights = np.array([[float(weight[patient]) for patient in patients]])
    assert shuffled(images, texts, patients)(weights)[0] == pytest.approx(expected)
    one_left = np.array([[1.0, 1, 0, 0, 0, 0, 0]])
    assert np.isnan(shuffled(images, texts, patients)(one_left)[0])


def test_retrieval_is_the_mean_over_all_draws_of_nine() -> None:
    """12 other texts, 220 draws; cosines are integers, so that some tie."""
    rng = np.random.default_rng(3)
    texts = rng.integers(0, 3, size=(13, 2)).astype(float)
    images = rng.integers(1, 3, size=(13, 2)).astype(float)
    pairs = PromptedPictures(
        generated=images, real=images, texts=texts, prompts=[f"t {i}" for i in range(13)],
        patients=[f"p{i}" for i in range(13)],
    )  # fmt: skip
    found = own_first(images, texts, pairs)
    cosines = images @ texts.T
    for i in range(13):
        wins = []
        for drawn in combinations([j for j in range(13) if j != i], 9):
            rivals = cosines[i, list(drawn)]
            ties = int((rivals == cosines[i, i]).sum())
            wins.append(0 if (rivals > cosines[i, i]).any() else 1 / (1 + ties))
        assert found[i] == pytest.approx(np.mean(wins)), i
    assert 0.05 < np.mean(found) < 0.95


@pytest.mark.parametrize("blind", ["random", "constant"])
def test_chance_finds_one_in_ten(blind: str) -> None:
    pairs = pictures(0.0, n=2000)
    constant = np.ones((2000, 24))
    made = pairs.generated if blind == "random" else constant
    texts = unit(pairs.texts if blind == "random" else constant)
    found = own_first(unit(made), texts, pairs)
    assert np.mean(found) == pytest.approx(0.1, abs=0.02 if blind == "random" else 1e-9)


def test_equal_prompts_are_no_errors() -> None:
    """Forty patients of whom nothing is said, in two spellings; each finds its own words."""
    rng = np.random.default_rng(0)
    directions = unit(rng.normal(size=(21, 24)))
    kinds = [0] * 40 + list(range(1, 21))
    vectors = directions[kinds]
    said = ["No acute process.", "no  acute PROCESS."] * 20 + [f"finding {i}" for i in range(20)]
    pairs = PromptedPictures(
        generated=vectors, real=vectors, texts=vectors, prompts=said,
        patients=[f"p{i}" for i in range(60)],
    )  # fmt: skip
    found = measure(pairs)
    assert found["retrieval"]["value"] == found["retrieval_real"]["value"] == 1
    assert found["normalised"]["value"] == pytest.approx(1)


def test_prompts_of_the_same_patient_are_no_rivals() -> None:
    """Every patient's two prompts say nearly the same; only the other patients' are rivals."""
    pairs = pictures(1.0, n=40)
    texts = unit(np.repeat(pairs.texts[::2], 2, axis=0) + 1e-4 * pairs.texts)
    found = own_first(texts[::-1].reshape(20, 2, 24)[::-1].reshape(40, 24), texts, pairs)
    assert found == pytest.approx(1)


def test_an_encoder_that_cannot_tell_gives_no_normalised_value() -> None:
    pairs = pictures(0.5, real=0.0)
    found = measure(pairs)
    assert found["normalised"] is None
    assert "this encoder cannot tell: real pictures with their own" in found["normalised_note"]
    assert "95 % interval" in found["normalised_note"]
    assert found["score"]["value"] > found["ceiling"]["value"]
    assert 0.05 < found["retrieval_real"]["value"] < 0.2


def test_generated_pictures_that_fit_everything_leave_no_scale() -> None:
    """Shuffled prompts fit them as well as real pictures fit their own."""
    pairs = pictures(0.5, real=0.2)
    everything = np.ones((120, 24))
    texts = unit(pairs.texts + everything / 3)
    found = measure(PromptedPictures(**{**vars(pairs), "generated": everything, "texts": texts}))
    assert found["normalised"] is None
    assert "generated pictures with shuffled" in found["normalised_note"]


def test_too_few_prompts_or_patients() -> None:
    few = measure(pictures(1.0, n=8))
    assert few["retrieval"] is None
    assert "10 different prompts" in few["retrieval_note"]
    assert few["normalised"]["value"] > 0.9
    pairs = pictures(1.0, n=20)
    one = measure(PromptedPictures(**{**vars(pairs), "patients": ["p"] * 20}))
    assert one["floor"] is one["normalised"] is one["retrieval"] is None
    assert one["floor_note"] == one["normalised_note"] == "needs prompts of at least two patients"
    assert one["score"]["value"] > 0.9
    assert one["score"]["low"] is None


def test_what_does_not_belong_together_is_refused() -> None:
    pairs = vars(pictures(1.0))
    with pytest.raises(ValueError, match="N of each"):
        PromptedPictures(**{**pairs, "generated": pairs["generated"][:5]})
    with pytest.raises(ValueError, match="119 prompts and 120 patients"):
        PromptedPictures(**{**pairs, "prompts": pairs["prompts"][1:]})
    with pytest.raises(ValueError, match="no picture"):
        PromptedPictures(
            **{name: value[:0] for name, value in pairs.items()},
        )
    for wrong in (0.0, np.nan):
        broken = pairs["texts"].copy()
        broken[3] = wrong
        with pytest.raises(ValueError, match="none of length 0"):
            measure(PromptedPictures(**{**pairs, "texts": broken}))


def test_the_interval_of_the_ratio_covers_its_value() -> None:
    """Of 100 simulated cohorts of 60 patients, 88 to 100 hold the value of a large one."""
    truth = measure(pictures(0.5, n=6000, seed=99), replicates=2)["normalised"]["value"]
    covered = 0
    for seed in range(100):
        found = measure(pictures(0.5, seed=seed), replicates=200)["normalised"]
        covered += found["low"] <= truth <= found["high"]
    assert 88 <= covered <= 100
