"""CLIP-L's image tower, through transformers (Radford et al., arXiv 2103.00020).

OpenAI's ViT-L/14 at 224 px; any other CLIP in transformers' format will do too. Unlike
transformers' ``last_hidden_state``, the patches here have been through the last norm, as the class
token has, and as every other teacher's have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from arra_med.errors import RequestError
from arra_med.teachers.base import Teacher, TeacherInfo, concatenate, pool
from arra_med.teachers.preprocess import (
    ProcessorTransform,
    normalization_in_words,
    processor_settings,
)
from arra_med.teachers.transformers_encoder import (
    CHECKPOINTS,
    PROCESSOR,
    load_pretrained,
    picture_size,
    read_config,
    read_transform,
)
from arra_med.teachers.weights import PublishedWeights, find_weights

CLIP_L = PublishedWeights(
    title="CLIP-L",
    repository="openai/clip-vit-large-patch14",
    config="config.json",
    checkpoints=CHECKPOINTS,
    extra=(PROCESSOR,),
    licence="MIT (the code's; the model card states none)",
)


@dataclass(frozen=True, kw_only=True)
class ClipLOptions:
    """Options of :class:`ClipL`.

    Attributes:
        weights: folder of a ``CLIPModel`` as transformers saves it (``local-dir:`` may stand before
            it), or ``hf-hub:owner/name``; without it, the asset folder, Hugging Face's cache and,
            if the network is allowed, the hub.
        projected: give the 768-d vector of the joint image-text space as ``cls`` in place of the
            1024-d one before the projection; there is then no ``mean``, since patches are not
            projected, and there are no layers.
    """

    weights: Path | None = None
    projected: bool = False


class ClipL(Teacher):
    """CLIP's image tower.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they are not of a CLIP.
    """

    Options = ClipLOptions

    def __init__(self, options: ClipLOptions) -> None:
        super().__init__()
        folder, config, transform = _read(options)
        self.projected = options.projected
        self.info = _info(folder, config, transform, options)
        self.transform = transform
        self.tower = load_pretrained(CLIPVisionModelWithProjection, folder, config)
        self.requires_grad_(False).eval()

    @classmethod
    def describe(cls, options: ClipLOptions) -> TeacherInfo:
        """See :meth:`Teacher.describe`."""
        return _info(*_read(options), options)

    @classmethod
    def identity(cls, options: ClipLOptions) -> dict[str, Any]:
        """See :meth:`Teacher.identity`."""
        folder, config, transform = _read(options)
        info = _info(folder, config, transform, options)
        return {
            "name": "clip-l",
            "weights_sha256": CLIP_L.sha256(folder),
            "config": CLIP_L.config_fingerprint(folder),
            "projected": options.projected,
            "dimension": info.dimension,
            "input_size": info.input_size,
            "preprocessing": processor_settings(transform.processor),
        }

    def forward(self, pixels: Tensor, layers: Sequence[int] | None = None) -> Mapping[str, Tensor]:
        """``(B, 3, S, S)`` float32 to ``cls`` and ``mean``, or the projected ``cls`` alone.

        ``cls`` is the class token after the last norm, ``mean`` the mean of the patch tokens after
        it; with ``layers``, both as they leave those blocks. See :meth:`Teacher.forward`.
        """
        encoder: Any = self.tower.vision_model
        if layers is not None:
            self.info.check_layers(layers)
            hidden_states = encoder(pixels, output_hidden_states=True).hidden_states
            return concatenate([pool(hidden_states[i], 1, class_token=True) for i in layers])
        if self.projected:
            return {"cls": self.tower(pixels).image_embeds}
        tokens_BND = encoder.post_layernorm(encoder(pixels).last_hidden_state)
        return pool(tokens_BND, 1, class_token=True)


def _read(options: ClipLOptions) -> tuple[Path, Any, ProcessorTransform]:
    """Folder, configuration of the image tower and image transform."""
    folder = find_weights(CLIP_L, options.weights)
    return folder, read_config(folder, "clip"), read_transform(folder)


def _info(
    folder: Path,
    config: Any,  # noqa: ANN401 - transformers' CLIPVisionConfig
    transform: ProcessorTransform,
    options: ClipLOptions,
) -> TeacherInfo:
    size = picture_size(folder, transform)
    if size != config.image_size:
        raise RequestError(
            f"{folder}: {PROCESSOR} makes {size} px, but the encoder takes {config.image_size} px: "
            "correct the one that is wrong"
        )
    processor = transform.processor
    return TeacherInfo(
        dimension=config.projection_dim if options.projected else config.hidden_size,
        input_size=size,
        aggregations=("cls",) if options.projected else ("cls", "mean"),
        trained_on="WIT: 400 million image-text pairs from the internet (OpenAI, not published)",
        normalization=normalization_in_words(processor.image_mean, processor.image_std),
        num_layers=0 if options.projected else config.num_hidden_layers,
        layer_dimension=0 if options.projected else config.hidden_size,
        repository=CLIP_L.repository,
        licence=CLIP_L.licence,
    )
