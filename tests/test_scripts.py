"""The benches run; their figures are for people to read."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench"
TINY = ["--device", "cpu", "--hidden", "64", "--layers", "1", "--side", "2", "--codes", "16"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("train_step.py", ["--batch", "2", "--repeats", "1"], "with alignment"),
        ("generate.py", ["--batches", "1"], "transformers' generate"),
    ],
)
def test_a_bench_prints_figure_and_bound(name: str, arguments: list[str], expected: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / name), *TINY, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert expected in done.stdout
    assert "bound" in done.stdout
