"""Training on several GPUs: the same numbers as on one."""

import functools
import signal
from pathlib import Path

import pytest
import torch

from tests.training import ranks
from tests.training.ranks import at_step, losses

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]
TOLERANCE = 1e-4
"""Relative, float32: sums are taken in another order, and blocks are compiled unless ZeRO is 3."""
run = functools.partial(ranks.run, fresh=True)


def words(pipeline: Path, name: str, *overrides: str) -> list[object]:
    config = pipeline / "config.yaml"
    return ["train", config, f"paths.run={pipeline / name}", "device=cuda", *overrides]


@pytest.fixture(scope="module")
def one_gpu(pipeline: Path) -> dict[int, float]:
    run(pipeline / "one-gpu.log", *words(pipeline, "one-gpu"))
    return losses(pipeline / "one-gpu")


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_gpus_equal_one(pipeline: Path, one_gpu: dict[int, float], stage: int) -> None:
    name = f"gpus-zero{stage}"
    given = words(pipeline, name, f"training.zero_stage={stage}")
    run(pipeline / f"{name}.log", *given, processes=2)
    assert losses(pipeline / name) == pytest.approx(one_gpu, rel=TOLERANCE)


def test_what_two_gpus_began_one_ends(pipeline: Path, one_gpu: dict[int, float]) -> None:
    given = words(pipeline, "gpus-moved", "training.zero_stage=2")
    log = pipeline / "gpus-moved.log"
    stop = functools.partial(at_step, 3, signal.SIGUSR1, 0)
    run(log, *given, processes=2, code=75, prepare=stop)
    run(log, *given)
    assert losses(pipeline / "gpus-moved") == pytest.approx(one_gpu, rel=TOLERANCE)
