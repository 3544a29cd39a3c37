"""The perceptual term of a tokenizer's loss: MONAI's, on a ResNet-50 whose weights lie here.

Of MONAI's networks only ``resnet50`` can be built without a download: ``radimagenet_resnet50``
runs code that torch.hub fetches, and ``alex``, ``vgg`` and ``squeeze`` need the package lpips,
which fetches torchvision's weights even when it is told to use none.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from arra_med.assets.folder import HUB, default_folder, how_to_get, look_for
from arra_med.errors import RequestError
from arra_med.teachers.weights import read_checkpoint, shortened

logger = logging.getLogger(__name__)

EXAMPLE = "timm/resnet50.tv_in1k"
_IN_FOLDERS = (
    "model.safetensors",
    "resnet50-0676ba61.pth",  # torchvision, ImageNet, first and second version
    "resnet50-11ad3fa6.pth",
    "ResNet50.pt",  # RadImageNet
    "pytorch_model.bin",
)
_RADIMAGENET = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}


class PerceptualDistance(nn.Module):
    """Squared distance of unit feature vectors of the last block, averaged over the picture.

    Frozen. A grey picture is given to all three inputs, normalised as ImageNet's.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        from monai.losses.perceptual import PerceptualLoss  # seconds to import

        super().__init__()
        self._loss = PerceptualLoss(spatial_dims=2, network_type="resnet50", pretrained=False)
        body: Any = self._loss.perceptual_function
        body.model.load_state_dict(state)
        self.eval().requires_grad_(False)

    def forward(self, decoded: Tensor, pixels: Tensor) -> Tensor:
        """Distance of two batches, ``(B, C, H, W)`` float32 in [-1, 1]; a number."""
        # MONAI expects [0, 1] and overwrites what it is given: these are new tensors
        distance: Tensor = self._loss((decoded + 1) / 2, (pixels + 1) / 2)
        return distance


def find_perceptual(location: Path) -> Path:
    """The file of the ResNet-50's weights.

    Args:
        location: as :class:`~arra_med.settings.data.PerceptualTerm` describes.

    Raises:
        FileNotFoundError: if it is not there: where it was looked for and how to bring it.
    """
    path, state = look_for(location, _IN_FOLDERS)
    if not state:
        return path
    raise FileNotFoundError(
        f"no weights of a ResNet-50 for the perceptual loss at {path}, which {state}; expected a "
        f"file, or a folder with one of {', '.join(_IN_FOLDERS)}. Nothing is downloaded during "
        f"training. {how_to_get(EXAMPLE)} It then lies in {default_folder()}: set "
        f"tokenizer.training.perceptual.weights to {HUB}{EXAMPLE}. Or copy torchvision's "
        "resnet50-0676ba61.pth here and name its path"
    )


def load_perceptual(path: Path) -> PerceptualDistance:
    """Read torchvision's, timm's or RadImageNet's ResNet-50; the classifier is left out.

    Raises:
        RequestError: if the file holds another network.
    """
    state = {_torchvision(name): tensor for name, tensor in read_checkpoint(path).items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    try:
        network = PerceptualDistance(state)
    except RuntimeError as error:
        raise RequestError(
            f"{path} is not a ResNet-50 with torchvision's names: {shortened(error)}"
        ) from error
    logger.info("perceptual loss: %d tensors of %s", len(state), path.name)
    return network


def _torchvision(name: str) -> str:
    """RadImageNet numbers the layers: ``backbone.4.0.conv1.weight``."""
    numbered = re.fullmatch(r"backbone\.([014567])\.(.+)", name)
    return f"{_RADIMAGENET[numbered[1]]}.{numbered[2]}" if numbered else name
