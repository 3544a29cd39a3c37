"""The draw itself: exact frequencies, what is excluded, noise of each picture's own, guidance."""

import numpy as np
import pytest
import torch
from scipy import stats

from arra_med.generation.sampling import Sampling, choose_codes, sample_uniforms

LOGITS = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.1])
NUMBER = 20_000


def frequencies(sampling: Sampling) -> np.ndarray:
    draws = torch.from_numpy(np.random.default_rng(0).random(NUMBER))
    codes = choose_codes(LOGITS.expand(NUMBER, -1), draws, sampling)
    return np.bincount(codes, minlength=5)


def test_codes_follow_the_exact_distribution() -> None:
    expected = np.exp(LOGITS.double().numpy() / 0.7)
    found = frequencies(Sampling(temperature=0.7, top_k=0))
    assert stats.chisquare(found, expected / expected.sum() * NUMBER).pvalue > 0.01


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"top_k": 2}, [2, 4]),
        ({"top_k": 3}, [0, 2, 4]),
        # probabilities .103 .028 .563 .076 .229: the fewest that reach p
        ({"top_k": 0, "top_p": 0.5}, [2]),
        ({"top_k": 0, "top_p": 0.6}, [2, 4]),
        ({"top_k": 0, "top_p": 0.95}, [0, 2, 3, 4]),
        # of the two likeliest alone, .711 .289
        ({"top_k": 2, "top_p": 0.7}, [2]),
    ],
)
def test_what_top_k_and_top_p_exclude_is_never_drawn(settings: dict, kept: list[int]) -> None:
    found = frequencies(Sampling(**settings))
    assert np.flatnonzero(found).tolist() == kept
    if len(kept) > 1:
        weights = np.exp(LOGITS.double().numpy()[kept])
        expected = weights / weights.sum() * NUMBER
        assert stats.chisquare(found[kept], expected).pvalue > 0.01


def test_top_k_keeps_ties_and_a_wild_batch_stays_inside() -> None:
    tied = torch.tensor([[1.0, 2.0, 1.0, 0.0]]).expand(4, -1)
    draws = torch.tensor([0.0, 0.3, 0.99, 1 - 1e-16], dtype=torch.float64)
    assert choose_codes(tied, draws, Sampling(top_k=2)).tolist() == [0, 1, 2, 2]
    logits = torch.randn(500, 12, generator=torch.Generator().manual_seed(0))
    draws = torch.from_numpy(np.random.default_rng(1).random(500))
    codes = choose_codes(logits, draws, Sampling(temperature=2.0, top_k=3))
    assert (codes[:, None] == logits.topk(3).indices).any(dim=1).all()


@pytest.mark.parametrize("extreme", [0.0, 1 - 1e-16])
@pytest.mark.parametrize("top_k", [0, 1])
def test_extreme_random_numbers_draw_an_allowed_code(extreme: float, top_k: int) -> None:
    draws = torch.full((1,), extreme, dtype=torch.float64)
    logits = torch.tensor([[-torch.inf, 3.0, 0.0, -torch.inf]])
    code = int(choose_codes(logits, draws, Sampling(top_k=top_k)))
    assert code == (1 if top_k == 1 or extreme == 0 else 2)


def test_temperature_zero_is_the_likeliest() -> None:
    assert frequencies(Sampling(temperature=0)).tolist() == [0, 0, NUMBER, 0, 0]


def test_guidance_schedules() -> None:
    assert Sampling(guidance=3).scales(3).tolist() == [3, 3, 3]
    assert Sampling(guidance=3, guidance_schedule="linear").scales(3).tolist() == [1, 2, 3]
    cosine = Sampling(guidance=3, guidance_schedule="cosine").scales(5)
    half = 2**-0.5
    expected = torch.tensor([1, 2 - half, 2, 2 + half, 3])  # 1 + 2 · (1 - cos πx) / 2
    torch.testing.assert_close(cosine, expected)
    assert not Sampling(guidance=1).guided
    assert Sampling(guidance=0).guided


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance": -1.0}, "guidance must be 0 or more"),
        ({"temperature": float("nan")}, "temperature must be 0 or more"),
        ({"top_k": -1}, "top_k must be 0 or more"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"guidance_schedule": "cubic"}, "constant, linear or cosine"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


def test_noise_belongs_to_seed_key_and_index() -> None:
    base = sample_uniforms(0, "a", 0, 8)
    assert np.array_equal(base, sample_uniforms(0, "a", 0, 8))
    assert np.array_equal(base[:4], sample_uniforms(0, "a", 0, 4))
    for other in [(1, "a", 0), (0, "b", 0), (0, "a", 1)]:
        assert not np.array_equal(base, sample_uniforms(*other, 8))
