"""MedSAM's image encoder, through transformers' SAM (Ma et al., Nature Communications 2024).

SAM's ViT-B at 1024 px, fine-tuned on 1.6 million medical image-mask pairs. It has no class token;
the vector is the mean over the patches of the encoder's output.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torch import Tensor
from transformers import SamImageProcessor, SamVisionConfig, SamVisionModel

from arra_med.errors import RequestError
from arra_med.teachers.base import Teacher, TeacherInfo, concatenate
from arra_med.teachers.preprocess import (
    ProcessorTransform,
    normalization_in_words,
    processor_settings,
)
from arra_med.teachers.weights import PublishedWeights, find_weights, read_checkpoint, shortened

MEDSAM = PublishedWeights(
    title="MedSAM (Hugging Face conversion)",
    repository="wanglab/medsam-vit-base",
    config="config.json",
    checkpoints=("model.safetensors", "pytorch_model.bin"),
    extra=("preprocessor_config.json",),
    mirrors=("flaviagiammarino/medsam-vit-base",),
    licence="Apache-2.0",
)
ENCODER = "vision_encoder."


@dataclass(frozen=True, kw_only=True)
class MedSamOptions:
    """Options of :class:`MedSam`.

    Attributes:
        weights: folder of a ``SamModel`` as transformers saves it (``local-dir:`` may stand before
            it), or ``hf-hub:owner/name``; without it, the asset folder and Hugging Face's cache,
            for ``wanglab/medsam-vit-base`` and for ``flaviagiammarino/medsam-vit-base``, and, if
            the network is allowed, the hub.
        normalization: ``processor`` scales as the folder's ``preprocessor_config.json`` says
            (SAM's own: ImageNet mean and deviation); ``min-max`` scales every picture to [0, 1],
            as the MedSAM authors trained the encoder.
    """

    weights: Path | None = None
    normalization: Literal["processor", "min-max"] = "processor"


class MedSam(Teacher):
    """MedSAM's, or any SAM's, image encoder.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they are not of a SAM model.
    """

    Options = MedSamOptions

    def __init__(self, options: MedSamOptions) -> None:
        super().__init__()
        folder = find_weights(MEDSAM, options.weights)
        config = _vision_config(folder)
        processor = _processor(folder, config)
        self.info = _info(config, processor, options)
        self.transform = SamTransform(processor, options.normalization)
        self.encoder = SamVisionModel(config).vision_encoder
        checkpoint = MEDSAM.checkpoint(folder)
        state = {
            name.removeprefix(ENCODER): tensor
            for name, tensor in read_checkpoint(checkpoint).items()
            if name.startswith(ENCODER)
        }
        try:
            self.encoder.load_state_dict(state)
        except RuntimeError as error:
            raise RequestError(
                f"{checkpoint} does not fit {folder / MEDSAM.config}: {shortened(error)}"
            ) from error
        self.requires_grad_(False).eval()

    @classmethod
    def describe(cls, options: MedSamOptions) -> TeacherInfo:
        """See :meth:`Teacher.describe`."""
        folder = find_weights(MEDSAM, options.weights)
        config = _vision_config(folder)
        return _info(config, _processor(folder, config), options)

    @classmethod
    def identity(cls, options: MedSamOptions) -> dict[str, Any]:
        """See :meth:`Teacher.identity`."""
        folder = find_weights(MEDSAM, options.weights)
        config = _vision_config(folder)
        return {
            "name": "medsam",
            "weights_sha256": MEDSAM.sha256(folder),
            "config": MEDSAM.config_fingerprint(folder),
            "dimension": config.output_channels,
            "input_size": config.image_size,
            "preprocessing": {
                "normalization": options.normalization,
                **processor_settings(_processor(folder, config)),
            },
        }

    def forward(self, pixels: Tensor, layers: Sequence[int] | None = None) -> Mapping[str, Tensor]:
        """``(B, 3, S, S)`` float32 to ``mean``, the mean over the S/16 × S/16 patches.

        With ``layers``, of the tokens as they leave those blocks, before the neck that brings them
        to 256 channels. See :meth:`Teacher.forward`.
        """
        if layers is not None:
            self.info.check_layers(layers)
            hidden_states = self.encoder(pixels, output_hidden_states=True).hidden_states
            return concatenate([{"mean": hidden_states[i].mean(dim=(1, 2))} for i in layers])
        patches_BDHW = self.encoder(pixels).last_hidden_state
        return {"mean": patches_BDHW.mean(dim=(2, 3))}


@dataclass(frozen=True)
class SamTransform:
    """One picture through SAM's image processor; see :class:`MedSamOptions`."""

    processor: SamImageProcessor
    normalization: Literal["processor", "min-max"]

    def __call__(self, picture: Image.Image) -> Tensor:
        """One picture to ``(3, S, S)`` float32; what is not square is padded below and right."""
        process = ProcessorTransform(self.processor)
        if self.normalization == "processor":
            return process(picture)
        pixels = process(picture, do_rescale=False, do_normalize=False).float()
        low, high = pixels.min(), pixels.max()
        return (pixels - low) / (high - low).clamp(min=1e-8)


def _info(
    config: SamVisionConfig, processor: SamImageProcessor, options: MedSamOptions
) -> TeacherInfo:
    return TeacherInfo(
        dimension=config.output_channels,
        input_size=config.image_size,
        aggregations=("mean",),
        trained_on="1.6 million medical image-mask pairs (MedSAM), from SAM's SA-1B",
        normalization=(
            "each picture's own minimum and maximum to 0 and 1"
            if options.normalization == "min-max"
            else normalization_in_words(processor.image_mean, processor.image_std)
        ),
        num_layers=config.num_hidden_layers,
        layer_dimension=config.hidden_size,
        repository=MEDSAM.repository,
        licence=MEDSAM.licence,
    )


def _vision_config(folder: Path) -> SamVisionConfig:
    path = folder / MEDSAM.config
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["model_type"] not in ("sam", "sam_vision_model"):
            raise ValueError(f"model_type is {tree['model_type']!r}")
        vision = dict(tree.get("vision_config", tree))
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path} does not describe a SAM model (model_type 'sam'): {error!r}. MedSAM's own "
            "medsam_vit_b.pth has to be converted first, or take the converted repository "
            f"{MEDSAM.repository}."
        ) from error
    # files of 2023 leave the inner model_type empty
    return SamVisionConfig.from_dict(vision | {"model_type": "sam_vision_model"})


def _processor(folder: Path, config: SamVisionConfig) -> SamImageProcessor:
    """The folder's image processor, or SAM's own at the encoder's input size."""
    size = config.image_size
    if (folder / "preprocessor_config.json").is_file():
        processor = SamImageProcessor.from_pretrained(folder, local_files_only=True)
        side = dict(processor.size).get("longest_edge")
        if side != size:
            raise RequestError(
                f"{folder}: preprocessor_config.json resizes to {side} px, but the encoder takes "
                f"{size} px: correct the one that is wrong"
            )
        return processor
    return SamImageProcessor(size={"longest_edge": size}, pad_size={"height": size, "width": size})
