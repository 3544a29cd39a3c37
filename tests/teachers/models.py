"""Random models in the formats that are published, and pictures to show them."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import nn
from transformers import (
    BertConfig,
    BertTokenizer,
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    SamConfig,
    SamImageProcessor,
    SamModel,
)
from transformers.initialization import no_init_weights

BERT_NAME = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
CLIP_MEAN, CLIP_STD = (
    [0.48145466, 0.4578275, 0.40821073],
    [0.26862954, 0.26130258, 0.27577711],
)
SMALL_BERT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 60, "max_position_embeddings": 32, "model_type": "bert",
}  # fmt: skip
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "left",
    "right",
    "effusion",
    "no",
    "##s",
    ".",
]


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Give every parameter random values: zeros, which some models start with, hide faults."""
    # one list of random numbers, of prime length, over and over: drawing 300 million takes long
    pool = torch.randn(1_000_003, generator=torch.Generator().manual_seed(seed))
    start = 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            number = parameter.numel()
            repeated = pool.repeat((start + number) // len(pool) + 1)
            values = repeated[start : start + number].view(parameter.shape)
            start = (start + number) % len(pool)
            scale = 0.1 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
            parameter.copy_(values * scale)
            if parameter.ndim < 2 and "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(1)


def save_tokenizer(folder: Path) -> None:
    """A small BERT tokenizer, in the files that BiomedCLIP's repository holds."""
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n")
    BertTokenizer(str(vocabulary), do_lower_case=True).save_pretrained(folder)
    if not vocabulary.is_file():
        vocabulary.write_text("\n".join(WORDS) + "\n")


def save_open_clip(
    folder: Path, timm_name: str, suffix: str = "bin", bert: dict[str, Any] | None = None
) -> nn.Module:
    """A random BiomedCLIP-like model as the hub stores it; returns open_clip's own model.

    The saved configuration names a text tower that only the hub has, as the published one does.
    """
    folder.mkdir(parents=True)
    text = folder.parent / f"{folder.name}-text"
    BertConfig(**(bert or SMALL_BERT)).save_pretrained(text)
    model_config = {
        "embed_dim": 512,
        "vision_cfg": {
            "timm_model_name": timm_name,
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": str(text),
            "hf_tokenizer_name": str(text),
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256 if bert else 16,
        },
    }
    preprocess = {"mean": CLIP_MEAN, "std": CLIP_STD}
    config = folder / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocess}))
    save_tokenizer(folder)
    model = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False).eval()
    randomise(model)
    torch.save(model.state_dict(), folder / f"open_clip_pytorch_model.{suffix}")
    model_config["text_cfg"] |= {"hf_model_name": BERT_NAME, "hf_tokenizer_name": BERT_NAME}
    config.write_text(json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocess}))
    return model


def conversion_names(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """open_clip's tensors under the names that ``chuhac/BiomedCLIP-vit-bert-hf`` gives them."""
    simple = {
        "logit_scale": "logit_scale",
        "visual.head.proj.weight": "visual_projection.weight",
        "text.proj.0.weight": "text_projection.fc1.weight",
        "text.proj.2.weight": "text_projection.fc2.weight",
    }
    vision = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"}
    text = {
        "attention.self.query": "self_attn.q_proj", "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj", "attention.output.dense": "self_attn.out_proj",
        "attention.output.LayerNorm": "layer_norm1", "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2", "output.LayerNorm": "layer_norm2",
    }  # fmt: skip
    embedding = {
        "word_embeddings": "token_embedding", "position_embeddings": "position_embedding",
        "token_type_embeddings": "token_type_embedding", "LayerNorm": "layer_norm",
    }  # fmt: skip
    for name, tensor in model.state_dict().items():
        stem, _, kind = name.rpartition(".")
        if name in simple:
            yield simple[name], tensor
        elif match := re.fullmatch(r"visual\.trunk\.blocks\.(\d+)\.(.+)", stem):
            layer, part = match.groups()
            prefix = f"vision_model.encoder.layers.{layer}"
            if part == "attn.qkv":
                for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                    yield f"{prefix}.self_attn.{letter}_proj.{kind}", third.clone()
            else:
                yield f"{prefix}.{vision.get(part, part)}.{kind}", tensor
        elif match := re.fullmatch(r"text\.transformer\.encoder\.layer\.(\d+)\.(.+)", stem):
            layer, part = match.groups()
            yield f"text_model.encoder.layers.{layer}.{text[part]}.{kind}", tensor
        elif stem.startswith("text.transformer.embeddings."):
            part = embedding[stem.removeprefix("text.transformer.embeddings.")]
            yield f"text_model.embeddings.{part}.{kind}", tensor
        elif name == "visual.trunk.cls_token":
            yield "vision_model.embeddings.class_embedding", tensor[0, 0].clone()
        elif name == "visual.trunk.pos_embed":
            yield "vision_model.embeddings.position_embedding.weight", tensor[0].clone()
        elif stem == "visual.trunk.norm":
            yield f"vision_model.post_layernorm.{kind}", tensor
        else:
            assert stem == "visual.trunk.patch_embed.proj", name
            yield f"vision_model.embeddings.patch_embedding.{kind}", tensor


def save_conversion(folder: Path, source: Path, model: nn.Module, bert: dict[str, Any]) -> Path:
    """The same weights as the Hugging Face conversion is published: names, files, settings."""
    folder.mkdir(parents=True)
    trunk: Any = model.visual.trunk
    width, heads = trunk.num_features, trunk.blocks[0].attn.num_heads
    config = {
        "architectures": ["BiomedCLIPModel"],
        "auto_map": {"AutoModel": "modeling_biomed_clip.BiomedCLIPModel"},
        "model_type": "clip",
        "projection_dim": 512,
        "text_config": bert | {"model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12},
        "text_projection_config": {"hidden_size": 768, "intermediate_size": 640},
        "vision_config": {
            "hidden_size": width, "num_hidden_layers": len(trunk.blocks), "image_size": 224,
            "num_attention_heads": heads, "patch_size": 16, "layer_norm_eps": 1e-12,
            "hidden_act": "gelu", "intermediate_size": 4 * width, "model_type": "vit",
        },
    }  # fmt: skip
    processor = {
        "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "image_processor_type": "CLIPImageProcessor", "tokenizer_type": "BertTokenizer",
        "image_mean": CLIP_MEAN, "image_std": CLIP_STD, "resample": 3, "size": 224,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "modeling_biomed_clip.py").write_text("raise AssertionError('its code was run')\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)
    save_file(dict(conversion_names(model)), folder / "model.safetensors")
    return folder


def save_sam(folder: Path) -> SamModel:
    """A small random SAM as transformers saves it; returns transformers' own model."""
    config = SamConfig(
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64,
            "window_size": 3, "global_attn_indexes": [1], "output_channels": 16, "mlp_dim": 64,
            "num_pos_feats": 8, "patch_size": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8},
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16
        },
    )  # fmt: skip
    model = SamModel(config).eval()
    randomise(model)
    model.save_pretrained(folder)
    SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}
    ).save_pretrained(folder)
    return model


def save_clip(folder: Path, size: int = 56, **vision: int) -> CLIPModel:
    """A random CLIP as transformers saves it; small unless ``vision`` says otherwise."""
    sizes = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 64, "patch_size": 14, "image_size": size,
    } | vision  # fmt: skip
    text = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50,
        "intermediate_size": 16, "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    config = CLIPConfig(
        vision_config=sizes,
        text_config=text,
        projection_dim=vision.get("projection_dim", 24),
    )
    with no_init_weights():
        model = CLIPModel(config).eval()
    randomise(model)
    model.save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    ).save_pretrained(folder)
    return model


def save_dinov2(folder: Path, size: int = 56, **sizes: int) -> Dinov2Model:
    """A random DINOv2 with RAD-DINO's processor; small unless ``sizes`` says otherwise."""
    small = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    with no_init_weights():
        model = Dinov2Model(Dinov2Config(image_size=size, patch_size=14, **small | sizes)).eval()
    randomise(model)
    model.save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=[0.5307] * 3,
        image_std=[0.2583] * 3,
    ).save_pretrained(folder)
    return model


def save_timm(folder: Path, name: str, **arguments: Any) -> nn.Module:
    """A random timm model as timm saves it for the hub; returns timm's own model."""
    model = timm.create_model(name, num_classes=7, **arguments).eval()
    randomise(model)
    save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
    return model


def pictures(channels: int, size: int = 130, number: int = 3) -> torch.Tensor:
    """``(number, channels, size, size)`` uint8 noise."""
    generator = torch.Generator().manual_seed(channels)
    shape = (number, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def as_pil(image: torch.Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def picture(mode: str, width: int = 180, height: int = 150) -> Image.Image:
    """A smooth picture with noise; RGBA is partly transparent, I;16 uses the whole range."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11), np.cos(x / 20)], axis=-1)
    values = np.clip(0.5 + 0.4 * waves + rng.normal(0, 0.08, waves.shape), 0, 1)
    if mode == "I;16":
        return Image.fromarray((values[..., 0] * 65535).astype(np.uint16))
    levels = (values * 255).astype(np.uint8)
    return Image.fromarray({"L": levels[..., 0], "RGB": levels[..., :3], "RGBA": levels}[mode])
