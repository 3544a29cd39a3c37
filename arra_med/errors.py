"""The two ways a command can end badly.

``RequestError``: what was asked cannot be done as asked (exit code 2); its text says what was
given, what was expected and what to do. ``WorkError``: the request was sound and the work
failed (exit code 1).
"""

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """The request is wrong: a setting, a path, a file's content. Exit code 2."""


class WorkError(RuntimeError):
    """The request is right and the work failed. Exit code 1."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` with the nearest of ``known``; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


EXIT_PREEMPTED = 75
"""Exit code of a training that a signal stopped after its checkpoint: start it again (EX_TEMPFAIL,
"temporary failure", of sysexits.h)."""

EXIT_INTERRUPTED = 130
"""Exit code of a verb that Ctrl-C ended, as of a program that does not handle it."""

INTERRUPTED = "interrupted; run the same command again to resume"
"""What a verb that a signal ended says."""

EXIT_TERMINATED = 143
"""Exit code of a verb that SIGTERM ended, as of a program that does not handle it."""


class PreemptedError(Exception):
    """A signal asked training to stop and it can resume. Exit code :data:`EXIT_PREEMPTED`."""
