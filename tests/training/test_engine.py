"""A training process's place among others."""

import os
import sys
from unittest import mock

import pytest
import torch

from arra_med.errors import RequestError
from arra_med.training.engine import start_processes
from tests.forks import ForkedProcess


def _start_alone(device: str) -> None:
    """End with the number of the GPU that this process takes."""
    os.environ.pop("RANK", None)
    os.environ["DS_ACCELERATOR"] = torch.device(device).type
    with (
        mock.patch("deepspeed.init_distributed"),
        mock.patch("torch.distributed.get_rank"),
        mock.patch("torch.distributed.get_world_size"),
    ):
        start_processes(torch.device(device))
    sys.exit(int(os.environ["LOCAL_RANK"]))


@pytest.mark.parametrize(("device", "expected"), [("cuda:1", 1), ("cuda", 0), ("cpu", 0)])
def test_a_process_alone_takes_the_gpu_that_was_asked_for(device: str, expected: int) -> None:
    process = ForkedProcess(target=_start_alone, args=(device,))
    process.start()
    process.join()
    assert process.exitcode == expected


def test_deepspeed_told_to_use_another_kind_of_device_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    with pytest.raises(
        RequestError, match=r"DS_ACCELERATOR is cpu .* the device is cuda: unset it"
    ):
        start_processes(torch.device("cuda"))
