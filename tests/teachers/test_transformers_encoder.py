"""The generic transformers plug-in, RAD-DINO and CLIP-L against transformers' own models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoImageProcessor,
    ConvNextConfig,
    ConvNextImageProcessor,
    ConvNextModel,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
)

from arra_med.errors import RequestError
from arra_med.teachers.clip_l import ClipL, ClipLOptions
from arra_med.teachers.rad_dino import RadDino, RadDinoOptions
from arra_med.teachers.transformers_encoder import TransformersEncoder, TransformersOptions
from tests.teachers.models import as_pil, pictures, randomise

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
WIDE = SMALL | {"intermediate_size": 64}
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50,
    "intermediate_size": 16, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
SQUARE = {"height": 32, "width": 32}


def teacher(folder: Path, **options: Any) -> TransformersEncoder:
    return TransformersEncoder(TransformersOptions(weights=folder, **options))


def save(folder: Path, model: PreTrainedModel, processor: Any) -> PreTrainedModel:
    randomise(model)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.01


def recorded(
    blocks: Any, run: Callable[[], Any], numbers: tuple[int, ...] = (3, 1)
) -> list[torch.Tensor]:
    """What blocks give, by hooks, in the order of ``numbers``."""
    seen: dict[int, torch.Tensor] = {}

    def hook(number: int) -> Any:
        return lambda _m, _i, out: seen.update({number: out[0] if isinstance(out, tuple) else out})

    hooks = [block.register_forward_hook(hook(n)) for n, block in enumerate(blocks, start=1)]
    run()
    for each in hooks:
        each.remove()
    return [seen[number] for number in numbers]


@pytest.mark.usefixtures("no_network")
@torch.inference_mode()
def test_vit_for_classification(tmp_path: Path) -> None:
    """A class token; the classifier is left out, and the pooler it never had is not missed."""
    config = ViTConfig(**WIDE, image_size=32, patch_size=16)
    model = save(tmp_path, ViTForImageClassification(config), ViTImageProcessor(size=SQUARE)).vit
    ours = teacher(tmp_path, trained_on="ImageNet-21k")
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    images = pictures(3)
    pixels = ours.preprocess(images)
    vectors = ours(pixels)
    layered = ours(pixels, layers=(3, 1))
    for index, image in enumerate(images):
        theirs = processor(as_pil(image), return_tensors="pt")["pixel_values"]
        assert (pixels[index] - theirs[0]).abs().max() == 0
        tokens = model(theirs).last_hidden_state
        assert_close(vectors["cls"][index], tokens[0, 0])
        assert_close(vectors["mean"][index], tokens[0, 1:].mean(0))
        blocks = recorded(model.layers, lambda pixels=theirs: model(pixels))
        assert_close(layered["cls"][index], torch.cat([b[0, 0] for b in blocks]))
        assert_close(layered["mean"][index], torch.cat([b[0, 1:].mean(0) for b in blocks]))
    assert ours.info.trained_on == "ImageNet-21k"
    assert (
        ours.info.normalization
        == "values in [0, 1], minus (0.5, 0.5, 0.5), divided by (0.5, 0.5, 0.5)"
    )


@pytest.mark.usefixtures("no_network")
@torch.inference_mode()
def test_siglip_s_vision_tower(tmp_path: Path) -> None:
    """No class token; ``pooled`` is its attention pool."""
    config = SiglipConfig(
        vision_config=WIDE | {"image_size": 32, "patch_size": 16}, text_config=TEXT
    )
    model = save(tmp_path, SiglipModel(config), SiglipImageProcessor(size=SQUARE)).vision_model
    ours, pooled = teacher(tmp_path), teacher(tmp_path, cls="pooled")
    pixels = ours.preprocess(pictures(1))
    expected = [model(each[None]) for each in pixels]
    assert ours.info.aggregations == ("mean",)
    assert set(ours(pixels)) == {"mean"}
    assert_close(
        ours(pixels)["mean"], torch.stack([e.last_hidden_state[0].mean(0) for e in expected])
    )
    assert_close(pooled(pixels)["cls"], torch.cat([e.pooler_output for e in expected]))
    assert pooled.info.aggregations == ("cls", "mean")
    blocks = recorded(model.encoder.layers, lambda: model(pixels))
    assert_close(ours(pixels, (3, 1))["mean"], torch.cat([b.mean(1) for b in blocks], dim=1))
    with pytest.raises(RequestError, match="final output alone"):
        pooled(pixels, layers=(1,))


@pytest.mark.usefixtures("no_network")
@torch.inference_mode()
def test_registers_are_no_patches(tmp_path: Path) -> None:
    """And a processor whose size the encoder interpolates to, 42 px for 28."""
    config = Dinov2WithRegistersConfig(**SMALL, image_size=28, patch_size=14)
    processor = ViTImageProcessor(size={"height": 42, "width": 42})
    model = save(tmp_path, Dinov2WithRegistersModel(config), processor)
    ours = teacher(tmp_path)
    pixels = ours.preprocess(pictures(3))
    tokens = model(pixels).last_hidden_state
    assert tokens.shape[1] == 1 + 4 + 9
    assert ours.info.input_size == 42
    assert_close(ours(pixels)["cls"], tokens[:, 0])
    assert_close(ours(pixels)["mean"], tokens[:, 5:].mean(1))


@pytest.mark.usefixtures("no_network")
@torch.inference_mode()
def test_pyramids_have_no_layers(tmp_path: Path) -> None:
    """A convolutional and a windowed one."""
    conv = ConvNextConfig(hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], image_size=64)
    processor = ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)
    model = save(tmp_path / "conv", ConvNextModel(conv), processor)
    ours = teacher(tmp_path / "conv")
    pixels = ours.preprocess(pictures(3))
    assert_close(ours(pixels)["mean"], model(pixels).last_hidden_state.mean((2, 3)))
    assert (ours.info.dimension, ours.info.num_layers) == (32, 0)

    swin = SwinConfig(
        image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4
    )
    model = save(tmp_path / "swin", SwinModel(swin), ViTImageProcessor(size=SQUARE))
    ours = teacher(tmp_path / "swin", cls="pooled")
    pixels = ours.preprocess(pictures(3))
    assert_close(ours(pixels)["mean"], model(pixels).last_hidden_state.mean(1))
    assert_close(ours(pixels)["cls"], model(pixels).pooler_output)
    with pytest.raises(RequestError, match="final output alone"):
        ours(pixels, layers=(1,))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.usefixtures("no_network")
@torch.inference_mode()
def test_rad_dino(dinov2: tuple[Path, Any], channels: int) -> None:
    folder, model = dinov2
    ours = RadDino(RadDinoOptions(weights=folder))
    processor = AutoImageProcessor.from_pretrained(folder)
    images = pictures(channels)
    pixels = ours.preprocess(images)
    layered = ours(pixels, layers=(3, 1))
    for index, image in enumerate(images):
        theirs = processor(as_pil(image), return_tensors="pt")["pixel_values"]
        assert (pixels[index] - theirs[0]).abs().max() == 0
        output = model(theirs)
        assert_close(ours(pixels)["cls"][index], output.pooler_output[0])
        assert_close(ours(pixels)["mean"][index], output.last_hidden_state[0, 1:].mean(0))
        blocks = recorded(model.encoder.layer, lambda pixels=theirs: model(pixels))
        assert_close(layered["cls"][index], torch.cat([b[0, 0] for b in blocks]))
    assert "MIMIC-CXR" in ours.info.trained_on
    assert (ours.info.repository, ours.info.licence) == ("microsoft/rad-dino", "MIT")
    assert ours.info.width("cls+mean", (3, 1)) == 128


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.usefixtures("no_network")
@torch.inference_mode()
def test_clip_l(clip: tuple[Path, Any], channels: int) -> None:
    """The class token is ``pooler_output``, the projected one what ``get_image_features`` gives."""
    folder, model = clip
    vision = model.vision_model
    ours = ClipL(ClipLOptions(weights=folder))
    projected = ClipL(ClipLOptions(weights=folder, projected=True))
    processor = AutoImageProcessor.from_pretrained(folder)
    images = pictures(channels)
    pixels = ours.preprocess(images)
    layered = ours(pixels, layers=(3, 1))
    for index, image in enumerate(images):
        theirs = processor(as_pil(image), return_tensors="pt")["pixel_values"]
        assert (pixels[index] - theirs[0]).abs().max() == 0
        output = vision(theirs)
        normed = vision.post_layernorm(output.last_hidden_state)
        assert_close(ours(pixels)["cls"][index], output.pooler_output[0])
        assert_close(ours(pixels)["mean"][index], normed[0, 1:].mean(0))
        features = model.visual_projection(output.pooler_output)
        assert_close(projected(pixels)["cls"][index], features[0])
        blocks = recorded(vision.encoder.layers, lambda pixels=theirs: vision(pixels))
        assert_close(layered["cls"][index], torch.cat([b[0, 0] for b in blocks]))
        assert_close(layered["mean"][index], torch.cat([b[0, 1:].mean(0) for b in blocks]))
    generic = teacher(folder, cls="pooled")
    assert torch.equal(generic(pixels)["cls"], ours(pixels)["cls"])
    assert (projected.info.dimension, projected.info.aggregations) == (24, ("cls",))
    with pytest.raises(RequestError, match=r"offers 'cls'$"):
        projected.info.width("mean")


@pytest.mark.usefixtures("no_network")
def test_sharded_and_pickled_checkpoints(clip: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = clip
    sharded, pickled = tmp_path / "sharded", tmp_path / "pickled"
    model.save_pretrained(sharded, max_shard_size="30KB")
    shutil.copytree(folder, pickled, ignore=lambda *_: ["model.safetensors"])
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    shutil.copy(folder / "preprocessor_config.json", sharded)
    assert len(list(sharded.glob("model-*.safetensors"))) > 3
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = ClipL(ClipLOptions(weights=folder))(pixels)["cls"]
        for other in (sharded, pickled):
            assert torch.equal(ClipL(ClipLOptions(weights=other))(pixels)["cls"], expected)
    before = ClipL.identity(ClipLOptions(weights=sharded))["weights_sha256"]
    shard = sorted(sharded.glob("model-*.safetensors"))[2]
    damaged = bytearray(shard.read_bytes())
    damaged[-1] ^= 1
    shard.write_bytes(bytes(damaged))
    assert ClipL.identity(ClipLOptions(weights=sharded))["weights_sha256"] != before
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of \d+ shards of CLIP-L"):
        ClipL.identity(ClipLOptions(weights=sharded))


@pytest.mark.usefixtures("no_network")
def test_folders_that_do_not_fit(
    clip: tuple[Path, Any], dinov2: tuple[Path, Any], conversion: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(
        RequestError, match=r"describes a 'dinov2' model, and this teacher is a 'cl"
    ):
        ClipL.describe(ClipLOptions(weights=dinov2[0]))
    with pytest.raises(RequestError, match="describes a 'clip' model"):
        RadDino(RadDinoOptions(weights=clip[0]))
    # a repository with code of its own: never run, and its weights are no CLIP's
    with pytest.raises(RequestError):
        teacher(conversion[0])

    wrong = tmp_path / "wrong"
    shutil.copytree(dinov2[0], wrong)
    config = json.loads((wrong / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(RequestError, match=r"do not fit its config\.json.*parameters are missing"):
        teacher(wrong)
    (wrong / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    with pytest.raises(RequestError, match="missing or have another shape, first"):
        teacher(wrong)
    (wrong / "config.json").write_text(json.dumps(config | {"model_type": "somebody-s"}))
    with pytest.raises(RequestError, match="code that a repository carries is never run"):
        teacher(wrong)
    (wrong / "config.json").write_text(json.dumps(config))
    (wrong / "model.safetensors").write_bytes(b"<html></html>")
    with pytest.raises(RequestError, match="cannot be read"):
        teacher(wrong)
    (wrong / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks preprocessor_config\.json"):
        teacher(wrong)


@pytest.mark.usefixtures("no_network")
def test_a_masked_autoencoder_is_refused(tmp_path: Path) -> None:
    """It hides three quarters of the patches at random, even in use."""
    config = ViTMAEConfig(**WIDE, image_size=32, patch_size=16)
    save(tmp_path, ViTMAEModel(config), ViTImageProcessor(size=SQUARE))
    with pytest.raises(RequestError, match="cannot tell patches from other tokens among the 2"):
        teacher(tmp_path)


def test_pooled_without_a_pooler(tmp_path: Path) -> None:
    """A model that has none, and one whose checkpoint has none: it would be drawn at random."""
    mae = ViTMAEConfig(**WIDE, image_size=32, patch_size=16, mask_ratio=0.0)
    save(tmp_path / "mae", ViTMAEModel(mae), ViTImageProcessor(size=SQUARE))
    with pytest.raises(RequestError, match=r"has no pooled components.*set it to 'token'"):
        teacher(tmp_path / "mae", cls="pooled")
    vit = ViTConfig(**WIDE, image_size=32, patch_size=16)
    save(tmp_path / "vit", ViTForImageClassification(vit), ViTImageProcessor(size=SQUARE))
    with pytest.raises(RequestError, match=r"2 parameters are missing.*first pooler\.dense\.bias"):
        teacher(tmp_path / "vit", cls="pooled")


@pytest.mark.parametrize("kind", [ClipL, RadDino])
def test_processor_of_another_size(
    kind: Any, clip: tuple[Path, Any], dinov2: tuple[Path, Any], tmp_path: Path
) -> None:
    """CLIP takes one size; DINOv2 interpolates its positions, as transformers does."""
    folder = tmp_path / "other"
    shutil.copytree((clip if kind is ClipL else dinov2)[0], folder)
    path = folder / "preprocessor_config.json"
    tree = json.loads(path.read_text())
    tree |= {"size": {"shortest_edge": 70}, "crop_size": {"height": 70, "width": 70}}
    path.write_text(json.dumps(tree))
    options = kind.Options(weights=folder)
    if kind is RadDino:
        assert kind.describe(options).input_size == 70
    else:
        with pytest.raises(RequestError, match="makes 70 px, but the encoder takes 56 px"):
            kind.describe(options)
