"""torchxrayvision's classifiers, as its judge and its extractor share them.

DenseNet121 at 224 px and ResNet50 at 512 px (Cohen et al., MIDL 2022, arXiv 2111.00595), from
weights converted by ``arra-med assets fetch torchxrayvision/<name>``. The networks are the
library's own modules; what happens to a picture before them is here, because the library's own
resize has changed between versions and its check of pixel values looks at the first batch only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from arra_med.assets.folder import HUB, LOCAL, find_asset, how_to_get, is_name
from arra_med.assets.xrv import CONFIG, WEIGHTS, load_torchxrayvision, read_config
from arra_med.errors import RequestError
from arra_med.eval.evaluator import EvaluatorInfo
from arra_med.eval.inference import check_pictures
from arra_med.store import sha256_file

OWNER = "torchxrayvision/"
RANGE = 1024.0
"""Pixel values are in [-RANGE, RANGE]."""
PREPROCESSING = "xrv-1"
"""Version of what :meth:`XrvNetwork.prepare` does; another one means other outputs."""

Layer = Literal["features2", "features"]


@dataclass(frozen=True)
class Origin:
    """What weights were trained on.

    Attributes:
        trained_on: in words.
        saw: adapters of ours whose pictures are among it.
    """

    trained_on: str
    saw: tuple[str, ...] = ()


_LOST = "; which patients were held out is not recorded, so every picture counts as seen"
ORIGINS = {
    "densenet121-res224-all": Origin(
        "NIH ChestX-ray14 (its own and Google's labels), PadChest, CheXpert, MIMIC-CXR (CheXpert "
        f"labels), Open-I and the RSNA pneumonia challenge{_LOST}",
        ("mimic-cxr",),
    ),
    "densenet121-res224-mimic_ch": Origin(f"MIMIC-CXR (CheXpert labels){_LOST}", ("mimic-cxr",)),
    "densenet121-res224-mimic_nb": Origin(f"MIMIC-CXR (NegBio labels){_LOST}", ("mimic-cxr",)),
    "densenet121-res224-nih": Origin(f"NIH ChestX-ray14{_LOST}"),
    "densenet121-res224-pc": Origin(f"PadChest{_LOST}"),
    "densenet121-res224-chex": Origin(f"CheXpert{_LOST}"),
    "densenet121-res224-rsna": Origin(
        f"the RSNA pneumonia challenge (pictures of NIH ChestX-ray14){_LOST}"
    ),
    # "all" in its name is not the DenseNet's: neither MIMIC-CXR nor CheXpert is among it
    "resnet50-res512-all": Origin(
        "PadChest, NIH ChestX-ray14, the RSNA pneumonia challenge, the SIIM-ACR pneumothorax "
        f"challenge and VinDr-CXR, as torchxrayvision describes it{_LOST}"
    ),
}


@dataclass(frozen=True, kw_only=True)
class XrvOptions:
    """Options of the judge ``xrv``.

    Attributes:
        weights: ``torchxrayvision/<name>`` in the asset folder (``hf-hub:`` may stand before it),
            or a folder that ``arra-med assets fetch`` made of it (``local-dir:`` may stand before
            it). Nothing is downloaded.
    """

    weights: Path


def asset_name(weights: Path) -> str:
    """Name of the asset that ``weights`` means, or nothing if it means a folder."""
    text = str(weights)
    if text.startswith(HUB):
        return text.removeprefix(HUB)
    return text if text.startswith(OWNER) and is_name(text) and not weights.is_dir() else ""


def find_xrv(weights: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of converted weights, and its ``model.json``.

    Raises:
        FileNotFoundError: if they are not there: which, where they were looked for, how to bring
            them to a machine without internet.
        RequestError: if it is not known what they were trained on.
    """
    name = asset_name(weights)
    folder = find_asset(name) if name else Path(str(weights).removeprefix(LOCAL)).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the weights of torchxrayvision are not at {folder}, which is not a folder. Needed: "
            f"{WEIGHTS} and {CONFIG}. {how_to_get(f'{OWNER}<name>')} Then set the option 'weights' "
            f"to {OWNER}<name>; the names are {', '.join(ORIGINS)}"
        )
    config = read_config(folder)
    if config.get("weights") not in ORIGINS:
        raise RequestError(
            f"{folder / CONFIG} is of weights {config.get('weights')!r}, of which it is not known "
            "what they were trained on, so nobody could say whether they are independent; known: "
            f"{', '.join(ORIGINS)}"
        )
    return folder, config


def xrv_identity(weights: Path) -> dict[str, Any]:
    """What the outputs depend on, but for the layer."""
    folder, config = find_xrv(weights)
    return {
        "network": config["weights"],
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "source_sha256": config["source_sha256"],
        "input_size": config["input_size"],
        "preprocessing": PREPROCESSING,
    }


def xrv_info(network: "XrvNetwork", suffix: str = "") -> EvaluatorInfo:
    """What a report says of the network; ``suffix`` goes behind its name."""
    origin = ORIGINS[network.name]
    size = network.input_size
    return EvaluatorInfo(
        name=f"xrv-{network.name}{suffix}",
        trained_on=origin.trained_on,
        input_size=size,
        preprocessing=(
            f"{PREPROCESSING}: first channel, (2 x / 255 - 1) · 1024, centre crop to a square, "
            f"anti-aliased bilinear resize to {size} px"
        ),
        saw=origin.saw,
    )


class XrvNetwork(nn.Module):
    """One of torchxrayvision's classifiers with fixed preprocessing.

    Args:
        weights: see :class:`XrvOptions`.

    Attributes:
        name: torchxrayvision's name of the weights.
        input_size: side of the square picture it sees, in pixels.
        targets: torchxrayvision's names of the outputs; empty for one that was never trained.
        trained: for each output, whether it was trained.
        layers: what :meth:`features` can give, the usual one first.
        dimension: length of a feature vector.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they do not fit, or nothing is known of their training data.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        folder, config = find_xrv(weights)
        model: Any = load_torchxrayvision(folder)
        self.name: str = config["weights"]
        self.input_size = int(config["input_size"])
        self.targets = tuple(config["targets"])
        thresholds = config["op_threshs"] or [0.0] * len(self.targets)
        # an output without a threshold had no labelled picture: torchxrayvision answers 0.5 for it
        self.trained = tuple(
            bool(target) and threshold is not None
            for target, threshold in zip(self.targets, thresholds, strict=True)
        )
        self.layers: tuple[Layer, ...]
        if config["architecture"] == "resnet50":
            *body, self.classifier = model.model.children()
            self.maps = nn.Sequential(*body[:-1])  # its average pooling is in features()
            self.layers = ("features",)
        else:
            self.maps, self.classifier = model.features, model.classifier
            self.layers = ("features2", "features")
        self.dimension = int(self.classifier.in_features)
        self.eval().requires_grad_(False)

    def prepare(self, images: Tensor) -> Tensor:
        """``(B, 1 or 3, H, W)`` uint8 to ``(B, 1, S, S)`` float32 in [-1024, 1024].

        The first channel is taken, as torchxrayvision's ``load_image`` does, scaled by its
        ``normalize``, cropped as its ``XRayCenterCrop`` does, then resized as its models resize
        what has another size (1.5: anti-aliased).

        Raises:
            ValueError: on every batch that is not uint8 pictures in [0, 255].
        """
        check_pictures(images)
        pixels = (2 * (images[:, :1].float() / 255) - 1.0) * RANGE
        height, width = pixels.shape[2:]
        side = min(height, width)
        top, left = height // 2 - side // 2, width // 2 - side // 2
        pixels = pixels[:, :, top : top + side, left : left + side]
        size = (self.input_size, self.input_size)
        if side != self.input_size:
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        return pixels

    def features(self, pixels: Tensor, layer: Layer) -> Tensor:
        """``(B, 1, S, S)`` float32 in [-1024, 1024] to ``(B, D)``.

        Args:
            pixels: of :meth:`prepare`.
            layer: ``features2``, averaged after the last ReLU of a DenseNet, which its classifier
                sees; ``features``, averaged before it; of a ResNet, what its classifier sees.

        Raises:
            ValueError: on every batch of another shape or scale.
        """
        self._check(pixels)
        maps = self.maps(pixels)
        if layer == "features2":
            maps = functional.relu(maps)
        return functional.adaptive_avg_pool2d(maps, (1, 1)).flatten(1)

    def logits(self, pixels: Tensor) -> Tensor:
        """``(B, 1, S, S)`` float32 in [-1024, 1024] to one logit an output, ``(B, T)``."""
        logits: Tensor = self.classifier(self.features(pixels, self.layers[0]))
        return logits

    def _check(self, pixels: Tensor) -> None:
        """Every batch: a tensor of another scale gives outputs that look like any others."""
        size = self.input_size
        if pixels.dtype != torch.float32 or pixels.shape[1:] != (1, size, size):
            raise ValueError(
                f"expected (B, 1, {size}, {size}) float32, got {tuple(pixels.shape)} {pixels.dtype}"
            )
        low, high = torch.stack(pixels.aminmax()).tolist()
        # the grey levels next to 0 are -4 and 4
        if not (low >= -RANGE - 0.5 and high <= RANGE + 0.5) or max(-low, high) <= 1:
            raise ValueError(
                f"pixel values are in [{low:.4g}, {high:.4g}]: expected the scale [-1024, 1024]"
            )
