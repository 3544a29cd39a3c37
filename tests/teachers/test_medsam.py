"""MedSAM against transformers' own model and image processor."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SamConfig, SamImageProcessor, SamModel, SamVisionModel

from arra_med.errors import RequestError
from arra_med.teachers.medsam import MedSam, MedSamOptions


def pictures(channels: int, size: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(0, 256, (3, channels, size, size), dtype=torch.uint8, generator=generator)


def as_pil(image: torch.Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.usefixtures("no_network")
def test_equals_transformers_image_by_image(medsam: tuple[Path, SamModel], channels: int) -> None:
    folder, reference = medsam
    teacher = MedSam(MedSamOptions(weights=folder))
    processor = SamImageProcessor.from_pretrained(folder, local_files_only=True)
    images = pictures(channels)
    pixels = teacher.preprocess(images)
    with torch.inference_mode():
        ours = teacher(pixels)
        for index, image in enumerate(images):
            theirs = processor(as_pil(image), return_tensors="pt")["pixel_values"]
            assert (pixels[index] - theirs[0]).abs().max() == 0
            patches = reference.get_image_embeddings(theirs)
            assert patches.shape == (1, 16, 8, 8)
            torch.testing.assert_close(
                ours["mean"][index], patches[0].flatten(1).mean(1), atol=1e-5, rtol=1e-5
            )
    assert set(ours) == {"mean"}
    assert ours["mean"].shape == (3, 16)
    assert ours["mean"].std() > 0.01


@torch.inference_mode()
def test_layers_are_before_the_neck(medsam: tuple[Path, SamModel]) -> None:
    """Against hooks: layers 3 and 1, ``(B, H, W, 32)`` each, where the output has 16 channels."""
    folder, reference = medsam
    teacher = MedSam(MedSamOptions(weights=folder))
    pixels = teacher.preprocess(pictures(1))
    seen: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
        for layer in reference.vision_encoder.layers
    ]
    reference.vision_encoder(pixels)
    for hook in hooks:
        hook.remove()
    expected = torch.cat([seen[2].mean((1, 2)), seen[0].mean((1, 2))], dim=1)
    found = teacher(pixels, layers=(3, 1))
    assert set(found) == {"mean"}
    torch.testing.assert_close(found["mean"], expected, atol=1e-5, rtol=1e-5)
    assert teacher.info.width("mean", (3, 1)) == 64


def test_processor_settings_of_the_full_model_are_sams_own(tmp_path: Path) -> None:
    """A folder without a processor file, at the published 1024 px."""
    SamConfig().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    options = MedSamOptions(weights=tmp_path)
    assert MedSam.describe(options).input_size == 1024
    assert MedSam.describe(options).dimension == 256
    assert MedSam.describe(options).aggregations == ("mean",)
    preprocessing = MedSam.identity(options)["preprocessing"]
    assert preprocessing["size"] == {"longest_edge": 1024}
    assert preprocessing["image_mean"] == [0.485, 0.456, 0.406]


def test_close_to_sams_original_preprocessing(medsam: tuple[Path, SamModel]) -> None:
    """Within one grey level of Pillow's bilinear resize, which SAM's authors use."""
    folder, _ = medsam
    teacher = MedSam(MedSamOptions(weights=folder))
    images = pictures(3, size=200)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    for image, pixels in zip(images, teacher.preprocess(images), strict=True):
        resized = as_pil(image).resize((64, 64), Image.Resampling.BILINEAR)
        expected = (np.asarray(resized) - mean) / std
        difference = np.abs(pixels.permute(1, 2, 0).numpy() - expected)
        assert difference.max() <= 1.01 / std.min()


def test_min_max_is_the_medsam_authors_scaling(medsam: tuple[Path, SamModel]) -> None:
    folder, _ = medsam
    teacher = MedSam(MedSamOptions(weights=folder, normalization="min-max"))
    images = (pictures(3, size=64) // 2) + 20
    expected = images.float()
    low, high = expected.amin((1, 2, 3), True), expected.amax((1, 2, 3), True)
    torch.testing.assert_close(teacher.preprocess(images), (expected - low) / (high - low))
    assert teacher.preprocess(torch.full((1, 1, 64, 64), 7, dtype=torch.uint8)).abs().max() == 0


@pytest.mark.usefixtures("no_network")
def test_other_published_forms(medsam: tuple[Path, SamModel], tmp_path: Path) -> None:
    """``pytorch_model.bin``; the vision encoder alone; a configuration as of 2023."""
    folder, reference = medsam
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = MedSam(MedSamOptions(weights=folder))(pixels)["mean"]

    binary = tmp_path / "binary"
    shutil.copytree(folder, binary)
    (binary / "model.safetensors").unlink()
    torch.save(reference.state_dict(), binary / "pytorch_model.bin")
    config = json.loads((binary / "config.json").read_text())
    config["vision_config"]["model_type"] = ""
    (binary / "config.json").write_text(json.dumps(config))

    alone = tmp_path / "alone"
    encoder = SamVisionModel(reference.config.vision_config)
    encoder.vision_encoder.load_state_dict(reference.vision_encoder.state_dict())
    encoder.save_pretrained(alone)

    for other in (binary, alone):
        with torch.inference_mode():
            found = MedSam(MedSamOptions(weights=other))(pixels)["mean"]
        assert torch.equal(found, expected)


def test_folders_that_do_not_fit(medsam: tuple[Path, SamModel], tmp_path: Path) -> None:
    folder, _ = medsam
    wrong = tmp_path / "wrong"
    shutil.copytree(folder, wrong)
    config = json.loads((wrong / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 4
    (wrong / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="does not fit"):
        MedSam(MedSamOptions(weights=wrong))

    config["model_type"] = "bert"
    (wrong / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=r"does not describe a SAM model .*medsam_vit_b\.pth"):
        MedSam.identity(MedSamOptions(weights=wrong))

    shutil.copy(folder / "config.json", wrong)
    processor = json.loads((wrong / "preprocessor_config.json").read_text())
    processor["size"] = {"longest_edge": 1024}
    (wrong / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(RequestError, match="resizes to 1024 px, but the encoder takes 64"):
        MedSam.identity(MedSamOptions(weights=wrong))
