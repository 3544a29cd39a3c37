"""What judges and encoders share that are fitted on an extractor's features.

They are as independent as the extractor is: their identity holds its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from arra_med.config import PluginConfig
from arra_med.eval.evaluator import EvaluatorInfo, Fitted
from arra_med.eval.extractor import Extractor
from arra_med.eval.fitted_files import missing_files, read_fitted
from arra_med.eval.independence import ready_identity
from arra_med.eval.inference import FolderPictures, predict
from arra_med.picture_loader import Transform
from arra_med.registry import EXTRACTORS
from arra_med.store import PreparedFolder

_BATCH = 64
_IDENTITY = ("name", "options", "extractor", "fitted_on", "fitted_splits", "weights_sha256")


class ExtractorOptions(Protocol):
    """Options with a folder for the fitted weights and an extractor."""

    @property
    def weights(self) -> Path:
        """Folder of the fitted weights."""

    @property
    def extractor(self) -> PluginConfig:
        """Whose features are read; fitted first if it is to be."""

    def to_json(self) -> dict[str, Any]:
        """What the fit depends on beside the extractor and the pictures."""


class OnExtractor(Fitted):
    """Mixed into a judge or encoder that reads an extractor's features.

    Attributes:
        what: kind and name, for messages: ``judge 'probe'``.
        extractor: the network below.
    """

    what: ClassVar[str]
    extractor: Extractor

    @classmethod
    def is_fitted(cls, options: ExtractorOptions) -> bool:
        """Whether its weights and, if it is fitted too, the extractor's are there."""
        kind = EXTRACTORS.get(options.extractor.name)
        if issubclass(kind, Fitted) and not kind.is_fitted(options.extractor.options):
            return False
        return not missing_files(options.weights)

    @classmethod
    def identity(cls, options: ExtractorOptions) -> dict[str, Any]:
        """Name, weights' hash, options, the extractor's identity, the folder it was fitted on.

        Raises:
            FileNotFoundError: if its weights or the extractor's are not there.
            RequestError: if they are damaged, or were fitted with other options or on another
                extractor.
        """
        config = cls.read_config(options)
        return {name: config[name] for name in _IDENTITY}

    @classmethod
    def read_config(cls, options: ExtractorOptions) -> dict[str, Any]:
        """The configuration of its weights; raises as :meth:`identity`."""
        plugin = options.extractor
        now = {"plugin": plugin.name, **EXTRACTORS.get(plugin.name).identity(plugin.options)}
        expected = {"options": options.to_json(), "extractor": now}
        return read_fitted(options.weights, cls.what, expected)

    @property
    def transform(self) -> Transform:
        """The extractor's."""
        return self.extractor.transform

    def describe(self, name: str, on_top: str) -> EvaluatorInfo:
        """The extractor's information, and what of it was fitted here."""
        theirs = self.extractor.info
        return EvaluatorInfo(
            name=name,
            trained_on=f"{theirs.trained_on}; {on_top}",
            input_size=theirs.input_size,
            preprocessing=theirs.preprocessing,
            saw=theirs.saw,
        )


def open_extractor(plugin: PluginConfig) -> Extractor:
    """The extractor that a configuration names."""
    extractor: Extractor = EXTRACTORS.get(plugin.name)(plugin.options)
    return extractor


def training_features(
    plugin: PluginConfig,
    prepared: PreparedFolder,
    rows: Sequence[Mapping[str, Any]],
    device: torch.device,
    what: str,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """``(N, D)`` features of samples, and where they come from.

    Args:
        plugin: the extractor; fitted first if it is to be and has no weights yet.
        prepared: the folder.
        rows: its samples, all of the training split.
        device: where to run.
        what: name for the progress bar.

    Returns:
        The features, and what a configuration says of them: ``extractor``, its identity;
        ``extractor_name``; ``fitted_on`` and ``fitted_splits``.
    """
    identity = ready_identity(plugin, EXTRACTORS, prepared, device)
    extractor = open_extractor(plugin).to(device).eval()
    features = predict(
        extractor,
        FolderPictures(prepared, [str(row["key"]) for row in rows]),
        batch_size=_BATCH,
        device=device,
        what=what,
    )
    return features, {
        "extractor": identity,
        "extractor_name": extractor.info.name,
        "dataset": prepared.dataset,
        "train_pictures": len(rows),
        "fitted_on": prepared.content_hash,
        "fitted_splits": ["train"],
    }
