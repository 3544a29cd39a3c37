"""Settings of the stages that make data: ingest, image tokenizer, teacher features."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from arra_med.config import PluginConfig, plugin_field
from arra_med.registry import DATASETS, TEACHERS, TOKENIZERS
from arra_med.settings.checks import not_negative, positive


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """How ``ingest`` keeps a patient's identity out of the prepared folder.

    Attributes:
        whitelist: read only harmless header tags into outputs, and replace identifiers of a
            picture's own header by ``___`` in its text.
        hash_ids: replace keys, patient and study ids and paths by keyed hashes.
        key_file: file with the hash's secret key; by default the environment variable
            ``ARRA_MED_HASH_KEY`` holds it.
        scan: search the finished folder for identifiers seen in the headers; one found fails
            the ingest.
        allow: header tags whose values may stay, because they are pseudonyms already.
    """

    whitelist: bool = True
    hash_ids: bool = False
    key_file: Path | None = None
    scan: bool = True
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.key_file is not None and not self.hash_ids:
            raise ValueError("key_file does nothing without hash_ids: true")


_LARGEST = 4096


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """``ingest``: a source to a prepared folder.

    Attributes:
        dataset: which adapter and its options.
        size: side of the training pictures, in pixels.
        crop: how they are brought to a square.
        part_size: items a part; also the step in which an interrupted ingest resumes.
        workers: processes that decode pictures, by default one a core; 0 for none beside the
            main one.
        privacy: see :class:`Privacy`.
    """

    dataset: PluginConfig = plugin_field(DATASETS)
    size: int = 512
    crop: Literal["center-crop", "pad", "squash"] = "center-crop"
    part_size: int = 1024
    workers: int | None = None
    privacy: Privacy = field(default_factory=Privacy)

    def __post_init__(self) -> None:
        positive(self, "size", "part_size")
        if self.size > _LARGEST:
            raise ValueError(f"size is the side in pixels, at most {_LARGEST:,}, got {self.size:,}")
        if self.workers is not None:
            not_negative(self, "workers")
        if not self.privacy.whitelist and getattr(self.dataset.options, "name_columns", None):
            raise ValueError(
                "dataset.name_columns are replaced in texts, and privacy.whitelist: false replaces "
                "nothing: remove one of the two"
            )


@dataclass(frozen=True, kw_only=True)
class PerceptualTerm:
    """Distance of pictures in the features of a frozen ResNet-50, added to a tokenizer's loss.

    Attributes:
        weight: 0 leaves the term out.
        weights: the network's weights: a file or folder (``local-dir:`` may stand before it), or
            ``hf-hub:owner/name`` in the asset folder. Nothing is downloaded.
    """

    weight: float = 0.0
    weights: Path | None = field(default=None, compare=False)  # a run notes the file's hash

    def __post_init__(self) -> None:
        not_negative(self, "weight")
        if self.weight and self.weights is None:
            raise ValueError(
                f"weight is {self.weight:g}, but no weights are named: give the file of a "
                "ResNet-50, or hf-hub:timm/resnet50.tv_in1k (arra-med assets fetch brings it)"
            )
        if self.weights is not None and not self.weight:
            raise ValueError("weights does nothing while weight is 0")


@dataclass(frozen=True, kw_only=True)
class AdversarialTerm:
    """A patch discriminator that learns to tell reconstructions from pictures.

    Attributes:
        weight: of its judgement in the tokenizer's loss; 0 leaves the term out.
        start: steps that the tokenizer learns alone before.
        criterion: ``least_squares``, ``hinge`` or ``bce``.
        channels: of the discriminator's first layer; each further one doubles them.
        layers: of the discriminator after the first; more see larger patches.
        learning_rate: of the discriminator's own Adam, decayed as the tokenizer's.
    """

    weight: float = 0.0
    start: int = 0
    criterion: Literal["least_squares", "hinge", "bce"] = "least_squares"
    channels: int = 64
    layers: int = 3
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        not_negative(self, "weight", "start")
        positive(self, "channels", "layers", "learning_rate")
        others = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        if not self.weight and others:
            raise ValueError(f"{', '.join(others)} does nothing while weight is 0")


@dataclass(frozen=True, kw_only=True)
class TokenizerTraining:
    """``train-tokenizer``: how the image tokenizer learns.

    Attributes:
        steps: optimizer steps.
        batch_size: pictures a step.
        learning_rate: Adam's, decayed to zero by a cosine.
        warmup_steps: over which the learning rate rises to its value.
        precision: of the tokenizer's passes; ``bf16`` is for GPUs. Codes are chosen in fp32.
        perceptual: see :class:`PerceptualTerm`.
        adversarial: see :class:`AdversarialTerm`.
        checkpoint_every: steps between checkpoints; a run that was stopped resumes from the last.
        workers: threads that decode pictures; by default one for the CPU, up to eight for a GPU.
    """

    steps: int = 20_000
    batch_size: int = 32
    learning_rate: float = 3e-4
    warmup_steps: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    perceptual: PerceptualTerm = field(default_factory=PerceptualTerm)
    adversarial: AdversarialTerm = field(default_factory=AdversarialTerm)
    checkpoint_every: int = field(default=500, compare=False)
    workers: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        positive(self, "steps", "batch_size", "learning_rate", "checkpoint_every")
        not_negative(self, "warmup_steps")
        if self.workers is not None:
            positive(self, "workers")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be below steps")
        if self.adversarial.weight and self.adversarial.start >= self.steps:
            raise ValueError(
                f"adversarial.start is {self.adversarial.start}, but training ends after "
                f"{self.steps} steps: the discriminator would never learn"
            )


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """The image tokenizer: which, how it is trained, and the batch ``tokenize`` uses."""

    plugin: PluginConfig = plugin_field(TOKENIZERS)
    training: TokenizerTraining = field(default_factory=TokenizerTraining)
    batch_size: int = 64

    def __post_init__(self) -> None:
        positive(self, "batch_size")


@dataclass(frozen=True, kw_only=True)
class Features:
    """``features``: the teacher and how its vectors are kept.

    Attributes:
        teacher: which teacher and its options.
        aggregation: ``cls``, ``mean`` or ``cls+mean``.
        layers: outputs of these blocks, concatenated, 1 being the first; by default the teacher's
            final output.
        precision: of the forward pass; ``bf16`` and ``fp16`` are for GPUs.
        dtype: precision on disk.
        batch_size: pictures a forward pass on a GPU, fewer if their pixels take over 64 MiB; the
            CPU takes one at a time, so that the cache does not depend on it.
        workers: processes that decode and prepare pictures; by default one a core for a GPU, and
            none beside the main one for the CPU.
    """

    teacher: PluginConfig = plugin_field(TEACHERS)
    aggregation: Literal["cls", "mean", "cls+mean"] = "cls"
    layers: tuple[int, ...] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int = 64
    workers: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        positive(self, "batch_size")
        if self.layers is not None and (
            not self.layers or min(self.layers) < 1 or len(set(self.layers)) != len(self.layers)
        ):
            raise ValueError("layers must be different numbers from 1, or left out")
        if self.workers is not None:
            not_negative(self, "workers")
