"""Reading Chameleon's VQ-GAN from files of others, right and wrong, and importing it."""

import json
import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.images import decode_png
from arra_med.settings import Tokenizer, TokenizerTraining
from arra_med.store import PreparedFolder
from arra_med.tokenizers.base import load_tokenizer
from arra_med.tokenizers.cache import open_tokens, tokenize
from arra_med.tokenizers.chameleon_vq import ChameleonVq, ChameleonVqOptions
from arra_med.tokenizers.train import train_tokenizer
from tests.test_store import contents
from tests.tokenizers.meta_vqgan import VqGan, save_ckpt

CPU = torch.device("cpu")


def opened(weights: Path, *, size: int = 64, channels: int = 3, **options: object) -> ChameleonVq:
    chosen = ChameleonVqOptions(weights=weights, **options)  # type: ignore[arg-type]
    return ChameleonVq.open(chosen, image_size=size, channels=channels)


def shards_of(folder: Path) -> dict[str, str]:
    """Tensor names and the shards that hold them."""
    return json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]


def test_wrong_files_say_what_was_found_and_expected(
    reference: VqGan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(change: dict[str, torch.Tensor | None], match: str) -> None:
        state = dict(reference.state_dict()) | change
        torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "vqgan.ckpt")
        with pytest.raises(RequestError, match=match):
            opened(tmp_path)

    conv = "encoder.mid.block_1.conv1.weight"
    refused({conv: None}, rf"lacks 1 tensors \({conv}\).*Expected: encoder, quantize")
    refused({"encoder.conv_out.weight": None}, r"lacks 1 tensors \(encoder.conv_out.weight\)")
    refused({conv: torch.zeros(5)}, rf"{conv} is \(5,\), expected \(128, 128, 3, 3\)")
    refused({"encoder.down.4.attn.0.q.weight": torch.zeros(1)}, "1 tensors too many .*attn.0.q")
    refused({"encoder.conv_out.weight": torch.zeros(3)}, r"is \(3,\), expected 4 dimensions")
    refused({"quantize.embedding.weight": None}, r"no VQ models.*quantize.embedding.weight; most")
    narrow = {"encoder.down.0.block.0.conv1.weight": torch.zeros(16, 32, 3, 3)}
    refused(narrow, r"widths \[16, 32, 64.*multiple of its 32 normalisation groups")
    save_file({"lm_head.weight": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(RequestError, match=r"holds no VQ models.*lm_head.weight.*vqgan.ckpt"):
        opened(tmp_path / "plain.safetensors")
    for name in ("broken.ckpt", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(RequestError, match=r"broken.*(safely|safetensors file)"):
            opened(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty, which holds nothing: expected Meta's"):
        opened(tmp_path / "empty")
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="meta/chameleon-tokenizer is not in the asset"):
        ChameleonVq.open(ChameleonVqOptions(), image_size=64, channels=1)


def test_a_missing_shard_is_named(hub: Path, tmp_path: Path) -> None:
    shards = shards_of(hub)
    assert "model.vqmodel.encoder.down.0.block.0.norm1.weight" in shards
    missing = shards["model.vqmodel.encoder.conv_out.weight"]
    assert len(set(shards.values())) > 2
    for path in hub.iterdir():
        if path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match=rf"{missing} is missing.*of the VQ model"):
        opened(tmp_path)


def test_weights_are_found_in_the_asset_folder(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "meta__chameleon-tokenizer"
    folder.mkdir()
    (folder / "asset.json").write_text("{}")
    (folder / "vqgan.ckpt").write_bytes(ckpt.read_bytes())
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path))
    for weights in (None, Path("hf-hub:meta/chameleon-tokenizer")):
        options = ChameleonVqOptions(weights=weights)
        assert ChameleonVq.open(options, image_size=32, channels=1).can_decode
        assert ChameleonVq.assets(options) == ("meta/chameleon-tokenizer",)
    assert ChameleonVq.assets(ChameleonVqOptions(weights=ckpt)) == ()


def test_objects_of_lightning_are_passed_over_and_others_refused(
    reference: VqGan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes of these names exist only while the file is written."""

    def pickled(module: str, name: str) -> type:
        kind = type(name, (dict,), {"__module__": module})
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            parent = ".".join(parts[:end])
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        setattr(sys.modules[module], name, kind)
        return kind

    settings = pickled("pytorch_lightning.utilities.parsing", "AttributeDict")(learning_rate=1)
    callback = pickled("pytorch_lightning.callbacks", "ModelCheckpoint")
    config = pickled("omegaconf.dictconfig", "DictConfig")()
    config.flags = {"readonly": True}
    kept = {"callbacks": {callback: {"best": 1}}, "hyper_parameters": settings, "config": config}
    path = save_ckpt(reference, tmp_path / "vqgan.ckpt", **kept)
    evil = pickled("some_package", "Thing")()
    other = save_ckpt(reference, tmp_path / "other.ckpt", thing=evil)
    monkeypatch.undo()
    with pytest.raises((pickle.UnpicklingError, ModuleNotFoundError)):
        torch.load(path, weights_only=True)
    assert opened(path).can_decode
    with pytest.raises(RequestError, match=r"some_package.Thing. Where you trust.*torch.save"):
        opened(other)


def test_train_tokenizer_imports_it(
    ckpt: Path, prepared: PreparedFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ChameleonVqOptions(weights=ckpt, dtype="bfloat16")
    settings = Tokenizer(plugin=PluginConfig(name="chameleon-vq", options=options), batch_size=5)
    caplog.set_level("INFO")
    folder = tmp_path / "tokenizer"
    metrics = train_tokenizer(settings, prepared, folder, seed=0, device=CPU)["metrics"]
    assert "nothing is trained" in caplog.text
    assert "tensors outside the VQ model are ignored: loss.* (1)" in caplog.text
    assert str(ckpt.parent) not in caplog.text
    assert {"config.json", "model.safetensors", "metrics.json", "reconstructions.png"} <= {
        path.name for path in folder.iterdir()
    }
    assert metrics["num_images"] == 8
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.image_size, tokenizer.channels, tokenizer.grid) == (32, 1, (2, 2))
    keys = [row["key"] for row in prepared.rows("validate")]
    images = [decode_png(png) for png in prepared.images(keys).values()]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    exact = opened(ckpt, size=32, channels=1)
    share = (exact.encode(batch) != tokenizer.encode(batch)).double().mean().item()
    assert metrics["code_change_share"] == pytest.approx(share)
    mse = (batch.double() - tokenizer.decode(tokenizer.encode(batch))).square().mean((1, 2, 3))
    assert metrics["psnr_db"] == pytest.approx((10 * (255**2 / mse).log10()).mean().item())
    tokenize(prepared, folder, batch_size=7, device=CPU)
    assert np.array_equal(
        open_tokens(prepared, folder)[keys[0]], tokenizer.encode(batch[:1]).flatten().numpy()
    )
    before = contents(folder)
    train_tokenizer(settings, prepared, folder, seed=1, device=CPU)
    assert contents(folder) == before
    with pytest.raises(RequestError, match=r"published image tokenizer.*leave tokenizer.training"):
        train_tokenizer(
            replace(settings, training=TokenizerTraining(steps=3)),
            prepared,
            tmp_path / "trained",
            seed=0,
            device=CPU,
        )


def test_weights_that_changed_are_not_taken_for_those_imported_before(
    reference: VqGan, prepared: PreparedFolder, tmp_path: Path
) -> None:
    path = save_ckpt(reference, tmp_path / "vqgan.ckpt")
    settings = Tokenizer(
        plugin=PluginConfig(name="chameleon-vq", options=ChameleonVqOptions(weights=path))
    )
    train_tokenizer(settings, prepared, tmp_path / "t", seed=0, device=CPU)
    path.rename(tmp_path / "gone.ckpt")  # what was imported is whole without it
    train_tokenizer(settings, prepared, tmp_path / "t", seed=0, device=CPU)
    state = torch.load(tmp_path / "gone.ckpt", weights_only=False)
    state["state_dict"] = {name: tensor * 1.5 for name, tensor in state["state_dict"].items()}
    torch.save(state, path)
    with pytest.raises(RequestError, match="sources"):
        train_tokenizer(settings, prepared, tmp_path / "t", seed=0, device=CPU)


def test_an_encoder_alone_is_imported_without_figures_of_reconstruction(
    hub: Path, prepared: PreparedFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ChameleonVqOptions(weights=hub)
    settings = Tokenizer(plugin=PluginConfig(name="chameleon-vq", options=options))
    folder = tmp_path / "tokenizer"
    manifest = train_tokenizer(settings, prepared, folder, seed=0, device=CPU)
    assert manifest["metrics"] == {}
    assert "no decoder" in caplog.text
    assert not (folder / "reconstructions.png").exists()
    assert tokenize(prepared, folder, batch_size=8, device=CPU).is_dir()
