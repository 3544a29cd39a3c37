"""Run the study, or what of it is not done yet, and write its raw results.

    python scripts/study/run.py                       # main: the two main arms, five seeds
    python scripts/study/run.py choose                # settings, on validation
    python scripts/study/run.py main large --jobs 4   # groups of arms.yaml
    python scripts/study/run.py setup                 # what arms share: pictures, teachers, judge

Also a step of the setup by its name. Every step runs once; the same command goes on where it
stopped, and a step that fails stops what needs it alone. One log a step lies in ``<output>/logs``.
Results are small JSON files in ``<output>/results``, each written once its last step ended;
``document.py --results`` writes the page.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from arms import ARMS, Group, read_arms
from collect import write_choice, write_run, write_setup
from plan import Plan, Selection
from steps import Machine, ended, run_steps

from arra_med.errors import RequestError
from arra_med.parallel import available_cores
from arra_med.store import try_lock


def main() -> int:
    """Run, collect, and say where."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
    options = _options()
    try:
        plan = Plan(options.output.resolve(), read_arms(options.arms))
        asked = plan.select(options.what, options.seeds)
        machine = _machine(options)
        results = options.results or plan.output / "results"
        try:
            results.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"no results can be written to {results}: {error}") from error
        begun = time.monotonic()
        with _alone(plan.output) as lock:
            collect = _Collector(plan, asked, results)
            collect()
            failed = run_steps(asked.steps, plan.output, machine, lock=lock, after=collect)
            logging.info("%.1f minutes", (time.monotonic() - begun) / 60)
    except (RequestError, OSError) as error:
        logging.error("%s", error)
        return 2
    except KeyboardInterrupt:
        logging.error("interrupted: the same command goes on from here")
        return 130
    for message in failed:
        logging.error("%s", message)
    sys.stdout.write(f"{results}\n")
    return 1 if failed else 0


class _Collector:
    """Called after every step, it writes the results of everything of which all steps ended."""

    def __init__(self, plan: Plan, asked: Selection, results: Path) -> None:
        self._plan, self._results = plan, results
        self._setup = plan.setup()
        self._made: list[str] = []
        self._left = [([*plan.steps(run)], partial(write_run, plan, run)) for run in asked.runs]
        if candidates := asked.candidates:
            steps = [step for run in candidates for step in plan.steps(run)]
            self._left.append((steps, partial(write_choice, plan, candidates)))

    def __call__(self) -> None:
        made = [step.name for step in self._setup if ended(self._plan.output, step)]
        if "reference" in made and made != self._made:  # a teacher may come later
            write_setup(self._plan, self._results)
            self._made = made
        for one in list(self._left):
            steps, write = one
            if all(ended(self._plan.output, step) for step in steps):
                write(self._results)
                self._left.remove(one)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """Two of these commands in one folder would run the same steps; yields the lock's descriptor.

    Raises:
        RequestError: if another one works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    with path.open("a") as lock:
        if not try_lock(lock.fileno(), path):
            raise RequestError(
                f"another run.py, or a command that one started, works in {folder}: wait for it"
            )
        yield lock.fileno()


def _machine(options: argparse.Namespace) -> Machine:
    """What was asked for, and its name in the results."""
    gpus = _gpus(options.gpus)
    name = f"{available_cores()} CPU cores"
    if gpus:
        name = f"{len(gpus)} × {torch.cuda.get_device_name(gpus[0])}"
    else:
        logging.warning("PyTorch sees no CUDA device: a run of the study's size will take days")
    return Machine(
        name=f"{name}, {options.jobs} commands at a time",
        jobs=options.jobs,
        trainings=options.trainings,
        gpus=[_visible(gpu) for gpu in gpus],
    )


def _gpus(given: list[int]) -> list[int]:
    """Numbers, as PyTorch counts, of the CUDA devices to use: those given, or all.

    Raises:
        RequestError: if one is not there.
    """
    there = range(torch.cuda.device_count())
    if absent := [number for number in given if number not in there]:
        raise RequestError(f"--gpus {absent[0]}: PyTorch sees {len(there)} CUDA devices")
    return given or list(there)


def _visible(gpu: int) -> str:
    """A device's entry in ``CUDA_VISIBLE_DEVICES``, in which a cluster may have named others."""
    granted = os.environ.get("CUDA_VISIBLE_DEVICES")
    return granted.split(",")[gpu] if granted else str(gpu)


def _options() -> argparse.Namespace:
    groups = "; ".join(f"{name} ({_about(group)})" for name, group in read_arms().groups.items())
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0],
        epilog=f"Groups of {ARMS.name}: {groups}.",
    )
    parser.add_argument(
        "what", nargs="*", default=["main"],
        help="setup, choose, groups, steps of the setup (default: main)",
    )  # fmt: skip
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        default=Path("work/study"),
        help="of everything (default: %(default)s)",
    )
    add("--results", type=Path, help="small JSON files (default: <output>/results)")
    add("--arms", type=Path, default=ARMS, help="what is compared (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[], help="in place of those of the arms' file")
    add("--jobs", type=int, default=2, help="commands at a time (default: %(default)s)")
    add("--trainings", type=int, help="of these, how many may train (default: all)")
    add("--gpus", type=int, nargs="+", default=[], help="CUDA device numbers (default: all)")
    options = parser.parse_args()
    if options.trainings is None:
        options.trainings = options.jobs
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    if not 1 <= options.trainings <= options.jobs:
        parser.error(f"--trainings must be 1 to --jobs, which is {options.jobs}")
    if min(options.seeds, default=0) < 0:
        parser.error("--seeds must not be negative")
    return options


def _about(group: Group) -> str:
    return f"{' and '.join(group.sizes)}: {', '.join(group.arms)}"


if __name__ == "__main__":
    sys.exit(main())
