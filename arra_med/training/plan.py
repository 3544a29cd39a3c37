"""``train --dry-run``: what a run would be, without training a step."""

from pathlib import Path

import numpy as np

from arra_med.settings import Settings
from arra_med.training.engine import deepspeed_config
from arra_med.training.inputs import Inputs, check_run_folder
from arra_med.training.longer import check_can_be_longer
from arra_med.training.memory import memory_table, table_lines
from arra_med.training.metrics import LOG, read_log
from arra_med.training.setup import Setup, parameter_counts

_STEPS_LOOKED_AT = 50


def plan(settings: Settings, *, processes: int, rate: float | None) -> str:
    """Size, memory and length of a run, as lines to read.

    Everything that training checks before its first step is checked.

    Args:
        settings: of the run.
        processes: GPUs (or CPU processes) it will have.
        rate: tokens a second, measured before; by default what the run folder's log says.

    Raises:
        FileNotFoundError: if a stage before this one was not run.
        RequestError: if settings and data contradict each other.
    """
    inputs = Inputs(settings)
    shorter = check_run_folder(settings, inputs, may_be_longer=True).shorter
    if shorter is not None:
        check_can_be_longer(settings, inputs, shorter)
    setup = Setup(settings, inputs)
    training = setup.training
    in_rows = deepspeed_config(setup.train_set.counted_in_rows(processes), processes)
    trained, every = parameter_counts(setup.model)
    batches = in_rows["gradient_accumulation_steps"]
    tokens = _tokens_a_step(setup)
    lines = [
        setup.describe(),
        f"parameters      {every:,}, {trained:,} trained ({trained / every:.1%})",
        f"vocabulary      {setup.model.backbone.config.get_text_config().vocab_size:,} tokens, of "
        f"which {setup.layout.num_codes:,} are image codes",
        f"a step          {training.batch_size} samples, {tokens:,.0f} tokens: {processes} "
        f"processes × {batches} micro-batches of {training.micro_batch_size}",
        f"longest row     {training.pack_tokens or setup.longest_sequence():,} tokens",
        f"steps           {setup.total_steps:,}, {setup.total_steps * tokens:,.0f} tokens",
        *_memory(setup, processes),
        _duration(settings.paths.folder("run"), setup, tokens, rate),
    ]
    return "\n".join(lines) + "\n"


def _tokens_a_step(setup: Setup) -> float:
    """Mean over the first steps; padding is not counted."""
    steps = setup.train_set.steps
    looked_at = range(min(setup.total_steps, _STEPS_LOOKED_AT))
    return float(np.mean([sum(steps.lengths(steps.step(step))) for step in looked_at]))


def _memory(setup: Setup, processes: int) -> list[str]:
    rows = memory_table(setup, processes)
    total = sum(size for _, size in rows) / 1e9
    return [f"memory a rank   {total:,.2f} GB, of which", *table_lines([r for r in rows if r[1]])]


def _duration(run: Path, setup: Setup, tokens: float, rate: float | None) -> str:
    source = "as given"
    if rate is None:
        lines = read_log(run)
        speeds = [line["samples_per_second"] for line in lines if "samples_per_second" in line]
        if speeds:
            rate = float(np.median(speeds)) * tokens / setup.training.batch_size
            source = f"median of {run / LOG}"
    if rate is None:
        return (
            "duration        not known: no rate was measured. 'python scripts/bench/train.py' "
            "measures one; then --rate TOKENS_A_SECOND"
        )
    hours = setup.total_steps * tokens / rate / 3600
    return f"duration        {hours:,.2f} h at {rate:,.0f} tokens/s ({source})"
