"""BiomedCLIP's image tower, through open_clip (Zhang et al., arXiv 2303.00915).

A ViT-B/16 at 224 px trained on 15 million figure-caption pairs of PubMed Central. Only the image
tower is built: the text tower would ask the hub for PubMedBERT's configuration, and alignment does
not need it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIPVisionCfg
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from torch import Tensor

from arra_med.errors import RequestError
from arra_med.store import sha256_file
from arra_med.teachers.base import Teacher, TeacherInfo
from arra_med.teachers.weights import PublishedWeights, find_weights, read_checkpoint

BIOMEDCLIP = PublishedWeights(
    title="BiomedCLIP",
    repository="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    config="open_clip_config.json",
    checkpoints=(  # in open_clip's order
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
        "open_clip_pytorch_model.bin",
    ),
)


@dataclass(frozen=True, kw_only=True)
class BiomedClipOptions:
    """Options of :class:`BiomedClip`.

    Attributes:
        weights: folder with ``open_clip_config.json`` and a checkpoint, as the hub stores them;
            without it, Hugging Face's cache and, if the network is allowed, the hub.
        projected: give the 512-d vector of the joint image-text space as ``cls`` (ARRA's authors
            align to it) in place of the 768-d one before the projection; there is then no
            ``mean``, since patches are not projected.
    """

    weights: Path | None = None
    projected: bool = False


class BiomedClip(Teacher):
    """BiomedCLIP's image tower, or any open_clip model with a timm vision transformer.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they are not of such a model.
    """

    Options = BiomedClipOptions

    def __init__(self, options: BiomedClipOptions) -> None:
        super().__init__()
        folder = find_weights(BIOMEDCLIP, options.weights)
        config = _Config(folder)
        self.projected = options.projected
        self.info = config.info(options)
        self.transform = image_transform_v2(config.preprocessing, is_train=False)
        self.visual = config.build()
        checkpoint = BIOMEDCLIP.checkpoint(folder)
        state = {
            name.removeprefix("visual."): tensor
            for name, tensor in read_checkpoint(checkpoint).items()
            if name.startswith("visual.")
        }
        try:
            self.visual.load_state_dict(state)
        except RuntimeError as error:
            raise RequestError(f"{checkpoint} does not fit {config.path}: {error}") from error
        self.requires_grad_(False).eval()

    @classmethod
    def describe(cls, options: BiomedClipOptions) -> TeacherInfo:
        """See :meth:`Teacher.describe`."""
        return _Config(find_weights(BIOMEDCLIP, options.weights)).info(options)

    @classmethod
    def identity(cls, options: BiomedClipOptions) -> dict[str, Any]:
        """See :meth:`Teacher.identity`."""
        folder = find_weights(BIOMEDCLIP, options.weights)
        config = _Config(folder)
        info = config.info(options)
        return {
            "name": "biomedclip",
            "weights_sha256": sha256_file(BIOMEDCLIP.checkpoint(folder)),
            "architecture": config.vision.timm_model_name,
            "projected": options.projected,
            "dimension": info.dimension,
            "input_size": info.input_size,
            "preprocessing": {
                name: list(value) if isinstance(value, (list, tuple)) else value
                for name, value in vars(config.preprocessing).items()
            },
        }

    def forward(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """``(B, 3, S, S)`` float32 to ``cls`` and ``mean``, or the projected ``cls`` alone.

        ``cls`` is the class token after the last norm, ``mean`` the mean of the patch tokens there.
        """
        tokens_BND = self.visual.trunk.forward_features(pixels)
        cls_BD = tokens_BND[:, 0]
        if self.projected:
            return {"cls": self.visual.head(cls_BD)}
        patches_BND = tokens_BND[:, self.visual.trunk.num_prefix_tokens :]
        return {"cls": cls_BD, "mean": patches_BND.mean(dim=1)}


class _Config:
    """``open_clip_config.json``, read and checked.

    Raises:
        RequestError: if it is not of an open_clip model with a timm vision transformer whose
            vector is the class token.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / BIOMEDCLIP.config
        try:
            tree = json.loads(self.path.read_text(encoding="utf-8"))
            model = tree["model_cfg"]
            self.embed_dim = int(model["embed_dim"])
            self.vision = CLIPVisionCfg(**model["vision_cfg"])
            self.input_size = int(self.vision.image_size)
            preprocessing = merge_preprocess_dict(PreprocessCfg(), tree.get("preprocess_cfg") or {})
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"{self.path} is not open_clip's configuration: {error!r}"
            ) from error
        if not self.vision.timm_model_name or self.vision.timm_pool not in ("", "token"):
            raise RequestError(
                f"{self.path}: expected a timm vision transformer whose vector is the class token "
                f"(BiomedCLIP's is 'vit_base_patch16_224'), found timm_model_name "
                f"{self.vision.timm_model_name!r}, timm_pool {self.vision.timm_pool!r}"
            )
        self.preprocessing = PreprocessCfg(**preprocessing | {"size": self.input_size})

    def info(self, options: BiomedClipOptions) -> TeacherInfo:
        """What the image tower offers; it is built without memory to learn its width.

        Raises:
            RequestError: if the projected vector is asked for and there is no projection.
        """
        if options.projected and self.vision.timm_proj not in ("linear", "mlp"):
            raise RequestError(f"'projected' is set, but {self.path} describes no projection")
        with torch.device("meta"):
            width = self.build().trunk.num_features
        return TeacherInfo(
            dimension=self.embed_dim if options.projected else width,
            input_size=self.input_size,
            aggregations=("cls",) if options.projected else ("cls", "mean"),
            trained_on="PMC-15M: 15 million figure-caption pairs of PubMed Central",
        )

    def build(self) -> TimmModel:
        """The image tower with random weights."""
        return TimmModel(
            self.vision.timm_model_name,
            embed_dim=self.embed_dim,
            image_size=self.vision.image_size,
            pool=self.vision.timm_pool,
            proj=self.vision.timm_proj,
            proj_bias=self.vision.timm_proj_bias,
            pretrained=False,
        )
