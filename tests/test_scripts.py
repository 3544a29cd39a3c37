"""The benches run; their figures are for people to read."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        (
            "features.py",
            "--device cpu --images 24 --films 1 --alone 2 --size 64 --batch-size 4",
            "one at a time",
        ),
        ("ingest.py", "--repeats 1 --films 2 --small 4 --columns 300", "decode"),
        (
            "generate.py",
            "--device cpu --hidden 64 --layers 1 --side 2 --codes 16 --batches 1",
            "transformers' generate",
        ),
        ("train.py", "--device cpu --cases 2x1 --repeats 1", "fed by the loader"),
    ],
)
def test_a_bench_prints_figure_and_bound(name: str, arguments: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / name), *arguments.split()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert expected in done.stdout
    assert "bound" in done.stdout
