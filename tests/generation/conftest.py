"""A tiny export and the settings that draw with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from arra_med.generation.generate import generate
from arra_med.model.backbones import build_backbone
from arra_med.model.export import write_export
from arra_med.settings import Backbone, Generation, Llama, Paths, Settings
from arra_med.store import Shard
from arra_med.tokenizers.monai_vqvae import MonaiVqvae, MonaiVqvaeOptions

TEXTS = ("PA view chest x-ray image, left effusion.", "AP view chest x-ray image, clear.")
SMALL = {"guidance": 2.0, "top_k": 8, "images_per_prompt": 2}


def write_tiny_export(folder: Path, *, channels: int = 1, **info: object) -> Path:
    """``folder/export``: 8 × 8 codes of 16, 32 px pictures, random weights."""
    options = MonaiVqvaeOptions(
        channels=(8, 8, 8), residual_layers=1, num_codes=16, code_dimension=8
    )
    tokenizer = MonaiVqvae.create(options, image_size=32, channels=channels, seed=0)
    tokenizer.save(folder / "tokenizer")
    llama = Llama(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, text_vocabulary=300
    )
    model, text_tokenizer, layout = build_backbone(
        Backbone(llama=llama), prompts=TEXTS, num_codes=16, grid=tokenizer.grid, with_rep=False,
        seed=0,
    )  # fmt: skip
    told = {
        "name": "llama-arra-tiny", "prompt_dropout": 0.1, "max_prompt_tokens": 128,
        "long_prompts": "refuse", "teacher": None, "channels": channels,
    }  # fmt: skip
    write_export(
        folder / "export", model=model, state_dict=model.state_dict(),
        text_tokenizer=text_tokenizer, image_tokenizer=folder / "tokenizer", layout=layout,
        info=told | info,
    )  # fmt: skip
    return folder / "export"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_tiny_export(tmp_path)


Run = Callable[..., dict]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run(folder name, **generation)``: draw with the export, two pictures a prompt."""

    def start(
        name: str = "g",
        *,
        seed: int = 0,
        shard: Shard | None = None,
        export: Path | None = None,
        **generation: object,
    ) -> dict:
        settings = Settings(
            paths=Paths(output=tmp_path, export=export or tmp_path / "export"),
            seed=seed,
            generation=Generation(**(SMALL | generation)),
        )
        return generate(settings, tmp_path / name, device=torch.device("cpu"), shard=shard)

    return start
