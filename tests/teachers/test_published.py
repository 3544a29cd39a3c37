"""Every teacher at the size it is published, from random weights in the published format.

One after the other, sockets disabled, image by image (or text by text) against the library that
publishes the format; folders of up to 1.2 GB are deleted at once.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from transformers import AutoImageProcessor, SamConfig, SamImageProcessor, SamModel
from transformers.initialization import no_init_weights

from arra_med.teachers.biomedclip import BiomedClip, BiomedClipOptions
from arra_med.teachers.biomedclip_text import PUBMEDBERT, BiomedClipText, BiomedClipTextOptions
from arra_med.teachers.clip_l import ClipL, ClipLOptions
from arra_med.teachers.medsam import MedSam, MedSamOptions
from arra_med.teachers.rad_dino import RadDino, RadDinoOptions
from tests.teachers import models

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_network")]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "models" / "published"
    shutil.rmtree(tmp_path / "models")


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.01


@torch.inference_mode()
def test_biomedclip_in_both_formats(folder: Path) -> None:
    """ViT-B/16 and BERT-base with 30,522 words; its text configuration is nowhere in the folder."""
    with no_init_weights():
        model = models.save_open_clip(folder, "vit_base_patch16_224", bert=PUBMEDBERT)
    converted = models.save_conversion(folder.parent / "conversion", folder, model, PUBMEDBERT)
    image_tower, bert = 85_798_656 + 768 * 512, 108_891_648 + 768 * 640 + 640 * 512
    assert sum(p.numel() for p in model.parameters()) == image_tower + bert + 1
    transform = open_clip.image_transform(
        224, False, mean=tuple(models.CLIP_MEAN), std=tuple(models.CLIP_STD)
    )
    image = models.pictures(1, 512, number=1)
    pixels = transform(models.as_pil(image[0]))[None]
    tokens, joint = model.visual.trunk.forward_features(pixels), model.encode_image(pixels)
    words = open_clip.get_tokenizer(f"local-dir:{folder}")(["left effusions."])
    assert words.shape == (1, 256)
    expected = model.encode_text(words, normalize=True)
    for each in (folder, converted):
        plain = BiomedClip(BiomedClipOptions(weights=each))
        vectors = plain(plain.preprocess(image))
        assert_close(vectors["cls"], tokens[:, 0])
        assert_close(vectors["mean"], tokens[:, 1:].mean(1))
        assert plain.info.dimension == 768
        projected = BiomedClip(BiomedClipOptions(weights=each, projected=True))
        assert_close(projected(projected.preprocess(image))["cls"], joint)
        text = BiomedClipText(BiomedClipTextOptions(weights=each))
        assert_close(text.encode(["left effusions."]).vectors, expected)
        assert text.context_length == 256
        assert projected.info.dimension == text.dimension == 512


@torch.inference_mode()
def test_medsam(folder: Path) -> None:
    """SAM ViT-B at 1024 px, as ``pytorch_model.bin`` with the processor's settings of 2023.

    Every weight of the twelve blocks is compared; run, for the sake of time, is one block of each
    kind (local and global attention) between the embedding and the neck.
    """
    with no_init_weights():
        model = SamModel(SamConfig()).eval()
    models.randomise(model)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    settings = {
        "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "image_processor_type": "SamImageProcessor", "pad_size": {"height": 1024, "width": 1024},
        "resample": 2, "rescale_factor": 1 / 255, "size": {"longest_edge": 1024},
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    teacher = MedSam(MedSamOptions(weights=folder))
    image = models.pictures(1, 512, number=1)
    theirs = SamImageProcessor()(models.as_pil(image[0]), return_tensors="pt")["pixel_values"]
    pixels = teacher.preprocess(image)
    assert (pixels - theirs).abs().max() == 0
    reference = model.vision_encoder.state_dict()
    state = teacher.encoder.state_dict()
    assert state.keys() == reference.keys()
    assert all(torch.equal(state[name], reference[name]) for name in state)
    for encoder in (model.vision_encoder, teacher.encoder):
        assert len(encoder.layers) == 12
        encoder.layers = encoder.layers[1:3]
    patches = model.get_image_embeddings(theirs)
    assert patches.shape == (1, 256, 64, 64)
    assert_close(teacher(pixels)["mean"], patches.flatten(2).mean(2))
    assert teacher.info.width("mean") == 256
    assert teacher.info.width("mean", (3, 7, 11)) == 3 * 768


def prepared(teacher: Any, folder: Path) -> torch.Tensor:
    """One picture through the library's own processor, which ours equals."""
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    image = models.pictures(1, 512, number=1)
    pixels = processor(models.as_pil(image[0]), return_tensors="pt")["pixel_values"]
    assert (teacher.preprocess(image) - pixels).abs().max() == 0
    return pixels


@torch.inference_mode()
def test_rad_dino(folder: Path) -> None:
    """DINOv2 ViT-B/14 at 518 px: a class token and 37² patches."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    model = models.save_dinov2(folder, 518, **sizes)
    teacher = RadDino(RadDinoOptions(weights=folder))
    assert (teacher.info.dimension, teacher.info.input_size) == (768, 518)

    pixels = prepared(teacher, folder)
    output, found = model(pixels), teacher(pixels)
    assert output.last_hidden_state.shape == (1, 1 + 37**2, 768)
    assert_close(found["cls"], output.pooler_output)
    assert_close(found["mean"], output.last_hidden_state[:, 1:].mean(1))


@torch.inference_mode()
def test_clip_l(folder: Path) -> None:
    """ViT-L/14 at 224 px, projected to 768; the text tower, which is not built, is a small one."""
    model = models.save_clip(
        folder, 224, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
        intermediate_size=4096, projection_dim=768,
    )  # fmt: skip
    vision = model.vision_model
    assert sum(p.numel() for p in vision.parameters()) == 303_179_776
    plain = ClipL(ClipLOptions(weights=folder))
    pixels = prepared(plain, folder)
    output, found = vision(pixels), plain(pixels)
    assert_close(found["cls"], output.pooler_output)
    patches = vision.post_layernorm(output.last_hidden_state)[:, 1:]
    assert_close(found["mean"], patches.mean(1))
    assert plain.info.dimension == 1024
    del plain
    projected = ClipL(ClipLOptions(weights=folder, projected=True))
    assert_close(projected(pixels)["cls"], model.visual_projection(output.pooler_output))
    assert projected.info.dimension == 768
