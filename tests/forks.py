"""Processes for tests to signal or kill: forked from a server that has imported what they need.

That saves the ten seconds of imports which each process of its own would take. The server is not
the one that ``multiprocessing`` keeps for the package's workers: whichever test starts that one
first decides what it has imported.
"""

from multiprocessing import forkserver, popen_forkserver
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from unittest import mock

_SERVER = forkserver.ForkServer()
_SERVER.set_forkserver_preload(["tests.forks_preload"])


class _Popen(popen_forkserver.Popen):
    def _launch(self, process_obj: BaseProcess) -> None:
        connect = _SERVER.connect_to_new_process
        with mock.patch.object(forkserver, "connect_to_new_process", connect):
            super()._launch(process_obj)  # type: ignore[misc]


class ForkedProcess(ForkServerProcess):
    """``multiprocessing.Process`` of the tests' own server."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:
        return _Popen(process_obj)
