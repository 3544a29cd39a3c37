"""The judge ``xrv``: torchxrayvision's classifiers under CheXpert's label names.

Outputs are plain sigmoid probabilities. torchxrayvision's ``op_threshs`` would bend them, each by
its own piecewise linear map, so that its operating point becomes 0.5; the order of pictures, and so
an AUROC, is the same, and the thresholds that evaluation uses come from real validation pictures.
They are not calibrated: the ResNet's lie close to 0.5.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from arra_med.eval.judge import Judge
from arra_med.eval.xrv_networks import (
    XrvNetwork,
    XrvOptions,
    asset_name,
    xrv_identity,
    xrv_info,
)
from arra_med.schema import CHEXPERT_LABELS

_OURS = {"Effusion": "Pleural Effusion", "Pleural_Thickening": "Pleural Thickening"}


def label_name(target: str) -> str:
    """CheXpert's name of one of torchxrayvision's targets, or its own where CheXpert has none."""
    return _OURS.get(target, target)


class XrvJudge(Judge):
    """One of torchxrayvision's classifiers.

    Its findings are the outputs that were trained: up to 11 of CheXpert's 14 and, for data sets
    labelled otherwise, torchxrayvision's others. An output that was not trained answers a constant,
    which would look like a prediction: it is in ``not_judged``.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they do not fit, or nothing is known of their training data.
    """

    Options: ClassVar[type[Any]] = XrvOptions
    outputs: Tensor  # which of the network's are findings

    def __init__(self, options: XrvOptions) -> None:
        super().__init__()
        self.network = XrvNetwork(options.weights)
        self.info = xrv_info(self.network)
        outputs = [i for i, trained in enumerate(self.network.trained) if trained]
        self.findings = tuple(label_name(self.network.targets[i]) for i in outputs)
        self.not_judged = _not_judged(self.network.name, self.findings)
        self.register_buffer("outputs", torch.tensor(outputs), persistent=False)
        self.eval()

    @classmethod
    def identity(cls, options: XrvOptions) -> dict[str, Any]:
        """See :meth:`Evaluator.identity`."""
        return xrv_identity(options.weights)

    @classmethod
    def assets(cls, options: XrvOptions) -> tuple[str, ...]:
        """What it loads from the asset folder."""
        name = asset_name(options.weights)
        return (name,) if name else ()

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 1 or 3, H, W)`` uint8 to ``(B, len(findings))`` probabilities."""
        logits = self.network.logits(self.network.prepare(images))
        return torch.sigmoid(logits[:, self.outputs])


def _not_judged(weights: str, findings: tuple[str, ...]) -> dict[str, str]:
    """Why each of CheXpert's labels that is not among ``findings`` is not judged."""
    reasons = {}
    for name in CHEXPERT_LABELS:
        if name in findings:
            continue
        reasons[name] = (
            f"torchxrayvision has no output for {name}"
            if name in ("No Finding", "Pleural Other", "Support Devices")
            else f"the weights {weights} were not trained on {name}: their output is a constant"
        )
    return reasons
