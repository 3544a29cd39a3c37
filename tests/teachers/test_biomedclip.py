"""BiomedCLIP's image tower against open_clip's own model and transform, in both formats."""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPImageProcessor

from arra_med.errors import RequestError
from arra_med.teachers.base import aggregate
from arra_med.teachers.biomedclip import BiomedClip, BiomedClipOptions
from arra_med.teachers.biomedclip_formats import to_open_clip
from tests.teachers.models import as_pil, conversion_names, picture, pictures

NOISE = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def teacher(folder: Path, **options: bool) -> BiomedClip:
    return BiomedClip(BiomedClipOptions(weights=folder, **options))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.usefixtures("no_network")
def test_equals_open_clip_image_by_image(biomedclip: tuple[Path, nn.Module], channels: int) -> None:
    folder, reference = biomedclip
    plain, projected = teacher(folder), teacher(folder, projected=True)
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**reference.visual.preprocess_cfg), is_train=False
    )
    images = pictures(channels)
    with torch.inference_mode():
        ours = plain(plain.preprocess(images))
        ours_projected = projected(projected.preprocess(images))
        for index, image in enumerate(images):
            pixels = transform(as_pil(image))[None]
            tokens = reference.visual.trunk.forward_features(pixels)
            for found, expected in (
                (ours["cls"], reference.visual.trunk(pixels)[0]),
                (ours["mean"], tokens[0, 1:].mean(0)),
                (ours_projected["cls"], reference.encode_image(pixels)[0]),
            ):
                torch.testing.assert_close(found[index], expected, atol=1e-5, rtol=1e-5)
    assert ours["cls"].std() > 0.1
    assert (plain.info.dimension, plain.info.num_layers) == (192, 12)
    assert (projected.info.dimension, projected.info.num_layers) == (512, 0)
    assert set(ours_projected) == {"cls"}


def test_layers_are_the_blocks_outputs_before_the_last_norm(
    biomedclip: tuple[Path, nn.Module],
) -> None:
    """Layers 11, 3 and 12, in that order, against hooks on open_clip's own blocks."""
    folder, reference = biomedclip
    outputs: dict[int, torch.Tensor] = {}
    hooks = [
        block.register_forward_hook(
            lambda _m, _i, out, number=number: outputs.update({number: out})
        )
        for number, block in enumerate(reference.visual.trunk.blocks, start=1)
    ]
    ours = teacher(folder)
    with torch.inference_mode():
        reference.visual.trunk(NOISE)
        vectors = ours(NOISE, layers=(11, 3, 12))
        final = ours(NOISE)
    for hook in hooks:
        hook.remove()
    cls = torch.cat([outputs[number][:, 0] for number in (11, 3, 12)], dim=1)
    mean = torch.cat([outputs[number][:, 1:].mean(1) for number in (11, 3, 12)], dim=1)
    torch.testing.assert_close(vectors["cls"], cls, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vectors["mean"], mean, atol=1e-5, rtol=1e-5)
    both = aggregate(vectors, "cls+mean")
    assert torch.equal(both, torch.cat([vectors["cls"], vectors["mean"]], dim=1))
    assert both.shape[1] == ours.info.width("cls+mean", (11, 3, 12)) == 2 * 3 * 192
    assert not torch.allclose(vectors["cls"][:, -192:], final["cls"], atol=0.1)
    with pytest.raises(RequestError, match="final output alone"):
        teacher(folder, projected=True)(NOISE, layers=(3,))


@pytest.mark.usefixtures("no_network")
def test_both_formats_give_the_same(
    biomedclip: tuple[Path, nn.Module], conversion: tuple[Path, nn.Module]
) -> None:
    """And the code that the conversion carries is not run: here it raises."""
    original, converted = teacher(biomedclip[0]), teacher(conversion[0])
    images = pictures(3)
    with torch.inference_mode():
        for layers in (None, (1, 7)):
            one = original(original.preprocess(images), layers)
            two = converted(converted.preprocess(images), layers)
            for name in ("cls", "mean"):
                torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-5)
        one, two = (teacher(f, projected=True)(NOISE) for f in (biomedclip[0], conversion[0]))
    torch.testing.assert_close(one["cls"], two["cls"], atol=1e-5, rtol=1e-5)
    assert converted.info.repository == "chuhac/BiomedCLIP-vit-bert-hf"
    assert original.info.repository.startswith("microsoft/")


def test_names_of_the_conversion_there_and_back(biomedclip: tuple[Path, nn.Module]) -> None:
    """No tensor of either tower is lost, and none is new."""
    _, model = biomedclip
    back = to_open_clip(dict(conversion_names(model)))
    state = model.state_dict()
    assert set(back) == set(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("backend", ["pil", "torchvision"])
def test_preprocessing_of_the_conversion_s_own_processor(
    conversion: tuple[Path, nn.Module], backend: str
) -> None:
    """open_clip's transform serves both formats. transformers' PIL processor agrees to a rounding
    error; its default, torchvision's, resizes tensors: up to 1 grey level of 255 away."""
    from transformers import AutoImageProcessor

    folder, _ = conversion
    processor = AutoImageProcessor.from_pretrained(folder, backend=backend, local_files_only=True)
    assert (backend == "torchvision") == isinstance(processor, CLIPImageProcessor)
    ours = teacher(folder).transform(picture("RGB", 400, 300))
    theirs = processor(picture("RGB", 400, 300), return_tensors="pt")["pixel_values"][0]
    level = 1 / 255 / 0.26130258
    difference = float((ours - theirs).abs().max())
    assert difference <= (1e-5 if backend == "pil" else 1.01 * level)


@pytest.mark.parametrize(("channels", "size"), [(1, 512), (3, 512), (3, 300), (1, 100)])
def test_preprocessing_equals_open_clip_exactly(
    biomedclip: tuple[Path, nn.Module], channels: int, size: int
) -> None:
    published = open_clip.image_transform(
        224,
        is_train=False,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )
    images = pictures(channels, size, number=2)
    expected = torch.stack([published(as_pil(image)) for image in images])
    assert (teacher(biomedclip[0]).preprocess(images) - expected).abs().max() == 0


def test_other_published_forms(biomedclip: tuple[Path, nn.Module], tmp_path: Path) -> None:
    """safetensors; ``local-dir:`` before the folder; the position buffer of checkpoints of 2023."""
    folder, reference = biomedclip
    copy = tmp_path / "safe"
    copy.mkdir()
    shutil.copy(folder / "open_clip_config.json", copy)
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    state["text.transformer.embeddings.position_ids"] = torch.arange(32)[None]
    save_file(state, copy / "open_clip_model.safetensors")
    with torch.inference_mode():
        one, two = (teacher(f)(NOISE) for f in (folder, Path(f"local-dir:{copy}")))
    assert torch.equal(one["cls"], two["cls"])


@pytest.mark.usefixtures("no_network")
def test_damaged_folders(biomedclip: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, _ = biomedclip
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "open_clip_pytorch_model.bin").write_bytes(b"<html>not found</html>")
    with pytest.raises(RequestError, match=r"open_clip_pytorch_model\.bin is not a checkpoint"):
        teacher(broken)

    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["timm_model_name"] = "vit_small_patch16_224"
    shutil.copy(folder / "open_clip_pytorch_model.bin", broken)
    (broken / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="does not fit"):
        teacher(broken)

    config["model_cfg"]["vision_cfg"] = {"layers": 12, "width": 768}
    (broken / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="timm vision transformer"):
        BiomedClip.identity(BiomedClipOptions(weights=broken))


def test_other_architectures_in_the_conversion_s_place(
    conversion: tuple[Path, nn.Module], clip: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=r"does not describe BiomedCLIP.*not vit and bert"):
        teacher(clip[0])
    wrong = tmp_path / "wrong"
    shutil.copytree(conversion[0], wrong)
    config = json.loads((wrong / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 200
    (wrong / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="no plain vision transformer of these sizes"):
        teacher(wrong)
    shutil.copy(conversion[0] / "config.json", wrong)
    state = load_file(wrong / "model.safetensors")
    del state["vision_model.encoder.layers.3.self_attn.k_proj.weight"]
    save_file(state, wrong / "model.safetensors")
    with pytest.raises(RequestError, match="does not fit"):
        teacher(wrong)


def test_a_pickle_in_the_checkpoint_is_refused(
    biomedclip: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    evil = tmp_path / "evil"
    shutil.copytree(biomedclip[0], evil)
    torch.save(
        {"visual.trunk.cls_token": np.random.default_rng}, evil / "open_clip_pytorch_model.bin"
    )
    with pytest.raises(RequestError, match="not a checkpoint that can be read safely"):
        teacher(evil)


def test_other_weights_do_not_claim_the_published_ones_origin(
    biomedclip: tuple[Path, nn.Module],
) -> None:
    folder, _ = biomedclip
    published = BiomedClip.describe(BiomedClipOptions(weights=folder))
    assert published.repository == "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
    assert "PMC-15M" in published.trained_on
    own = BiomedClip.describe(BiomedClipOptions(weights=folder, trained_on="our films of 2020"))
    assert (own.trained_on, own.repository, own.licence) == ("our films of 2020", "", "")
