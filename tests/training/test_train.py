"""Training under DeepSpeed: the same numbers for any number of processes, and after a stop."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from arra_med.cli.main import main
from arra_med.generation.decoder import CodeDecoder
from arra_med.generation.sampling import Sampling
from arra_med.model.export import load_export
from arra_med.store import locked
from arra_med.token_loss import chunked_losses
from arra_med.tokenizers.monai_vqvae import MonaiVqvae
from tests.pipeline import arra_med
from tests.training.ranks import losses, run

TOLERANCE = 2e-5
"""Relative, float32: sums are taken in another order."""
BF16 = "training.precision=bf16"


def train(pipeline: Path, name: str, *overrides: str, processes: int = 1) -> Path:
    folder = pipeline / name
    words = ("train", pipeline / "config.yaml", f"paths.run={folder}", *overrides)
    run(pipeline / f"{name}.log", *words, processes=processes)
    return folder


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


def chunks_of_a_thousand_logits(rank: int) -> None:
    chunked_losses.__kwdefaults__["chunk_elements"] = 1000


@pytest.mark.slow
def test_ranks_with_unequal_rows_gather_the_head_equally_often(pipeline: Path) -> None:
    """ZeRO 3 gathers the head's shards for every chunk of logits, and rows hold unequally many."""
    gathered = "training.deepspeed={zero_optimization: {stage3_param_persistence_threshold: 0}}"
    rows = ("pack_tokens=300", "micro_batch_size=1", "batch_size=14", "max_steps=2", "epochs=9")
    given = [*(f"training.{one}" for one in rows), "training.preview_samples=1", gathered]
    found = {}
    for stage, processes in ((0, 1), (3, 2)):
        folder = pipeline / f"chunks{stage}"
        words = ("train", pipeline / "config.yaml", f"paths.run={folder}", *given)
        log = pipeline / f"chunks{stage}.log"
        more = {"processes": processes, "prepare": chunks_of_a_thousand_logits}
        run(log, *words, f"training.zero_stage={stage}", "training.timeout_minutes=1", **more)
        found[stage] = losses(folder)
    assert found[3] == pytest.approx(found[0], rel=TOLERANCE)


@pytest.mark.slow
def test_torchrun_starts_it_too(pipeline: Path, one_process: Path) -> None:
    folder = pipeline / "torchrun"
    arra_med("train", pipeline / "config.yaml", f"paths.run={folder}", processes=2)
    assert losses(folder) == pytest.approx(losses(one_process), rel=TOLERANCE)


def test_alignment_has_its_own_line_and_is_on_by_default(one_process: Path) -> None:
    first = json.loads((one_process / "metrics.jsonl").read_text().splitlines()[0])
    assert first["alignment"] > 0
    z_term = 1e-5 * first["z"]
    assert first["total"] == pytest.approx(
        first["cross_entropy"] + first["alignment"] + z_term, rel=1e-6
    )


def test_a_gradient_norm_that_nobody_measured_is_not_logged(
    pipeline: Path, one_process: Path
) -> None:
    assert "gradient_norm" not in (one_process / "metrics.jsonl").read_text()
    sharded = train(pipeline, "norm", "training.max_steps=1")
    (line, _) = (json.loads(line) for line in (sharded / "metrics.jsonl").open())
    assert line["gradient_norm"] > 1


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
    prompts = [[1, 5], [1]]
    sampling = Sampling(guidance=2.0, top_k=8)
    assert torch.equal(
        CodeDecoder(export.model, export.layout, sampling)(prompts, noise),
        CodeDecoder(trained.eval(), export.layout, sampling)(prompts, noise),
    )


def test_another_configuration_in_the_same_folder_is_refused(
    pipeline: Path, one_process: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["train", str(pipeline / "config.yaml"), f"paths.run={one_process}"]
    assert main(words) == 0, "done, and said so; ZeRO's stage does not matter to what was learned"
    assert main([*words, "training.learning_rate=5"]) == 2
    assert "training.learning_rate (0.001 there, 5.0 asked for)" in caplog.text


def test_two_processes_do_not_share_a_run_folder(pipeline: Path) -> None:
    folder = pipeline / "held"
    words = ("train", pipeline / "config.yaml", f"paths.run={folder}", "training.zero_stage=0")
    with locked(folder):
        ranks = run(pipeline / "held.log", *words, code=2)
    assert "another process is writing" in ranks.said(0)


def no_decoder(rank: int) -> None:
    MonaiVqvae.can_decode = False
    MonaiVqvae.decode = None


def test_stage_0_in_16_bits_learns_what_stage_1_does(pipeline: Path) -> None:
    runs = [
        losses(train(pipeline, f"bf16-{stage}", BF16, f"training.zero_stage={stage}"))
        for stage in (0, 1)
    ]
    assert runs[0] == pytest.approx(runs[1], rel=5e-4)


def test_without_a_decoder_nothing_is_drawn_and_the_run_ends(pipeline: Path) -> None:
    folder = pipeline / "encoder-only"
    words = ("train", pipeline / "config.yaml", f"paths.run={folder}")
    more = "training.preview_every=2"
    ranks = run(pipeline / "encoder-only.log", *words, more, code=2, prepare=no_decoder)
    assert "training.preview_every is 2, but the image tokenizer" in ranks.said(0)
    ranks = run(pipeline / "encoder-only.log", *words, prepare=no_decoder)
    assert "no previews" in ranks.said(0)
    assert not (folder / "previews").exists()
    assert (folder / "export/arra.json").is_file()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("alignment.layer=9", "blocks 1 to 2"),
        ("training.deepspeed={bf16: {enabled: true}}", "repeats 'bf16'"),
        ("backbone.max_prompt_tokens=3", "raise backbone.max_prompt_tokens"),
        ("features.aggregation=mean", "mean"),
        ("training.batch_szie=4", "did you mean 'batch_size'"),
        ("backbone.pretrained=nowhere", "exactly one of"),
    ],
)
def test_contradictions_stop_before_training(pipeline: Path, override: str, message: str) -> None:
    folder = pipeline / "refused"
    words = ("train", pipeline / "config.yaml", f"paths.run={folder}", override)
    ranks = run(pipeline / "refused.log", *words, code=2)
    assert message in ranks.said(0)
    assert not (folder / "export").exists()
