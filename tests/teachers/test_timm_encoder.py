"""The generic timm plug-in against timm's own models and transforms."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from arra_med.errors import RequestError
from arra_med.teachers.timm_encoder import TimmEncoder, TimmOptions
from tests.teachers.models import as_pil, pictures, save_timm


def teacher(folder: Path, **options: Any) -> TimmEncoder:
    return TimmEncoder(TimmOptions(weights=folder, **options))


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.01


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.usefixtures("no_network")
@torch.inference_mode()
def test_vit(timm_vit: tuple[Path, nn.Module], channels: int) -> None:
    folder, _ = timm_vit
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    ours = teacher(folder, trained_on="ImageNet-21k")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    images = pictures(channels)
    pixels = ours.preprocess(images)
    layered = ours(pixels, layers=(3, 1))
    for index, image in enumerate(images):
        theirs = transform(as_pil(image).convert("RGB"))[None]
        assert (pixels[index] - theirs[0]).abs().max() == 0
        tokens = model.forward_features(theirs)
        assert_close(ours(pixels)["cls"][index], model.forward_head(tokens, pre_logits=True)[0])
        assert_close(ours(pixels)["mean"][index], tokens[0, 1:].mean(0))
        x = model._pos_embed(model.patch_embed(theirs))
        outputs = []
        for block in model.blocks:
            x = block(x)
            outputs.append(x)
        assert_close(layered["cls"][index], torch.cat([outputs[2][0, 0], outputs[0][0, 0]]))
        means = [outputs[number][0, 1:].mean(0) for number in (2, 0)]
        assert_close(layered["mean"][index], torch.cat(means))
    assert (ours.info.input_size, ours.info.num_layers) == (64, 3)
    assert ours.info.trained_on == "ImageNet-21k"


@pytest.mark.parametrize(
    ("name", "arguments", "num_prefix"),
    [
        ("vit_small_patch14_reg4_dinov2", {"img_size": 56, "depth": 2}, 5),
        ("vit_base_patch16_siglip_224", {"img_size": 32, "depth": 2, "embed_dim": 96}, 0),
        ("resnet18", {}, 0),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 32}, 0),
        ("convnext_atto", {}, 0),
    ],
)
@pytest.mark.usefixtures("no_network")
@torch.inference_mode()
def test_other_families(
    tmp_path: Path, name: str, arguments: dict[str, Any], num_prefix: int
) -> None:
    """Registers, an attention pool, maps with channels first and last."""
    folder = tmp_path / name
    model = save_timm(folder, name, **arguments)
    plain, pooled = teacher(folder), teacher(folder, cls="pooled")
    pixels = plain.preprocess(pictures(3, number=2))
    features = model.forward_features(pixels)
    if features.ndim == 3:
        expected = features[:, num_prefix:].mean(1)
    else:
        expected = features.mean((1, 2) if name.startswith("swin") else (2, 3))
    assert_close(plain(pixels)["mean"], expected)
    assert_close(pooled(pixels)["cls"], model.forward_head(features, pre_logits=True))
    assert plain.info.aggregations == (("cls", "mean") if num_prefix else ("mean",))
    assert plain.info.num_layers == (2 if features.ndim == 3 else 0)
    assert plain.info.width("mean") == plain(pixels)["mean"].shape[1]
    if plain.info.num_layers:
        assert plain(pixels, (2, 1))["mean"].shape[1] == plain.info.width("mean", (2, 1))
    else:
        with pytest.raises(RequestError, match="final output alone"):
            plain(pixels, layers=(1,))


@pytest.mark.usefixtures("no_network")
def test_folders_that_do_not_fit(timm_vit: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, _ = timm_vit
    wrong = tmp_path / "wrong"
    shutil.copytree(folder, wrong)
    config = json.loads((wrong / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps(config | {"model_args": {"img_size": 64}}))
    with pytest.raises(RequestError, match=r"does not fit.*blocks\.3.* …$"):
        teacher(wrong)
    (wrong / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(RequestError, match=r"does not describe a timm model.*'transformers'"):
        teacher(wrong)
    with pytest.raises(FileNotFoundError, match=r"If timm/vit is a repository.*'hf-hub:timm/vit'"):
        teacher(Path("timm/vit"))
