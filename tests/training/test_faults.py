"""When one rank fails, every rank stops, says why, and leaves the last checkpoint as it was."""

import errno
import functools
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from arra_med.training.checkpoints import complete_checkpoints, damage, read_mark
from arra_med.training.trainer import Trainer
from tests.training.ranks import Ranks, losses, run

Fault = Callable[[int], None]


def fails(pipeline: Path, name: str, fault: Fault, *overrides: str) -> tuple[Path, Ranks]:
    """A run of two ranks with a checkpoint after each step, both of which end with code 1."""
    folder = pipeline / name
    words = [
        "train", pipeline / "config.yaml", f"paths.run={folder}", "training.preview_samples=1",
        "training.checkpoint_every=1", *overrides,
    ]  # fmt: skip
    ranks = run(pipeline / f"{name}.log", *words, processes=2, code=1, prepare=fault)
    return folder, ranks


def newest_step(folder: Path) -> int:
    found = complete_checkpoints(folder / "checkpoints")
    for path in found:
        assert damage(path, list(read_mark(path)["files"])) is None
    return read_mark(found[-1])["step"] if found else 0


def before_step(step: int, what: Callable[[Trainer], None], rank: int, me: int) -> None:
    """Let process ``rank`` do ``what`` before optimizer step ``step``."""
    original = Trainer._step

    def patched(self: Trainer, number: int, batches: object) -> object:
        if number == step and rank == me:
            what(self)
        return original(self, number, batches)

    Trainer._step = patched


def _raise(trainer: Trainer) -> None:
    raise KeyError("an error of our own")


def test_an_exception_of_one_rank_stops_the_other_with_its_reason(pipeline: Path) -> None:
    folder, ranks = fails(pipeline, "raised", functools.partial(before_step, 3, _raise, 1))
    assert "KeyError: 'an error of our own'" in ranks.said(1)
    assert "rank 1 stopped, so this one does too: KeyError" in ranks.said(0)
    assert newest_step(folder) == 2


def _sleep(trainer: Trainer) -> None:
    time.sleep(600)


def test_a_stuck_rank_ends_the_run(pipeline: Path) -> None:
    fault = functools.partial(before_step, 3, _sleep, 1)
    folder, ranks = fails(pipeline, "stuck", fault, "training.timeout_minutes=0.3")
    said = ranks.said(0) + ranks.said(1)
    assert "is stuck: nothing done for 0.3 minutes" in said
    assert "raise training.timeout_minutes" in said
    assert "Thread 0x" in said, "where it hangs"
    assert newest_step(folder) == 2


def _stop(trainer: Trainer) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_frozen_process_ends_the_others(pipeline: Path) -> None:
    log = pipeline / "frozen.log"
    ranks = Ranks(
        log, "train", pipeline / "config.yaml", f"paths.run={pipeline / 'frozen'}",
        "training.timeout_minutes=0.3", processes=2,
        prepare=functools.partial(before_step, 3, _stop, 1),
    )  # fmt: skip
    ranks.processes[0].join(120)
    assert ranks.processes[0].exitcode == 1
    assert "rank 0 is stuck" in ranks.said(0)
    ranks.codes(seconds=0)


def _poison_weight(rank: int) -> None:
    """A weight of rank 1 is lost in step 3."""
    original = Trainer._after_step

    def after(self: Trainer, step: int) -> None:
        if step == 3 and rank == 1:
            with torch.no_grad():
                next(self.engine.module.parameters()).view(-1)[0] = torch.nan
        original(self, step)

    Trainer._after_step = after


def _poison_gradient(trainer: Trainer) -> None:
    """The loss stays finite, the gradient does not."""
    next(trainer.engine.module.parameters()).register_hook(lambda gradient: gradient * torch.inf)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_poison_weight, "the weights are not finite after step 3"),
        (
            functools.partial(before_step, 3, _poison_gradient, 1),
            "gradient is not finite at step 3",
        ),
    ],
    ids=["weight", "gradient"],
)
def test_what_is_not_finite_is_never_saved(pipeline: Path, fault: Fault, message: str) -> None:
    folder, ranks = fails(pipeline, message.split()[1], fault, "training.log_every=100")
    for rank in range(2):
        assert message in ranks.said(rank)
    assert newest_step(folder) == 2


def _full_disk(rank: int) -> None:
    """Rank 1's disk is full from step 3 on."""
    original = torch.save

    def save(content: object, file: object, *rest: object, **more: object) -> None:
        if "step-00000003" in str(file) and rank == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(content, file, *rest, **more)

    torch.save = save


def test_a_full_disk_stops_every_rank(pipeline: Path) -> None:
    folder, ranks = fails(pipeline, "full", _full_disk)
    for rank in range(2):
        assert "the checkpoint of step 3 could not be written" in ranks.said(rank)
        assert "No space left on device" in ranks.said(rank)
    assert newest_step(folder) == 2


def test_time_makes_checkpoints_too(pipeline: Path) -> None:
    folder = pipeline / "timely"
    words = [
        "train", pipeline / "config.yaml", f"paths.run={folder}", "training.checkpoint_every=0",
        "training.checkpoint_minutes=0.0001", "training.preview_samples=1",
        "training.keep_checkpoints=9",
    ]  # fmt: skip
    run(pipeline / "timely.log", *words, processes=2)
    assert len(complete_checkpoints(folder / "checkpoints")) > 1


def _out_of_memory(trainer: Trainer) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_out_of_memory_says_what_takes_it(pipeline: Path) -> None:
    _, ranks = fails(pipeline, "memory", functools.partial(before_step, 2, _out_of_memory, 0))
    said = ranks.said(0)
    assert "Tried to allocate 2.00 GiB" in said
    for words in ("weights", "gradients", "AdamW", "activations", "training."):
        assert words in said, said
    assert "rank 0 stopped, so this one does too: out of memory" in ranks.said(1)


def test_a_damaged_newest_checkpoint_costs_one_step(pipeline: Path) -> None:
    folder = pipeline / "damaged"
    words = ["train", pipeline / "config.yaml", f"paths.run={folder}", "training.preview_samples=1",
             "training.checkpoint_every=2", "training.keep_checkpoints=3"]  # fmt: skip
    run(pipeline / "damaged.log", *words)
    expected = losses(folder)
    newest = complete_checkpoints(folder / "checkpoints")[-1]
    file = newest / "mp_rank_00_model_states.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    shutil.rmtree(folder / "export")
    ranks = run(pipeline / "damaged.log", *words)
    assert "step-00000006 is damaged" in ranks.said(0)
    assert "resuming after step 4" in ranks.said(0)
    assert losses(folder) == expected
