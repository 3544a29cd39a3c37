"""Backbones: a vocabulary that grows without disturbing what was there."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from arra_med.errors import RequestError
from arra_med.model.backbones import (
    build_backbone,
    decoder_blocks,
    extend_vocabulary,
    open_model,
    train_text_tokenizer,
    zero_image_head,
)
from arra_med.model.layout import ImageLayout
from arra_med.model.prompts import encode_prompts
from arra_med.settings import Backbone, Llama

PROMPTS = ["PA view chest x-ray image, no acute finding.", "AP view, Ödem — 3 cm nodule."]
SIZES = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
CONFIGS = {
    "llama-untied": LlamaConfig(**SIZES, intermediate_size=32),
    "llama-tied": LlamaConfig(**SIZES, intermediate_size=32, tie_word_embeddings=True),
    "gpt2": GPT2Config(vocab_size=300, n_embd=16, n_layer=3, n_head=2),
    "mistral": MistralConfig(**SIZES, intermediate_size=32, num_key_value_heads=1),
    "qwen3": Qwen3Config(**SIZES, intermediate_size=32, num_key_value_heads=1, head_dim=8),
    "gpt-neox": GPTNeoXConfig(**SIZES, intermediate_size=32),
    "gemma": GemmaConfig(**SIZES, intermediate_size=32, num_key_value_heads=1, head_dim=8),
}


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[request.param])).eval()


def test_new_rows_are_the_mean_of_the_old_and_old_outputs_stay(model) -> None:
    ids = torch.tensor([[1, 5, 200, 3]])
    before = model(ids).logits
    old = model.get_input_embeddings().weight.clone()
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    extend_vocabulary(model, 340)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert embedding.shape[0] == head.shape[0] == model.config.vocab_size == 340
    assert (embedding is head) == tied
    assert torch.equal(embedding[:300], old)
    torch.testing.assert_close(embedding[300:], old.mean(dim=0).expand(40, -1))
    torch.testing.assert_close(head[300:], head[:300].mean(dim=0).expand(40, -1))
    torch.testing.assert_close(model(ids).logits[..., :300], before)


def test_the_decoder_blocks_are_found(model) -> None:
    blocks = decoder_blocks(model, 3)
    seen = []
    for index, block in enumerate(blocks):
        block.register_forward_hook(lambda *_, index=index: seen.append(index))
    model(torch.tensor([[1, 2]]))
    assert seen == [0, 1, 2]


def test_ambiguous_blocks_are_refused() -> None:
    stacks = torch.nn.ModuleDict(
        {
            name: torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])
            for name in ("encoder", "decoder")
        }
    )
    with pytest.raises(RequestError, match="found 2 stacks of 2 blocks"):
        decoder_blocks(stacks, 2)


def test_a_text_tokenizer_trained_on_prompts_loses_nothing() -> None:
    tokenizer = train_text_tokenizer(PROMPTS, 400)
    for text in [*PROMPTS, "unseen: ½ ☂ 日本"]:
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer(PROMPTS[0]).input_ids) < len(PROMPTS[0])


def test_a_new_llama_depends_on_its_seed_alone() -> None:
    settings = Backbone(llama=Llama(hidden_size=16, num_layers=2, num_heads=2, text_vocabulary=300))

    def weights(seed: int) -> torch.Tensor:
        arguments = {"num_codes": 8, "grid": (2, 2), "with_rep": False, "seed": seed}
        return build_backbone(settings, prompts=PROMPTS, **arguments)[0].lm_head.weight

    state = torch.get_rng_state()
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
    assert torch.equal(torch.get_rng_state(), state), "the global generator was moved"


@pytest.mark.parametrize("with_rep", [False, True])
def test_a_pretrained_folder_is_extended(tmp_path: Path, with_rep: bool) -> None:
    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=3, n_head=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer = train_text_tokenizer(PROMPTS, 290)
    tokenizer.save_pretrained(tmp_path)
    model, read, layout = build_backbone(
        Backbone(pretrained=tmp_path), prompts=[], num_codes=8, grid=(2, 2), with_rep=with_rep,
        seed=0,
    )  # fmt: skip
    assert len(read) == len(tokenizer) <= 290
    assert layout.start_ids == ((300, 301) if with_rep else (300,))
    assert layout.rep_id == (300 if with_rep else None)
    assert layout.code_ids[0] == 302 + with_rep
    assert model.get_output_embeddings().weight.shape[0] == layout.code_ids[0] + 8


def test_an_export_is_trained_on_with_the_image_tokens_it_has(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=3, n_head=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    train_text_tokenizer(PROMPTS, 290).save_pretrained(tmp_path)
    settings = Backbone(pretrained=tmp_path)

    def build(image_tokenizer: str = "vq-1", grid: tuple[int, int] = (2, 2), rep: bool = False):
        return build_backbone(
            settings, prompts=[], num_codes=8, grid=grid, with_rep=rep, seed=0,
            image_tokenizer=image_tokenizer,
        )  # fmt: skip

    model, _, layout = build()
    model.save_pretrained(tmp_path)
    arra = {"layout": layout.to_json(), "image_tokenizer": "vq-1"}
    (tmp_path / "arra.json").write_text(json.dumps(arra))
    again, _, same = build(grid=(3, 2))
    assert same == replace(layout, grid=(3, 2))
    assert torch.equal(again.lm_head.weight, model.lm_head.weight), "no rows were added"
    with pytest.raises(RequestError, match="draws with image tokenizer vq-1, the codes here are"):
        build("vq-2")
    with pytest.raises(RequestError, match="was trained without a <REP> token"):
        build(rep=True)


@pytest.mark.parametrize("name", ["llama-untied", "gpt-neox", "qwen3"])
def test_dropout_reaches_the_blocks_of_a_pretrained_model(tmp_path: Path, name: str) -> None:
    """Blocks copy the setting when they are built: the configuration alone does nothing."""
    AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name])).save_pretrained(tmp_path)
    train_text_tokenizer(PROMPTS, 290).save_pretrained(tmp_path)
    ids = torch.tensor([[1, 5, 200, 3, 9, 9, 4]])

    def logits(dropout: float, *, training: bool) -> torch.Tensor:
        model, _, _ = build_backbone(
            Backbone(pretrained=tmp_path, dropout=dropout), prompts=[], num_codes=8, grid=(2, 2),
            with_rep=False, seed=0,
        )  # fmt: skip
        torch.manual_seed(1)
        return model.train(training)(ids).logits

    assert torch.equal(logits(0.0, training=True), logits(0.5, training=False))
    assert not torch.allclose(logits(0.0, training=True), logits(0.5, training=True))


def test_dropout_that_cannot_take_effect_is_refused(tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS["gpt2"])).save_pretrained(tmp_path)
    train_text_tokenizer(PROMPTS, 290).save_pretrained(tmp_path)
    with pytest.raises(RequestError, match=r"dropout is 0.5 but GPT2LMHeadModel has no"):
        build_backbone(
            Backbone(pretrained=tmp_path, dropout=0.5), prompts=[], num_codes=8, grid=(2, 2),
            with_rep=False, seed=0,
        )  # fmt: skip


def test_a_head_is_zeroed_for_codes_alone_and_not_through_a_tied_embedding(model) -> None:
    layout = ImageLayout(start_ids=(4,), end_ids=(5,), code_ids=(9, 7), grid=(1, 1), pad_id=0)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    before = head.detach().clone()
    if embedding is head:
        with pytest.raises(RequestError, match="head and embedding are one: set it to false"):
            zero_image_head(model, layout)
        assert torch.equal(head, before)
        return
    zero_image_head(model, layout)
    before[[7, 9]] = 0
    assert torch.equal(head, before)


def test_a_model_is_opened_as_it_is_stored_or_as_asked(tmp_path: Path) -> None:
    stored = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS["llama-tied"])).bfloat16()
    stored.save_pretrained(tmp_path)
    train_text_tokenizer(PROMPTS, 290).save_pretrained(tmp_path)
    assert open_model(tmp_path)[0].dtype == torch.bfloat16
    assert open_model(tmp_path, torch.float32)[0].dtype == torch.float32


def test_a_missing_model_says_how_to_bring_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no language model at .*config.json.*copy it"):
        build_backbone(
            Backbone(pretrained=tmp_path / "none"), prompts=[], num_codes=8, grid=(2, 2),
            with_rep=False, seed=0,
        )  # fmt: skip


def test_prompts_too_long_or_empty_name_their_keys_and_not_their_text() -> None:
    tokenizer = train_text_tokenizer(PROMPTS, 300)
    arguments = {"keys": ["k1", "k2"], "max_tokens": 4}
    with pytest.raises(RequestError, match=r"2 of 2 prompts are longer than 4.*'k1'") as caught:
        encode_prompts(tokenizer, PROMPTS, long_prompts="refuse", **arguments)
    assert "acute" not in str(caught.value)
    cut = encode_prompts(tokenizer, PROMPTS, long_prompts="truncate", **arguments)
    assert [len(ids) for ids in cut] == [4, 4]
    with pytest.raises(RequestError, match=r"1 prompts are empty, first \['k2'\]"):
        encode_prompts(tokenizer, ["a", "  "], long_prompts="refuse", **arguments)
