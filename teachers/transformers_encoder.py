"""Any vision encoder of transformers, or the vision tower of CLIP, SigLIP and their like.

Only architectures that the installed transformers knows are built: code that a repository carries
is never run.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel
from transformers.utils import logging as transformers_logging

from arra_med.assets.folder import HUB, is_name
from arra_med.errors import RequestError
from arra_med.teachers.base import NOT_STATED, Teacher, TeacherInfo, concatenate, pool
from arra_med.teachers.preprocess import (
    ProcessorTransform,
    normalization_in_words,
    processor_settings,
)
from arra_med.teachers.weights import PublishedWeights, find_weights, shortened

CHECKPOINTS = (  # in transformers' order
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
PROCESSOR = "preprocessor_config.json"
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True, kw_only=True)
class TransformersOptions:
    """Options of :class:`TransformersEncoder`.

    Attributes:
        weights: folder as transformers saves it, with ``preprocessor_config.json`` (``local-dir:``
            may stand before it), or ``hf-hub:owner/name``: a repository, looked for in the asset
            folder, Hugging Face's cache and, if the network is allowed, the hub.
        cls: what ``cls`` is: ``token``, the first token of ``last_hidden_state``; ``pooled``, the
            model's ``pooler_output`` (CLIP's class token after the last norm, SigLIP's attention
            pool), for which layers are not offered.
        trained_on: what it was trained on, data sets by name: evaluation relies on it.
    """

    weights: Path
    cls: Literal["token", "pooled"] = "token"
    trained_on: str = NOT_STATED


class TransformersEncoder(Teacher):
    """A vision encoder that ``AutoModel`` builds, with what ``AutoImageProcessor`` does before it.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they are not of an encoder that transformers knows, or do not fit it.
    """

    Options: ClassVar[type[Any]] = TransformersOptions
    name: ClassVar[str] = "transformers"
    model_type: ClassVar[str | None] = None  # the only architecture that will do, for a subclass

    def __init__(self, options: Any) -> None:  # noqa: ANN401 - an instance of Options
        super().__init__()
        published, tower = self._tower(options)
        self.pooled = options.cls == "pooled"
        self.info = tower.info(published, options)
        self.num_prefix = tower.num_prefix
        self.transform = tower.transform
        optional = () if self.pooled else ("pooler.",)  # models for classification have none
        self.encoder = load_pretrained(AutoModel, tower.folder, tower.config, optional)
        self.requires_grad_(False).eval()

    @classmethod
    def published(cls, options: Any) -> PublishedWeights:  # noqa: ANN401 - an instance of Options
        """What is looked for."""
        name = str(options.weights)
        return PublishedWeights(
            title=f"the transformers model {name}",
            repository=name.removeprefix(HUB) if name.startswith(HUB) else "<owner>/<name>",
            config="config.json",
            checkpoints=CHECKPOINTS,
            extra=(PROCESSOR, "processor_config.json"),
        )

    @classmethod
    def _tower(cls, options: Any) -> "tuple[PublishedWeights, Tower]":  # noqa: ANN401
        published = cls.published(options)
        return published, Tower.read(find_weights(published, options.weights), cls.model_type)

    @classmethod
    def describe(cls, options: Any) -> TeacherInfo:  # noqa: ANN401 - an instance of Options
        """See :meth:`Teacher.describe`."""
        published, tower = cls._tower(options)
        return tower.info(published, options)

    @classmethod
    def identity(cls, options: Any) -> dict[str, Any]:  # noqa: ANN401 - an instance of Options
        """See :meth:`Teacher.identity`."""
        published, tower = cls._tower(options)
        info = tower.info(published, options)
        return {
            "name": cls.name,
            "weights_sha256": published.sha256(tower.folder),
            "config": published.config_fingerprint(tower.folder),
            "architecture": tower.config.model_type,
            "cls": options.cls,
            "dimension": info.dimension,
            "input_size": info.input_size,
            "preprocessing": processor_settings(tower.transform.processor),
        }

    def forward(self, pixels: Tensor, layers: Sequence[int] | None = None) -> Mapping[str, Tensor]:
        """``(B, 3, S, S)`` float32 to the vectors it offers; see :meth:`Teacher.forward`.

        Without ``layers``, of ``last_hidden_state`` as the model gives it.
        """
        if layers is not None:
            self.info.check_layers(layers)
            hidden_states = self.encoder(pixels, output_hidden_states=True).hidden_states
            return concatenate([_pool(hidden_states[i], self.num_prefix) for i in layers])
        output = self.encoder(pixels)
        vectors = _pool(output.last_hidden_state, self.num_prefix)
        if self.pooled:
            vectors["cls"] = output.pooler_output.flatten(1)
        return vectors


@dataclass(frozen=True)
class Tower:
    """A folder's vision encoder, described without its weights.

    Attributes:
        folder: where it is.
        config: transformers' configuration of the vision encoder alone.
        transform: its image processor on one picture.
        input_size: side of what the processor gives, in pixels.
        num_prefix: tokens before the patches, the first a class token.
        dimension: length of a token, or channels of the last map.
        pooled_dimension: length of ``pooler_output``; 0 if the model has none.
        num_layers: blocks, 0 if their outputs are not token sequences of one shape.
    """

    folder: Path
    config: Any
    transform: ProcessorTransform
    input_size: int
    num_prefix: int
    dimension: int
    pooled_dimension: int
    num_layers: int

    @classmethod
    def read(cls, folder: Path, model_type: str | None = None) -> "Tower":
        """Read configuration and processor, and run the model without memory for its shapes.

        Raises:
            RequestError: if transformers does not know the model or it takes no square pictures.
        """
        config, transform = read_config(folder, model_type), read_transform(folder)
        size = picture_size(folder, transform)
        try:
            with torch.device("meta"), quiet(), torch.inference_mode():
                model = AutoModel.from_config(config).eval()
                output = model(torch.zeros(1, 3, size, size), output_hidden_states=True)
            last, states = output.last_hidden_state, output.hidden_states or ()
        except Exception as error:
            raise RequestError(
                f"{folder} is not of a vision encoder that takes pictures of {size} px "
                f"(model_type {config.model_type!r}): {error!r}"
            ) from error
        pooled = getattr(output, "pooler_output", None)
        layered = last.ndim == 3 and all(state.shape == last.shape for state in states)
        return cls(
            folder=folder,
            config=config,
            transform=transform,
            input_size=size,
            num_prefix=_num_prefix(folder, config, last, layered, size),
            dimension=last.shape[2] if last.ndim == 3 else last.shape[1],
            pooled_dimension=0 if pooled is None else pooled.flatten(1).shape[1],
            num_layers=max(len(states) - 1, 0) if layered else 0,
        )

    def info(self, published: PublishedWeights, options: Any) -> TeacherInfo:  # noqa: ANN401
        """What the teacher offers with ``cls`` and ``trained_on`` of ``options``.

        Raises:
            RequestError: if ``cls`` is ``pooled`` and the model has no fitting pooled vector.
        """
        pooled = options.cls == "pooled"
        if pooled and self.pooled_dimension != self.dimension:
            found = self.pooled_dimension or "no"
            raise RequestError(
                f"the option 'cls' is 'pooled', but the model in {self.folder} has {found} pooled "
                f"components and patches of {self.dimension}: set it to 'token'"
            )
        processor = self.transform.processor
        return TeacherInfo(
            dimension=self.dimension,
            input_size=self.input_size,
            aggregations=("cls", "mean") if pooled or self.num_prefix else ("mean",),
            trained_on=options.trained_on,
            normalization=normalization_in_words(processor.image_mean, processor.image_std),
            num_layers=0 if pooled else self.num_layers,
            layer_dimension=self.dimension if self.num_layers and not pooled else 0,
            repository=published.repository if is_name(published.repository) else "",
            licence=published.licence,
        )


def read_config(folder: Path, model_type: str | None = None) -> Any:  # noqa: ANN401
    """The configuration of a folder's vision encoder.

    Args:
        folder: where ``config.json`` is.
        model_type: the only architecture that will do, as transformers calls the whole model.

    Raises:
        RequestError: if it is another one, or the installed transformers does not know it.
    """
    try:
        config = AutoConfig.from_pretrained(folder, **_LOCAL)
    except Exception as error:
        raise RequestError(
            f"{folder / 'config.json'} does not describe a model that the installed transformers "
            f"knows; code that a repository carries is never run. {shortened(error)}"
        ) from error
    if model_type not in (None, config.model_type):
        raise RequestError(
            f"{folder / 'config.json'} describes a {config.model_type!r} model, and this teacher "
            f"is a {model_type!r}; other encoders are the teacher 'transformers'"
        )
    whole, config = config, getattr(config, "vision_config", config)
    if hasattr(whole, "projection_dim"):
        config.projection_dim = whole.projection_dim
    # otherwise some models replace the last block's output by the one after the last norm
    config.tie_last_hidden_states = False
    return config


def read_transform(folder: Path) -> ProcessorTransform:
    """The folder's image processor.

    Raises:
        FileNotFoundError: if the folder holds none.
        RequestError: if the installed transformers does not know it.
    """
    if not any((folder / name).is_file() for name in (PROCESSOR, "processor_config.json")):
        raise FileNotFoundError(
            f"{folder} lacks {PROCESSOR}, which says how pictures are prepared: copy it from where "
            "the weights were published"
        )
    try:
        return ProcessorTransform(AutoImageProcessor.from_pretrained(folder, **_LOCAL))
    except Exception as error:
        raise RequestError(
            f"{folder / PROCESSOR} does not describe an image processor that the installed "
            f"transformers knows: {shortened(error)}"
        ) from error


def picture_size(folder: Path, transform: ProcessorTransform) -> int:
    """Side in pixels of what ``transform`` makes of a square picture."""
    channels, height, width = transform(Image.new("RGB", (64, 64))).shape
    if channels != 3 or height != width:
        raise RequestError(
            f"{folder / PROCESSOR} makes {channels} × {height} × {width} of a square picture; a "
            "teacher has to take square RGB pictures"
        )
    return int(height)


def load_pretrained(
    model_class: Any,  # noqa: ANN401 - one of transformers' classes
    folder: Path,
    config: Any,  # noqa: ANN401 - its configuration
    optional: tuple[str, ...] = (),
) -> nn.Module:
    """A model of transformers with the folder's weights, float32, on the CPU.

    Args:
        model_class: what to build.
        folder: where the weights are.
        config: its configuration.
        optional: beginnings of names of parameters that are not used and may be missing.

    Raises:
        RequestError: if the checkpoint cannot be read or lacks parameters of the model.
    """
    try:
        with quiet():
            model, report = model_class.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **_LOCAL,
            )
    except Exception as error:
        raise RequestError(f"the weights in {folder} cannot be read: {shortened(error)}") from error
    wrong = sorted(name for name in report["missing_keys"] if not name.startswith(optional))
    wrong += sorted(name for name, *_ in report["mismatched_keys"])
    if wrong:
        raise RequestError(
            f"the weights in {folder} do not fit its config.json (model_type "
            f"{config.model_type!r}): {len(wrong)} parameters are missing or have another shape, "
            f"first {wrong[0]}"
        )
    loaded: nn.Module = model
    return loaded


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and lists of unused weights off the terminal."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _pool(features: Tensor, num_prefix: int) -> dict[str, Tensor]:
    """Vectors of ``(B, N, D)`` tokens or a ``(B, D, H, W)`` map."""
    if features.ndim == 4:
        return {"mean": features.mean(dim=(2, 3))}
    return pool(features, num_prefix, class_token=num_prefix > 0)


def _num_prefix(folder: Path, config: Any, last: Tensor, layered: bool, size: int) -> int:  # noqa: ANN401
    """How many tokens stand before the patches.

    Raises:
        RequestError: if that cannot be told.
    """
    if last.ndim == 4:
        return 0
    patch, num_tokens = getattr(config, "patch_size", None), last.shape[1]
    if not layered:  # a pyramid: merged patches and no class token
        patch = None
        if isqrt(num_tokens) ** 2 == num_tokens:
            return 0
    if isinstance(patch, int):
        num_prefix = int(num_tokens - (size // patch) ** 2)
        if num_prefix >= 0:
            return num_prefix
    raise RequestError(
        f"{folder}: cannot tell patches from other tokens among the {num_tokens} that a "
        f"{config.model_type!r} model gives for {size} px (patch_size {patch!r})"
    )
