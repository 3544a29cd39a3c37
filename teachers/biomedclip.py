"""BiomedCLIP's image tower, through open_clip (Zhang et al., arXiv 2303.00915).

A ViT-B/16 at 224 px trained on 15 million figure-caption pairs of PubMed Central. Only the image
tower is built: alignment does not need the text tower, which is in ``biomedclip_text``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from arra_med.errors import RequestError
from arra_med.teachers.base import Teacher, TeacherInfo, concatenate, pool
from arra_med.teachers.biomedclip_formats import TRAINED_ON, BiomedClipFolder
from arra_med.teachers.preprocess import LibraryTransform, normalization_in_words
from arra_med.teachers.timm_encoder import block_outputs


@dataclass(frozen=True, kw_only=True)
class BiomedClipOptions:
    """Options of :class:`BiomedClip`.

    Attributes:
        weights: folder as the hub stores it, of ``microsoft/BiomedCLIP-PubMedBERT_256-vit_base_
            patch16_224`` or of ``chuhac/BiomedCLIP-vit-bert-hf`` (``local-dir:`` may stand before
            it), or ``hf-hub:owner/name``; without it, the asset folder, Hugging Face's cache and,
            if the network is allowed, the hub.
        projected: give the 512-d vector of the joint image-text space as ``cls`` (ARRA's authors
            align to it) in place of the 768-d one before the projection; there is then no
            ``mean``, since patches are not projected, and there are no layers.
        trained_on: data the weights were trained on, in words, if they are not the published ones.
    """

    weights: Path | None = None
    projected: bool = False
    trained_on: str = TRAINED_ON


class BiomedClip(Teacher):
    """BiomedCLIP's image tower, or any open_clip model with a timm vision transformer.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they are not of such a model.
    """

    Options = BiomedClipOptions

    def __init__(self, options: BiomedClipOptions) -> None:
        from open_clip.transform import image_transform_v2  # takes seconds to import

        super().__init__()
        folder = BiomedClipFolder.find(options.weights)
        self.projected = options.projected
        self.info = _info(folder, options)
        self.transform = LibraryTransform(
            image_transform_v2(folder.preprocessing, is_train=False), rgb_first=False
        )
        self.visual = folder.image_tower()
        folder.load(self.visual, "visual.")
        self.requires_grad_(False).eval()

    @classmethod
    def describe(cls, options: BiomedClipOptions) -> TeacherInfo:
        """See :meth:`Teacher.describe`."""
        return _info(BiomedClipFolder.find(options.weights), options)

    @classmethod
    def identity(cls, options: BiomedClipOptions) -> dict[str, Any]:
        """See :meth:`Teacher.identity`."""
        folder = BiomedClipFolder.find(options.weights)
        info = _info(folder, options)
        return {
            "name": "biomedclip",
            "weights_sha256": folder.published.sha256(folder.folder),
            "config": folder.published.config_fingerprint(folder.folder),
            "architecture": folder.vision.timm_model_name,
            "projected": options.projected,
            "dimension": info.dimension,
            "input_size": info.input_size,
            "preprocessing": {
                name: list(value) if isinstance(value, (list, tuple)) else value
                for name, value in vars(folder.preprocessing).items()
            },
        }

    def forward(self, pixels: Tensor, layers: Sequence[int] | None = None) -> Mapping[str, Tensor]:
        """``(B, 3, S, S)`` float32 to ``cls`` and ``mean``, or the projected ``cls`` alone.

        ``cls`` is the class token after the last norm, ``mean`` the mean of the patch tokens
        there; with ``layers``, both as they leave those blocks. See :meth:`Teacher.forward`.
        """
        trunk = self.visual.trunk
        if layers is not None:
            self.info.check_layers(layers)
            return concatenate(
                [
                    pool(tokens_BND, trunk.num_prefix_tokens, class_token=True)
                    for tokens_BND in block_outputs(trunk, pixels, layers)
                ]
            )
        tokens_BND = trunk.forward_features(pixels)
        vectors = pool(tokens_BND, trunk.num_prefix_tokens, class_token=True)
        return {"cls": self.visual.head(vectors["cls"])} if self.projected else vectors


def _info(folder: BiomedClipFolder, options: BiomedClipOptions) -> TeacherInfo:
    """What the image tower offers; it is built without memory to learn its sizes.

    Raises:
        RequestError: if the projected vector is asked for and there is no projection.
    """
    if options.projected and folder.vision.timm_proj not in ("linear", "mlp"):
        raise RequestError(f"'projected' is set, but {folder.config} describes no projection")
    trunk = folder.image_tower().trunk
    width = trunk.num_features
    published = options.trained_on == TRAINED_ON
    return TeacherInfo(
        dimension=folder.embed_dim if options.projected else width,
        input_size=folder.input_size,
        aggregations=("cls",) if options.projected else ("cls", "mean"),
        trained_on=options.trained_on,
        normalization=normalization_in_words(folder.preprocessing.mean, folder.preprocessing.std),
        num_layers=0 if options.projected else len(trunk.blocks),
        layer_dimension=0 if options.projected else width,
        repository=folder.published.repository if published else "",
        licence=folder.published.licence if published else "",
    )
