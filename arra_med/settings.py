"""Every setting of a run, section by section: what a YAML file may say.

Each verb reads the sections it needs; ``arra-med validate`` reads all. See ``arra_med.config`` for
the rules of reading.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from arra_med.config import PluginConfig, plugin_field
from arra_med.errors import RequestError
from arra_med.registry import DATASETS, EXTRACTORS, JUDGES, TEACHERS, TOKENIZERS

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where things are. Every folder but ``output`` defaults to one inside it.

    Attributes:
        output: the run's root folder.
        prepared: written by ``ingest``.
        tokenizer: written by ``train-tokenizer``.
        run: written by ``train``; the model for ``generate`` is ``<run>/export``.
        generated: written by ``generate``.
        evaluation: written by ``evaluate`` and ``report``.
    """

    output: Path
    prepared: Path | None = None
    tokenizer: Path | None = None
    run: Path | None = None
    export: Path | None = None
    generated: Path | None = None
    evaluation: Path | None = None

    def folder(
        self,
        name: Literal["prepared", "tokenizer", "run", "export", "generated", "evaluation"],
    ) -> Path:
        """The folder called ``name``, given or default."""
        given: Path | None = getattr(self, name)
        if given is not None:
            return given
        return self.folder("run") / "export" if name == "export" else self.output / name


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
        _positive(self, "size", "part_size")
        if self.workers is not None:
            _not_negative(self, "workers")


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
        _positive(self, "steps", "batch_size", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """The image tokenizer: which, how it is trained, and the batch ``tokenize`` uses."""

    plugin: PluginConfig = plugin_field(TOKENIZERS)
    training: TokenizerTraining = field(default_factory=TokenizerTraining)
    batch_size: int = 64

    def __post_init__(self) -> None:
        _positive(self, "batch_size")


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
        _positive(self, "batch_size")
        if self.layers is not None and (
            not self.layers or min(self.layers) < 1 or len(set(self.layers)) != len(self.layers)
        ):
            raise ValueError("layers must be different numbers from 1, or left out")
        if self.workers is not None:
            _not_negative(self, "workers")


@dataclass(frozen=True, kw_only=True)
class Llama:
    """Sizes of a randomly initialised LLaMA and of the text vocabulary trained for it."""

    hidden_size: int = 256
    num_layers: int = 6
    num_heads: int = 4
    intermediate_size: int = 688
    text_vocabulary: int = 1024

    def __post_init__(self) -> None:
        _positive(self, "hidden_size", "num_layers", "num_heads", "text_vocabulary")
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ValueError("hidden_size must be an even multiple of num_heads")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adaptation of a pretrained backbone (arXiv 2106.09685), merged at export.

    The rows of image tokens in embedding and head are trained in full beside it.

    Attributes:
        rank: r of the updates.
        alpha: an update counts ``alpha / rank`` times.
        dropout: of the adapters' input.
        target_modules: last parts of the names of adapted linear layers (``q_proj``); by default
            all of the decoder blocks.
    """

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _positive(self, "rank", "alpha")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.target_modules is not None and not all([self.target_modules, *self.target_modules]):
            raise ValueError("target_modules must be names of layers, or left out for all")


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """The language model: a folder that transformers opens, or a LLaMA from random weights.

    Attributes:
        pretrained: folder of an ``AutoModelForCausalLM`` and its tokenizer, or ``owner/name``
            of one in the asset folder.
        llama: sizes of a new model; exactly one of the two is given.
        lora: train low-rank updates of a pretrained model; by default all weights are trained.
        dropout: of attention, where the architecture has it; in Chameleon's family of what each
            half of a block adds.
        zero_image_head: start with the output head's image rows at zero, as ARRA's authors do with
            a model that writes but does not draw.
        max_prompt_tokens: longest prompt; longer ones are refused or cut, see ``long_prompts``.
        long_prompts: ``refuse`` or ``truncate`` (counted in the log).
    """

    pretrained: Path | None = None
    llama: Llama | None = None
    lora: Lora | None = None
    dropout: float = 0.0
    zero_image_head: bool = False
    max_prompt_tokens: int = 256
    long_prompts: Literal["refuse", "truncate"] = "refuse"

    def __post_init__(self) -> None:
        _positive(self, "max_prompt_tokens")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if (self.pretrained is None) == (self.llama is None):
            raise ValueError("give exactly one of 'pretrained' (a folder) and 'llama' (sizes)")
        if self.zero_image_head and self.pretrained is None:
            raise ValueError("zero_image_head is for a pretrained model: remove it")
        if self.lora is not None and self.pretrained is None:
            raise ValueError(
                "lora adapts a pretrained model; a new LLaMA has random weights and is trained "
                "in full: remove lora, or give 'pretrained'"
            )


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """ARRA's alignment term (arXiv 2503.07334); on by default.

    Attributes:
        enabled: whether the term is added at all.
        span: ``hybnext`` aligns every position that predicts an image code; ``rep`` aligns one
            ``<REP>`` token put before the image.
        layer: decoder block whose output is aligned, counted from 1.
        projector: ``mlp`` (two layers, GELU) or ``pool`` (one linear map of the span's mean).
        objective: ``cosine`` (1 - cos) or ``mse``.
        weight: λ; 0 trains exactly as ``enabled: false``.
    """

    enabled: bool = True
    span: Literal["hybnext", "rep"] = "hybnext"
    layer: int = 1
    projector: Literal["mlp", "pool"] = "mlp"
    objective: Literal["cosine", "mse"] = "cosine"
    weight: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "layer")
        _not_negative(self, "weight")


@dataclass(frozen=True, kw_only=True)
class Training:
    """``train``: optimisation under DeepSpeed.

    Attributes:
        epochs: passes over the training split; ``max_steps`` ends earlier if given.
        max_steps: optimizer steps at most.
        batch_size: samples an optimizer step, over all ranks and accumulation steps.
        micro_batch_size: samples a rank holds at once.
        learning_rate: AdamW's after warm-up.
        schedule: ``constant`` or ``cosine`` (to zero) after a linear warm-up.
        warmup_steps: steps of the warm-up.
        betas: AdamW's.
        weight_decay: AdamW's, on matrices only.
        gradient_clipping: largest gradient norm; 0 for none.
        prompt_dropout: share of prompts dropped, so that guidance has something to compare with.
        z_loss: weight of mean(logsumexp(logits)²).
        precision: ``fp32``, ``bf16`` or ``fp16``.
        zero_stage: DeepSpeed's ZeRO stage, 0 to 3.
        deepspeed: further DeepSpeed settings, passed through as they are.
        log_every: optimizer steps between lines of ``metrics.jsonl``.
        validate_every: steps between validation losses; 0 for only at the end.
        preview_every: steps between preview grids; 0 for only at the end.
        preview_samples: pictures of a preview.
        checkpoint_every: steps between checkpoints; 0 for only at the end.
        keep_checkpoints: how many of the newest are kept.
        loader_workers: processes that assemble batches.
    """

    epochs: int = 10
    max_steps: int | None = None
    batch_size: int = 24
    micro_batch_size: int = 6
    learning_rate: float = 2e-5
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    gradient_clipping: float = 4.0
    prompt_dropout: float = 0.1
    z_loss: float = 1e-5
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    zero_stage: Literal[0, 1, 2, 3] = 1
    deepspeed: dict[str, Any] = field(default_factory=dict)
    log_every: int = 10
    validate_every: int = 0
    preview_every: int = 0
    preview_samples: int = 8
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    loader_workers: int = 0

    def __post_init__(self) -> None:
        _positive(
            self, "epochs", "batch_size", "micro_batch_size", "learning_rate", "log_every",
            "keep_checkpoints", "preview_samples",
        )  # fmt: skip
        _not_negative(
            self, "warmup_steps", "weight_decay", "gradient_clipping", "z_loss", "validate_every",
            "preview_every", "checkpoint_every", "loader_workers",
        )  # fmt: skip
        if self.max_steps is not None:
            _positive(self, "max_steps")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), got {self.betas}")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size}"
            )
        if not 0 <= self.prompt_dropout < 1:
            raise ValueError(f"prompt_dropout must be in [0, 1), got {self.prompt_dropout}")


@dataclass(frozen=True, kw_only=True)
class Generation:
    """``generate``: prompts to pictures.

    Attributes:
        split: which split's prompts.
        limit: at most so many prompts, taken evenly over the split; all if not given.
        images_per_prompt: pictures of each prompt.
        batch_size: pictures drawn together.
        guidance: classifier-free guidance g in u + g·(c - u); 1 for none.
        temperature: of sampling; 0 picks the likeliest code.
        top_k: sample among the k likeliest codes; 0 for all.
        size: height and width in pixels, for models whose vocabulary names them; by default the
            size the model was trained on.
    """

    split: Literal["train", "validate", "test"] = "test"
    limit: int | None = None
    images_per_prompt: int = 1
    batch_size: int = 16
    guidance: float = 4.0
    temperature: float = 1.0
    top_k: int = 2000
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _positive(self, "images_per_prompt", "batch_size")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size must be a height and a width in pixels, got {self.size}")
        _not_negative(self, "temperature", "top_k", "guidance")
        if self.limit is not None:
            _positive(self, "limit")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """``evaluate``: how the pictures are judged.

    Attributes:
        judge: classifier that says what a picture shows; never the run's teacher.
        extractor: encoder for FD and KID.
        bootstrap: resamples for intervals.
        min_positives: findings with fewer positive samples are reported as "too few", not scored.
        batch_size: pictures a forward pass.
        panels: pictures shown side by side in the report.
    """

    judge: PluginConfig = plugin_field(JUDGES)
    extractor: PluginConfig = plugin_field(EXTRACTORS)
    bootstrap: int = 1000
    min_positives: int = 20
    batch_size: int = 64
    panels: int = 12

    def __post_init__(self) -> None:
        _positive(self, "bootstrap", "min_positives", "batch_size", "panels")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole run. Sections that a verb does not need may be absent."""

    paths: Paths
    seed: int = 0
    device: str = "auto"
    ingest: Ingest | None = None
    tokenizer: Tokenizer | None = None
    features: Features | None = None
    backbone: Backbone | None = None
    alignment: Alignment = field(default_factory=Alignment)
    training: Training | None = None
    generation: Generation = field(default_factory=Generation)
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        _not_negative(self, "seed")
        if self.training is not None and self.alignment.enabled and self.features is None:
            raise ValueError(
                "alignment is on but there is no 'features' section to say which teacher: "
                "add one, or set alignment.enabled to false"
            )


def section(value: T | None, name: str, verb: str) -> T:
    """A section that a verb needs.

    Raises:
        RequestError: if the configuration does not have it.
    """
    if value is None:
        raise RequestError(f"'arra-med {verb}' needs a '{name}:' section in the configuration")
    return value


def _positive(settings: Any, *names: str) -> None:  # noqa: ANN401 - any of the dataclasses here
    wrong = [
        f"{name} must be positive, got {getattr(settings, name)}"
        for name in names
        if getattr(settings, name) <= 0
    ]
    if wrong:
        raise ValueError("; ".join(wrong))


def _not_negative(settings: Any, *names: str) -> None:  # noqa: ANN401 - any of the dataclasses here
    wrong = [
        f"{name} must not be negative, got {getattr(settings, name)}"
        for name in names
        if getattr(settings, name) < 0
    ]
    if wrong:
        raise ValueError("; ".join(wrong))
