"""Signals: every rank stops at the same step, with a checkpoint, and says so by exit code 75."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arra_med.errors import EXIT_PREEMPTED
from arra_med.training.checkpoints import complete_checkpoints
from arra_med.training.signals import StopSignals
from arra_med.training.trainer import Trainer
from tests.training.ranks import at_step, losses, run, weights

SETTINGS = ("training.preview_samples=1", "training.checkpoint_every=0", "training.zero_stage=0")


@pytest.fixture(scope="module")
def undisturbed(pipeline: Path) -> Path:
    folder = pipeline / "undisturbed"
    run(pipeline / "s.log", *arguments(pipeline, folder))
    return folder


def arguments(pipeline: Path, folder: Path) -> list[object]:
    validate = ("training.validate_every=2", "training.preview_every=2")
    return ["train", pipeline / "config.yaml", *SETTINGS, *validate, f"paths.run={folder}"]


def metrics(folder: Path) -> list[str]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return sorted(line for line in lines if "samples_per_second" not in line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_to_one_rank_stops_both_and_the_run_resumes(
    pipeline: Path, undisturbed: Path, number: int
) -> None:
    folder = pipeline / f"stopped-{number}"
    stop = functools.partial(at_step, 4, number, 1)
    log = pipeline / "s.log"
    two = {"processes": 2}
    ranks = run(log, *arguments(pipeline, folder), **two, code=EXIT_PREEMPTED, prepare=stop)
    assert f"stopped by {signal.Signals(number).name} after step 4 of 6" in ranks.said(0)
    assert [p.name for p in complete_checkpoints(folder / "checkpoints")] == ["step-00000004"]
    assert not (folder / "previews/step-00000004.png").exists(), "the end comes first"
    run(log, *arguments(pipeline, folder), **two)
    assert losses(folder) == pytest.approx(losses(undisturbed), rel=2e-5)
    # What was due after step 4 is made up for.
    assert (folder / "previews/step-00000004.png").is_file()
    validations = [line for line in metrics(folder) if "validate" in line]
    assert len(validations) == 3


def test_signals_before_the_first_step_and_at_the_last(pipeline: Path, undisturbed: Path) -> None:
    folder = pipeline / "edges"
    log = pipeline / "s.log"
    before = functools.partial(_while_resuming, signal.SIGTERM)
    run(log, *arguments(pipeline, folder), code=EXIT_PREEMPTED, prepare=before)
    assert not complete_checkpoints(folder / "checkpoints")
    last = functools.partial(at_step, 6, signal.SIGTERM, 0)
    run(log, *arguments(pipeline, folder), code=EXIT_PREEMPTED, prepare=last)
    assert not (folder / "export").exists()
    run(log, *arguments(pipeline, folder))
    assert losses(folder) == losses(undisturbed)
    assert weights(folder / "export") == weights(undisturbed / "export")


def _while_resuming(number: int, rank: int) -> None:
    original = Trainer._resume

    def resume(self: Trainer) -> int:
        os.kill(os.getpid(), number)
        return original(self)

    Trainer._resume = resume


def test_loader_processes_live_through_a_signal_to_all(pipeline: Path, undisturbed: Path) -> None:
    """Slurm signals each process of a job, the loader's too."""
    folder = pipeline / "loader"
    log = pipeline / "s.log"
    words = [*arguments(pipeline, folder), "training.loader_workers=1"]
    ranks = run(log, *words, code=EXIT_PREEMPTED, prepare=_signal_group)
    assert "stopped by SIGTERM after step 3" in ranks.said(0)
    run(log, *words)
    assert weights(folder / "export") == weights(undisturbed / "export")


def _signal_group(rank: int) -> None:
    os.setpgrp()
    original = Trainer._step

    def step(self: Trainer, number: int, batches: object) -> object:
        if number == 3:
            os.killpg(0, signal.SIGTERM)
            time.sleep(0.2)
        return original(self, number, batches)

    Trainer._step = step


def test_validating_and_drawing_disturb_nothing(pipeline: Path, undisturbed: Path) -> None:
    folder = pipeline / "quiet"
    words = [*arguments(pipeline, folder), "training.validate_every=0", "training.preview_every=0"]
    run(pipeline / "s.log", *words)
    assert losses(folder) == losses(undisturbed)
    assert weights(folder / "export") == weights(undisturbed / "export")


SECOND = """
import os, signal, sys, time
from arra_med.training import signals
signals._REPEAT_SECONDS = 0.3
with signals.StopSignals() as stop:
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.received == signal.SIGUSR1
    print("alive", flush=True)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still alive", flush=True)
"""


def test_a_second_signal_ends_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", SECOND], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("alive\n", -signal.SIGTERM)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
