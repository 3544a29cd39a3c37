"""The image-text encoder ``fitted``: learned from real pictures and their prompts; no weights.

An extractor's features and the prompts' words, each brought by canonical correlation to where the
pairs of the training split agree best. On drawn chest films a real picture finds its own prompt
among ten in 80 % of cases (chance 10 %). An extractor that is the run's teacher makes it as little
independent as the teacher is: its identity holds the extractor's.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from arra_med.config import PluginConfig, plugin_field
from arra_med.errors import RequestError
from arra_med.eval.canonical_correlation import Array, canonical_projections
from arra_med.eval.evaluator import FittedOptions
from arra_med.eval.fitted_files import load_fitted, save_fitted
from arra_med.eval.image_text import ImageTextEncoder, TextVectors
from arra_med.eval.on_extractor import (
    ExtractorOptions,
    OnExtractor,
    open_extractor,
    training_features,
)
from arra_med.eval.text_terms import Terms, frequent_terms
from arra_med.registry import EXTRACTORS
from arra_med.store import PreparedFolder, sha256_bytes

LOG = logging.getLogger(__name__)

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class FittedPairOptions(FittedOptions):
    """How the encoder is fitted and where it is kept.

    The defaults are those by which real pictures of the validation split of drawn chest films found
    their own prompts best, over four extractors.

    Attributes:
        weights: see :class:`FittedOptions`.
        fit_on: see :class:`FittedOptions`.
        extractor: whose features it reads; fitted first if it is to be.
        topics: dimensions that the prompts' words are brought to (latent semantic analysis).
        min_patients: words that the prompts of fewer patients hold are not read.
        regularisation: ridge of the canonical correlation, in units of the mean variance.
        pictures: most training pictures it is fitted on, drawn if there are more.
        seed: of that draw and of the decomposition.
    """

    extractor: PluginConfig = plugin_field(EXTRACTORS)
    topics: int = 128
    min_patients: int = 3
    regularisation: float = 0.3
    pictures: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        names = ("topics", "min_patients", "regularisation", "pictures")
        wrong = [name for name in names if getattr(self, name) <= 0]
        if wrong:
            raise ValueError(f"must be positive: {', '.join(wrong)}")

    def to_json(self) -> dict[str, Any]:
        """What the fit depends on beside the extractor and the pictures."""
        names = ("topics", "min_patients", "regularisation", "pictures", "seed")
        return {name: getattr(self, name) for name in names}


class FittedPair(OnExtractor, ImageTextEncoder):
    """Features and words, each through a linear map into one space.

    Args:
        options: must equal those the weights were fitted with.

    Raises:
        FileNotFoundError: if its weights or the extractor's are not there.
        RequestError: if they are damaged, or were fitted with other options or another extractor.
    """

    Options: ClassVar[type[Any]] = FittedPairOptions
    what = "image-text encoder 'fitted'"
    image_mean: Tensor
    image_map: Tensor

    def __init__(self, options: FittedPairOptions) -> None:
        super().__init__()
        config = self.read_config(options)
        tensors = load_fitted(options.weights)
        self.extractor = open_extractor(options.extractor)
        self.register_buffer("image_mean", tensors["image_mean"].float())
        self.register_buffer("image_map", tensors["image_map"].float())
        self._terms = Terms(config["vocabulary"], tensors["idf"].numpy())
        self._text_map = tensors["text_map"].numpy()
        self._text_offset = tensors["text_offset"].numpy()
        self.dimension = len(self._text_offset)
        self.context = None
        self.info = self.describe(
            config["name"],
            "its two linear maps on "
            + options.fitted_on_words(
                config, f"real pictures and their prompts, {len(config['vocabulary'])} terms"
            ),
        )
        self.eval().requires_grad_(False)

    @classmethod
    def fit(
        cls, options: FittedPairOptions, prepared: PreparedFolder, device: torch.device
    ) -> None:
        """Fit the extractor if it has no weights yet, then the maps; see :func:`fit`."""
        fit(options, prepared, device)

    @classmethod
    def read_config(cls, options: ExtractorOptions) -> dict[str, Any]:
        """See :meth:`OnExtractor.read_config`; the vocabulary is checked too."""
        config = super().read_config(options)
        if _hash(config["vocabulary"]) != config["vocabulary_sha256"]:
            raise RequestError(
                f"the vocabulary in {options.weights} is not the one that was fitted: delete the "
                "folder, 'arra-med evaluate' fits it again"
            )
        return config

    def forward(self, images: Tensor) -> Tensor:
        """A batch of :attr:`transform` to ``(B, D)`` float32.

        Raises:
            ValueError: as the extractor does.
        """
        vectors: Tensor = (self.extractor(images).float() - self.image_mean) @ self.image_map
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> TextVectors:
        """See :meth:`ImageTextEncoder.encode_texts`; no text is too long.

        A text without any term of the vocabulary is as far from the mean prompt as words can say
        nothing.
        """
        if not texts:
            empty = np.zeros((0, self.dimension), dtype=np.float32)
            return TextVectors(vectors=empty, truncated=0)
        vectors = self._terms(texts) @ self._text_map - self._text_offset
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return TextVectors(vectors=(vectors / length).astype(np.float32), truncated=0)


def fit(options: FittedPairOptions, prepared: PreparedFolder, device: torch.device) -> None:
    """Fit on the training split and write to ``options.weights``.

    Raises:
        RequestError: if its prompts do not differ in any word that enough patients' prompts hold.
    """
    rows = prepared.rows("train")
    if len(rows) > options.pictures:
        order = np.random.default_rng(options.seed).permutation(len(rows))
        rows = [rows[index] for index in np.sort(order[: options.pictures])]
    texts = [str(row["prompt"]) for row in rows]
    patients = [str(row["patient_id"]) for row in rows]
    vocabulary = frequent_terms(texts, patients, least=options.min_patients)
    if len(vocabulary) < 2 or len(set(texts)) < 2:
        raise RequestError(
            f"cannot fit an image-text encoder on {prepared.folder}: the {len(texts)} training "
            f"prompts do not differ in words that {options.min_patients} patients share; lower its "
            "min_patients, or name an encoder with weights of its own"
        )
    features, origin = training_features(
        options.extractor, prepared, rows, device, "image-text encoder: training pictures"
    )
    LOG.info("fitting an image-text encoder on %d training pictures", len(rows))
    config = {
        "name": f"fitted on {origin['extractor_name']}",
        "options": options.to_json(),
        **origin,
        "vocabulary": vocabulary,
        "vocabulary_sha256": _hash(vocabulary),
    }
    maps = _maps(features.astype(np.float64), texts, vocabulary, options)
    save_fitted(options.weights, maps, config, prepared)


def _maps(
    features: Array, texts: Sequence[str], vocabulary: Sequence[str], options: FittedPairOptions
) -> dict[str, Tensor]:
    """``image_mean`` ``(D,)``, ``image_map`` ``(D, R)``, ``idf`` ``(V,)``, ``text_map`` ``(V, R)``
    and ``text_offset`` ``(R,)``, float64."""
    from sklearn.decomposition import TruncatedSVD  # takes seconds to import

    terms = Terms(vocabulary)
    idf = terms.fit(texts)
    counts = terms(texts)
    topics = min(options.topics, len(vocabulary), len(texts) - 1)
    analysis = TruncatedSVD(topics, random_state=options.seed)
    image, text = canonical_projections(
        features, analysis.fit_transform(counts), regularisation=options.regularisation
    )
    arrays = {
        "image_mean": image.mean,
        "image_map": image.weights,
        "idf": idf,
        "text_map": analysis.components_.T @ text.weights,
        "text_offset": text.mean @ text.weights,
    }
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _hash(vocabulary: Sequence[str]) -> str:
    return sha256_bytes("\n".join(vocabulary).encode())
