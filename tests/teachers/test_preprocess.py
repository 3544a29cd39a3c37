"""Every teacher's transform against its library's own, for every kind of picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from transformers import AutoImageProcessor, EfficientNetImageProcessor

from arra_med.registry import TEACHERS
from arra_med.teachers.preprocess import processor_settings, to_picture
from tests.teachers.models import CLIP_MEAN, CLIP_STD, picture

Transform = Callable[[Image.Image], torch.Tensor]


def open_clip_s(folder: Path) -> Transform:
    return open_clip.image_transform(224, False, mean=tuple(CLIP_MEAN), std=tuple(CLIP_STD))


def transformers_s(folder: Path) -> Transform:
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    return lambda image: processor(image, return_tensors="pt")["pixel_values"][0]


def timm_s(folder: Path) -> Transform:
    model = timm.create_model(f"local-dir:{folder}")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    return lambda image: transform(image.convert("RGB"))  # as timm's data sets do


LIBRARIES = {
    "biomedclip": ("biomedclip", open_clip_s),
    "medsam": ("medsam", transformers_s),
    "clip-l": ("clip", transformers_s),
    "rad-dino": ("dinov2", transformers_s),
    "transformers": ("dinov2", transformers_s),
    "timm": ("timm_vit", timm_s),
}


@pytest.fixture
def transforms(request: pytest.FixtureRequest) -> Callable[[str], tuple[Any, Transform]]:
    def both(name: str) -> tuple[Any, Transform]:
        fixture, library = LIBRARIES[name]
        folder, _ = request.getfixturevalue(fixture)
        plugin = TEACHERS.get(name)
        return plugin(plugin.Options(weights=folder)).transform, library(folder)

    return both


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("name", sorted(LIBRARIES))
@pytest.mark.usefixtures("no_network")
def test_difference_to_the_library_is_zero(
    name: str, mode: str, transforms: Callable[[str], tuple[Any, Transform]]
) -> None:
    """16-bit grey: to the library's transform of the picture at 8 bits (the next test says why)."""
    ours, library = transforms(name)
    given = picture(mode, 180, 150)
    expected = library(to_picture(given) if mode == "I;16" else given)
    found = ours(given)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() == 0
    assert found.std() > 0.1


@pytest.mark.parametrize("name", ["biomedclip", "clip-l", "timm"])
def test_what_libraries_make_of_16_bits(
    name: str, transforms: Callable[[str], tuple[Any, Transform]]
) -> None:
    """White: they clip at 255. That is why 16-bit pictures are scaled first."""
    ours, library = transforms(name)
    sixteen = Image.fromarray(np.full((150, 150), 30000, np.uint16))
    white = Image.new("RGB", (150, 150), (255, 255, 255))
    assert torch.equal(library(sixteen), library(white))
    grey = Image.new("L", (150, 150), 117)  # 30000 / 65535 · 255 = 116.73
    assert torch.equal(ours(sixteen), library(grey))


def test_every_setting_of_a_processor_that_changes_pixels_counts() -> None:
    usual = processor_settings(EfficientNetImageProcessor())
    assert processor_settings(EfficientNetImageProcessor(rescale_offset=True)) != usual
    assert "image_processor_type" not in usual


def test_sixteen_bits_to_eight() -> None:
    """Linear and rounded: 65535 is 255, half a level rounds up, and every level is hit."""
    values = np.array([[0, 128, 129, 385, 386, 32896, 65406, 65407, 65535]], np.uint16)
    expected = [[0, 0, 1, 1, 2, 128, 254, 255, 255]]
    for scan in (
        Image.fromarray(values),
        Image.fromarray(values.astype(np.int32)),
        Image.frombytes("I;16B", (9, 1), values.astype(">u2").tobytes()),
    ):
        assert scan.mode in ("I;16", "I", "I;16B")
        found = to_picture(scan)
        assert found.mode == "L"
        assert np.asarray(found).tolist() == expected
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    levels, counts = np.unique(np.asarray(to_picture(Image.fromarray(every))), return_counts=True)
    assert len(levels) == 256
    assert set(counts[1:-1]) == {257}


@pytest.mark.parametrize(
    ("values", "words"),
    [(np.array([[70000]], np.int32), "70000"), (np.array([[-1]], np.int32), "-1 to -1")],
)
def test_integers_beyond_16_bits_are_refused(values: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_picture(Image.fromarray(values))


def test_other_modes() -> None:
    """Alpha is kept for the library to treat; palettes and CMYK become colours, bits grey."""
    image = picture("RGBA")
    assert to_picture(image) is image
    assert to_picture(image.convert("LA")).mode == "RGBA"
    assert to_picture(image.convert("RGB").convert("P")).mode == "RGB"
    transparent = image.convert("RGB").convert("P")
    transparent.info["transparency"] = 0
    assert to_picture(transparent).mode == "RGBA"
    assert to_picture(image.convert("CMYK")).mode == "RGB"
    bits = to_picture(image.convert("1"))
    assert bits.mode == "L"
    assert set(np.unique(bits)) == {0, 255}
    with pytest.raises(ValueError, match="floating-point"):
        to_picture(Image.fromarray(np.zeros((2, 2), np.float32)))
