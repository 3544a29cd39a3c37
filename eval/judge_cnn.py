"""A small convolutional judge, and the extractor of its features, fitted on real pictures.

For data on which no published classifier has been validated (phantoms, a hospital's own modality)
and for machines without weights: a residual network of about 200,000 parameters, fitted in under
a minute on the training split of the prepared folder, so never on the pictures it will judge.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from arra_med.eval import cnn
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.evaluator import EvaluatorInfo, Fitted
from arra_med.eval.extractor import Extractor
from arra_med.eval.fitted_files import missing_files
from arra_med.eval.judge import Judge
from arra_med.store import PreparedFolder


class _Cnn(Fitted):
    """Weights, options and identity of judge and extractor, which share one network.

    Args:
        options: must equal those the weights were fitted with.

    Raises:
        FileNotFoundError: if the weights are not there.
        RequestError: if they are damaged or were fitted with other options.
    """

    Options: ClassVar[type[Any]] = CnnOptions

    def __init__(self, options: CnnOptions) -> None:
        super().__init__()
        self.config = cnn.read_config(options)
        self.network = cnn.load(options, self.config)
        self.info = _info(self.config, options)

    @classmethod
    def is_fitted(cls, options: CnnOptions) -> bool:
        """Whether weights and configuration are there."""
        return not missing_files(options.weights)

    @classmethod
    def fit(cls, options: CnnOptions, prepared: PreparedFolder, device: torch.device) -> None:
        """Fit on the training split and save; see :func:`arra_med.eval.cnn.fit`."""
        cnn.fit(options, prepared, device)

    @classmethod
    def identity(cls, options: CnnOptions) -> dict[str, Any]:
        """Name, weights' hash, fitting options and the prepared folder it was fitted on."""
        config = cnn.read_config(options)
        names = ("name", "options", "fitted_on", "fitted_splits", "weights_sha256")
        return {name: config[name] for name in names}


class CnnJudge(_Cnn, Judge):
    """The network's probability of each finding."""

    def __init__(self, options: CnnOptions) -> None:
        super().__init__(options)
        self.findings = tuple(self.config["findings"])
        self.not_judged = dict(self.config["not_judged"])

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 to ``(B, F)`` probabilities."""
        return torch.sigmoid(self.network(self.network.prepare(images)))


class CnnExtractor(_Cnn, Extractor):
    """The network's penultimate layer, standardised on training pictures."""

    def __init__(self, options: CnnOptions) -> None:
        super().__init__(options)
        self.dimension = options.dimension

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 to ``(B, D)`` features."""
        return self.network.features(self.network.prepare(images))


def _info(config: dict[str, Any], options: CnnOptions) -> EvaluatorInfo:
    size = options.input_size
    return EvaluatorInfo(
        name=config["name"],
        trained_on=options.fitted_on_words(config, "real pictures"),
        input_size=size,
        preprocessing=f"anti-aliased bilinear resize to {size} px, then (x / 255 - 0.5) / 0.25",
    )
