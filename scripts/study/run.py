"""Run the study, or what of it is not done yet, and write its raw results.

    python scripts/study/run.py --output work/study --jobs 4        # the two main arms, three seeds
    python scripts/study/run.py --output work/study --group large   # another group of arms.yaml
    python scripts/study/run.py --output work/study --choose        # settings, on validation

Every step runs once; the same command goes on where it stopped. One log a step lies in
``<output>/logs``. Results are small JSON files in ``--results``; ``document.py`` writes the page.
"""

import argparse
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from collect import write_choice, write_run, write_setup
from plan import ARMS, HERE, Plan, Run, read_arms
from steps import Step, ended, run_steps, with_needs

from arra_med.errors import RequestError
from arra_med.parallel import available_cores


def main() -> int:
    """Run, collect, and say where."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = _options()
    plan = Plan(options.output.resolve(), read_arms(options.arms))
    try:
        runs = [] if options.setup else [
            run
            for group in options.group
            for run in plan.runs(group, options.seeds)
        ]  # fmt: skip
        if options.choose:
            runs = plan.candidates()
        setup = plan.setup()
        steps = [step for run in runs for step in plan.steps(run)]
        steps = setup if options.setup else with_needs(steps, setup)
        begun = time.monotonic()
        failed = run_steps(
            steps, plan.output, jobs=options.jobs, gpus=options.gpus, device=_device(options)
        )
    except RequestError as error:
        logging.error("%s", error)
        return 2
    logging.info("%.1f minutes", (time.monotonic() - begun) / 60)
    _collect(plan, runs, options)
    for message in failed:
        logging.error("%s", message)
    sys.stdout.write(f"{options.results}\n")
    return 1 if failed else 0


def _collect(plan: Plan, runs: Sequence[Run], options: argparse.Namespace) -> None:
    """Write the results of everything of which all steps ended."""

    def done(steps: Iterable[Step]) -> bool:
        return all(ended(plan.output, step) for step in steps)

    finished = [run for run in runs if done(plan.steps(run))]
    if finished or options.setup:
        write_setup(plan, options.results)
    if options.choose and len(finished) == len(runs):
        write_choice(plan, runs, options.results)
    if not options.choose:
        for run in finished:
            write_run(plan, run, options.results)


def _device(options: argparse.Namespace) -> str:
    """What the results say they were made on."""
    if not torch.cuda.is_available():
        return f"{available_cores()} CPU cores"
    count = len(options.gpus) or torch.cuda.device_count()
    return f"{count} × {torch.cuda.get_device_name()}, {options.jobs} commands at a time"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output", type=Path, default=Path("work/study"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--arms", type=Path, default=ARMS, help="what is compared")
    parser.add_argument("--group", nargs="+", default=["main"], help="groups of arms.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="commands at a time")
    parser.add_argument("--gpus", nargs="*", default=[], help="CUDA device numbers, all by default")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--setup", action="store_true", help="pictures, teachers and judge alone")
    what.add_argument("--choose", action="store_true", help="try settings on validation")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
