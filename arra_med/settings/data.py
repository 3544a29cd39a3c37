"""Settings of the stages that make data: ingest, image tokenizer, teacher features."""

from dataclasses import dataclass, field
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
        if self.workers is not None:
            not_negative(self, "workers")


@dataclass(frozen=True, kw_only=True)
class TokenizerTraining:
    """``train-tokenizer``: how the image tokenizer learns.

    Attributes:
        steps: optimizer steps.
        batch_size: pictures a step.
        learning_rate: Adam's, decayed to zero by a cosine.
    """

    steps: int = 20_000
    batch_size: int = 32
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        positive(self, "steps", "batch_size", "learning_rate")


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
