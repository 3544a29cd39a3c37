"""A Chameleon-family checkpoint through the real stages: train under DeepSpeed, then generate."""

import json
from pathlib import Path

import pytest
import torch
from transformers import ChameleonForConditionalGeneration

from arra_med.config import load
from arra_med.generation.folder import GeneratedFolder
from arra_med.generation.generate import generate
from arra_med.settings import Settings
from arra_med.store import PreparedFolder
from arra_med.teachers.extract import extract_features
from arra_med.tokenizers.cache import tokenize
from arra_med.tokenizers.monai_vqvae import MonaiVqvae, MonaiVqvaeOptions
from tests.model.chameleon_files import Checkpoint
from tests.pipeline import write_config
from tests.training.ranks import run

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_checkpoint_is_adapted_with_arra_and_draws(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    Checkpoint().write(tmp_path / "hub")
    path = write_config(tmp_path)
    text = path.read_text()
    begin, end = text.index("backbone:"), text.index("training:\n  max_steps")
    backbone = f"backbone: {{pretrained: {tmp_path / 'hub'}, dropout: 0.05}}\n"
    path.write_text(text[:begin] + backbone + text[end:])
    settings = load(Settings, path)
    options = MonaiVqvaeOptions(channels=(8, 8), residual_layers=1, num_codes=16, code_dimension=8)
    MonaiVqvae.create(options, image_size=32, channels=1, seed=0).save(tmp_path / "tokenizer")
    tokenize(prepared, tmp_path / "tokenizer", batch_size=16, device=CPU)
    assert settings.features is not None
    extract_features(settings.features, prepared, CPU)
    run(tmp_path / "train.log", "train", path, "training.max_steps=3", "training.preview_samples=1")
    export = tmp_path / "run" / "export"
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert all(line["alignment"] > 0 for line in lines if "alignment" in line)
    plain, report = ChameleonForConditionalGeneration.from_pretrained(
        export, output_loading_info=True
    )
    assert not any(report.values())
    hub = Checkpoint().weights()
    assert not torch.equal(plain.lm_head.weight, hub["lm_head.weight"])
    generate(settings, tmp_path / "generated", device=CPU)
    generated = GeneratedFolder(tmp_path / "generated")
    assert len(generated.rows) == len(prepared.rows("test"))
