"""The judge ``probe``: one logistic regression a finding on the features of a chosen extractor.

For pictures on which no published classifier has been validated, but for which an encoder is at
hand: fundus photographs with keywords as labels, or chest films with CheXpert's. It is fitted on
the training split of the prepared folder, so never on the pictures it will judge; its AUROC on real
test pictures is the ceiling for generated ones. A probe on the run's own teacher is as little
independent as the teacher is: its identity holds the extractor's.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from arra_med.config import PluginConfig, plugin_field
from arra_med.errors import RequestError
from arra_med.eval.evaluator import FittedOptions
from arra_med.eval.fitted_files import load_fitted, save_fitted
from arra_med.eval.judge import Judge
from arra_med.eval.on_extractor import (
    OnExtractor,
    open_extractor,
    training_features,
)
from arra_med.progress import Progress
from arra_med.registry import EXTRACTORS
from arra_med.schema import ABSENT, PRESENT
from arra_med.store import PreparedFolder

LOG = logging.getLogger(__name__)

_MOST_STEPS = 2000
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(FittedOptions):
    """How the probe is fitted and where it is kept. Nothing in it is random.

    Attributes:
        weights: see :class:`FittedOptions`.
        fit_on: see :class:`FittedOptions`.
        extractor: whose features it reads; fitted first if it is to be.
        regularisation: C of scikit-learn's ``LogisticRegression`` on standardised features;
            smaller means weights nearer to zero. Of powers of ten, 0.1 had the least log loss on
            drawn films (629 for training) with features of 512 and of 1,024 values.
        min_positives: findings with fewer present, or fewer absent, training pictures are not
            judged.
    """

    extractor: PluginConfig = plugin_field(EXTRACTORS)
    regularisation: float = 0.1
    min_positives: int = 10

    def __post_init__(self) -> None:
        wrong = [n for n in ("regularisation", "min_positives") if getattr(self, n) <= 0]
        if wrong:
            raise ValueError(f"must be positive: {', '.join(wrong)}")

    def to_json(self) -> dict[str, Any]:
        """What the fit depends on beside the extractor and the pictures."""
        return {"regularisation": self.regularisation, "min_positives": self.min_positives}


class ProbeJudge(OnExtractor, Judge):
    """Probability of each finding: extractor, standardisation, one linear layer, sigmoid.

    Args:
        options: must equal those the weights were fitted with.

    Raises:
        FileNotFoundError: if its weights or the extractor's are not there.
        RequestError: if they are damaged, or were fitted with other options or another extractor.
    """

    Options: ClassVar[type[Any]] = ProbeOptions
    what = "judge 'probe'"
    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, options: ProbeOptions) -> None:
        super().__init__()
        config = self.read_config(options)
        self.extractor = open_extractor(options.extractor)
        for name, tensor in load_fitted(options.weights).items():
            self.register_buffer(name, tensor)
        self.findings = tuple(config["findings"])
        self.not_judged = dict(config["not_judged"])
        self.info = self.describe(
            config["name"],
            "its linear layer on " + options.fitted_on_words(config, "real pictures"),
        )
        self.eval().requires_grad_(False)

    @classmethod
    def fit(cls, options: ProbeOptions, prepared: PreparedFolder, device: torch.device) -> None:
        """Fit the extractor if it has no weights yet, then the probe; see :func:`fit`."""
        fit(options, prepared, device)

    def forward(self, images: Tensor) -> Tensor:
        """A batch of :attr:`transform` to ``(B, F)`` float32 probabilities.

        Raises:
            ValueError: as the extractor does.
        """
        features = self.extractor(images).float()
        return torch.sigmoid(((features - self.mean) / self.std) @ self.weight.T + self.bias)


def fit(options: ProbeOptions, prepared: PreparedFolder, device: torch.device) -> None:
    """Fit on the training split and write to ``options.weights``.

    Uncertain and unknown labels do not count. Positives and negatives weigh alike: weights that
    balance them would inflate the probability of every rare finding, and thresholds come from
    real validation pictures anyway.

    Raises:
        RequestError: if no finding has enough training pictures.
    """
    rows = prepared.rows("train")
    labels = np.array(
        [[np.nan if (v := row["labels"][n]) is None else v for n in prepared.label_names]
         for row in rows]
    )  # fmt: skip
    counts = {
        name: (int((column == PRESENT).sum()), int((column == ABSENT).sum()))
        for name, column in zip(prepared.label_names, labels.T, strict=True)
    }
    findings = [name for name, pair in counts.items() if min(pair) >= options.min_positives]
    if not findings:
        raise RequestError(
            f"cannot fit a probe on {prepared.folder}: no finding has {options.min_positives} "
            "present and as many absent training pictures; lower its own min_positives "
            "(evaluation.judges: [{name: probe, min_positives: …}], which is not "
            "evaluation.min_positives), or name a judge with weights of its own"
        )
    features, origin = training_features(
        options.extractor, prepared, rows, device, "probe: training pictures"
    )
    LOG.info("fitting a probe of %d findings on %d training pictures", len(findings), len(rows))
    columns = [labels[:, prepared.label_names.index(name)] for name in findings]
    save_fitted(
        options.weights,
        _regressions(features, columns, options.regularisation),
        {
            "name": f"probe on {origin['extractor_name']}",
            "options": options.to_json(),
            **origin,
            "findings": findings,
            "not_judged": _not_judged(counts, findings, options.min_positives),
        },
        prepared,
    )


def _regressions(
    features: NDArray[np.float32], columns: list[NDArray[np.float64]], regularisation: float
) -> dict[str, Tensor]:
    """``mean`` and ``std`` ``(D,)``, ``weight`` ``(F, D)`` and ``bias`` ``(F,)``, float32."""
    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64)
    std[std < 1e-6] = 1.0  # a feature that never varies says nothing
    standard = (features - mean) / std
    weight, bias = np.empty((len(columns), features.shape[1])), np.empty(len(columns))
    with Progress(len(columns), unit="finding", label="probe") as progress:
        for row, column in enumerate(progress.over(columns)):
            known = (column == PRESENT) | (column == ABSENT)
            model = LogisticRegression(C=regularisation, max_iter=_MOST_STEPS)
            model.fit(standard[known], column[known] == PRESENT)
            weight[row], bias[row] = model.coef_[0], model.intercept_[0]
    arrays = {"mean": mean, "std": std, "weight": weight, "bias": bias}
    return {name: torch.from_numpy(array).float() for name, array in arrays.items()}


def _not_judged(
    counts: Mapping[str, tuple[int, int]], findings: list[str], least: int
) -> dict[str, str]:
    return {
        name: f"{present} training pictures with it and {absent} without; the judge needs "
        f"{least} of each"
        for name, (present, absent) in counts.items()
        if name not in findings
    }
