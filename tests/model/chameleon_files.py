"""Small random Chameleon-family checkpoints, written to disk as hubs store them."""

import json
import random
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import ChameleonConfig, ChameleonVQVAE, ChameleonVQVAEConfig

VQ = {
    "embed_dim": 8, "num_embeddings": 16, "latent_channels": 8, "base_channels": 32,
    "channel_multiplier": [1, 1], "num_res_blocks": 1, "resolution": 32, "attn_type": "vanilla",
    "attn_resolutions": [], "double_latent": False, "dropout": 0.0, "in_channels": 3,
    "out_channels": 3,
}  # fmt: skip


@dataclass(kw_only=True)
class Checkpoint:
    """What to write; the defaults are Lumina-mGPT's and ARRA's way.

    Attributes:
        published: the published vocabulary: 65,536 tokens, 8,192 codes, the ids of METHOD.md;
            else a small one with the same names and other ids.
        norm_rows: rows of the gains of query/key normalisation; 0 for one dimension only.
        shards: files of weights; 1 has no index.
        extra: further weights.
    """

    model_type: str = "chameleon_xllmx"
    published: bool = False
    format: Literal["safetensors", "bin"] = "safetensors"
    shards: int = 1
    norm_rows: int = 1
    with_vq: bool = True
    swin_norm: bool = False
    hidden: int = 16
    heads: int = 4
    kv_heads: int = 4
    layers: int = 3
    context: int = 4096
    seed: int = 0
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    vocabulary: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.vocabulary = make_vocabulary(published=self.published)

    def write(self, folder: Path) -> dict[str, torch.Tensor]:
        """Write everything; returns the weights as they were saved."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.weights()
        (folder / "config.json").write_text(json.dumps(self.config()))
        write_tokenizer(folder, self.vocabulary)
        write_weights(folder, weights, self.format, self.shards)
        return weights

    def config(self) -> dict[str, Any]:
        """``config.json`` as the authors' trainers leave it."""
        ours = self.model_type == "chameleon_xllmx"
        wrapped = {"dropout": 0.05, "mask_image_logits": True, "z_loss_weight": 1e-05}
        prefix = "ChameleonXLLMX" if ours else "Chameleon"
        return {
            "architectures": [f"{prefix}ForConditionalGeneration"],
            "model_type": self.model_type,
            **(wrapped if ours else {}),
            "vocab_size": len(self.vocabulary),
            "vocabulary_map": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": 2 * self.hidden + 8,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.context,
            "model_parallel_size": max(1, self.norm_rows),
            "swin_norm": self.swin_norm,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "rope_scaling": None,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "transformers_version": "4.44.0",
            "vq_config": self.vq_config(),
        }

    def vq_config(self) -> dict[str, Any]:
        codes = sum(name.startswith("IMGIMG") for name in self.vocabulary)
        return {"model_type": "chameleon_vqgan", **VQ, "num_embeddings": codes}

    def weights(self) -> dict[str, torch.Tensor]:
        """Weights under the hub's names, large enough for every part to matter."""
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int, mean: float = 0.0, std: float = 0.1) -> torch.Tensor:
            return mean + std * torch.randn(*shape, generator=generator)

        d, inner = self.hidden, 2 * self.hidden + 8
        head = d // self.heads
        weights = {"model.embed_tokens.weight": normal(len(self.vocabulary), d, std=1.0)}
        for layer in range(self.layers):
            block = f"model.layers.{layer}"
            for name, rows in (("q", d), ("k", self.kv_heads * head), ("v", self.kv_heads * head)):
                weights[f"{block}.self_attn.{name}_proj.weight"] = normal(rows, d, std=0.3)
            weights[f"{block}.self_attn.o_proj.weight"] = normal(d, d, std=0.3)
            shape = (self.norm_rows, head) if self.norm_rows else (head,)
            for name in ("q_norm", "k_norm"):
                weights[f"{block}.self_attn.{name}.weight"] = normal(*shape, mean=1.0, std=0.3)
                weights[f"{block}.self_attn.{name}.bias"] = normal(*shape, std=0.3)
            weights[f"{block}.mlp.gate_proj.weight"] = normal(inner, d, std=0.3)
            weights[f"{block}.mlp.up_proj.weight"] = normal(inner, d, std=0.3)
            weights[f"{block}.mlp.down_proj.weight"] = normal(d, inner, std=0.3)
            for name in ("input_layernorm", "post_attention_layernorm"):
                weights[f"{block}.{name}.weight"] = normal(d, mean=1.0)
        weights["model.norm.weight"] = normal(d, mean=1.0)
        weights["lm_head.weight"] = normal(len(self.vocabulary), d, std=0.3)
        if self.with_vq:
            encoder = ChameleonVQVAE(ChameleonVQVAEConfig(**self.vq_config()))
            weights |= {
                f"model.vqmodel.{name}": normal(*tensor.shape)
                for name, tensor in encoder.state_dict().items()
            }
        return weights | self.extra


def code_name(code: int) -> str:
    return "IMGIMG" + "".join("ABCDEFGHIJ"[int(digit)] for digit in str(code)) + "Z"


def make_vocabulary(*, published: bool) -> dict[str, int]:
    """Names to ids; image codes in a shuffled order, as in the published one."""
    num_codes = 8192 if published else 16
    codes = list(range(num_codes))
    random.Random(1).shuffle(codes)
    names = ["<s>", "<pad>", "</s>", "<unk>", *map(code_name, codes), "<eoss>", "<racm3:break>"]
    if published:
        names += [f"<reserved{i - 4:05d}>" for i in range(len(names), 16384)]
    else:
        names += [f"<reserved{i:05d}>" for i in range(8700, 8832)]
    names[names.index("<reserved08707>")] = "<image>"
    names += [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the", "Ġthe"]
    size = 65536 if published else len(names)
    names += [f"word{i}" for i in range(size - len(names))]
    return {name: i for i, name in enumerate(names)}


def write_tokenizer(folder: Path, vocabulary: dict[str, int], *, with_bos: bool = True) -> None:
    """``tokenizer.json`` and the ``tokenizer_config.json`` of transformers 4."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = [name for name in vocabulary if name.startswith("<") and name[-1] == ">"]
    special = [name for name in named if name[1] in string.ascii_letters + "/"]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    if with_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
                "pad_token": "<pad>", "unk_token": "<unk>", "legacy": False,
                "model_max_length": 1000000000000000019884624838656,
            }
        )
    )  # fmt: skip


def write_weights(folder: Path, weights: dict[str, torch.Tensor], format: str, shards: int) -> None:
    stem, suffix = ("model", "safetensors") if format == "safetensors" else ("pytorch_model", "bin")
    names = list(weights)
    files = {}
    for shard in range(shards):
        place = f"-{shard + 1:05d}-of-{shards:05d}" if shards > 1 else ""
        part = {name: weights[name] for name in names[shard::shards]}
        files |= dict.fromkeys(part, f"{stem}{place}.{suffix}")
        path = folder / f"{stem}{place}.{suffix}"
        if suffix == "bin":
            torch.save(part, path)
        else:
            save_file(part, path, metadata={"format": "pt"})
    if shards > 1:
        index = {"metadata": {"total_size": 0}, "weight_map": files}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def plain_config(checkpoint: Checkpoint) -> ChameleonConfig:
    """What plain transformers would read, for comparisons."""
    values = {name: v for name, v in checkpoint.config().items() if name != "model_type"}
    return ChameleonConfig(**values)
