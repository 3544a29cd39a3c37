"""BiomedCLIP against open_clip's own model and transform."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from arra_med.errors import RequestError
from arra_med.teachers.biomedclip import BiomedClip, BiomedClipOptions


def pictures(channels: int, size: int = 130, number: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(
        0, 256, (number, channels, size, size), dtype=torch.uint8, generator=generator
    )


def as_pil(image: torch.Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.usefixtures("no_network")
def test_equals_open_clip_image_by_image(biomedclip: tuple[Path, nn.Module], channels: int) -> None:
    folder, reference = biomedclip
    teacher = BiomedClip(BiomedClipOptions(weights=folder))
    projected = BiomedClip(BiomedClipOptions(weights=folder, projected=True))
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**reference.visual.preprocess_cfg), is_train=False
    )
    images = pictures(channels)
    with torch.inference_mode():
        ours = teacher(teacher.preprocess(images))
        ours_projected = projected(projected.preprocess(images))
        for index, image in enumerate(images):
            pixels = transform(as_pil(image))[None]
            tokens = reference.visual.trunk.forward_features(pixels)
            torch.testing.assert_close(
                ours["cls"][index], reference.visual.trunk(pixels)[0], atol=1e-5, rtol=1e-5
            )
            torch.testing.assert_close(
                ours["mean"][index], tokens[0, 1:].mean(0), atol=1e-5, rtol=1e-5
            )
            torch.testing.assert_close(
                ours_projected["cls"][index],
                reference.encode_image(pixels)[0],
                atol=1e-5,
                rtol=1e-5,
            )
    assert ours["cls"].std() > 0.1
    assert teacher.info.dimension == 192
    assert projected.info.dimension == 512
    assert set(ours_projected) == {"cls"}


@pytest.mark.parametrize(("channels", "size"), [(1, 512), (3, 512), (3, 300), (1, 100)])
def test_preprocessing_equals_open_clip_exactly(
    biomedclip: tuple[Path, nn.Module], channels: int, size: int
) -> None:
    folder, _ = biomedclip
    teacher = BiomedClip(BiomedClipOptions(weights=folder))
    published = open_clip.image_transform(
        224,
        is_train=False,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )
    images = pictures(channels, size, number=2)
    expected = torch.stack([published(as_pil(image)) for image in images])
    assert (teacher.preprocess(images) - expected).abs().max() == 0


def test_safetensors_and_bin_give_the_same(
    biomedclip: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    folder, reference = biomedclip
    copy = tmp_path / "safe"
    copy.mkdir()
    shutil.copy(folder / "open_clip_config.json", copy)
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    save_file(state, copy / "open_clip_model.safetensors")
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, two = (BiomedClip(BiomedClipOptions(weights=f))(pixels) for f in (folder, copy))
    assert torch.equal(one["cls"], two["cls"])


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_published_architecture(tmp_path: Path, make_open_clip: Callable[..., nn.Module]) -> None:
    """ViT-B/16, as published."""
    reference = make_open_clip(tmp_path / "full", "vit_base_patch16_224")
    teacher = BiomedClip(BiomedClipOptions(weights=tmp_path / "full"))
    assert teacher.info.dimension == 768
    pixels = teacher.preprocess(pictures(1, 512, number=2))
    with torch.inference_mode():
        ours = teacher(pixels)["cls"]
        for index in range(2):
            theirs = reference.visual.trunk(pixels[index : index + 1])[0]
            torch.testing.assert_close(ours[index], theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("no_network")
def test_damaged_folders(biomedclip: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, _ = biomedclip
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "open_clip_pytorch_model.bin").write_bytes(b"<html>not found</html>")
    with pytest.raises(RequestError, match=r"open_clip_pytorch_model\.bin is not a checkpoint"):
        BiomedClip(BiomedClipOptions(weights=broken))

    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["timm_model_name"] = "vit_small_patch16_224"
    shutil.copy(folder / "open_clip_pytorch_model.bin", broken)
    (broken / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="does not fit"):
        BiomedClip(BiomedClipOptions(weights=broken))

    config["model_cfg"]["vision_cfg"] = {"layers": 12, "width": 768}
    (broken / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="timm vision transformer"):
        BiomedClip.identity(BiomedClipOptions(weights=broken))


def test_a_pickle_in_the_checkpoint_is_refused(
    biomedclip: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    folder, _ = biomedclip
    evil = tmp_path / "evil"
    shutil.copytree(folder, evil)
    torch.save(
        {"visual.trunk.cls_token": np.random.default_rng}, evil / "open_clip_pytorch_model.bin"
    )
    with pytest.raises(RequestError, match="not a checkpoint that can be read safely"):
        BiomedClip(BiomedClipOptions(weights=evil))
