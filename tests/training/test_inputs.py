"""What a run is: the model that it starts from among it."""

import shutil
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from arra_med.config import load
from arra_med.errors import RequestError
from arra_med.settings import Settings
from arra_med.store import canonical_json, write_atomic
from arra_med.training.inputs import Inputs, check_run_folder
from arra_med.training.record import RUN_RECORD


def save(folder: Path, scale: float) -> None:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    model = LlamaForCausalLM(config)
    for weight in model.parameters():
        weight.data.fill_(scale)
    model.save_pretrained(folder)


def test_another_model_at_the_same_path_is_another_run(pipeline: Path, tmp_path: Path) -> None:
    base, run = tmp_path / "base", tmp_path / "run"
    words = ("backbone.llama=null", f"backbone.pretrained={base}", f"paths.run={run}")
    settings = load(Settings, pipeline / "config.yaml", words)
    inputs = Inputs(settings)
    save(base, 0.5)
    identity = check_run_folder(settings, inputs).asked
    write_atomic(run / RUN_RECORD, canonical_json(identity).encode())
    assert check_run_folder(settings, inputs).recorded == identity
    save(base, 0.25)
    with pytest.raises(RequestError, match="another configuration; it differs in pretrained"):
        check_run_folder(settings, inputs)
    shutil.rmtree(base)  # a run that ended does not need it
    assert check_run_folder(settings, inputs).recorded == identity
