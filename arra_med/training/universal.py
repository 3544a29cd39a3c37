"""Resuming on another number of ranks, through DeepSpeed's universal checkpoints.

ZeRO's files hold each rank's share of the optimizer; DeepSpeed can take them apart into one file a
parameter, from which any number of ranks loads. Stage 0 keeps whole states and needs none of it.
https://www.deepspeed.ai/tutorials/universal-checkpointing/
"""

import argparse
import contextlib
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from arra_med.errors import RequestError
from arra_med.training.agreement import Agreement

logger = logging.getLogger(__name__)

_FOLDER = ".universal"
_OWN = ("weight_decay", "betas", "fused")
"""Settings of a parameter group that are this run's, not the checkpoint's."""
_KINDS = {0: "whole states", 1: "shards of stages 1 and 2", 2: "shards of stages 1 and 2"}


def load_checkpoint(
    engine: Any,  # noqa: ANN401 - DeepSpeed's engine is not typed
    checkpoint: Path,
    agreement: Agreement,
    *,
    saved: tuple[int, int],
    now: tuple[int, int],
    rank: int,
) -> None:
    """Load a checkpoint into the engine, converted first if it is of another number of ranks.

    Args:
        engine: DeepSpeed's.
        checkpoint: its folder.
        agreement: between the ranks.
        saved: ZeRO stage and number of ranks that wrote it.
        now: ZeRO stage and number of ranks of this run.
        rank: of this process.

    Raises:
        RequestError: if stages 0, 1 and 2, or 3 would have to be turned into one another.
    """
    kinds = [_KINDS.get(stage, "shards of stage 3") for stage, _ in (saved, now)]
    if kinds[0] != kinds[1]:
        raise RequestError(
            f"{checkpoint} holds ZeRO stage {saved[0]}'s {kinds[0]}, which stage {now[0]} cannot "
            f"load: set training.zero_stage to {saved[0]}"
        )
    if saved == now or saved[0] == 0:
        engine.load_checkpoint(str(checkpoint.parent), tag=checkpoint.name)
        return
    parts = checkpoint.parent / _FOLDER
    if rank == 0:
        logger.info(
            "converting %s from ZeRO %d on %d ranks to ZeRO %d on %d",
            *(checkpoint.name, *saved, *now),
        )
        shutil.rmtree(parts, ignore_errors=True)
        _convert(checkpoint, parts / checkpoint.name)
    agreement.wait()
    _load_parts(engine, parts, checkpoint.name)
    agreement.wait()
    if rank == 0:
        shutil.rmtree(parts)


def _convert(checkpoint: Path, into: Path) -> None:
    from deepspeed.checkpoint import ds_to_universal

    into.mkdir(parents=True)
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
        ds_to_universal.main(
            argparse.Namespace(
                input_folder=str(checkpoint),
                output_folder=str(into),
                num_extract_workers=1,  # more would fork a process that has threads and a GPU
                num_merge_workers=1,
                keep_temp_folder=False,
                strict=True,
                inject_missing_state=True,
            )
        )


def _load_parts(engine: Any, folder: Path, name: str) -> None:  # noqa: ANN401
    """Load a converted checkpoint, undoing what DeepSpeed mixes up between parameter groups."""
    optimizer = engine.optimizer.optimizer
    own = [{**group} for group in optimizer.param_groups]
    engine._config.load_universal_checkpoint = True
    try:
        engine.load_checkpoint(str(folder), tag=name)
    finally:
        engine._config.load_universal_checkpoint = False
    # Stage 3 gives all groups the first one's settings: vectors would get weight decay.
    for group, before in zip(optimizer.param_groups, own, strict=True):
        group |= {name: before[name] for name in _OWN if name in before}
    _own_step_counters(optimizer)


def _own_step_counters(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter a counter of its own, where the optimizer wants it.

    Stage 3 loads one for all, which each of them would count up; and all are loaded on the CPU,
    where a fused optimizer on a GPU cannot use them.
    """
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for parameter, state in optimizer.state.items():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].to(parameter.device if fused else "cpu", copy=True)
