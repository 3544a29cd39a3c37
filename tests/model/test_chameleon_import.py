"""Checkpoints of Chameleon's family in every layout that hubs hold, and what is wrong with some."""

import json
import logging
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ChameleonForConditionalGeneration

from arra_med.assets.folder import RECORD
from arra_med.errors import RequestError
from arra_med.model.backbones import open_model
from arra_med.model.chameleon import ChameleonDrawer
from arra_med.model.chameleon_import import is_chameleon, load_chameleon
from tests.model.chameleon_files import Checkpoint, write_tokenizer
from tests.model.chameleon_reference import Reference

IDS = [0, 290, 170, 300, 28, 21, 124, 124, 5, 9]


def logits(model: ChameleonDrawer) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0]


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint(),
        Checkpoint(shards=3),
        Checkpoint(format="bin", shards=2),
        Checkpoint(format="bin", with_vq=False),
        Checkpoint(model_type="chameleon", norm_rows=4),
        Checkpoint(model_type="chameleon", norm_rows=0),
        Checkpoint(norm_rows=2, kv_heads=2, swin_norm=True),
    ],
    ids=[
        "xllmx", "shards", "bin-shards", "no-vq", "hugging-face", "anole", "grouped-norms",
    ],
)  # fmt: skip
def test_every_layout_computes_what_its_weights_say(checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = checkpoint.write(tmp_path)
    reference = Reference(
        weights,
        heads=checkpoint.heads,
        kv_heads=checkpoint.kv_heads,
        swin_norm=checkpoint.swin_norm,
    )
    assert is_chameleon(tmp_path)
    model, tokenizer = open_model(tmp_path, torch.float32)
    assert isinstance(model, ChameleonDrawer)
    torch.testing.assert_close(logits(model), reference.logits(IDS), rtol=1e-5, atol=1e-5)
    vq = {name: tensor for name, tensor in weights.items() if ".vqmodel." in name}
    assert model.vq_weights.keys() == vq.keys()
    assert all(torch.equal(model.vq_weights[name], tensor) for name, tensor in vq.items())
    assert not any("vqmodel" in name for name, _ in model.named_parameters())
    assert tokenizer("the").input_ids == [0, tokenizer.convert_tokens_to_ids("the")]


def test_the_weights_of_plain_transformers_are_the_weights_here(tmp_path: Path) -> None:
    Checkpoint(model_type="chameleon", norm_rows=4).write(tmp_path)
    plain = ChameleonForConditionalGeneration.from_pretrained(tmp_path)
    model, _ = load_chameleon(tmp_path)
    with torch.no_grad():
        theirs = plain(torch.tensor([IDS]), output_hidden_states=True)
        ours = model(torch.tensor([IDS]), output_hidden_states=True)
    assert len(ours.hidden_states) == len(theirs.hidden_states) == 4
    for a, b in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        assert torch.equal(a, b)


def test_what_wrappers_and_aligned_training_leave_is_taken_off(tmp_path: Path) -> None:
    """FSDP's and the checkpointing wrapper's names, ARRA's projector, constants of old versions."""
    weights = Checkpoint().write(tmp_path / "clean")
    Checkpoint().write(tmp_path / "wrapped")
    wrapped = {
        name.replace("model.layers.1.", "model.layers.1._checkpoint_wrapped_module."): tensor
        for name, tensor in weights.items()
    }
    wrapped = {f"_fsdp_wrapped_module.{name}": tensor for name, tensor in wrapped.items()}
    wrapped["adaptor.layers.0.weight"] = torch.ones(2, 2)
    wrapped["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    save_file(wrapped, tmp_path / "wrapped" / "model.safetensors")
    clean = load_chameleon(tmp_path / "clean")[0]
    assert torch.equal(logits(load_chameleon(tmp_path / "wrapped")[0]), logits(clean))


def test_the_stored_precision_is_kept_unless_another_is_asked_for(tmp_path: Path) -> None:
    weights = {name: t.bfloat16() for name, t in Checkpoint().write(tmp_path).items()}
    save_file(weights, tmp_path / "model.safetensors")
    assert load_chameleon(tmp_path)[0].dtype == torch.bfloat16
    assert open_model(tmp_path, torch.float32)[0].dtype == torch.float32


def test_a_text_without_its_opening_token_gets_it(tmp_path: Path) -> None:
    checkpoint = Checkpoint()
    checkpoint.write(tmp_path)
    write_tokenizer(tmp_path, checkpoint.vocabulary, with_bos=False)
    tokenizer = load_chameleon(tmp_path)[1]
    assert tokenizer(["a", "the"]).input_ids == [
        [0, checkpoint.vocabulary[n]] for n in ("a", "the")
    ]


def test_a_checkpoint_without_tokenizer_borrows_its_familys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ARRA's trainer saves none; Meta's own file is called otherwise and has no <image>."""
    checkpoint = Checkpoint()
    checkpoint.write(tmp_path / "model")
    (tmp_path / "model/tokenizer.json").unlink()
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no text tokenizer in .*Lumina-mGPT-7B-512"):
        load_chameleon(tmp_path / "model")
    asset = tmp_path / "meta__chameleon-tokenizer"
    asset.mkdir()
    (asset / RECORD).write_text("{}")
    metas = {
        "<reserved08707>" if n == "<image>" else n: i for n, i in checkpoint.vocabulary.items()
    }
    write_tokenizer(asset, metas)
    shutil.move(asset / "tokenizer.json", asset / "text_tokenizer.json")
    with caplog.at_level(logging.WARNING):
        tokenizer = load_chameleon(tmp_path / "model")[1]
    assert "has no text tokenizer; using the family's" in caplog.text
    assert tokenizer.get_vocab() == metas


def test_a_config_without_vocabulary_takes_the_tokenizers(tmp_path: Path) -> None:
    checkpoint = Checkpoint()
    checkpoint.write(tmp_path)
    edit_config(tmp_path, vocabulary_map=None)
    assert load_chameleon(tmp_path)[0].config.vocabulary_map == checkpoint.vocabulary


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint()
    checkpoint.write(tmp_path)
    swapped = dict(checkpoint.vocabulary)
    swapped["IMGIMGAZ"], swapped["IMGIMGBZ"] = swapped["IMGIMGBZ"], swapped["IMGIMGAZ"]
    del swapped["<reserved08830>"]
    write_tokenizer(tmp_path, swapped)
    with pytest.raises(
        RequestError,
        match=r"disagrees .* on 3 of \d+ tokens: .*'IMGIMG[AB]Z' is \d+ in the configuration and "
        r"\d+ in the tokenizer.*absent in the tokenizer.*copy its tokenizer.json",
    ):
        load_chameleon(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w.pop("model.layers.1.mlp.up_proj.weight"),
            r"1 missing \(first: model.layers.1.mlp.up",
        ),
        (lambda w: w.update({"model.odd": torch.ones(1)}), r"1 unknown \(first: model.odd\)"),
        (
            lambda w: w.update({"model.norm.weight": torch.ones(8)}),
            r"model.norm.weight is \(8,\), expected \(16,\)",
        ),
        (
            lambda w: w.update({"model.layers.0.self_attn.q_norm.weight": torch.ones(3, 4)}),
            r"q_norm.weight is \(3, 4\), expected \(4, 4\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change, message: str) -> None:
    weights = Checkpoint().write(tmp_path)
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(RequestError, match=message):
        load_chameleon(tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    Checkpoint(shards=3).write(tmp_path / "a")
    (tmp_path / "a/model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of the 3 files .* first model-00002"):
        load_chameleon(tmp_path / "a")
    (tmp_path / "a/model.safetensors.index.json").unlink()
    with pytest.raises(FileNotFoundError, match="no weights in"):
        load_chameleon(tmp_path / "a")
    Checkpoint().write(tmp_path / "b")
    path = tmp_path / "b/model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RequestError, match=r"cannot read weights from .*Download the file again"):
        load_chameleon(tmp_path / "b")
    (tmp_path / "b/tokenizer.json").write_text("{}")
    with pytest.raises(RequestError, match="not a file of the tokenizers library"):
        load_chameleon(tmp_path / "b")


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    Checkpoint(format="bin").write(tmp_path)
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"lm_head.weight": Path("/")}, file)
    with pytest.raises(RequestError, match="cannot read weights"):
        load_chameleon(tmp_path)


def test_other_models_are_not_taken_for_one(tmp_path: Path) -> None:
    Checkpoint().write(tmp_path)
    edit_config(tmp_path, model_type="llama")
    assert not is_chameleon(tmp_path)
    with pytest.raises(RequestError, match="model_type 'llama', expected one of chameleon"):
        load_chameleon(tmp_path)
    edit_config(tmp_path, model_type="chameleon", hidden_size="wide")
    with pytest.raises(RequestError, match="is not a Chameleon's"):
        load_chameleon(tmp_path)


def test_loading_reads_no_code_beside_the_weights(tmp_path: Path) -> None:
    Checkpoint().write(tmp_path)
    (tmp_path / "modeling.py").write_text("raise SystemExit('ran')")
    edit_config(tmp_path, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    assert load_chameleon(tmp_path)[0].dtype == torch.float32
    assert load_file(tmp_path / "model.safetensors")
