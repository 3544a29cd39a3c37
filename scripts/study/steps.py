"""Commands that depend on one another, run several at a time, each once.

A step that ended is marked by a file that holds its command and how long it took; a later run
skips it, and refuses a mark of another command. What a command prints goes to a log of its own.
"""

import json
import os
import queue
import shlex
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from arra_med.errors import RequestError, WorkError
from arra_med.parallel import available_cores
from arra_med.store import write_atomic

_LAST_LINES = 25


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command.

    Attributes:
        name: of the step, its mark and its log.
        command: words of the command line.
        needs: names of steps that must have ended before.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()


def run_steps(
    steps: Sequence[Step], folder: Path, *, jobs: int, gpus: Sequence[str], device: str
) -> list[str]:
    """Run what has not ended yet, in the given order where needs allow it.

    What needs a step that failed is not run; all else is.

    Args:
        steps: all of them.
        folder: of the marks (``steps/``) and logs (``logs/``).
        jobs: commands at a time.
        gpus: what ``CUDA_VISIBLE_DEVICES`` may be, taken in turn; none leaves it as it is.
        device: name of what the commands run on, for the marks.

    Returns:
        What failed: each step's name, its command, and the end of its log.

    Raises:
        RequestError: if a step ended with another command before.
    """
    waiting = [step for step in steps if not _ended(step, folder)]
    left = {step.name for step in waiting}
    slots: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in range(jobs):
        slots.put(gpus[number % len(gpus)] if gpus else "")
    running: dict[Future[None], Step] = {}
    failed: list[str] = []
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(steps), initial=len(steps) - len(waiting), unit="step") as progress,
    ):
        while waiting or running:
            ready = [step for step in waiting if not left.intersection(step.needs)]
            for step in ready[: jobs - len(running)]:
                waiting.remove(step)
                running[pool.submit(_run, step, folder, slots, jobs, device)] = step
            if not running:  # the rest needs what failed
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                error = future.exception()
                if error is None:
                    left.remove(step.name)
                    progress.update()
                    progress.set_postfix_str(step.name)
                else:
                    failed.append(f"{step.name}: {error}")
    assert failed or not waiting, f"steps that need one another: {waiting}"
    return failed


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
    """What is known of a step that ended: ``command``, ``seconds``, ``device``."""
    mark: dict[str, Any] = json.loads(_mark(folder, name).read_text(encoding="utf-8"))
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


def _run(step: Step, folder: Path, slots: "queue.SimpleQueue[str]", jobs: int, device: str) -> None:
    log = folder / "logs" / f"{step.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    gpu = slots.get()
    threads = max(1, available_cores() // jobs)
    environment = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", **os.environ}
    if gpu:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    begun = time.monotonic()
    try:
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(
                step.command, stdout=file, stderr=subprocess.STDOUT, check=False, env=environment
            )
    finally:
        slots.put(gpu)
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        shown = "\n  ".join(line.rsplit("\r", 1)[-1] for line in lines)
        raise WorkError(f"exit code {done.returncode}\n  {shlex.join(step.command)}\n  {shown}")
    mark = {
        "command": list(step.command),
        "seconds": round(time.monotonic() - begun, 1),
        "device": device,
    }
    write_atomic(_mark(folder, step.name), json.dumps(mark).encode())
