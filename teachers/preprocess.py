"""Pictures as teachers take them: tensors and unusual files to PIL, and libraries' own transforms.

Transforms work on PIL pictures, one by one, because the libraries that published the teachers do,
and they are those libraries' transforms themselves, not copies: the difference to them is zero.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# As a library's transform is meant to get it; each library treats alpha in its own way (open_clip
# drops it after the resize, transformers puts the picture on white).
_AS_THEY_ARE = ("L", "RGB", "RGBA")
_WITH_ALPHA = ("LA", "La", "PA", "RGBa")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def to_picture(picture: Image.Image) -> Image.Image:
    """An 8-bit picture, mode L, RGB or RGBA, which libraries' transforms read as intended.

    L, RGB and RGBA stay. Palettes and other colour spaces become RGB, or RGBA if they have alpha;
    black-and-white becomes L. 16-bit grey is scaled linearly from 0…65535 to 0…255: libraries'
    own transforms would clip it at 255 and see a white picture. Scans that use fewer bits, or need
    a window, are a data set's business (``arra-med ingest`` applies it) and come out dark here.

    Raises:
        ValueError: for pixels without a known range: floating point, or integers beyond 16 bits.
    """
    if picture.mode in _AS_THEY_ARE:
        return picture
    if picture.mode in _SIXTEEN_BITS:
        values = np.asarray(picture).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ValueError(
                f"expected 16-bit grey values from 0 to 65535, got {values.min()} to "
                f"{values.max()}: scale the picture to 8 bits first"
            )
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("a floating-point picture has no known range: scale it to 8 bits first")
    if picture.mode == "1":
        return picture.convert("L")
    alpha = picture.mode in _WITH_ALPHA or "transparency" in picture.info
    return picture.convert("RGBA" if alpha else "RGB")


def to_pictures(images: Tensor) -> list[Image.Image]:
    """A batch as PIL pictures.

    Args:
        images: ``(B, C, H, W)`` uint8, C = 1 (grey) or 3 (RGB).

    Raises:
        ValueError: if the tensor is not such a batch.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"expected (B, 1 or 3, H, W) uint8 pictures, got {tuple(images.shape)} {images.dtype}"
        )
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array[..., 0] if array.shape[2] == 1 else array) for array in arrays]


@dataclass(frozen=True)
class SquashAndScale:
    """Resize to ``size`` × ``size`` (bicubic, anti-aliased), RGB, scaled to [-1, 1]."""

    size: int

    def __call__(self, picture: Image.Image) -> Tensor:
        """One picture to ``(3, size, size)`` float32."""
        rgb = to_picture(picture).convert("RGB")
        resized = rgb.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 127.5 - 1


@dataclass(frozen=True)
class LibraryTransform:
    """A transform of torchvision's kind, as open_clip and timm make them.

    Attributes:
        library: PIL picture to ``(3, S, S)`` float32.
        rgb_first: make the picture RGB (alpha dropped) before the transform, as timm's data sets
            do; open_clip's transform does it itself, after the resize.
    """

    library: Callable[[Image.Image], Tensor]
    rgb_first: bool

    def __call__(self, picture: Image.Image) -> Tensor:
        """One picture to ``(3, S, S)`` float32."""
        eight_bits = to_picture(picture)
        return self.library(eight_bits.convert("RGB") if self.rgb_first else eight_bits)


@dataclass(frozen=True)
class ProcessorTransform:
    """One of transformers' image processors, on one picture."""

    processor: Any

    def __call__(self, picture: Image.Image, **settings: bool) -> Tensor:
        """One picture to ``(3, S, S)`` float32; ``settings`` override the processor's."""
        eight_bits = to_picture(picture)
        if not getattr(self.processor, "do_convert_rgb", False):
            eight_bits = eight_bits.convert("RGB")
        output = self.processor(eight_bits, return_tensors="pt", **settings)
        pixels: Tensor = output["pixel_values"][0]
        return pixels


_WITHOUT_EFFECT = {
    "image_processor_type", "feature_extractor_type", "processor_class", "transformers_version",
    "return_tensors", "device", "auto_map",
}  # fmt: skip
"""Fields of a processor's file that do not change pixels."""


def processor_settings(processor: Any) -> dict[str, Any]:  # noqa: ANN401 - transformers' image processor
    """JSON of what an image processor's output depends on."""
    settings = json.loads(processor.to_json_string())
    used = {name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT}
    # the two backends resize differently, by a grey level or so
    return {"backend": processor.backend, **used}


def normalization_in_words(mean: Sequence[float], deviation: Sequence[float]) -> str:
    """``TeacherInfo.normalization`` for values scaled to [0, 1], then standardised."""

    def numbers(values: Sequence[float]) -> str:
        return ", ".join(f"{float(value):.4g}" for value in values)

    return f"values in [0, 1], minus ({numbers(mean)}), divided by ({numbers(deviation)})"
