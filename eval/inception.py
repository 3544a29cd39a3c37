"""The extractor ``inception``: InceptionV3 in the convention of the Fréchet inception distance.

The network and its preprocessing are torch-fidelity's module, which reproduces the TensorFlow graph
of Heusel et al. (arXiv 1706.08500) with the weights of 2015-12-05. Its features are of photographs;
they are given because they were consistent with experts on medical pictures where radiological ones
were not (Woodland et al., MICCAI 2024), and because published tables use them.
"""

import io
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from arra_med.assets.catalogue import resolve
from arra_med.assets.folder import HUB, how_to_get, look_for
from arra_med.assets.pickles import load_state
from arra_med.errors import RequestError
from arra_med.eval.evaluator import EvaluatorInfo
from arra_med.eval.extractor import Extractor
from arra_med.eval.inference import check_pictures
from arra_med.store import sha256_file
from arra_med.teachers.weights import shortened

ASSET = "torch-fidelity/inception-2015-12-05"
FILE = "weights-inception-2015-12-05-6726825d.pth"
FILES = (FILE, "pt_inception-2015-12-05-6726825d.pth")
"""torch-fidelity's file, and the same as pytorch-fid calls it."""
DIMENSION = 2048


@dataclass(frozen=True, kw_only=True)
class InceptionOptions:
    """Options of :class:`Inception`.

    Attributes:
        weights: torch-fidelity's file ``weights-inception-2015-12-05-6726825d.pth`` or its folder
            (``local-dir:`` may stand before it), or ``hf-hub:owner/name`` of an asset; without it,
            the asset ``torch-fidelity/inception-2015-12-05``. Nothing is downloaded.
    """

    weights: Path | None = None


class Inception(Extractor):
    """The 2048 averaged features before the classifier.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they are not of this network.
    """

    Options: ClassVar[type[Any]] = InceptionOptions

    def __init__(self, options: InceptionOptions) -> None:
        super().__init__()
        path = _find(options)
        self.network = _load(path)
        self.dimension = DIMENSION
        self.info = _info(sha256_file(path))
        self.eval()

    @classmethod
    def identity(cls, options: InceptionOptions) -> dict[str, Any]:
        """See :meth:`Evaluator.identity`."""
        return {
            "weights_sha256": sha256_file(_find(options)),
            "library": f"torch-fidelity {version('torch-fidelity')}",
            "input_size": FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE,
        }

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 1 or 3, H, W)`` uint8 to ``(B, 2048)`` float32; grey is repeated to RGB."""
        check_pictures(images)
        features: Tensor = self.network(images.expand(-1, 3, -1, -1))[0]
        return features


def _find(options: InceptionOptions) -> Path:
    """The file of weights.

    Raises:
        FileNotFoundError: if it is not there: where it was looked for and how to bring it.
    """
    path, state = look_for(options.weights or f"{HUB}{ASSET}", FILES)
    if state:
        raise FileNotFoundError(
            f"the weights of Inception V3 are not at {path}, which {state}. Needed: {FILE}. "
            f"{how_to_get(ASSET)} Without the option 'weights' they are then found; or set it to "
            "the file's path"
        )
    return path


def _load(path: Path) -> nn.Module:
    """torch-fidelity's module with the weights of ``path``; nothing in the file is run."""
    _, state = load_state(path)
    # the module can only be given a file, which it would unpickle without care, or download one
    safe = io.BytesIO()
    torch.save(state, safe)
    safe.seek(0)
    try:
        network: nn.Module = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=safe
        )
    except RuntimeError as error:
        raise RequestError(
            f"{path} is not of torch-fidelity's Inception V3: {shortened(error)}"
        ) from error
    return network


def _info(sha256: str) -> EvaluatorInfo:
    published = resolve(ASSET).known(FILE).sha256 == sha256
    size = FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE
    return EvaluatorInfo(
        name=f"inception-v3-{'2015-12-05' if published else sha256[:8]}",
        trained_on=(
            "ImageNet: 1.3 million photographs, no medical pictures"
            if published
            else "not known: the weights are not the published file of 2015-12-05, so distances "
            "do not compare with published ones"
        ),
        input_size=size,
        preprocessing=(
            f"torch-fidelity {version('torch-fidelity')}: grey repeated to RGB, TensorFlow 1's "
            f"bilinear resize to {size} px without anti-aliasing, (x - 128) / 128"
        ),
    )
