"""RAD-DINO, through transformers' DINOv2 (Pérez-García et al., Nature Machine Intelligence 2025).

A ViT-B/14 at 518 px, trained on chest films without text. ``cls`` is the class token and ``mean``
the mean over the patches, both after the last norm, as the authors use them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from arra_med.teachers.transformers_encoder import CHECKPOINTS, PROCESSOR, TransformersEncoder
from arra_med.teachers.weights import PublishedWeights

RAD_DINO = PublishedWeights(
    title="RAD-DINO",
    repository="microsoft/rad-dino",
    config="config.json",
    checkpoints=CHECKPOINTS,
    extra=(PROCESSOR,),
    licence="MIT",
)


@dataclass(frozen=True, kw_only=True)
class RadDinoOptions:
    """Options of :class:`RadDino`.

    Attributes:
        weights: folder as the hub stores it (``local-dir:`` may stand before it), or
            ``hf-hub:owner/name``; without it, the asset folder, Hugging Face's cache and, if the
            network is allowed, the hub.
    """

    weights: Path | None = None
    # what the generic plug-in leaves to the user
    cls: ClassVar[str] = "token"
    trained_on: ClassVar[str] = (  # the model card's list of training images
        "882,775 chest films of MIMIC-CXR, CheXpert, NIH-CXR (ChestX-ray14), PadChest and BRAX"
    )


class RadDino(TransformersEncoder):
    """RAD-DINO, or another DINOv2 in transformers' format.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they are not of a DINOv2.
    """

    Options = RadDinoOptions
    name = "rad-dino"
    model_type = "dinov2"

    @classmethod
    def published(cls, options: Any) -> PublishedWeights:  # noqa: ANN401 - an instance of Options
        """What is looked for."""
        return RAD_DINO
