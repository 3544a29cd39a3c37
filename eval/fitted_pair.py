"""The image-text encoder ``fitted``: from any extractor's features to a prompt's words, linearly.

It needs no weights of others and is fitted on real pairs of the training split: prompts become
TF-IDF vectors of words and pairs of words, the directions in which training prompts vary most are
kept (latent semantic analysis: Deerwester et al., JASIS 1990), and a ridge regression maps features
to those. It knows only words that training prompts use, and counts them: it does not understand.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from torch import Tensor
from torch.nn import functional

from arra_med.config import PluginConfig, plugin_field
from arra_med.errors import RequestError
from arra_med.eval.evaluator import EvaluatorInfo, Fitted
from arra_med.eval.extractor import Extractor
from arra_med.eval.fitted_files import load_fitted, missing_files, read_fitted, save_fitted
from arra_med.eval.image_text import ImageTextEncoder, TextVectors
from arra_med.eval.independence import ready_identity
from arra_med.eval.inference import FolderPictures, predict
from arra_med.picture_loader import Transform
from arra_med.registry import EXTRACTORS
from arra_med.store import PreparedFolder

LOG = logging.getLogger(__name__)

WHAT = "image-text encoder 'fitted'"
_LEAST_PROMPTS = 20
_BATCH = 64
_PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)  # of standardised features, by leave-one-out
_TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class FittedPairOptions:
    """How the encoder is fitted and where it is kept.

    Attributes:
        weights: folder of ``model.safetensors`` and ``config.json``; written by the first
            ``evaluate``.
        extractor: whose features it reads; fitted first if it is to be.
        dimension: most directions of the prompts' words.
        min_prompts: a word or pair of words counts if at least so many training prompts use it.
    """

    weights: Path
    extractor: PluginConfig = plugin_field(EXTRACTORS)
    dimension: int = 64
    min_prompts: int = 3

    def __post_init__(self) -> None:
        wrong = [name for name in ("dimension", "min_prompts") if getattr(self, name) < 1]
        if wrong:
            raise ValueError(f"must be positive: {', '.join(wrong)}")

    def to_json(self) -> dict[str, Any]:
        """What the fit depends on beside the extractor and the pairs."""
        return {"dimension": self.dimension, "min_prompts": self.min_prompts}


class FittedPair(Fitted, ImageTextEncoder):
    """Extractor, standardisation and one linear layer; TF-IDF and one linear layer.

    Args:
        options: must equal those the weights were fitted with.

    Raises:
        FileNotFoundError: if its weights or the extractor's are not there.
        RequestError: if they are damaged, or were fitted with other options or another extractor.
    """

    Options: ClassVar[type[Any]] = FittedPairOptions
    mean: Tensor  # (F,) of features
    std: Tensor  # (F,)
    weight: Tensor  # (D, F)
    idf: Tensor  # (V,)
    directions: Tensor  # (D, V)
    centre: Tensor  # (D,) mean of the training prompts

    def __init__(self, options: FittedPairOptions) -> None:
        super().__init__()
        config = read_fitted(options.weights, WHAT, _expected(options))
        self.extractor = _open(options.extractor)
        for name, tensor in load_fitted(options.weights).items():
            self.register_buffer(name, tensor)
        self.context = None
        self.dimension = len(self.centre)
        words = {word: column for column, word in enumerate(config["vocabulary"])}
        self._words = TfidfVectorizer(vocabulary=words, **_READING)
        self._words.idf_ = self.idf.numpy().astype(np.float64)
        theirs = self.extractor.info
        self.info = EvaluatorInfo(
            name=config["name"],
            trained_on=(
                f"{theirs.trained_on}; its linear layer on the training split of this prepared "
                f"folder ({config['train_pairs']} real pictures with their prompts)"
            ),
            input_size=theirs.input_size,
            preprocessing=theirs.preprocessing,
            saw=theirs.saw,
        )
        self.eval().requires_grad_(False)

    @classmethod
    def is_fitted(cls, options: FittedPairOptions) -> bool:
        """Whether its weights and, if it is fitted too, the extractor's are there."""
        kind = EXTRACTORS.get(options.extractor.name)
        if issubclass(kind, Fitted) and not kind.is_fitted(options.extractor.options):
            return False
        return not missing_files(options.weights)

    @classmethod
    def fit(
        cls, options: FittedPairOptions, prepared: PreparedFolder, device: torch.device
    ) -> None:
        """Fit the extractor if it has no weights yet, then the pair; see :func:`fit`."""
        fit(options, prepared, device)

    @classmethod
    def identity(cls, options: FittedPairOptions) -> dict[str, Any]:
        """Name, weights' hash, options, the extractor's identity, the folder it was fitted on."""
        config = read_fitted(options.weights, WHAT, _expected(options))
        names = ("name", "options", "extractor", "fitted_on", "fitted_splits", "weights_sha256")
        return {name: config[name] for name in names}

    @property
    def transform(self) -> Transform:
        """The extractor's."""
        return self.extractor.transform

    def forward(self, images: Tensor) -> Tensor:
        """A batch of :attr:`transform` to ``(B, D)`` vectors of length 1.

        Raises:
            ValueError: as the extractor does.
        """
        features = self.extractor(images).float()
        return functional.normalize(((features - self.mean) / self.std) @ self.weight.T)

    def encode_texts(self, texts: Sequence[str]) -> TextVectors:
        """See :meth:`ImageTextEncoder.encode_texts`; no text is too long."""
        if not texts:
            return TextVectors(vectors=np.zeros((0, self.dimension), dtype=np.float32), truncated=0)
        counts = self._words.transform(texts) @ self.directions.cpu().numpy().T.astype(np.float64)
        vectors = torch.from_numpy(np.asarray(counts)).float() - self.centre.cpu()
        return TextVectors(vectors=functional.normalize(vectors).numpy(), truncated=0)


_READING: dict[str, Any] = {"ngram_range": (1, 2), "sublinear_tf": True}


def fit(options: FittedPairOptions, prepared: PreparedFolder, device: torch.device) -> None:
    """Fit on the training split and write to ``options.weights``.

    Raises:
        RequestError: if there are too few training prompts, or they all say the same.
    """
    rows = prepared.rows("train")
    prompts = [str(row["prompt"]) for row in rows]
    words, idf, directions, projected = _read_prompts(prompts, options, prepared)
    identity = ready_identity(options.extractor, EXTRACTORS, prepared, device)
    extractor = _open(options.extractor).to(device).eval()
    features = predict(
        extractor,
        FolderPictures(prepared, [row["key"] for row in rows]),
        batch_size=_BATCH,
        device=device,
        what="image-text encoder: training pictures",
    ).astype(np.float64)
    mean, std = features.mean(axis=0), features.std(axis=0)
    std[std < _TINY] = 1.0  # a feature that never varies says nothing
    centre = projected.mean(axis=0)
    LOG.info("fitting an image-text encoder on %d training pairs", len(rows))
    model = RidgeCV(alphas=_PENALTIES, fit_intercept=False)
    model.fit((features - mean) / std, projected - centre)
    arrays = {
        "mean": mean, "std": std, "weight": model.coef_, "idf": idf, "directions": directions,
        "centre": centre,
    }  # fmt: skip
    save_fitted(
        options.weights,
        {name: torch.from_numpy(np.ascontiguousarray(a)).float() for name, a in arrays.items()},
        {
            "name": f"words from {extractor.info.name}",
            "options": options.to_json(),
            "extractor": identity,
            "vocabulary": words,
            "train_pairs": len(rows),
            "fitted_on": prepared.content_hash,
            "fitted_splits": ["train"],
        },
    )


def _read_prompts(
    prompts: Sequence[str], options: FittedPairOptions, prepared: PreparedFolder
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Words ``V``, their weights ``(V,)``, directions ``(D, V)``, prompts along them ``(N, D)``."""
    if len(prompts) < _LEAST_PROMPTS or len(set(prompts)) < 2:
        raise RequestError(
            f"cannot fit an image-text encoder on {prepared.folder}: it has {len(prompts)} "
            f"training prompts, {len(set(prompts))} of them different; {_LEAST_PROMPTS} and 2 are "
            "needed"
        )
    reader = TfidfVectorizer(min_df=options.min_prompts, **_READING)
    try:
        counts = reader.fit_transform(prompts)
    except ValueError as error:
        raise RequestError(
            f"cannot fit an image-text encoder on {prepared.folder}: no word stands in "
            f"{options.min_prompts} training prompts; lower its min_prompts"
        ) from error
    most = min(counts.shape) - 1
    if most < 1:
        raise RequestError(
            f"cannot fit an image-text encoder on {prepared.folder}: its training prompts have one "
            "word in common"
        )
    svd = TruncatedSVD(min(options.dimension, most), algorithm="arpack", random_state=0)
    projected = svd.fit_transform(counts)
    return list(reader.get_feature_names_out()), reader.idf_, svd.components_, projected


def _expected(options: FittedPairOptions) -> dict[str, Any]:
    plugin = options.extractor
    now = {"plugin": plugin.name, **EXTRACTORS.get(plugin.name).identity(plugin.options)}
    return {"options": options.to_json(), "extractor": now}


def _open(plugin: PluginConfig) -> Extractor:
    extractor: Extractor = EXTRACTORS.get(plugin.name)(plugin.options)
    return extractor
