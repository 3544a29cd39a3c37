"""One evaluation and the same again, when what it learned of real pictures is there.

    python scripts/bench/evaluate_again.py run.yaml paths.generated=work/generated

Both are written to scratch folders; what the prepared folder holds of earlier evaluations is
deleted first. Seconds of the processor are those of this process: set ``evaluation.workers=0`` to
have all of them.
"""

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from harness import describe

from arra_med import config
from arra_med.errors import RequestError
from arra_med.eval.evaluate import RESULTS, evaluate
from arra_med.eval.real_pictures import FOLDER
from arra_med.settings import Settings


def main() -> None:
    """Evaluate twice and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f"Deletes {FOLDER}/ of the prepared folder first; evaluations make it again.",
    )
    parser.add_argument("config", type=Path, help="of a run whose pictures are generated")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="settings to override"
    )
    options = parser.parse_args()
    try:
        _compare(config.load(Settings, options.config, options.overrides))
    except (RequestError, FileNotFoundError) as error:
        sys.exit(str(error))


def _compare(settings: Settings) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(describe(device))
    before = settings.paths.folder("prepared") / FOLDER
    with tempfile.TemporaryDirectory() as scratch:
        if before.is_dir():
            shutil.rmtree(before)
        times, results = [], []
        for name in ("first", "again"):
            paths = replace(settings.paths, evaluation=Path(scratch) / name)
            begun = time.perf_counter(), time.process_time()
            folder = evaluate(replace(settings, paths=paths), device=device)
            times.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
            results.append((folder / RESULTS).read_bytes())
            print(f"{name}: {times[-1][0]:.1f} s, {times[-1][1]:.1f} s of the processor")
    share = [again / first for first, again in zip(*times, strict=True)]
    print(f"again takes {share[0]:.0%} of the time, {share[1]:.0%} of the processor's")
    print(f"results are {'the same' if results[0] == results[1] else 'NOT the same'} to the byte")


if __name__ == "__main__":
    main()
