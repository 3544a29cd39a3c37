"""Thousands of broken files; see ``mutations.py`` for what is done to them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rendered_after(count, seed, *folder):
    done = subprocess.run(
        [sys.executable, "-m", "tests.datasets.mutations", str(count), str(seed), *folder],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["slowest"] < 5
    assert result["rendered"] + sum(result["reasons"].values()) == count
    return result


def test_mutated_films_are_rendered_or_refused():
    result = rendered_after(1000, 5)
    assert result["rendered"] > 100  # the mutations are not all so coarse that a check ends them
    assert len(result["reasons"]) > 20


@pytest.mark.real_data
def test_2000_mutated_real_files_are_rendered_or_refused(real_data):
    result = rendered_after(2000, 7, str(real_data / "dicom"))
    assert result["rendered"] > 200
    assert len(result["reasons"]) > 20
