"""Packed rows: every sample once, and the loss of samples that have a row each."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    ChameleonConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
)

from arra_med.alignment import ArraModel
from arra_med.errors import RequestError
from arra_med.model.chameleon import ChameleonDrawer
from arra_med.model.packed import check_packing, packed_mask
from arra_med.settings import Alignment, Training
from arra_med.training.loader import MicroBatches, TrainingSet
from arra_med.training.packing import collate_packed, first_fit, spread
from tests.training.folders import DIMENSION, make_examples

SMALL = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
GPT2 = GPT2Config(
    vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=24, bos_token_id=1, eos_token_id=2,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
)  # fmt: skip
OPT = OPTConfig(
    **{k: v for k, v in SMALL.items() if "hidden_layers" not in k}, ffn_dim=32, dropout=0.0,
    num_hidden_layers=2, word_embed_proj_dim=16, max_position_embeddings=64,
)  # fmt: skip


def make_model(config, attention: str | None = None):
    torch.manual_seed(0)
    if isinstance(config, ChameleonConfig):
        return ChameleonDrawer(config)
    chosen = {} if attention is None else {"attn_implementation": attention}
    config = type(config).from_dict(config.to_dict())
    return AutoModelForCausalLM.from_config(config, **chosen)


def chameleon() -> ChameleonConfig:
    names = {"<image>": 39, **{f"IMGIMG{chr(65 + i)}Z": 22 + i for i in range(10)}}
    return ChameleonConfig(**SMALL, vocabulary_map=names, vq_config={"num_embeddings": 10})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(30, 80))
def test_first_fit_keeps_every_sample_within_the_rows(lengths: list[int], capacity: int) -> None:
    rows = first_fit(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in row) for row in rows]
    assert max(sums) <= capacity
    assert sum(total <= capacity // 2 for total in sums) <= 1, "two such rows would be one"
    for count in range(len(rows), len(lengths) + 1):
        more = spread(rows, count)
        assert len(more) == count
        assert all(more)
        assert sorted(index for row in more for index in row) == list(range(len(lengths)))


def test_first_fit_by_hand() -> None:
    assert first_fit([3, 7, 5, 4], 10) == [[1, 0], [2, 3]]
    with pytest.raises(ValueError, match="11 tokens does not fit a row of 10"):
        first_fit([3, 11], 10)


def test_a_packed_row_by_hand(tmp_path: Path) -> None:
    (examples,) = make_examples(tmp_path, 5)
    a, b = examples[0], examples[1]
    n, m = len(a.example.ids), len(b.example.ids)
    batch = collate_packed([[a, b], [b]], 0, length=n + m + 2, share=3)
    assert batch["ids"].tolist() == [
        [*a.example.ids, *b.example.ids, 0, 0],
        [*b.example.ids, *[0] * (n + 2)],
    ]
    assert batch["positions"].tolist() == [
        [*range(n), *range(m), 0, 0],
        [*range(m), *[0] * (n + 2)],
    ]
    assert batch["aligned_sample"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert batch["target_weights"].sum().item() == pytest.approx(1)


def mean_losses(model: ArraModel, samples: TrainingSet, step: int, world_size: int):
    """What DeepSpeed makes of a step: the mean over ranks and rounds, and its gradient."""
    model.zero_grad()
    totals = []
    for rank in range(world_size):
        batches = MicroBatches(samples, rank=rank, world_size=world_size)
        for turn in range(batches.rounds):
            batch = batches[step * batches.rounds + turn]
            losses = model(batch)
            (losses["total"] / (batches.rounds * world_size)).backward()
            totals.append(torch.stack([losses[n].detach() for n in sorted(losses)]))
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return torch.stack(totals).mean(dim=0), gradient


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "chameleon"])
def test_the_packed_step_equals_the_unpacked_one(tmp_path: Path, name: str, attention: str) -> None:
    config = {"llama": LlamaConfig(**SMALL), "gpt2": GPT2, "chameleon": chameleon()}[name]
    backbone = make_model(config, attention)
    backbone.set_attn_implementation(attention)
    check_packing(backbone)
    model = ArraModel(
        backbone, Alignment(layer=2), teacher_dimension=DIMENSION, z_weight=1e-2, seed=0
    )
    sources = make_examples(tmp_path, 30, 10)
    plain = Training(batch_size=12, micro_batch_size=3, max_steps=5)
    expected = TrainingSet(sources, [1, 1], plain, seed=0)
    packed = Training(batch_size=12, micro_batch_size=2, max_steps=5, pack_tokens=45)
    samples = TrainingSet(sources, [1, 1], packed, seed=0)
    assert samples.rows_per_step(1) < 12
    for step in (0, 3):
        losses, gradient = mean_losses(model, expected, step, 1)
        for world_size in (1, 2):
            found, packed_gradient = mean_losses(model, samples, step, world_size)
            torch.testing.assert_close(found, losses, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(packed_gradient, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "attention"),
    [
        (LlamaConfig(**SMALL), "sdpa"),
        (GPTNeoXConfig(**SMALL), "eager"),
        (OPT, "sdpa"),
        (MistralConfig(**SMALL, sliding_window=3), "sdpa"),
        (Gemma2Config(**SMALL, head_dim=8, sliding_window=3), "eager"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_architectures_that_can_be_packed(config, attention: str) -> None:
    model = make_model(config, attention).train()
    check_packing(model)
    check_packing(model.to(torch.bfloat16))
    assert model.training


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2),
        BloomConfig(vocab_size=32, hidden_size=16, n_layer=2, n_head=2),
    ],
    ids=lambda config: type(config).__name__,
)
def test_architectures_that_cannot_are_refused_by_name(config) -> None:
    model = make_model(config)
    with pytest.raises(RequestError, match=f"pack_tokens: {type(model).__name__} cannot be packed"):
        check_packing(model)


def test_positions_that_the_model_ignores_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(GPT2)
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda **kw: forward(**{**kw, "position_ids": None}))
    with pytest.raises(RequestError, match="not what it is alone"):
        check_packing(model)


def test_our_mask_is_that_of_transformers() -> None:
    """The mask made without looking, and the one that transformers makes from the positions."""
    model = make_model(LlamaConfig(**SMALL), "sdpa")
    positions = torch.tensor([[0, 1, 2, 0, 1, 0, 0], [0, 1, 2, 3, 4, 5, 6]])
    ids = torch.randint(40, positions.shape)
    mask = packed_mask(model, positions)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1],
    ]  # fmt: skip
    theirs = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    ours = model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(ours, theirs)
    sliding = make_model(MistralConfig(**SMALL, sliding_window=3))
    assert packed_mask(sliding, positions) is None


def test_rows_that_do_not_divide_or_fit_are_refused(tmp_path: Path) -> None:
    sources = make_examples(tmp_path, 30)
    packed = Training(batch_size=12, micro_batch_size=4, max_steps=2, pack_tokens=45)
    samples = TrainingSet(sources, [1], packed, seed=0)
    with pytest.raises(RequestError, match="multiple of 16 rows"):
        samples.rows_per_step(4)
    short = Training(batch_size=12, micro_batch_size=4, max_steps=2, pack_tokens=10)
    with pytest.raises(RequestError, match="does not fit a row of 10"):
        TrainingSet(sources, [1], short, seed=0)
    with pytest.raises(ValueError, match="bucket_batches has no effect"):
        Training(pack_tokens=100, bucket_batches=2)


@pytest.mark.parametrize(("world_size", "micro"), [(1, 1), (1, 4), (2, 2), (3, 1)])
def test_packed_rows_hold_every_sample_of_a_step_once(
    tmp_path: Path, world_size: int, micro: int
) -> None:
    sources = make_examples(tmp_path, 30)
    packed = Training(batch_size=12, micro_batch_size=micro, max_steps=4, pack_tokens=45)
    samples = TrainingSet(sources, [1], packed, seed=0)
    for step in range(4):
        taken = []
        for rank in range(world_size):
            batches = MicroBatches(samples, rank=rank, world_size=world_size)
            for turn in range(batches.rounds):
                rows = batches.draws(step * batches.rounds + turn)
                assert all(samples.steps.lengths(row).sum() <= 45 for row in rows)
                taken += np.concatenate([row.sample for row in rows]).tolist()
        assert sorted(taken) == sorted(samples.steps.step(step).sample.tolist())
