"""A small prepared folder, small models in the published formats, and a network that is off."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch import nn
from transformers import BertConfig, SamConfig, SamImageProcessor, SamModel

from arra_med.schema import Sample
from arra_med.store import PreparedFolder
from tests.prepared import save_prepared

LABELS = ("Disc", "Bar", "Never")
SPLITS = ("train",) * 24 + ("validate",) * 10 + ("test",) * 6


def draw(disc: bool, bar: bool, rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """``(size, size)`` uint8: noise, with a bright disc on the left, a bar along the bottom."""
    image = rng.normal(90, 20, (size, size))
    y, x = np.mgrid[:size, :size]
    if disc:
        centre = rng.integers(-2, 3, 2)
        image[(x - 12 - centre[0]) ** 2 + (y - 16 - centre[1]) ** 2 < 64] += 90
    if bar:
        image[38:44] += 80
    return np.clip(image, 0, 255).astype(np.uint8)


def write_prepared(
    folder: Path, *, num_samples: int = 40, part_size: int = 20, colour: bool = False, seed: int = 0
) -> PreparedFolder:
    """``num_samples`` pictures in parts of ``part_size``; one label unknown, one uncertain."""
    rng = np.random.default_rng(seed)
    items = []
    for index in range(num_samples):
        disc, bar = bool(rng.integers(2)), bool(rng.integers(2))
        image = draw(disc, bar, rng)
        channels = [image, image // 2, 255 - image] if colour else [image]
        labels: dict[str, int | None] = {"Disc": int(disc), "Bar": int(bar), "Never": 0}
        if index == 3:
            labels["Disc"] = None
        if index == 4:
            labels["Bar"] = -1
        sample = Sample(
            key=f"p{index}/x",
            patient_id=f"p{index}",
            study_id=f"s{index}",
            split=SPLITS[index % len(SPLITS)],
            view="PA",
            prompt=f"picture {index}",
            prompt_source="impression",
            labels=labels,
            modality="cxr",
            source=f"{index}.png",
        )
        items.append((sample, np.stack(channels, axis=-1)))
    return save_prepared(folder, items, part_size=part_size, seed=seed)


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedFolder:
    return write_prepared(tmp_path / "prepared")


@pytest.fixture
def make_prepared() -> Callable[..., PreparedFolder]:
    return write_prepared


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Give every parameter random values: zeros, which some models start with, hide faults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
                if "norm" in name and name.endswith("weight"):
                    parameter.add_(1)
            else:
                fan_in = parameter[0].numel()
                values = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(values * fan_in**-0.5)


def save_open_clip(folder: Path, timm_name: str, suffix: str = "bin") -> nn.Module:
    """A random BiomedCLIP-like model as the hub stores it; returns open_clip's own model.

    The saved configuration names a text tower that only the hub has, as the published one does.
    """
    folder.mkdir(parents=True)
    text = folder.parent / f"{folder.name}-text"
    BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        vocab_size=50, max_position_embeddings=16,
    ).save_pretrained(text)  # fmt: skip
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
            "context_length": 16,
        },
    }
    preprocess = {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    }
    config = folder / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocess}))
    model = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False).eval()
    randomise(model)
    torch.save(model.state_dict(), folder / f"open_clip_pytorch_model.{suffix}")
    published = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    model_config["text_cfg"] |= {"hf_model_name": published, "hf_tokenizer_name": published}
    config.write_text(json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocess}))
    return model


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


@pytest.fixture
def make_open_clip() -> Callable[..., nn.Module]:
    return save_open_clip


@pytest.fixture(scope="session")
def biomedclip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """Folder and reference model of a small BiomedCLIP."""
    folder = tmp_path_factory.mktemp("models") / "biomedclip"
    return folder, save_open_clip(folder, "vit_tiny_patch16_224")


@pytest.fixture(scope="session")
def medsam(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SamModel]:
    """Folder and reference model of a small SAM."""
    folder = tmp_path_factory.mktemp("models") / "medsam"
    return folder, save_sam(folder)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any use of a socket fails the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("ARRA_MED_OFFLINE", raising=False)
