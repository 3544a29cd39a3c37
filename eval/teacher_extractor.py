"""The extractor ``teacher``: any teacher's vectors, so RAD-DINO's, BiomedCLIP's or CLIP-L's.

Pictures go through the teacher's own transform, in worker processes. Under the weights of the
teacher that a run was aligned to, a distance proves nothing: its identity holds the teacher's, by
which evaluation finds out.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from arra_med.config import PluginConfig, plugin_field
from arra_med.errors import RequestError
from arra_med.eval.evaluator import EvaluatorInfo, Fitted
from arra_med.eval.extractor import Extractor
from arra_med.eval.inference import was_cast
from arra_med.picture_loader import Transform
from arra_med.registry import TEACHERS
from arra_med.store import PreparedFolder
from arra_med.teachers.base import NOT_STATED, FittedTeacher, Teacher, TeacherInfo

CXGB_COMPAT = "raddino-cxgb-compat"
"""Name of RAD-DINO with CheXGenBench's preprocessing: squashed to 299 px first."""
CXGB_SQUASH = 299
_LEVELS = 255
_SAW = {"mimic-cxr": r"\bMIMIC\b", "deepeyenet": r"\bDeepEyeNet\b"}
"""Adapter → how texts on training data name its pictures."""


@dataclass(frozen=True, kw_only=True)
class TeacherExtractorOptions:
    """Options of :class:`TeacherExtractor`.

    Attributes:
        teacher: which one, with its own options.
        aggregation: ``cls`` or ``mean``; by default ``cls`` where the teacher offers it.
        squash: bring pictures to so many pixels square first (bilinear, anti-aliased), whatever
            their shape; 299 with ``rad-dino`` is CheXGenBench's preprocessing.
    """

    teacher: PluginConfig = plugin_field(TEACHERS)
    aggregation: Literal["cls", "mean"] | None = None
    squash: int | None = None

    def __post_init__(self) -> None:
        if self.squash is not None and self.squash < 1:
            raise ValueError(f"squash must be a side in pixels, got {self.squash}")


class TeacherExtractor(Fitted, Extractor):
    """A teacher's vector of each picture.

    Raises:
        FileNotFoundError: if the weights are missing.
        RequestError: if they do not fit, the teacher does not offer the aggregation, or what it was
            trained on is not stated.
    """

    Options: ClassVar[type[Any]] = TeacherExtractorOptions
    low: Tensor  # (3, 1, 1), what its transform makes of black
    high: Tensor  # and of white

    def __init__(self, options: TeacherExtractorOptions) -> None:
        super().__init__()
        plugin = TEACHERS.get(options.teacher.name)
        self.aggregation = _aggregation(plugin, options)
        self.teacher: Teacher = plugin(options.teacher.options)
        self.dimension = self.teacher.info.dimension
        self.info = _info(options, self.teacher.info, self.identity(options))
        self._transform: Transform = (
            self.teacher.transform
            if options.squash is None
            else SquashFirst(options.squash, self.teacher.transform)
        )
        low, high, self.stepped = _scale(self._transform, self.info.input_size)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def identity(cls, options: TeacherExtractorOptions) -> dict[str, Any]:
        """See :meth:`Evaluator.identity`; ``teacher`` is the teacher's own."""
        plugin = TEACHERS.get(options.teacher.name)
        aggregation = _aggregation(plugin, options)
        teacher = plugin.identity(options.teacher.options)
        identity = {"teacher": teacher, "aggregation": aggregation, "squash": options.squash}
        if issubclass(plugin, FittedTeacher):
            identity |= {"fitted_on": teacher.get("fitted_on"), "fitted_splits": ["train"]}
        return identity

    @classmethod
    def is_fitted(cls, options: TeacherExtractorOptions) -> bool:
        """Whether weights are there or nobody fits them."""
        plugin = TEACHERS.get(options.teacher.name)
        return not issubclass(plugin, FittedTeacher) or plugin.is_fitted(options.teacher.options)

    @classmethod
    def fit(
        cls, options: TeacherExtractorOptions, prepared: PreparedFolder, device: torch.device
    ) -> None:
        """Fit the teacher on the training split."""
        TEACHERS.get(options.teacher.name).fit(options.teacher.options, prepared, device)

    @property
    def transform(self) -> Transform:
        """The teacher's own: a picture to ``(3, S, S)`` float32."""
        return self._transform

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` float32 of :attr:`transform` to ``(B, D)`` float32.

        Raises:
            ValueError: on every batch of another type, shape or scale.
        """
        self._check(images)
        vectors: Tensor = self.teacher(images)[self.aggregation]
        return vectors

    def _check(self, pixels: Tensor) -> None:
        """Values must be what the transform makes of grey levels.

        Pictures in [0, 1] that were not standardised lie inside the range of those that were. But
        libraries' transforms resize in 8 bits, so that only 256 values a channel can come out.
        """
        size = self.info.input_size
        if pixels.dtype != torch.float32 or pixels.shape[1:] != (3, size, size):
            raise ValueError(
                f"expected (B, 3, {size}, {size}) float32 of 'transform', got "
                f"{tuple(pixels.shape)} {pixels.dtype}"
            )
        levels = (pixels - self.low) / (self.high - self.low) * _LEVELS
        padding = pixels == 0  # some transforms pad after they have standardised
        off = torch.where(padding, 0, (levels - levels.round()).abs()).amax()
        low, high, off_level = torch.stack([*levels.aminmax(), off]).tolist()
        if not (low >= -0.5 and high <= _LEVELS + 0.5):
            raise ValueError(
                f"pixel values are those of grey levels {low:.4g} to {high:.4g}: expected pictures "
                f"in [0, {_LEVELS}] through 'transform'"
            )
        if not self.stepped:
            return
        if off_level > 0.02:
            raise ValueError(
                "pixel values lie between those of grey levels 0 to 255: expected uint8 pictures "
                "through 'transform', not floats on another scale"
            )
        if was_cast(high):
            raise ValueError(
                "no pixel of this batch is above grey level 1: pictures in [0, 1] were cast to "
                "uint8; expected [0, 255]"
            )


@dataclass(frozen=True)
class SquashFirst:
    """A resize to ``size`` × ``size`` RGB, as torchvision's ``Resize`` does, before a transform."""

    size: int
    transform: Transform

    def __call__(self, picture: Image.Image) -> Tensor:
        """One picture to ``(3, S, S)`` float32."""
        size = (self.size, self.size)
        return self.transform(picture.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def _aggregation(plugin: type[Teacher], options: TeacherExtractorOptions) -> Literal["cls", "mean"]:
    info = plugin.describe(options.teacher.options)
    if info.trained_on == NOT_STATED:
        raise RequestError(
            f"the extractor's teacher {options.teacher.name!r} does not say what it was trained "
            "on, so nobody could say whether it is independent: set its option 'trained_on', data "
            "sets by name"
        )
    chosen = options.aggregation or info.aggregations[0]
    if chosen not in info.aggregations:
        offered = " and ".join(map(repr, info.aggregations))
        raise RequestError(
            f"the extractor's aggregation is {chosen!r}, but teacher {options.teacher.name!r} with "
            f"these options offers {offered}"
        )
    return chosen


def _info(
    options: TeacherExtractorOptions, info: TeacherInfo, identity: dict[str, Any]
) -> EvaluatorInfo:
    """Name and origin; another name means that distances do not compare."""
    name, aggregation = options.teacher.name, identity["aggregation"]
    if (name, aggregation, options.squash) == ("rad-dino", "cls", CXGB_SQUASH):
        name = CXGB_COMPAT
    else:
        name += f"/{aggregation}" + (f"/squash-{options.squash}" if options.squash else "")
    squash = f"bilinear resize to {options.squash} px square, then " if options.squash else ""
    return EvaluatorInfo(
        name=f"{name}@{identity['teacher']['weights_sha256'][:8]}",
        trained_on=info.trained_on,
        input_size=info.input_size,
        preprocessing=(
            f"{squash}the transform of teacher {options.teacher.name!r} to {info.input_size} px: "
            f"{info.normalization}"
        ),
        saw=tuple(
            adapter
            for adapter, words in _SAW.items()
            if re.search(words, info.trained_on, re.IGNORECASE)
        ),
    )


def _scale(transform: Transform, size: int) -> tuple[Tensor, Tensor, bool]:
    """What a transform makes of black and of white, and whether of 256 grey levels alone.

    Returns:
        ``(3, 1, 1)`` float32 each, and ``True`` if the values in between are equally spaced; not
        so for one that stretches each picture, or that resizes in floating point.
    """
    halves = np.zeros((size, size), dtype=np.uint8)
    halves[:, size // 2 :] = _LEVELS
    ends = transform(Image.fromarray(halves))
    low, high = ends.amin(dim=(1, 2), keepdim=True), ends.amax(dim=(1, 2), keepdim=True)
    noise = np.random.default_rng(0).integers(60, 160, (size + 9, size + 9), dtype=np.uint8)
    levels = (transform(Image.fromarray(noise)) - low) / (high - low) * _LEVELS
    return low, high, float((levels - levels.round()).abs().max()) < 0.01
