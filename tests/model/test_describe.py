"""``arra-med info``: what a checkpoint is, from its small files and headers alone."""

import argparse
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from arra_med.cli.inspect import as_text, show_folder
from arra_med.cli.main import main
from arra_med.errors import RequestError
from arra_med.model.backbones import build_backbone
from arra_med.model.describe import describe_checkpoint, read_headers
from arra_med.model.export import write_export
from arra_med.settings import Backbone
from tests.model.test_contract import INFO, ROWS, image_tokenizer_folder, save_hub_folder

RECORD = {
    **INFO, "name": "hub-lora-arra-cxr", "teacher": {"name": "biomedclip"},
    "backbone": {"llama": None, "lora": {"rank": 4}},
    "trained_on": {"dataset": "cxr", "samples": 1234, "steps": 50},
}  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_hub_folder(tmp_path_factory.mktemp("hub"), "qwen3", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def export(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    image_tokenizer, vqvae = image_tokenizer_folder(folder / "vq")
    model, tokenizer, layout = build_backbone(
        Backbone(pretrained=hub), prompts=[], num_codes=16, grid=vqvae.grid, with_rep=True, seed=0
    )
    write_export(
        folder / "export", model=model, state_dict=model.state_dict(), text_tokenizer=tokenizer,
        image_tokenizer=image_tokenizer, layout=layout, info=RECORD,
    )  # fmt: skip
    return folder / "export"


def info(capsys: pytest.CaptureFixture[str], path: Path, **options: bool) -> str:
    show_folder(argparse.Namespace(folder=path, **{"verify": False, "json": False} | options))
    return capsys.readouterr().out


@pytest.mark.parametrize("family", ["gpt2", "llama", "llama-tied", "gpt-neox", "gemma3"])
def test_a_language_model_is_counted_without_loading_it(tmp_path: Path, family: str) -> None:
    told = describe_checkpoint(save_hub_folder(tmp_path, family))
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert told.parameters == sum(p.numel() for p in model.parameters())
    assert (told.family, told.architecture) == (model.config.model_type, type(model).__name__)
    assert (told.layers, told.hidden_size, told.vocabulary) == (2, 16, ROWS)
    assert told.kind == "language model"
    assert told.can_train
    assert not told.can_generate
    assert told.image is told.variant is told.teacher is None
    assert told.memory == {
        "generate, bf16": 2 * told.parameters,
        "train, bf16": 8 * told.parameters,
        "train, fp32 masters": 16 * told.parameters,
    }


def test_shards_are_added_up(hub: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(hub)
    model.save_pretrained(tmp_path, max_shard_size="8kB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    assert read_headers(tmp_path) == read_headers(hub)
    assert read_headers(hub).dtypes == ("bfloat16",)
    shards[1].unlink()
    told = describe_checkpoint(tmp_path)
    assert told.parameters is None
    assert not told.can_train
    assert told.memory == {}
    assert f"1 of {len(shards)} files of weights are missing" in told.notes[0]


def test_an_export_tells_its_story(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = info(capsys, export)
    for line in (
        "export: hub-lora-arra-cxr", "Qwen3ForCausalLM (qwen3)",
        "16 codes, ids 303 to 318; 2 x 2 codes an image; <REP>", "variant        arra",
        "rank 4, merged", "biomedclip", "cxr: 1,234 samples, 50 steps", "can generate   yes",
        "can train      yes", "codes of its own image tokenizer alone", "bytes a parameter",
    ):  # fmt: skip
        assert line in text
    told = json.loads(info(capsys, export, json=True))
    assert told["image"]["codes"] == 16
    # 2 (key, value) x 2 layers x 1 head x 8 numbers x 2 bytes x 2 · 2 tokens
    assert told["memory"]["cache of one image"] == 2 * 2 * 1 * 8 * 2 * 4
    assert info(capsys, export, verify=True) == text
    assert main(["info", str(export), "-q"]) == 0


def test_an_export_that_lost_its_image_tokenizer_cannot_generate(
    export: Path, tmp_path: Path
) -> None:
    shutil.copytree(export, tmp_path / "e")
    shutil.rmtree(tmp_path / "e" / "image_tokenizer")
    told = describe_checkpoint(tmp_path / "e")
    assert not told.can_generate
    assert any("image_tokenizer" in note for note in told.notes)


@pytest.mark.parametrize(
    ("backbone", "variant"),
    [({"llama": {"num_layers": 2}}, "base"), ({"pretrained": "x"}, "arra"), (None, None)],
)
def test_the_variant_is_told_as_far_as_recorded(
    export: Path, tmp_path: Path, backbone: dict | None, variant: str | None
) -> None:
    shutil.copytree(export, tmp_path / "e")
    record = json.loads((export / "arra.json").read_text()) | {"backbone": backbone}
    (tmp_path / "e" / "arra.json").write_text(json.dumps(record))
    told = describe_checkpoint(tmp_path / "e")
    assert told.variant == variant
    assert ("not recorded" in as_text(told)) == (variant is None)


def test_chameleon_without_a_tokenizer_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and sizes as ARRA's authors store them: an image encoder and a projector inside."""
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path))
    config = {
        "model_type": "chameleon_xllmx",
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 65536,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = {
        "lm_head.weight": torch.zeros(10, 16), "model.norm.weight": torch.zeros(16),
        "model.vqmodel.encoder.conv_in.weight": torch.zeros(3, 5),
        "adaptor.0.weight": torch.zeros(7, 2),
    }  # fmt: skip
    save_file(tensors, tmp_path / "model.safetensors")
    told = describe_checkpoint(tmp_path)
    assert (told.kind, told.family, told.vocabulary) == ("chameleon", "chameleon_xllmx", 65536)
    assert (told.parameters, told.vq_parameters) == (176, 15)
    assert (told.can_train, told.can_generate) == (False, False)
    notes = " ".join(told.notes)
    for part in ("ARRA's projector", "vqgan.ckpt", "no text tokenizer"):
        assert part in notes


def test_unknown_families_and_missing_tokenizers_cannot_be_trained(
    hub: Path, tmp_path: Path
) -> None:
    shutil.copytree(hub, tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").unlink()
    config = json.loads((hub / "config.json").read_text()) | {"model_type": "martian"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    told = describe_checkpoint(tmp_path / "m")
    assert not told.can_train
    assert "no causal language model of type 'martian'" in told.notes[0]
    assert "text tokenizer is missing" in told.notes[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"", "not a safetensors file"),
        (b"\x05\x00\x00\x00\x00\x00\x00\x00[1,2]", "not a safetensors file"),
        (None, "its header says"),
    ],
)
def test_damaged_weights_get_a_sentence(
    hub: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    whole = (hub / "model.safetensors").read_bytes()
    path.write_bytes(whole[:-10] if content is None else content)
    with pytest.raises(RequestError, match=message):
        read_headers(tmp_path)
    assert load_file(hub / "model.safetensors")


def test_an_index_of_other_files_is_noticed(hub: Path, tmp_path: Path) -> None:
    shutil.copy(hub / "model.safetensors", tmp_path)
    index = {"weight_map": {"lm_head.weight": "model.safetensors", "new": "model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(RequestError, match="disagree about"):
        read_headers(tmp_path)


def test_wrong_paths_get_a_sentence(
    hub: Path, export: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    shutil.copytree(export, tmp_path / "run" / "export")
    (tmp_path / "stopped" / "checkpoints" / "step-00000001").mkdir(parents=True)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "config.json").write_text('{"name": "monai-vqvae"}')
    for path, message in {
        tmp_path / "nowhere": "does not exist",
        hub / "config.json": "is a file, expected a folder",
        tmp_path / "run": "is a run folder: ask for",
        tmp_path / "stopped": "the folder of a run that did not end",
        tmp_path / "adapter": "it is a peft adapter",
        tmp_path / "image": "it is an image tokenizer's",
        tmp_path: "it holds adapter, image, run, stopped",
    }.items():
        caplog.clear()
        assert main(["info", str(path)]) == 2, path
        assert message in caplog.text
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        show_folder(argparse.Namespace(folder=tmp_path / "nowhere", verify=True))
    with pytest.raises(RequestError, match="no hashes to verify"):
        show_folder(argparse.Namespace(folder=hub, verify=True))
