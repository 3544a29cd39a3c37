"""One contract for every family of language models: extend, train with ARRA, export, reload, draw.

Each model is written as a hub folder first; nothing below knows which family it is.
"""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from arra_med.alignment import ArraModel
from arra_med.errors import RequestError
from arra_med.generation.decoder import CodeDecoder
from arra_med.generation.sampling import Sampling
from arra_med.model.backbones import build_backbone, context_length
from arra_med.model.export import load_export, write_export
from arra_med.model.layout import ImageLayout
from arra_med.model.lora import add_lora, merged_state, remove_lora
from arra_med.model.precision import cast_weights
from arra_med.model.prompts import encode_prompts
from arra_med.settings import Alignment, Backbone, Lora
from arra_med.tokenizers.monai_vqvae import MonaiVqvae, MonaiVqvaeOptions
from arra_med.training.data import TrainingItem, collate
from arra_med.training.setup import Setup

PROMPTS = [
    "PA view chest x-ray image, no acute finding.",
    "AP view chest x-ray image, large left effusion, and a line that ends in the vein.",
    "clear.",
]
ROWS = 300
"""Of the models; their tokenizers have fewer or more tokens."""
SIZES = {"vocab_size": ROWS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
GATED = {**SIZES, "intermediate_size": 32}
GROUPED = {**GATED, "num_key_value_heads": 1, "head_dim": 8}
UNTIED, TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
GPT2 = {"vocab_size": ROWS, "n_embd": 16, "n_layer": 2, "n_head": 2}
WITHOUT = {"bos_token_id": None, "pad_token_id": None, "eos_token_id": 0}
CONFIGS = {
    "gpt2": GPT2Config(**GPT2, **WITHOUT),
    "gpt2-untied": GPT2Config(**GPT2, **UNTIED),
    "llama": LlamaConfig(**GATED, **UNTIED, pad_token_id=0),
    "llama-tied": LlamaConfig(**GATED, **TIED),
    "qwen3": Qwen3Config(**GROUPED, **UNTIED, **WITHOUT),
    "qwen3-tied": Qwen3Config(**GROUPED, **TIED),
    "mistral": MistralConfig(**GROUPED, sliding_window=8),
    "gpt-neox": GPTNeoXConfig(**GATED, **UNTIED, **WITHOUT),
    "gemma": GemmaConfig(**GROUPED),
    "gemma2": Gemma2Config(**GROUPED, sliding_window=8, query_pre_attn_scalar=8),
    "gemma3": Gemma3TextConfig(**GROUPED, sliding_window=8, query_pre_attn_scalar=8),
}
"""Family → configuration; ``gpt2``, ``qwen3`` and ``gpt-neox`` go with a bare tokenizer."""
BARE = ("gpt2", "qwen3", "gpt-neox")
VQVAE = MonaiVqvaeOptions(channels=(8, 8, 8), residual_layers=1, num_codes=16, code_dimension=8)
INFO = {"prompt_dropout": 0.1, "max_prompt_tokens": 64, "long_prompts": "refuse", "teacher": None}
CPU = torch.device("cpu")


def text_tokenizer(size: int, *, bare: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE; ``bare`` has an end-of-text token and neither BOS nor PAD, as GPT-2's."""
    special = ["<|endoftext|>"] if bare else ["<pad>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(PROMPTS, trainer)
    names = ["eos_token"] if bare else ["pad_token", "bos_token", "eos_token"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **dict(zip(names, special, strict=True))
    )


def save_hub_folder(
    folder: Path, family: str, *, tokens: int = 290, dtype: torch.dtype = torch.float32
) -> Path:
    """A random model and its tokenizer, as a hub repository stores them."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[family]))
    model.to(dtype).save_pretrained(folder)
    text_tokenizer(tokens, bare=family in BARE).save_pretrained(folder)
    return folder


def image_tokenizer_folder(folder: Path) -> tuple[Path, MonaiVqvae]:
    tokenizer = MonaiVqvae.create(VQVAE, image_size=16, channels=1, seed=0)
    tokenizer.save(folder)
    return folder, tokenizer


def examples(tokenizer, layout: ImageLayout) -> dict[str, Tensor]:
    """A batch of prompts of different lengths, one dropped, with random codes and teacher."""
    ids = encode_prompts(tokenizer, PROMPTS, ["a", "b", "c"], max_tokens=64, long_prompts="refuse")
    rng = np.random.default_rng(0)
    items = [
        TrainingItem(
            layout.example(prompt, rng.integers(0, layout.num_codes, layout.codes_per_image)),
            rng.normal(size=6).astype(np.float32),
        )
        for prompt in [*ids, []]
    ]
    return collate(items, layout.pad_id)


def train_three_steps(backbone: PreTrainedModel, batch: dict[str, Tensor]) -> list[float]:
    """Losses of three steps of AdamW with the alignment term; the backbone changes in place."""
    model = ArraModel(backbone, Alignment(), teacher_dimension=6, z_weight=1e-5, seed=0).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    totals = []
    for _ in range(3):
        losses = model(batch)
        losses["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        totals.append(losses["total"].item())
    backbone.eval()
    return totals


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4)], ids=["full", "lora"])
@pytest.mark.parametrize("family", CONFIGS)
def test_extend_train_export_reload_draw(tmp_path: Path, family: str, lora: Lora | None) -> None:
    hub = save_hub_folder(tmp_path / "hub", family)
    image_tokenizer, vqvae = image_tokenizer_folder(tmp_path / "vq")
    backbone, tokenizer, layout = build_backbone(
        Backbone(pretrained=hub, lora=lora), prompts=[], num_codes=vqvae.num_codes,
        grid=vqvae.grid, with_rep=False, seed=0,
    )  # fmt: skip
    assert layout.start_ids == (ROWS,), "a padded vocabulary keeps its rows"
    if lora is not None:
        add_lora(backbone, lora, layout, seed=0)
    batch = examples(tokenizer, layout)
    losses = train_three_steps(backbone, batch)
    assert losses[2] < losses[0]

    with torch.no_grad():
        trained = backbone(input_ids=batch["ids"]).logits
    noise = torch.rand(2, layout.codes_per_image, dtype=torch.float64)
    prompts = [batch["ids"][0, :5].tolist(), [7]]
    sampling = Sampling(guidance=2.0)  # no top_k: rows of codes that no batch held are still alike
    drawn = CodeDecoder(backbone.eval(), layout, sampling)(prompts, noise)
    alone = CodeDecoder(backbone, layout, sampling)(prompts[1:], noise[1:])
    assert torch.equal(alone[0], drawn[1]), "padding a shorter prompt changes nothing"
    state = backbone.state_dict()
    if lora is not None:
        state = merged_state(backbone, state)
        remove_lora(backbone)
    write_export(
        tmp_path / "export", model=backbone, state_dict=state, text_tokenizer=tokenizer,
        image_tokenizer=image_tokenizer, layout=layout, info=INFO,
    )  # fmt: skip

    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "export").eval()
    assert type(plain) is type(backbone)
    tied = CONFIGS[family].tie_word_embeddings
    assert (plain.get_input_embeddings().weight is plain.get_output_embeddings().weight) == tied
    with torch.no_grad():
        read = plain(input_ids=batch["ids"]).logits
    torch.testing.assert_close(read, trained, rtol=0, atol=0 if lora is None else 1e-5)
    words = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert words(PROMPTS).input_ids == tokenizer(PROMPTS).input_ids

    export = load_export(tmp_path / "export", CPU)
    assert torch.equal(CodeDecoder(export.model, layout, sampling)(prompts, noise), drawn)
    pictures = export.image_tokenizer.decode(drawn)
    assert pictures.shape == (2, 1, 16, 16)
    new = plain.generate(torch.tensor([layout.prompt(prompts[0])]), max_new_tokens=4, min_length=9)
    assert new.shape[1] >= 9, "plain transformers generates"


@pytest.mark.parametrize("tokens", [270, 300, 310])
@pytest.mark.parametrize("family", ["llama", "qwen3-tied"])
def test_new_rows_start_behind_the_larger_of_tokenizer_and_model(
    tmp_path: Path, family: str, tokens: int
) -> None:
    hub = save_hub_folder(tmp_path, family, tokens=tokens)
    backbone, tokenizer, layout = build_backbone(
        Backbone(pretrained=hub), prompts=[], num_codes=16, grid=(2, 2), with_rep=True, seed=0
    )
    first = max(ROWS, len(tokenizer))
    assert layout.rep_id == first
    assert layout.code_ids == tuple(range(first + 3, first + 19))
    assert backbone.get_output_embeddings().weight.shape[0] == layout.vocabulary_end
    assert layout.pad_id in (tokenizer.pad_token_id, *layout.end_ids)


def test_casting_weights_leaves_the_rotary_frequencies(tmp_path: Path) -> None:
    hub = save_hub_folder(tmp_path, "llama")
    read = AutoModelForCausalLM.from_pretrained(hub, dtype=torch.bfloat16)
    cast = AutoModelForCausalLM.from_pretrained(hub, dtype=torch.float32)
    cast_weights(cast, torch.bfloat16)
    assert {weight.dtype for weight in cast.parameters()} == {torch.bfloat16}
    assert all(
        a.dtype == b.dtype and torch.equal(a, b)
        for a, b in zip(read.buffers(), cast.buffers(), strict=True)
    )
    assert any(buffer.dtype == torch.float32 for buffer in cast.buffers())


def test_half_precision_checkpoints_are_trained_in_the_precision_asked_for(tmp_path: Path) -> None:
    hub = save_hub_folder(tmp_path, "llama", dtype=torch.bfloat16)
    assert json.loads((hub / "config.json").read_text())["dtype"] == "bfloat16"
    backbone, *_ = build_backbone(
        Backbone(pretrained=hub), prompts=[], num_codes=16, grid=(2, 2), with_rep=False, seed=0
    )
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


def test_padding_does_not_change_what_is_drawn_or_learnt(tmp_path: Path) -> None:
    """A tokenizer without PAD: whatever fills a batch, a masked position has no influence."""
    hub = save_hub_folder(tmp_path, "gpt2")
    backbone, tokenizer, layout = build_backbone(
        Backbone(pretrained=hub), prompts=[], num_codes=16, grid=(2, 2), with_rep=False, seed=0
    )
    assert tokenizer.pad_token_id is None
    batch = examples(tokenizer, layout)
    model = ArraModel(backbone, Alignment(), teacher_dimension=6, z_weight=1e-5, seed=0).eval()
    ids = batch["ids"].clone()
    length = ids.shape[1]
    for row in range(len(ids)):  # after a row's last prediction comes its last token, then padding
        last = max(p for p in batch["predict"].tolist() if p < (row + 1) * length) - row * length
        ids[row, last + 2 :] = 17
    other = batch | {"ids": ids}
    assert not torch.equal(other["ids"], batch["ids"])
    torch.testing.assert_close(model(other)["total"], model(batch)["total"])


@pytest.mark.parametrize("prompt", [3, 4])
def test_sequences_longer_than_the_model_are_refused(prompt: int) -> None:
    """``prompt`` tokens, image start, 4 codes, image end, and a model of 9 positions."""
    layout = ImageLayout(start_ids=(10,), end_ids=(11,), code_ids=(12, 13), grid=(2, 2), pad_id=0)
    model = AutoModelForCausalLM.from_config(GPT2Config(**GPT2, n_positions=9))
    prompts = SimpleNamespace(longest_prompt=prompt)
    setup = object.__new__(Setup)
    setup.train_set = setup.validation_set = prompts
    setup.layout = layout
    if prompt == 3:
        setup.check_length(context_length(model), "GPT2LMHeadModel")
        return
    with pytest.raises(RequestError, match=r"takes 10 tokens \(4 of .*, 5 of .*has 9 positions"):
        setup.check_length(context_length(model), "GPT2LMHeadModel")
