"""Any vision encoder of timm, from a folder as timm saves it for the hub."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from arra_med.assets.folder import HUB, LOCAL, is_name
from arra_med.errors import RequestError
from arra_med.teachers.base import NOT_STATED, Teacher, TeacherInfo, concatenate, pool
from arra_med.teachers.preprocess import LibraryTransform, normalization_in_words
from arra_med.teachers.weights import PublishedWeights, find_weights, shortened


@dataclass(frozen=True, kw_only=True)
class TimmOptions:
    """Options of :class:`TimmEncoder`.

    Attributes:
        weights: folder with timm's ``config.json`` and ``model.safetensors`` (``local-dir:`` may
            stand before it), or ``hf-hub:owner/name``: a repository, looked for in the asset
            folder, Hugging Face's cache and, if the network is allowed, the hub.
        cls: what ``cls`` is: ``token``, the class token; ``pooled``, the vector timm's classifier
            would get (a mean, an attention pool), for encoders without a class token.
        trained_on: what it was trained on, data sets by name: evaluation relies on it.
    """

    weights: Path
    cls: Literal["token", "pooled"] = "token"
    trained_on: str = NOT_STATED


class TimmEncoder(Teacher):
    """A timm model without its classifier.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they are not of a timm model, or it does not take square RGB pictures.
    """

    Options = TimmOptions

    def __init__(self, options: TimmOptions) -> None:
        import timm  # takes seconds to import
        from timm.data.transforms_factory import create_transform

        super().__init__()
        published, folder = _find(options)
        self.pooled = options.cls == "pooled"
        skeleton = _skeleton(folder)
        self.info = _info(skeleton, published, options)
        self.transform = LibraryTransform(
            create_transform(**_data(skeleton), is_training=False),
            rgb_first=True,
        )
        try:
            # with as many classes as were saved: for any other number timm does not check that the
            # checkpoint holds every parameter
            encoder: Any = timm.create_model(
                f"{LOCAL}{folder}",
                pretrained=True,
                num_classes=skeleton.pretrained_cfg["num_classes"],
            )
            encoder.reset_classifier(0)
        except Exception as error:
            raise RequestError(
                f"{published.checkpoint(folder)} does not fit {folder / published.config}: "
                f"{shortened(error)}"
            ) from error
        self.encoder = encoder
        self.requires_grad_(False).eval()

    @classmethod
    def describe(cls, options: TimmOptions) -> TeacherInfo:
        """See :meth:`Teacher.describe`."""
        published, folder = _find(options)
        return _info(_skeleton(folder), published, options)

    @classmethod
    def identity(cls, options: TimmOptions) -> dict[str, Any]:
        """See :meth:`Teacher.identity`."""
        published, folder = _find(options)
        skeleton = _skeleton(folder)
        info = _info(skeleton, published, options)
        return {
            "name": "timm",
            "weights_sha256": published.sha256(folder),
            "config": published.config_fingerprint(folder),
            "architecture": skeleton.pretrained_cfg["architecture"],
            "cls": options.cls,
            "dimension": info.dimension,
            "input_size": info.input_size,
            "preprocessing": json.loads(json.dumps(_data(skeleton))),
        }

    def forward(self, pixels: Tensor, layers: Sequence[int] | None = None) -> Mapping[str, Tensor]:
        """``(B, 3, S, S)`` float32 to the vectors it offers; see :meth:`Teacher.forward`.

        ``mean`` is the mean over the positions of timm's ``forward_features``, prefix tokens left
        out.
        """
        if layers is not None:
            self.info.check_layers(layers)
            outputs = block_outputs(self.encoder, pixels, layers)
            return concatenate([_pool(self.encoder, output) for output in outputs])
        features = self.encoder.forward_features(pixels)
        vectors = _pool(self.encoder, features)
        if self.pooled:
            vectors["cls"] = self.encoder.forward_head(features, pre_logits=True)
        return vectors


def block_outputs(trunk: Any, pixels: Tensor, layers: Sequence[int]) -> list[Tensor]:  # noqa: ANN401
    """Outputs of blocks of a timm vision transformer, ``(B, N, D)`` each, in the order asked.

    Args:
        trunk: a model with ``blocks``, as timm's ViT, EVA, BEiT and DeiT have them.
        pixels: ``(B, 3, S, S)`` float32.
        layers: block numbers, 1 being the first. The last norm is not applied.
    """
    wanted = sorted(number - 1 for number in layers)
    outputs = trunk.forward_intermediates(
        pixels,
        indices=wanted,
        return_prefix_tokens=True,
        stop_early=True,
        output_fmt="NLC",
        intermediates_only=True,
    )
    # a pair of patches and prefix tokens where there are prefix tokens
    tokens = [torch.cat(pair[::-1], dim=1) if isinstance(pair, tuple) else pair for pair in outputs]
    return [tokens[wanted.index(number - 1)] for number in layers]


def _pool(model: Any, features: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Vectors of ``(B, N, D)`` tokens, ``(B, D, H, W)`` or ``(B, H, W, D)`` maps."""
    if features.ndim == 4:
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return {"mean": features.mean(dim=(1, 2) if channels_last else (2, 3))}
    has_class = getattr(model, "cls_token", None) is not None
    return pool(features, getattr(model, "num_prefix_tokens", 0), class_token=has_class)


def _data(model: Any) -> dict[str, Any]:  # noqa: ANN401
    """timm's settings of the transform that belongs to a model."""
    from timm.data.config import resolve_model_data_config

    return dict(resolve_model_data_config(model))  # type: ignore[no-untyped-call]


def _find(options: TimmOptions) -> tuple[PublishedWeights, Path]:
    name = str(options.weights)
    published = PublishedWeights(
        title=f"the timm model {name}",
        repository=name.removeprefix(HUB) if name.startswith(HUB) else "timm/<name>",
        config="config.json",
        checkpoints=("model.safetensors", "pytorch_model.bin"),  # in timm's order
    )
    return published, find_weights(published, options.weights)


def _skeleton(folder: Path) -> Any:  # noqa: ANN401
    """The model without memory, from its configuration alone.

    Raises:
        RequestError: if the configuration is not of a timm model.
    """
    import timm

    try:
        with torch.device("meta"):
            return timm.create_model(f"{LOCAL}{folder}", pretrained=False, num_classes=0).eval()
    except Exception as error:
        raise RequestError(
            f"{folder / 'config.json'} does not describe a timm model (an 'architecture' that this "
            f"version of timm knows): {error!r}. Models of transformers are the teacher "
            "'transformers'."
        ) from error


@torch.inference_mode()
def _info(model: Any, published: PublishedWeights, options: TimmOptions) -> TeacherInfo:  # noqa: ANN401
    """What a model without memory offers."""
    data = _data(model)
    channels, height, width = data["input_size"]
    if channels != 3 or height != width:
        raise RequestError(
            f"{published.title} takes {channels} channels of {height} × {width} pixels; a teacher "
            "has to take square RGB pictures"
        )
    features = model.forward_features(torch.zeros(1, 3, height, width, device="meta"))
    vectors = _pool(model, features)
    if options.cls == "pooled":
        vectors["cls"] = model.forward_head(features, pre_logits=True)
    dimension = vectors["mean"].shape[1]
    if "cls" in vectors and vectors["cls"].shape[1] != dimension:
        raise RequestError(
            f"{published.title}: its pooled vector has {vectors['cls'].shape[1]} components and "
            f"its patches {dimension}; set the option 'cls' to 'token'"
        )
    layered = features.ndim == 3 and hasattr(model, "blocks") and options.cls == "token"
    return TeacherInfo(
        dimension=dimension,
        input_size=height,
        aggregations=("cls", "mean") if "cls" in vectors else ("mean",),
        trained_on=options.trained_on,
        normalization=normalization_in_words(data["mean"], data["std"]),
        num_layers=len(model.blocks) if layered else 0,
        layer_dimension=dimension if layered else 0,
        repository=published.repository if is_name(published.repository) else "",
        licence=str(getattr(model, "pretrained_cfg", {}).get("license") or ""),
    )
