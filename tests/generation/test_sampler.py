"""Sampling: guidance, padding, layout, noise of each sample's own."""

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, LlamaConfig

from arra_med.generation.sampler import choose_codes, draw_codes, sample_uniforms
from arra_med.model.layout import ImageLayout

LAYOUT = ImageLayout(
    start_ids=(20,), end_ids=(21,), code_ids=tuple(range(22, 32)), grid=(2, 3), pad_id=0
)
PROMPTS = [[1, 5, 6, 7, 8], [1, 4], [1]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, initializer_range=0.3,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def uniforms(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.stack([sample_uniforms(seed, f"k{i}", 0, 6) for i in range(count)]))


FULL = ImageLayout(
    start_ids=(20, 16, 17),
    end_ids=(21, 19),
    code_ids=(29, 23, 31, 24, 22, 30, 25, 28, 26, 27),
    grid=(2, 3),
    pad_id=0,
    prompt_end_ids=(19,),
    row_end_ids=(18,),
)


@pytest.mark.parametrize("layout", [LAYOUT, FULL], ids=["plain", "full"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_equals_a_loop_without_cache_or_padding(
    model, guidance: float, layout: ImageLayout
) -> None:
    drawn = draw_codes(
        model, layout, PROMPTS, uniforms(3), guidance=guidance, temperature=0, top_k=0
    )
    for row, prompt in enumerate(PROMPTS):
        unconditional = list(layout.start_ids)
        conditional = [*prompt, *layout.prompt_end_ids, *unconditional]
        expected = []
        for step in range(6):
            with torch.no_grad():
                c = model(torch.tensor([conditional])).logits[0, -1, list(layout.code_ids)]
                u = model(torch.tensor([unconditional])).logits[0, -1, list(layout.code_ids)]
            code = int((u + guidance * (c - u)).argmax())
            expected.append(code)
            new = [layout.code_ids[code], *(layout.row_end_ids if step == 2 else ())]
            conditional += new
            unconditional += new
        assert drawn[row].flatten().tolist() == expected


@pytest.mark.parametrize("size", [1, 2])
def test_a_sample_does_not_depend_on_its_batch(model, size: int) -> None:
    noise = uniforms(3)
    settings = {"guidance": 2.0, "temperature": 1.0, "top_k": 7}
    together = draw_codes(model, LAYOUT, PROMPTS, noise, **settings)
    apart = [
        draw_codes(model, LAYOUT, PROMPTS[i : i + size], noise[i : i + size], **settings)
        for i in range(0, 3, size)
    ]
    assert torch.equal(together, torch.cat(apart))


def test_codes_follow_the_exact_distribution() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.1])
    generator = np.random.default_rng(0)
    draws = torch.from_numpy(generator.random(20_000))
    codes = choose_codes(logits.expand(20_000, -1), draws, temperature=0.7, top_k=0)
    expected = (logits.double() / 0.7).softmax(-1).numpy() * 20_000
    assert stats.chisquare(np.bincount(codes, minlength=5), expected).pvalue > 0.01


def test_top_k_never_draws_an_excluded_code() -> None:
    logits = torch.randn(500, 12, generator=torch.Generator().manual_seed(0))
    draws = torch.from_numpy(np.random.default_rng(1).random(500))
    codes = choose_codes(logits, draws, temperature=2.0, top_k=3)
    allowed = logits.topk(3).indices
    assert (codes[:, None] == allowed).any(dim=1).all()


@pytest.mark.parametrize("extreme", [0.0, 1 - 1e-16])
def test_extreme_random_numbers_stay_inside(extreme: float) -> None:
    draws = torch.full((1,), extreme, dtype=torch.float64)
    code = choose_codes(torch.zeros(1, 4), draws, temperature=1.0, top_k=0)
    assert 0 <= int(code) < 4


def test_noise_belongs_to_seed_key_and_index() -> None:
    base = sample_uniforms(0, "a", 0, 8)
    assert np.array_equal(base, sample_uniforms(0, "a", 0, 8))
    assert np.array_equal(base[:4], sample_uniforms(0, "a", 0, 4))
    for other in [(1, "a", 0), (0, "b", 0), (0, "a", 1)]:
        assert not np.array_equal(base, sample_uniforms(*other, 8))
