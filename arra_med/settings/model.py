"""Settings of the language model and of its training, ARRA's alignment included."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from arra_med.settings.checks import not_negative, positive


@dataclass(frozen=True, kw_only=True)
class Llama:
    """Sizes of a randomly initialised LLaMA and of the text vocabulary trained for it."""

    hidden_size: int = 256
    num_layers: int = 6
    num_heads: int = 4
    intermediate_size: int = 688
    text_vocabulary: int = 1024

    def __post_init__(self) -> None:
        positive(self, "hidden_size", "num_layers", "num_heads", "text_vocabulary")
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
        positive(self, "rank", "alpha")
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
        positive(self, "max_prompt_tokens")
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
        positive(self, "layer")
        not_negative(self, "weight")


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
        positive(
            self, "epochs", "batch_size", "micro_batch_size", "learning_rate", "log_every",
            "keep_checkpoints", "preview_samples",
        )  # fmt: skip
        not_negative(
            self, "warmup_steps", "weight_decay", "gradient_clipping", "z_loss", "validate_every",
            "preview_every", "checkpoint_every", "loader_workers",
        )  # fmt: skip
        if self.max_steps is not None:
            positive(self, "max_steps")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), got {self.betas}")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size}"
            )
        if not 0 <= self.prompt_dropout < 1:
            raise ValueError(f"prompt_dropout must be in [0, 1), got {self.prompt_dropout}")
