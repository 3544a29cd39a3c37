"""``demo``: draw phantoms and run every stage on them, through the verbs a user types."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from arra_med import config
from arra_med.errors import RequestError, WorkError
from arra_med.settings import Settings
from arra_med.store import write_atomic

STAGES = (
    ("ingest",),
    ("train-tokenizer",),
    ("tokenize",),
    ("features",),
    ("train",),
    ("generate",),
    # once more with left and right exchanged: does the model draw the side it is asked for?
    ("generate", "generation.swap_sides=true", "paths.generated={output}/swapped"),
    ("evaluate",),
)
"""Each verb with its overrides."""


def run(options: argparse.Namespace) -> None:
    """Run the pipeline in ``options.output``; an interrupted demo resumes.

    Raises:
        RequestError: if an override is wrong, or the folder holds a demo of other settings.
        WorkError: if a stage fails; its own message is on stderr.
    """
    output: Path = options.output
    overrides = [f"paths.output={output}", *options.overrides]
    settings = config.load(Settings, Path(__file__).with_name("demo.yaml"), overrides)
    written = output / "demo.yaml"
    text = config.dump(settings)
    if written.is_file() and written.read_text(encoding="utf-8") != text:
        raise RequestError(
            f"{output} holds a demo of other settings: choose another --output, or delete it"
        )
    write_atomic(written, text.encode())
    started = time.monotonic()
    for verb, *given in STAGES:
        words = [verb, str(written), *(one.format(output=output) for one in given)]
        command = f"arra-med {' '.join(words)}"
        sys.stderr.write(f"\n$ {command}\n")
        sys.stderr.flush()
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "arra_med", *words],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            # On a busy machine, threads that wait by spinning take the cores others work on.
            env={"OMP_WAIT_POLICY": "passive", **os.environ},
        )
        if done.returncode:
            message = f"'{command}' ended with exit code {done.returncode}"
            raise RequestError(message) if done.returncode == 2 else WorkError(message)
        result = done.stdout.strip()
        sys.stderr.write(f"{result}  ({time.monotonic() - begun:.0f} s)\n")
    minutes = (time.monotonic() - started) / 60
    sys.stdout.write(
        f"\nDone in {minutes:.1f} minutes. The configuration is {written}.\n"
        f"Open the report in a browser: {result}\n"
    )
