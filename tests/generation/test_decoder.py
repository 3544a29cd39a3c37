"""The decoder loop against loops without cache, padding or batch, and against transformers'."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    ChameleonConfig,
    CohereConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    LogitsProcessor,
    MistralConfig,
    PreTrainedModel,
    Qwen3Config,
)

from arra_med.errors import RequestError, WorkError
from arra_med.generation.decoder import CPU_PICTURES, CodeDecoder
from arra_med.generation.sampling import Sampling, sample_uniforms
from arra_med.generation.session import Session
from arra_med.generation.static_cache import static_layers
from arra_med.model.chameleon import ChameleonDrawer
from arra_med.model.layout import ImageLayout
from arra_med.parallel import torch_threads

PLAIN = ImageLayout(
    start_ids=(20,), end_ids=(21,), code_ids=tuple(range(22, 32)), grid=(2, 3), pad_id=0
)
FULL = ImageLayout(
    start_ids=(20, 16, 17),
    end_ids=(21, 19),
    code_ids=(29, 23, 31, 24, 22, 30, 25, 28, 26, 27),
    grid=(2, 3),
    pad_id=0,
    prompt_end_ids=(19,),
    row_end_ids=(18,),
)
PROMPTS = [[1, 5, 6, 7, 8], [1, 4], [1]]
SIZES: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "gpt2": GPT2Config(vocab_size=32, n_positions=64, initializer_range=0.3, **GPT2),
    "qwen3": Qwen3Config(**GROUPED, head_dim=8),
    "mistral": MistralConfig(**GROUPED),
    "gpt-neox": GPTNeoXConfig(**SIZES),
    "gemma": GemmaConfig(**GROUPED, head_dim=8),
    "gemma2": Gemma2Config(**GROUPED, head_dim=8, query_pre_attn_scalar=8),
    "cohere": CohereConfig(**GROUPED, logit_scale=0.3),
    "granite": GraniteConfig(**GROUPED, logits_scaling=3.0),
    "chameleon": ChameleonConfig(
        **GROUPED, vocabulary_map={"<image>": 3}, vq_config={"embed_dim": 8, "base_channels": 32}
    ),
    # These do not take the static cache: windows shorter than a picture, biases by a mask.
    "mistral-window": MistralConfig(**GROUPED, sliding_window=8),
    "gemma2-window": Gemma2Config(**GROUPED, head_dim=8, query_pre_attn_scalar=8, sliding_window=8),
    "bloom": BloomConfig(vocab_size=32, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3),
}
GROWING = ("mistral-window", "gemma2-window", "bloom")
ZEROS = torch.zeros(3, 6, dtype=torch.float64)


def build(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if family == "chameleon":
        model = ChameleonDrawer(CONFIGS[family])
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
        return model.eval()
    return AutoModelForCausalLM.from_config(CONFIGS[family]).eval()


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return build("llama")


def naive(
    model: PreTrainedModel, layout: ImageLayout, prompt: list[int], scales: list[float]
) -> list[int]:
    """Greedy codes of one picture, every token from the whole sequence."""
    unconditional = list(layout.start_ids)
    conditional = [*prompt, *layout.prompt_end_ids, *unconditional]
    codes = []
    for step in range(6):
        with torch.no_grad():
            c = model(torch.tensor([conditional])).logits[0, -1, list(layout.code_ids)]
            u = model(torch.tensor([unconditional])).logits[0, -1, list(layout.code_ids)]
        codes.append(int((u + scales[step] * (c - u)).argmax()))
        new = [layout.code_ids[codes[-1]], *(layout.row_end_ids if step == 2 else ())]
        conditional += new
        unconditional += new
    return codes


def check_greedy(model: Any, layout: ImageLayout, guidance: float) -> None:
    """The codes of largest probability are those of a loop without cache or padding."""
    decoder = CodeDecoder(model, layout, Sampling(guidance=guidance, temperature=0))
    drawn = decoder(PROMPTS, ZEROS)
    assert drawn.shape == (3, 2, 3)
    expected = [naive(model, layout, prompt, [guidance] * 6) for prompt in PROMPTS]
    assert drawn.flatten(1).tolist() == expected
    assert decoder.head.rows is not None, "only the image rows of the head are computed"


@pytest.mark.parametrize(
    ("family", "guidance", "layout"),
    [
        *((family, 3.0, FULL) for family in CONFIGS),
        *(("llama", guidance, layout) for guidance in (1.0, 0.0) for layout in (PLAIN, FULL)),
        *((family, 1.0, PLAIN) for family in GROWING),
    ],
)
def test_greedy_equals_a_loop_without_cache_or_padding(
    family: str, guidance: float, layout: ImageLayout
) -> None:
    model = build(family)
    check_greedy(model, layout, guidance)
    assert (static_layers(model, 64) is None) == (family in GROWING)


@pytest.mark.parametrize("family", [name for name in CONFIGS if name not in GROWING])
def test_padded_prompts_and_buckets_give_the_same(family: str) -> None:
    """What CUDA runs, without graphs: one padded prefill, attention beyond what is filled."""
    model = build(family)
    decoder = CodeDecoder(model, FULL, Sampling(guidance=3, temperature=0))
    session = Session(
        model, FULL, decoder.sampling, decoder.head, num_layers=2, pictures=3, capacity=32,
        bucket=8, graphs=False,
    )  # fmt: skip
    sequences = [FULL.prompt(prompt) for prompt in PROMPTS]
    for _ in range(2):  # buffers are used again
        with torch.no_grad():
            drawn = session.draw(sequences, ZEROS, filled=9, together=True)
        assert torch.equal(drawn, decoder(PROMPTS, ZEROS).flatten(1))


class Guided(LogitsProcessor):
    """Guidance and layout for transformers' ``generate``: its own forward passes, no cache."""

    def __init__(self, model: PreTrainedModel, layout: ImageLayout, guidance: float) -> None:
        self.model, self.layout, self.guidance = model, layout, guidance

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        starts = input_ids.tolist()[0]
        at = len(starts) - 1 - starts[::-1].index(self.layout.start_ids[0])
        image = input_ids[:, at + len(self.layout.start_ids) :]
        row = self.layout.grid[1] + len(self.layout.row_end_ids)
        allowed = list(self.layout.code_ids)
        if image.shape[1] % row >= self.layout.grid[1]:
            allowed = [self.layout.row_end_ids[image.shape[1] % row - self.layout.grid[1]]]
        with torch.no_grad():
            u = self.model(input_ids[:, at:]).logits[:, -1]
        mixed = u + self.guidance * (scores - u)
        forced = torch.full_like(mixed, -torch.inf)
        forced[:, allowed] = mixed[:, allowed]
        return forced


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("family", ["llama", "chameleon"])
def test_greedy_equals_transformers_generate(family: str, guidance: float) -> None:
    model = build(family)
    drawn = CodeDecoder(model, FULL, Sampling(guidance=guidance, temperature=0))(PROMPTS, ZEROS)
    for prompt, codes in zip(PROMPTS, drawn, strict=True):
        start = torch.tensor([FULL.prompt(prompt)])
        out = model.generate(
            start, attention_mask=torch.ones_like(start), do_sample=False, max_new_tokens=8,
            min_new_tokens=8, logits_processor=[Guided(model, FULL, guidance)],
        )  # fmt: skip
        rows = [[*(FULL.code_ids[code] for code in row), 18] for row in codes.tolist()]
        assert out[0, start.shape[1] :].tolist() == [token for row in rows for token in row]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_guidance_grows_over_the_picture(llama: PreTrainedModel, schedule: str) -> None:
    steps = np.arange(6) / 5
    grown = steps if schedule == "linear" else (1 - np.cos(np.pi * steps)) / 2
    sampling = Sampling(guidance=5, guidance_schedule=schedule, temperature=0)
    drawn = CodeDecoder(llama, FULL, sampling)(PROMPTS, ZEROS)
    for prompt, codes in zip(PROMPTS, drawn.flatten(1).tolist(), strict=True):
        assert codes == naive(llama, FULL, prompt, list(1 + 4 * grown))


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral-window"])
def test_any_batch_size_gives_the_same_pictures(family: str) -> None:
    model = build(family)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, 16, length).tolist() for length in rng.integers(1, 40, 16)]
    noise = torch.from_numpy(np.stack([sample_uniforms(0, f"k{i}", 0, 6) for i in range(16)]))
    decoder = CodeDecoder(model, FULL, Sampling(guidance=2, top_k=7))
    together = decoder(prompts, noise)
    for size in (1, 3):
        parts = [decoder(prompts[i : i + size], noise[i : i + size]) for i in range(0, 16, size)]
        assert torch.equal(torch.cat(parts), together)
    backwards = decoder(prompts[::-1], noise.flip(0)).flip(0)
    assert torch.equal(backwards, together)


def test_where_the_place_in_a_group_matters_pictures_are_drawn_alone(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = CodeDecoder(llama, FULL, Sampling(temperature=0))(PROMPTS, ZEROS)
    monkeypatch.setattr(Session, "slots_agree", lambda *_: False)
    decoder = CodeDecoder(llama, FULL, Sampling(temperature=0))
    assert torch.equal(decoder(PROMPTS, ZEROS), expected)
    assert decoder._session is not None
    assert decoder._session.pictures == 1


def test_codes_of_a_model_follow_its_exact_distribution(llama: PreTrainedModel) -> None:
    """First and second code of a 1 × 2 picture, against probabilities from plain forwards."""
    layout = ImageLayout(
        start_ids=(20,), end_ids=(21,), code_ids=(22, 25, 23), grid=(1, 2), pad_id=0
    )
    prompt, number = [1, 5], 960
    expected = np.zeros((3, 3))
    with torch.no_grad():

        def distribution(*codes: int) -> np.ndarray:
            new = [22 if c == 0 else 25 if c == 1 else 23 for c in codes]
            c, u = (
                llama(torch.tensor([[*start, 20, *new]])).logits[0, -1, [22, 25, 23]].double()
                for start in (prompt, [])
            )
            return ((u + 1.5 * (c - u)) / 2).softmax(-1).numpy()

        first = distribution()
        for code in range(3):
            expected[code] = first[code] * distribution(code)
    noise = torch.from_numpy(np.random.default_rng(0).random((number, 2)))
    sampling = Sampling(guidance=1.5, temperature=2, top_k=0)
    codes = CodeDecoder(llama, layout, sampling)([prompt] * number, noise)[:, 0].numpy()
    found = np.zeros((3, 3))
    np.add.at(found, (codes[:, 0], codes[:, 1]), 1)
    assert stats.chisquare(found.ravel(), expected.ravel() * number).pvalue > 0.01


class Masking(torch.nn.Module):
    """A head that forbids tokens by their place in the vocabulary, as some models do."""

    def __init__(self, head: torch.nn.Linear) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.head(hidden)
        logits[..., 22] = -100
        return logits


def test_a_head_that_knows_its_vocabulary_is_left_whole() -> None:
    model = build("llama")
    model.lm_head = Masking(model.lm_head)
    decoder = CodeDecoder(model, FULL, Sampling(guidance=1, temperature=0))
    assert decoder.head.rows is None
    drawn = decoder(PROMPTS, ZEROS)
    assert drawn.flatten(1).tolist() == [naive(model, FULL, p, [1.0] * 6) for p in PROMPTS]
    assert not (drawn == FULL.code_ids.index(22)).any()


def test_largest_batch_counts_both_branches(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        available = 2**20

    monkeypatch.setattr("arra_med.generation.decoder.psutil.virtual_memory", lambda: Memory)
    both = CodeDecoder(llama, FULL, Sampling(guidance=4)).largest_batch(5)
    one = CodeDecoder(llama, FULL, Sampling(guidance=1)).largest_batch(5)
    # 128 slots · 2 layers · keys and values · 32 numbers · 4 bytes a branch, and work space
    assert 1 <= both <= 2**20 // (2 * 128 * 2 * 2 * 32 * 4)
    assert both < one <= 2**20 // (128 * 2 * 2 * 32 * 4)
    beside = CodeDecoder(llama, FULL, Sampling(guidance=1)).largest_batch(5, reserve=2**19)
    assert 1 <= beside < one
    Memory.available = 0
    assert CodeDecoder(llama, FULL, Sampling()).largest_batch(5) == 1


def test_nothing_asked_for_and_too_much(llama: PreTrainedModel) -> None:
    decoder = CodeDecoder(llama, FULL, Sampling())
    assert decoder([], torch.zeros(0, 6)).shape == (0, 2, 3)
    gpt2 = CodeDecoder(build("gpt2"), FULL, Sampling())
    with pytest.raises(RequestError, match=r"prompt of 60 tokens .* take 74 .* room for 64"):
        gpt2([[1] * 60], ZEROS[:1])


@pytest.mark.parametrize("family", ["llama", "mistral-window"])
def test_logits_that_are_not_finite_are_refused(family: str) -> None:
    model = build(family)
    with torch.no_grad():
        model.get_output_embeddings().weight[FULL.code_ids[3], 0] = torch.nan
    with pytest.raises(WorkError, match="not finite"):
        CodeDecoder(model, FULL, Sampling())(PROMPTS, ZEROS)


def test_a_group_is_set_up_once(llama: PreTrainedModel) -> None:
    decoder = CodeDecoder(llama, FULL, Sampling())
    decoder(PROMPTS, ZEROS)
    session = decoder._session
    decoder(PROMPTS[:1], ZEROS[:1])
    assert decoder._session is session
    assert session is not None
    assert session.pictures == CPU_PICTURES


def test_threads_on_the_cpu_change_neither_codes_nor_groups() -> None:
    """Several threads may round a group's rows unlike each other: the demo's model does."""
    sizes = {"hidden_size": 128, "intermediate_size": 344, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=600, num_hidden_layers=2, **sizes)
    model = AutoModelForCausalLM.from_config(config).eval()
    drawn = []
    for threads in (1, 2):
        with torch_threads(threads):
            decoder = CodeDecoder(model, FULL, Sampling())
            drawn.append(decoder(PROMPTS, ZEROS))
            assert decoder._session is not None
            assert decoder._session.pictures == CPU_PICTURES
            assert torch.get_num_threads() == threads
    assert torch.equal(*drawn)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("family", [name for name in CONFIGS if name not in GROWING])
def test_graphs_give_what_the_cpu_gives(
    family: str, guidance: float, caplog: pytest.LogCaptureFixture
) -> None:
    model = build(family)
    sampling = Sampling(guidance=guidance, temperature=0)
    expected = CodeDecoder(model, FULL, sampling)(PROMPTS, ZEROS)
    model = model.to(torch.device("cuda"))
    decoder = CodeDecoder(model, FULL, sampling)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):  # the second time all steps are replayed
            assert torch.equal(decoder(PROMPTS, ZEROS).cpu(), expected)
    assert "cannot be recorded" not in caplog.text
    assert decoder._session is not None
    assert len(decoder._session.graphs or {}) == 2  # steps of one token, and of two at a row's end
    assert torch.equal(decoder(PROMPTS[:2], ZEROS[:2]).cpu(), expected[:2])


@pytest.mark.gpu
@needs_cuda
def test_graphs_draw_what_steps_without_them_draw(llama: PreTrainedModel) -> None:
    model = build("llama").to(torch.device("cuda"))
    noise = torch.from_numpy(np.random.default_rng(0).random((3, 6)))
    sampling = Sampling(guidance=2, top_k=7, top_p=0.9)
    recorded = CodeDecoder(model, FULL, sampling)
    expected = CodeDecoder(model, FULL, sampling, graphs=False)(PROMPTS, noise)
    assert torch.equal(recorded(PROMPTS, noise), expected)
    assert torch.equal(recorded(PROMPTS, noise), expected)
    assert recorded.largest_batch(5) >= 1
