"""Settings of training under DeepSpeed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from arra_med.errors import did_you_mean
from arra_med.settings.checks import not_negative, positive

_OURS = {
    "train_batch_size": "batch_size",
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_accumulation_steps": "batch_size and micro_batch_size",
    "gradient_clipping": "gradient_clipping",
    "bf16": "precision and master_weights",
    "fp16": "precision",
    "optimizer": "learning_rate, betas and weight_decay",
    "scheduler": "schedule and warmup_steps",
    "activation_checkpointing": "activation_checkpointing",
    "compile": "compile",
    "steps_per_print": "log_every",
    "zero_optimization.stage": "zero_stage",
    "zero_optimization.offload_optimizer": "offload",
    "zero_optimization.offload_param": "offload",
}
_PASSED_THROUGH = {
    "aio", "checkpoint", "comms_logger", "communication_data_type", "csv_monitor", "data_types",
    "disable_allgather", "dump_state", "flops_profiler", "gradient_predivide_factor",
    "memory_breakdown", "prescale_gradients", "tensorboard", "timers", "wall_clock_breakdown",
    "wandb", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "zero_optimization",
}  # fmt: skip


def check_passed_through(given: Mapping[str, Any]) -> None:
    """Refuse DeepSpeed settings that ours already say, and names that DeepSpeed would ignore.

    Raises:
        ValueError: naming each.
    """
    zero = given.get("zero_optimization", {})
    names = [*given, *(f"zero_optimization.{name}" for name in zero)]
    wrong = [
        f"training.deepspeed repeats {name!r}: use training.{_OURS[name]}"
        for name in names
        if name in _OURS
    ]
    for name in given:
        if name not in _PASSED_THROUGH and name not in _OURS:
            nearest = did_you_mean(name, _PASSED_THROUGH)
            wrong.append(f"training.deepspeed has no setting {name!r}{nearest}")
    if wrong:
        raise ValueError("; ".join(wrong))


@dataclass(frozen=True, kw_only=True)
class MixtureFolder:
    """A folder of a mixture.

    Attributes:
        prepared: written by ``ingest``, with tokens and features of its own.
        ratio: share of its training samples that an epoch takes: 0.5 is one half of them and the
            other half in the next epoch, 2 is all of them twice.
    """

    prepared: Path
    ratio: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "ratio")


@dataclass(frozen=True, kw_only=True)
class Training:
    """``train``: optimisation under DeepSpeed.

    Fields that are not compared may change when a run is resumed: on them depends how fast it is
    and what it writes, not what it learns.

    Attributes:
        epochs: passes over the training split; ``max_steps`` ends earlier if given. Either may be
            raised to train an ended run for longer, if the schedule is constant.
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
        precision: of the computation: ``fp32``, ``bf16`` or ``fp16``.
        master_weights: of the weights that AdamW updates and of its moments: ``fp32``, or ``bf16``
            with ``precision: bf16``, which takes 8 instead of 16 bytes a parameter. A bf16 weight
            has 8 bits: an update below a 512th of it is lost, so small learning rates learn less.
        zero_stage: DeepSpeed's ZeRO stage, 0 to 3: what is sharded over processes.
        offload: keep AdamW's state (``optimizer``), or with ZeRO 3 also the weights
            (``parameters``), in main memory; AdamW then runs on the CPU.
        activation_checkpointing: recompute every n-th block in the backward pass; 1 for all, 0 for
            none.
        compile: compile the decoder's blocks; by default on a GPU, except with ZeRO 3.
        deepspeed: further DeepSpeed settings, passed through as they are.
        log_every: optimizer steps between lines of ``metrics.jsonl``.
        validate_every: steps between validation losses; 0 for only at the end.
        preview_every: steps between preview grids; 0 for only at the end.
        preview_samples: pictures of a preview.
        checkpoint_every: steps between checkpoints; 0 for only at the end.
        checkpoint_minutes: minutes after which a checkpoint is written all the same; 0 for never.
        keep_checkpoints: how many of the newest are kept.
        keep_best: keep the checkpoint of the lowest validation loss too; one is written wherever a
            validation is better than all before it.
        timeout_minutes: a rank that gets nothing done for so long ends the run; 0 for never. The
            longest checkpoint, validation or export must fit.
        loader_workers: processes that assemble batches.
        mixture: train on these folders instead of ``paths.prepared``, which validation, previews
            and evaluation stay with; an epoch is then the sum of their shares.
        data_config: the same from a YAML file with ``META: [{path, ratio}]``, as ARRA's authors
            write it; paths are prepared folders, relative to the file.
        bucket_batches: put samples of like length into the same micro-batch, among this many
            steps' samples; 1, the default, leaves every step its samples and orders them, 0 does
            nothing. More than 1 pads less and makes a step's samples alike in length.
        pack_tokens: length of a row that holds several samples, which do not see each other; 0
            gives each its own row. ``micro_batch_size`` then counts rows.
    """

    epochs: int = 10
    max_steps: int | None = None
    batch_size: int = 24
    micro_batch_size: int = field(default=6, compare=False)
    learning_rate: float = 2e-5
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    gradient_clipping: float = 4.0
    prompt_dropout: float = 0.1
    z_loss: float = 1e-5
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    master_weights: Literal["fp32", "bf16"] = "fp32"
    zero_stage: Literal[0, 1, 2, 3] = field(default=1, compare=False)
    offload: Literal["none", "optimizer", "parameters"] = field(default="none", compare=False)
    activation_checkpointing: int = field(default=0, compare=False)
    compile: bool | None = field(default=None, compare=False)
    deepspeed: dict[str, Any] = field(default_factory=dict)
    log_every: int = field(default=10, compare=False)
    validate_every: int = field(default=0, compare=False)
    preview_every: int = field(default=0, compare=False)
    preview_samples: int = field(default=8, compare=False)
    checkpoint_every: int = field(default=1000, compare=False)
    checkpoint_minutes: float = field(default=30, compare=False)
    keep_checkpoints: int = field(default=2, compare=False)
    keep_best: bool = field(default=False, compare=False)
    timeout_minutes: float = field(default=30, compare=False)
    loader_workers: int = field(default=0, compare=False)
    mixture: tuple[MixtureFolder, ...] = ()
    data_config: Path | None = None
    bucket_batches: int | None = None
    pack_tokens: int = 0

    def __post_init__(self) -> None:
        positive(
            self, "epochs", "batch_size", "micro_batch_size", "learning_rate", "log_every",
            "keep_checkpoints", "preview_samples",
        )  # fmt: skip
        not_negative(
            self, "warmup_steps", "weight_decay", "gradient_clipping", "z_loss", "validate_every",
            "preview_every", "checkpoint_every", "loader_workers", "activation_checkpointing",
            "pack_tokens",
            "checkpoint_minutes", "timeout_minutes",
        )  # fmt: skip
        if self.max_steps is not None:
            positive(self, "max_steps")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), got {self.betas}")
        self._check_data()
        if not self.pack_tokens and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size}"
            )
        if self.keep_best and not self.validate_every:
            raise ValueError("keep_best needs validations to choose by: set validate_every")
        if not 0 <= self.prompt_dropout < 1:
            raise ValueError(f"prompt_dropout must be in [0, 1), got {self.prompt_dropout}")
        if self.master_weights == "bf16" and self.precision != "bf16":
            raise ValueError("master_weights bf16 needs precision bf16")
        needed = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        if self.zero_stage < needed:
            raise ValueError(f"offload {self.offload} needs zero_stage {needed} or more")
        if self.compile and self.zero_stage == 3:
            raise ValueError("ZeRO 3 gathers weights inside the blocks: it cannot be compiled")
        check_passed_through(self.deepspeed)

    @property
    def window(self) -> int:
        """``bucket_batches``, given or default."""
        if self.bucket_batches is not None:
            return self.bucket_batches
        return 0 if self.pack_tokens else 1

    def _check_data(self) -> None:
        if self.bucket_batches is not None:
            not_negative(self, "bucket_batches")
        if self.bucket_batches and self.pack_tokens:
            raise ValueError(
                "bucket_batches has no effect on packed rows: remove it, or pack_tokens"
            )
        if self.mixture and self.data_config is not None:
            raise ValueError("give mixture or data_config, not both")
        folders = [folder.prepared.resolve() for folder in self.mixture]
        twice = sorted({str(folder) for folder in folders if folders.count(folder) > 1})
        if twice:
            raise ValueError(f"mixture names {twice[0]} twice: name it once, with a higher ratio")
