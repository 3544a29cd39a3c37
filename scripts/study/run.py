"""Run the study, or what of it is not done yet, and write its raw results.

    python scripts/study/run.py                       # main: the two main arms, five seeds
    python scripts/study/run.py choose                # settings, on validation
    python scripts/study/run.py main large --jobs 4   # groups of arms.yaml
    python scripts/study/run.py setup                 # what arms share: pictures, teachers, judge

Also a step of the setup by its name. Every step runs once; the same command goes on where it
stopped, and a step that fails stops what needs it alone. One log a step lies in ``<output>/logs``.
Results are small JSON files in ``--results``; ``document.py`` writes the page.
"""

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from collect import write_choice, write_run, write_setup
from plan import ARMS, HERE, Plan, Selection, read_arms
from steps import Step, ended, run_steps

from arra_med.errors import RequestError
from arra_med.parallel import available_cores
from arra_med.store import try_lock


def main() -> int:
    """Run, collect, and say where."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = _options()
    try:
        plan = Plan(options.output.resolve(), read_arms(options.arms))
        asked = plan.select(options.what, options.seeds)
        begun = time.monotonic()
        with _alone(plan.output):
            failed = run_steps(
                asked.steps,
                plan.output,
                jobs=options.jobs,
                gpus=_gpus(options),
                device=_device(options),
            )
    except (RequestError, OSError) as error:
        logging.error("%s", error)
        return 2
    logging.info("%.1f minutes", (time.monotonic() - begun) / 60)
    _collect(plan, asked, options.results)
    for message in failed:
        logging.error("%s", message)
    sys.stdout.write(f"{options.results}\n")
    return 1 if failed else 0


def _collect(plan: Plan, asked: Selection, results: Path) -> None:
    """Write the results of everything of which all steps ended."""

    def done(steps: Iterable[Step]) -> bool:
        return all(ended(plan.output, step) for step in steps)

    if done(step for step in plan.setup() if step.name == "reference"):
        write_setup(plan, results)
    if asked.candidates and all(done(plan.steps(run)) for run in asked.candidates):
        write_choice(plan, asked.candidates, results)
    for run in asked.runs:
        if done(plan.steps(run)):
            write_run(plan, run, results)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two of these commands in one folder would run the same steps.

    Raises:
        RequestError: if another one works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        if not try_lock(lock.fileno()):
            raise RequestError(f"another run.py works in {folder}: wait for it")
        yield


def _device(options: argparse.Namespace) -> str:
    """What the results say they were made on."""
    if not torch.cuda.is_available():
        return f"{available_cores()} CPU cores"
    name = torch.cuda.get_device_name()
    return f"{len(_gpus(options))} × {name}, {options.jobs} commands at a time"


def _gpus(options: argparse.Namespace) -> list[str]:
    """Numbers of the CUDA devices to use: those given, or all."""
    return options.gpus or [str(number) for number in range(torch.cuda.device_count())]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "what", nargs="*", default=["main"],
        help="setup, choose, groups of arms.yaml, steps of the setup",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("work/study"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--arms", type=Path, default=ARMS, help="what is compared")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="those of arms.yaml")
    parser.add_argument("--jobs", type=int, default=2, help="commands at a time")
    parser.add_argument("--gpus", nargs="*", default=[], help="CUDA device numbers, all by default")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
