"""Training processes for tests: quick to start, each to be signalled or killed on its own."""

import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.forks import ForkedProcess


class Ranks:
    """A command line run by several processes, without a launcher.

    Args:
        log: file name for what the processes write; ``.0``, ``.1`` … is added.
        arguments: of ``arra-med``.
        processes: how many.
        prepare: called in each process, with its rank, before the command line.
        fresh: in interpreters of their own, which takes longer: those of the tests' server have
            DeepSpeed ready for CPUs.
    """

    def __init__(
        self,
        log: Path,
        *arguments: object,
        processes: int = 1,
        prepare: Callable[[int], None] | None = None,
        fresh: bool = False,
    ) -> None:
        self.log = log
        kind = multiprocessing.get_context("spawn").Process if fresh else ForkedProcess
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [str(argument) for argument in arguments]
        self.processes: list[BaseProcess] = []
        for rank in range(processes):
            Path(f"{log}.{rank}").write_bytes(b"")  # there, and not of an earlier run, from now on
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
            process = kind(target=_run, args=(place, words, f"{log}.{rank}", prepare), daemon=False)
            process.start()
            self.processes.append(process)

    def codes(self, *, seconds: float = 300) -> list[int | None]:
        """Wait until all have ended; their exit codes."""
        until = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, until - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
        return codes

    def send(self, number: int, *ranks: int) -> None:
        """Send a signal to some ranks."""
        for rank in ranks:
            os.kill(self.processes[rank].pid or 0, number)

    def until(self, condition: Callable[[], bool], *, seconds: float = 300) -> None:
        """Wait for a condition while the processes run."""
        end = time.monotonic() + seconds
        while not condition():
            assert all(process.is_alive() for process in self.processes), self.said(0)
            assert time.monotonic() < end, self.said(0)
            time.sleep(0.01)

    def said(self, rank: int) -> str:
        """What a rank wrote to stdout and stderr."""
        return Path(f"{self.log}.{rank}").read_text(errors="replace")


def run(log: Path, *arguments: object, processes: int = 1, code: int = 0, **more: object) -> Ranks:
    """Run to the end; fails unless every process ends with ``code``."""
    ranks = Ranks(log, *arguments, processes=processes, **more)  # type: ignore[arg-type]
    codes = ranks.codes()
    assert codes == [code] * processes, "\n".join(
        [str(codes), *(ranks.said(rank)[-3000:] for rank in range(processes))]
    )
    return ranks


def _run(
    place: dict[str, int],
    arguments: list[str],
    log: str,
    prepare: Callable[[int], None] | None,
) -> None:
    descriptor = os.open(log, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    from arra_med.cli.main import main

    if prepare is not None:
        prepare(place["RANK"])
    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as a launcher sees it, without the server's own clean-up


def at_step(step: int, number: int, rank: int, me: int) -> None:
    """Let process ``rank`` (-1: each) get signal ``number`` right after optimizer step ``step``."""
    from arra_med.training.trainer import Trainer

    original = Trainer._after_step

    def after(self: Trainer, done: int) -> None:
        if done == step and rank in (me, -1):
            os.kill(os.getpid(), number)
        original(self, done)

    Trainer._after_step = after


def losses(run: Path) -> dict[int, float]:
    """Total training loss by step, from a run's log."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["total"] for line in lines if "total" in line}


def weights(export: Path) -> bytes:
    """The weights' file of an export."""
    return (export / "model.safetensors").read_bytes()
