"""Training under DeepSpeed: the same numbers for any number of processes, and after a stop."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from arra_med.generation.sampler import draw_codes
from arra_med.model.export import load_export
from arra_med.store import locked
from tests.pipeline import arra_med

TOLERANCE = 2e-5
"""Relative, float32: sums are taken in another order."""


def train(pipeline: Path, name: str, *overrides: str, processes: int = 1) -> Path:
    run = pipeline / name
    arra_med("train", pipeline / "config.yaml", f"paths.run={run}", *overrides, processes=processes)
    return run


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["total"] for line in lines if "total" in line}


@pytest.fixture(scope="session")
def one_process(pipeline: Path) -> Path:
    return train(pipeline, "one", "training.zero_stage=0")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_processes_equal_one(pipeline: Path, one_process: Path, stage: int) -> None:
    two = train(pipeline, f"zero{stage}", f"training.zero_stage={stage}", processes=2)
    expected, found = losses(one_process), losses(two)
    assert list(found) == list(expected) == [1, 2, 3, 4, 5, 6]
    for step, value in expected.items():
        assert found[step] == pytest.approx(value, rel=TOLERANCE), step
    a = AutoModelForCausalLM.from_pretrained(one_process / "export").state_dict()
    b = AutoModelForCausalLM.from_pretrained(two / "export").state_dict()
    for name, weight in a.items():
        torch.testing.assert_close(b[name], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_stopping_and_resuming_changes_nothing(pipeline: Path) -> None:
    """Six steps at once equal three, a checkpoint, and three more: dropout on, bit for bit."""
    settings = ("training.zero_stage=0", "training.checkpoint_every=3", "backbone.dropout=0.1")
    run = train(pipeline, "stop", *settings)
    whole_losses = losses(run)
    whole = (run / "export" / "model.safetensors").read_bytes()
    shutil.rmtree(run / "export")
    (run / "checkpoints/step-00000006/trainer.json").unlink()
    train(pipeline, "stop", *settings)
    assert losses(run) == whole_losses
    assert (run / "export" / "model.safetensors").read_bytes() == whole


def test_alignment_has_its_own_line_and_is_on_by_default(one_process: Path) -> None:
    first = json.loads((one_process / "metrics.jsonl").read_text().splitlines()[0])
    assert first["alignment"] > 0
    z_term = 1e-5 * first["z"]
    assert first["total"] == pytest.approx(
        first["cross_entropy"] + first["alignment"] + z_term, rel=1e-6
    )


def test_the_run_folder_is_complete(one_process: Path) -> None:
    names = {path.relative_to(one_process).as_posix() for path in one_process.rglob("*")}
    assert {
        "config.yaml", "versions.json", "metrics.jsonl", "previews/step-00000006.png",
        "checkpoints/step-00000006/trainer.json", "export/arra.json", "export/manifest.json",
        "export/model.safetensors", "export/image_tokenizer/model.safetensors",
    } <= names  # fmt: skip
    assert any("tfevents" in name for name in names)


def test_the_export_has_no_projector_and_opens_in_plain_transformers(one_process: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(one_process / "export")
    assert not [name for name in model.state_dict() if "projector" in name]
    ids = AutoTokenizer.from_pretrained(one_process / "export")("PA view").input_ids
    assert model(torch.tensor([ids])).logits.shape[-1] == model.config.vocab_size


def test_the_export_generates_the_same_as_the_training_model(
    pipeline: Path, one_process: Path
) -> None:
    export = load_export(one_process / "export", torch.device("cpu"))
    checkpoint = torch.load(
        one_process / "checkpoints/step-00000006/mp_rank_00_model_states.pt", weights_only=False
    )["module"]
    trained = AutoModelForCausalLM.from_config(export.model.config)
    prefix = "backbone."
    trained.load_state_dict(
        {k.removeprefix(prefix): v for k, v in checkpoint.items() if k.startswith(prefix)}
    )
    assert any(name.startswith("projector.") for name in checkpoint)
    noise = torch.rand(2, export.layout.codes_per_image, dtype=torch.float64)
    arguments = (export.layout, [[1, 5], [1]], noise)
    settings = {"guidance": 2.0, "temperature": 1.0, "top_k": 8}
    assert torch.equal(
        draw_codes(export.model, *arguments, **settings),
        draw_codes(trained.eval(), *arguments, **settings),
    )


def test_another_configuration_in_the_same_folder_is_refused(
    pipeline: Path, one_process: Path
) -> None:
    arguments = ("train", pipeline / "config.yaml", f"paths.run={one_process}")
    assert arra_med(*arguments, "training.zero_stage=0").returncode == 0, "done, and said so"
    done = arra_med(*arguments, "training.zero_stage=0", "training.learning_rate=5", check=False)
    assert done.returncode == 2
    assert "training.learning_rate (0.001 there, 5.0 asked for)" in done.stderr


def test_two_processes_do_not_share_a_run_folder(pipeline: Path) -> None:
    run = pipeline / "held"
    with locked(run):
        done = arra_med(
            "train", pipeline / "config.yaml", f"paths.run={run}", "training.zero_stage=0",
            check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "another process is writing" in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("alignment.layer=9", "blocks 1 to 2"),
        ("training.deepspeed={bf16: {enabled: true}}", "repeats ['bf16']"),
        ("backbone.max_prompt_tokens=3", "raise backbone.max_prompt_tokens"),
        ("features.aggregation=mean", "mean"),
        ("training.batch_szie=4", "did you mean 'batch_size'"),
        ("backbone.pretrained=nowhere", "exactly one of"),
    ],
)
def test_contradictions_stop_before_training(pipeline: Path, override: str, message: str) -> None:
    run = pipeline / "refused"
    done = arra_med("train", pipeline / "config.yaml", f"paths.run={run}", override, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not (run / "export").exists()
