"""DeepSpeed: its configuration from our settings, its processes, and its gathered weights."""

import contextlib
import functools
import logging
import math
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from arra_med.errors import RequestError
from arra_med.settings import Training

logger = logging.getLogger(__name__)

_OURS = {
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "bf16",
    "fp16",
    "optimizer",
    "scheduler",
}


def start_processes(device: torch.device) -> tuple[int, int]:
    """Join the processes that torchrun or DeepSpeed's launcher started, or be the only one.

    Returns:
        This process's rank and the number of processes.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if device.type == "cuda" else "cpu")
    import deepspeed

    # DeepSpeed would compile a shared-memory collective for CPUs at start: half a minute, and a
    # compiler that a cluster may not have. gloo does the job.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if "RANK" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in alone.items()})
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    deepspeed_log = logging.getLogger("DeepSpeed")
    deepspeed_log.setLevel(logging.WARNING)
    for handler in deepspeed_log.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)  # stdout is for results
    deepspeed.init_distributed(
        dist_backend="nccl" if device.type == "cuda" else "gloo", verbose=False
    )
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def deepspeed_config(training: Training, world_size: int) -> dict[str, Any]:
    """DeepSpeed's JSON for these settings on ``world_size`` processes.

    Raises:
        RequestError: if the batch does not divide over the processes, or ``training.deepspeed``
            sets what another setting already says.
    """
    per_round = training.micro_batch_size * world_size
    if training.batch_size % per_round:
        raise RequestError(
            f"training.batch_size {training.batch_size} does not divide into micro-batches of "
            f"{training.micro_batch_size} on {world_size} processes: make it a multiple of "
            f"{per_round}"
        )
    twice = sorted(_OURS & set(training.deepspeed))
    if twice or "stage" in training.deepspeed.get("zero_optimization", {}):
        raise RequestError(
            f"training.deepspeed repeats {twice or 'zero_optimization.stage'}: use the settings of "
            "'training:' for these"
        )
    zero = {"stage": training.zero_stage, **training.deepspeed.get("zero_optimization", {})}
    return {
        "steps_per_print": 10**9,
        **training.deepspeed,
        "zero_optimization": zero,
        "train_batch_size": training.batch_size,
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": training.batch_size // per_round,
        "gradient_clipping": training.gradient_clipping,
        "bf16": {"enabled": training.precision == "bf16"},
        "fp16": {"enabled": training.precision == "fp16"},
    }


def make_engine(model: nn.Module, training: Training, *, total_steps: int, world_size: int) -> Any:  # noqa: ANN401 - DeepSpeed's engine is not typed
    """Hand the model, AdamW and the schedule to DeepSpeed.

    Frozen parameters take part in the forward pass alone: the optimizer does not hold them, and
    checkpoints leave them out, as the model is built from the same pretrained folder on resuming.
    """
    import deepspeed

    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=training.learning_rate,
        betas=training.betas,
        fused=torch.cuda.is_available() and training.zero_stage < 3,
    )
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=lambda optimizer: LambdaLR(
            optimizer, lambda step: learning_rate_factor(training, step, total_steps)
        ),
        config=deepspeed_config(training, world_size),
    )
    if any(not parameter.requires_grad for parameter in model.parameters()):
        _leave_frozen_out(engine)
    return engine


def _leave_frozen_out(engine: Any) -> None:  # noqa: ANN401
    """Let the engine's checkpoints hold trainable parameters only."""
    every = engine.module.named_parameters(remove_duplicate=False)  # a tied weight has two names
    frozen = {name for name, parameter in every if not parameter.requires_grad}

    def load(src: dict[str, Tensor], dst: nn.Module) -> None:
        missing, unexpected = dst.load_state_dict(src, strict=False)
        wrong = sorted({*missing} - frozen) + sorted(unexpected)
        if wrong:
            raise RequestError(
                f"the checkpoint is of another model: {len(wrong)} parameters are only here or "
                f"only there, first {wrong[:3]}. Choose another paths.run, or delete the folder"
            )

    engine.save_checkpoint = functools.partial(
        engine.save_checkpoint, exclude_frozen_parameters=True
    )
    engine.load_checkpoint = functools.partial(engine.load_checkpoint, custom_load_fn=load)


def learning_rate_factor(training: Training, step: int, total_steps: int) -> float:
    """Learning rate of optimizer step ``step`` (from 0) as a share of the full one."""
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return 1.0
    progress = (step - training.warmup_steps) / max(1, total_steps - training.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@contextlib.contextmanager
def gathered(module: nn.Module, zero_stage: int) -> Iterator[None]:
    """Make every weight whole on every rank while the block runs (ZeRO 3 keeps shards)."""
    if zero_stage < 3:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(module.parameters())):
        yield


def gathered_state(module: nn.Module, zero_stage: int) -> dict[str, Tensor]:
    """A copy of a module's weights on the CPU, whole, on every rank."""
    with gathered(module, zero_stage):
        return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
