"""Processes that wait for one another."""

import os
import socket
import time
from datetime import timedelta

from torch import distributed
from torch.distributed import distributed_c10d

from arra_med.parallel import process_group
from tests.forks import ForkedProcess


def _late(rank: int, port: int) -> None:
    place = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in place.items()})
    distributed_c10d.default_pg_timeout = timedelta(seconds=1)
    with process_group():
        if rank == 0:
            time.sleep(2.5)
        distributed.barrier()


def test_one_waits_for_the_other_longer_than_torch_would() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [ForkedProcess(target=_late, args=(rank, port)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
