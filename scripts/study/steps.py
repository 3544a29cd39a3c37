"""Commands that depend on one another, run several at a time, each once.

A step that ended is marked by a file that holds its command and how long it took; a later run
skips it, and refuses a mark of another command. What a command prints goes to a log of its own.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from arra_med.errors import RequestError
from arra_med.parallel import available_cores
from arra_med.store import write_atomic

_LAST_LINES = 25
_POLL = 0.1
"""Seconds between looks at what runs."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command.

    Attributes:
        name: of the step, its mark and its log.
        command: words of the command line.
        needs: names of steps that must have ended before.
        trains: a generator, which fills a GPU's memory where others leave room.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    trains: bool = False


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the commands run on.

    Attributes:
        name: for the marks.
        jobs: commands at a time.
        trainings: of these, how many may train. If fewer, training comes before all else, for
            which the other jobs are left.
        gpus: what ``CUDA_VISIBLE_DEVICES`` may be; none leaves it as it is.
    """

    name: str
    jobs: int
    trainings: int
    gpus: Sequence[str] = ()


def run_steps(
    steps: Sequence[Step],
    folder: Path,
    machine: Machine,
    *,
    lock: int,
    after: Callable[[], None] = lambda: None,
) -> list[str]:
    """Run what has not ended yet, in the given order where needs allow it.

    What needs a step that failed is not run; all else is. On an interrupt or SIGTERM the commands
    are ended, and it waits for them.

    Args:
        steps: all of them.
        folder: of the marks (``steps/``) and logs (``logs/``).
        machine: where they run, and how many at a time.
        lock: descriptor that the commands hold open too: a lock on it outlasts this process.
        after: called when a step ended well.

    Returns:
        What failed: each step's name, its command, and the end of its log.

    Raises:
        RequestError: if a step ended with another command before.
        KeyboardInterrupt: on either signal.
    """
    waiting = [step for step in steps if not _ended(step, folder)]
    if machine.trainings < machine.jobs:
        waiting.sort(key=lambda step: not step.trains)
    left = {step.name for step in waiting}
    running: list[_Running] = []
    failed: list[str] = []
    try:
        with (
            _noted_signals() as came,
            tqdm(total=len(steps), initial=len(steps) - len(waiting), unit="step") as progress,
        ):
            while waiting or running:
                for step in [step for step in waiting if not left.intersection(step.needs)]:
                    training = sum(one.step.trains for one in running)
                    if len(running) >= machine.jobs or (
                        step.trains and training >= machine.trainings
                    ):
                        continue
                    waiting.remove(step)
                    gpu = _least_used(machine.gpus or [""], running, step)
                    running.append(_Running(step, folder, gpu, machine.jobs, lock))
                if not running:  # the rest needs what failed
                    break
                time.sleep(_POLL)
                if came:
                    raise KeyboardInterrupt
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    if error := one.ending(machine.name):
                        failed.append(f"{one.step.name}: {error}")
                    else:
                        left.remove(one.step.name)
                        progress.update()
                        progress.set_postfix_str(one.step.name)
                        after()
    finally:
        for one in running:
            one.stop()
        for one in running:
            one.process.wait()
    assert failed or not waiting, f"steps that need one another: {waiting}"
    return failed


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Interrupts and SIGTERM are listed, not raised: a command that just started is not lost."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Running:
    """A started command."""

    def __init__(self, step: Step, folder: Path, gpu: str, jobs: int, lock: int) -> None:
        self.step, self.folder, self.gpu = step, folder, gpu
        self.begun = time.monotonic()
        threads = max(1, available_cores() // jobs)
        environment = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", **os.environ}
        if gpu:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self.log = folder / "logs" / f"{step.name}.txt"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                step.command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[lock],
                start_new_session=True,  # signals reach it through `stop`, once, with its workers
            )

    def stop(self) -> None:
        """Ask it to end, and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)

    def ending(self, machine: str) -> str | None:
        """Once it ended: its mark is written, or what is said of its failure."""
        if code := self.process.returncode:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            shown = "\n  ".join(line.rsplit("\r", 1)[-1] for line in lines[-_LAST_LINES:])
            return f"exit code {code}\n  {shlex.join(self.step.command)}\n  {shown}"
        seconds = round(time.monotonic() - self.begun, 1)
        mark = {"command": list(self.step.command), "seconds": seconds, "device": machine}
        write_atomic(_mark(self.folder, self.step.name), json.dumps(mark).encode())
        return None


def _least_used(gpus: Sequence[str], running: Sequence[_Running], step: Step) -> str:
    """Where the fewest commands run; for a step that trains, the fewest that train before that."""

    def load(gpu: str) -> tuple[int, int]:
        there = [one.step.trains for one in running if one.gpu == gpu]
        return (sum(there) if step.trains else 0, len(there))

    return min(gpus, key=load)


def with_needs(wanted: Sequence[Step], others: Sequence[Step]) -> list[Step]:
    """``wanted`` and what of ``others`` it needs, directly or not, those first."""
    known = {step.name: step for step in [*others, *wanted]}
    needed: set[str] = set()
    open_names = [step.name for step in wanted]
    while open_names:
        name = open_names.pop()
        if name not in needed:
            needed.add(name)
            open_names += known[name].needs
    return [step for step in known.values() if step.name in needed]


def ended(folder: Path, step: Step) -> bool:
    """Whether a step ended well."""
    return _mark(folder, step.name).is_file()


def mark_of(folder: Path, name: str) -> dict[str, Any]:
    """What is known of a step that ended: ``command``, ``seconds``, ``device``.

    Raises:
        RequestError: if its mark is damaged.
    """
    path = _mark(folder, name)
    try:
        mark: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RequestError(f"{path} is damaged ({error}): delete it and what it made") from error
    return mark


def _mark(folder: Path, name: str) -> Path:
    return folder / "steps" / f"{name}.json"


def _ended(step: Step, folder: Path) -> bool:
    mark = _mark(folder, step.name)
    if not mark.is_file():
        return False
    before = mark_of(folder, step.name)["command"]
    if before != list(step.command):
        raise RequestError(
            f"step {step.name} in {folder} was run as\n  {shlex.join(before)}\nand is now\n  "
            f"{shlex.join(step.command)}\n"
            f"choose another --output, or delete {mark} and what it made"
        )
    return True
