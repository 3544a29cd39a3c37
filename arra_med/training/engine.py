"""DeepSpeed: its configuration from our settings, its processes, and its gathered weights."""

import contextlib
import functools
import logging
import math
import os
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from arra_med.alignment import ArraModel
from arra_med.errors import RequestError
from arra_med.model.precision import cast_weights
from arra_med.settings import Training

logger = logging.getLogger(__name__)


def start_processes(device: torch.device, *, timeout_minutes: float = 30) -> tuple[int, int]:
    """Join the processes that torchrun, srun or DeepSpeed's launcher started, or be the only one.

    Args:
        device: of this process.
        timeout_minutes: after which a rank that gets nothing done ends the run by our own message;
            the backend's, which says less, comes later.

    Returns:
        This process's rank and the number of processes.

    Raises:
        RequestError: if the environment has DeepSpeed use another kind of device.
    """
    if (other := os.environ.setdefault("DS_ACCELERATOR", device.type)) != device.type:
        raise RequestError(
            f"DS_ACCELERATOR is {other} in the environment, but the device is {device}: unset it"
        )
    import deepspeed

    # DeepSpeed would compile a shared-memory collective for CPUs at start: half a minute, and a
    # compiler that a cluster may not have. gloo does the job.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if "RANK" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        _join_by_slurm()
    elif "RANK" not in os.environ:
        _join_nobody(device)
    deepspeed_log = logging.getLogger("DeepSpeed")
    deepspeed_log.setLevel(logging.WARNING)
    for handler in deepspeed_log.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)  # stdout is for results
    deepspeed.init_distributed(
        dist_backend="nccl" if device.type == "cuda" else "gloo",
        timeout=timedelta(minutes=timeout_minutes + 5) if timeout_minutes else timedelta(days=7),
        verbose=False,
    )
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _join_nobody(device: torch.device) -> None:
    """Take the place of the only process, on the GPU that was asked for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"RANK": 0, "LOCAL_RANK": device.index or 0, "WORLD_SIZE": 1, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in alone.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"


def _join_by_slurm() -> None:
    """Take this process's place from what srun set.

    Raises:
        RequestError: if the tasks cannot know where to meet.
    """
    if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
        tasks = os.environ["SLURM_STEP_NUM_TASKS"]
        raise RequestError(
            f"srun started {tasks} tasks but MASTER_ADDR and MASTER_PORT are not set, so that they "
            "cannot meet: submit with scripts/slurm/stage.sh, or export the first node's name and "
            "a free port"
        )
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_STEP_NUM_TASKS"]


def deepspeed_config(training: Training, world_size: int) -> dict[str, Any]:
    """DeepSpeed's JSON for these settings on ``world_size`` processes.

    Raises:
        RequestError: if the batch does not divide over the processes.
    """
    per_round = training.micro_batch_size * world_size
    if training.batch_size % per_round:
        raise RequestError(
            f"training.batch_size {training.batch_size} does not divide into micro-batches of "
            f"{training.micro_batch_size} on {world_size} processes: make it a multiple of "
            f"{per_round}, or lower training.micro_batch_size"
        )
    zero = {"stage": training.zero_stage, **training.deepspeed.get("zero_optimization", {})}
    if training.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if training.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    pure = training.master_weights == "bf16"
    bf16: dict[str, Any] = {"enabled": training.precision == "bf16"}
    if pure and training.zero_stage == 0:
        bf16 = {"enabled": False}  # the model is in bf16 itself, and AdamW works on it directly
    elif pure:
        bf16 |= {"bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
    return {
        "steps_per_print": 10**9,
        **training.deepspeed,
        "zero_optimization": zero,
        "train_batch_size": training.batch_size,
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": training.batch_size // per_round,
        "gradient_clipping": training.gradient_clipping,
        "bf16": bf16,
        "fp16": {"enabled": training.precision == "fp16"},
    }


def check_device(training: Training, device: torch.device) -> None:
    """Refuse what this device cannot do.

    Raises:
        RequestError: naming the setting.
    """
    if device.type == "cuda":
        return
    if training.precision == "fp16":
        raise RequestError("training.precision fp16 needs a GPU: use bf16 or fp32 on the CPU")
    if training.offload != "none":
        raise RequestError(
            f"training.offload {training.offload} moves state from a GPU to main memory, but the "
            "device is the CPU: remove it"
        )


def make_engine(
    model: ArraModel, training: Training, *, device: torch.device, total_steps: int, world_size: int
) -> Any:  # noqa: ANN401 - DeepSpeed's engine is not typed
    """Hand the model, AdamW and the schedule to DeepSpeed.

    Frozen parameters take part in the forward pass alone: the optimizer does not hold them, and
    checkpoints leave them out, as the model is built from the same pretrained folder on resuming.

    Raises:
        RequestError: if device, settings and processes do not go together.
    """
    import deepspeed

    check_device(training, device)
    config = deepspeed_config(training, world_size)
    if training.master_weights == "bf16" and training.zero_stage == 0:
        cast_weights(model, torch.bfloat16)
    if training.activation_checkpointing:
        model.checkpoint_activations(training.activation_checkpointing)
    if training.compile or (
        training.compile is None and device.type == "cuda" and training.zero_stage < 3
    ):
        model.compile_blocks()
    try:
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=_optimizer(model, training, device),
            lr_scheduler=lambda optimizer: LambdaLR(
                optimizer, lambda step: learning_rate_factor(training, step, total_steps)
            ),
            config=config,
        )
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise RequestError(f"DeepSpeed refuses training.deepspeed: {'; '.join(wrong)}") from error
    if training.zero_stage == 0 and engine.optimizer is not engine.basic_optimizer:
        # DeepSpeed's 16-bit optimizer makes room for the moments by a step without gradients, which
        # decays the weights and is counted: corrected for it, the first real steps come out short.
        engine.basic_optimizer.state.clear()
        engine.optimizer.refresh_fp32_params()
    if world_size == 1 and training.zero_stage == 0:
        # There is nobody to average with, but every gradient would be copied twice.
        engine.enable_backward_allreduce = False
    if any(not parameter.requires_grad for parameter in model.parameters()):
        _leave_frozen_out(engine)
    return engine


def _optimizer(model: nn.Module, training: Training, device: torch.device) -> torch.optim.Optimizer:
    """AdamW without weight decay on vectors: torch's fused one, DeepSpeed's CPU Adam offloaded."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if training.offload == "none":
        return torch.optim.AdamW(
            groups,
            lr=training.learning_rate,
            betas=training.betas,
            fused=device.type == "cuda" and training.zero_stage < 3,
        )
    from deepspeed.ops.adam import DeepSpeedCPUAdam
    from deepspeed.ops.op_builder.builder import CUDAMismatchException

    try:
        adam: torch.optim.Optimizer = DeepSpeedCPUAdam(
            groups,
            lr=training.learning_rate,
            betas=training.betas,
            adamw_mode=True,
            fp32_optimizer_states=training.master_weights == "fp32",
        )
        return adam
    except (RuntimeError, ImportError, OSError, CUDAMismatchException) as error:
        raise RequestError(
            f"training.offload {training.offload} needs DeepSpeed's CPU Adam, which is compiled "
            f"on first use and could not be: {error}. It takes a C++ compiler and ninja; where "
            "there are none, use training.zero_stage 3 on more GPUs, or backbone.lora"
        ) from error


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
