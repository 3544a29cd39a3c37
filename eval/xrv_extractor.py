"""The extractor ``xrv``: features of torchxrayvision's classifiers.

"XRV FID" is not one number: a DenseNet's features averaged before its last ReLU (``features``, as
UniXGen and most scripts take them) are not those averaged after it (``features2``, what its
classifier sees). The layer is part of the name.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from arra_med.errors import RequestError
from arra_med.eval.extractor import Extractor
from arra_med.eval.xrv_networks import (
    Layer,
    XrvNetwork,
    XrvOptions,
    asset_name,
    xrv_identity,
    xrv_info,
)


@dataclass(frozen=True, kw_only=True)
class XrvExtractorOptions(XrvOptions):
    """Options of the extractor ``xrv``.

    Attributes:
        weights: see :class:`~arra_med.eval.xrv_networks.XrvOptions`.
        layer: ``features2``, after a DenseNet's last ReLU, or ``features``, before it; by default
            ``features2``, and of a ResNet ``features``, its only one, after its last ReLU.
    """

    layer: Layer | None = None


class XrvExtractor(Extractor):
    """Averaged last feature maps: 1024 of DenseNet121, 2048 of ResNet50.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they do not fit, have no such layer, or nothing is known of their training
            data.
    """

    Options: ClassVar[type[Any]] = XrvExtractorOptions

    def __init__(self, options: XrvExtractorOptions) -> None:
        super().__init__()
        self.network = XrvNetwork(options.weights)
        self.layer = _layer(options, self.network.name)
        self.dimension = self.network.dimension
        self.info = xrv_info(self.network, f"/{self.layer}")
        self.eval()

    @classmethod
    def identity(cls, options: XrvExtractorOptions) -> dict[str, Any]:
        """See :meth:`Evaluator.identity`."""
        identity = xrv_identity(options.weights)
        return identity | {"layer": _layer(options, identity["network"])}

    @classmethod
    def assets(cls, options: XrvExtractorOptions) -> tuple[str, ...]:
        """What it loads from the asset folder."""
        name = asset_name(options.weights)
        return (name,) if name else ()

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 1 or 3, H, W)`` uint8 to ``(B, D)`` float32."""
        return self.network.features(self.network.prepare(images), self.layer)


def _layer(options: XrvExtractorOptions, weights: str) -> Layer:
    if not weights.startswith("resnet"):
        return options.layer or "features2"
    if options.layer not in (None, "features"):
        raise RequestError(
            f"the layer {options.layer!r} is a DenseNet's, and {weights} is a ResNet: leave "
            "'layer' out"
        )
    return "features"
