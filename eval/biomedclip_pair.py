"""The image-text encoder ``biomedclip``: BiomedCLIP's two towers (Zhang et al., arXiv 2303.00915).

The usual CLIP score of medical generators. Of a run that was aligned to BiomedCLIP's image tower it
proves nothing: both towers' identities hold the hash of the weights, by which evaluation finds out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from arra_med.config import PluginConfig
from arra_med.eval.evaluator import EvaluatorInfo
from arra_med.eval.image_text import ImageTextEncoder, TextVectors
from arra_med.eval.teacher_extractor import TeacherExtractor, TeacherExtractorOptions
from arra_med.picture_loader import Transform
from arra_med.teachers.biomedclip import BiomedClipOptions
from arra_med.teachers.biomedclip_text import BiomedClipText, BiomedClipTextOptions


@dataclass(frozen=True, kw_only=True)
class BiomedClipPairOptions:
    """Options of :class:`BiomedClipPair`.

    Attributes:
        weights: as of the teacher ``biomedclip``: a folder as the hub stores it, or
            ``hf-hub:owner/name``; without it the asset folder and Hugging Face's cache.
    """

    weights: Path | None = None


class BiomedClipPair(ImageTextEncoder):
    """The image tower with its projection, and the text tower.

    Raises:
        FileNotFoundError: if weights or the tokenizer are missing.
        RequestError: if they are not of such a model.
    """

    Options: ClassVar[type[Any]] = BiomedClipPairOptions

    def __init__(self, options: BiomedClipPairOptions) -> None:
        super().__init__()
        self.image = TeacherExtractor(_image_options(options))
        self.text = BiomedClipText(_text_options(options))
        self.dimension = self.text.dimension
        self.context = self.text.context_length
        theirs = self.image.info
        self.info = EvaluatorInfo(
            name=theirs.name.replace("/cls@", "@"),
            trained_on=theirs.trained_on,
            input_size=theirs.input_size,
            preprocessing=f"{theirs.preprocessing}; texts of up to {self.context} tokens",
            saw=theirs.saw,
        )
        self.requires_grad_(False).eval()

    @classmethod
    def identity(cls, options: BiomedClipPairOptions) -> dict[str, Any]:
        """Identities of both towers, under ``image`` and ``text``; each hashes the weights."""
        return {
            "image": TeacherExtractor.identity(_image_options(options)),
            "text": BiomedClipText.identity(_text_options(options)),
        }

    @property
    def transform(self) -> Transform:
        """The image tower's own: a picture to ``(3, S, S)`` float32."""
        return self.image.transform

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` float32 of :attr:`transform` to ``(B, D)`` float32.

        Raises:
            ValueError: on every batch of another type, shape or scale.
        """
        vectors: Tensor = self.image(images)
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> TextVectors:
        """See :meth:`ImageTextEncoder.encode_texts`."""
        encoded = self.text.encode(texts)
        return TextVectors(vectors=encoded.vectors.numpy(), truncated=encoded.truncated)


def _image_options(options: BiomedClipPairOptions) -> TeacherExtractorOptions:
    tower = BiomedClipOptions(weights=options.weights, projected=True)
    return TeacherExtractorOptions(teacher=PluginConfig(name="biomedclip", options=tower))


def _text_options(options: BiomedClipPairOptions) -> BiomedClipTextOptions:
    return BiomedClipTextOptions(weights=options.weights)
