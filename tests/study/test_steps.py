"""Commands that depend on one another, run once each."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from steps import Machine, Step, ended, mark_of, run_steps

from arra_med.errors import RequestError
from arra_med.store import try_lock


def step(name: str, code: str, *needs: str) -> Step:
    return Step(name=name, command=(sys.executable, "-S", "-c", code), needs=needs)


def run(
    steps: list[Step],
    folder: Path,
    *,
    jobs: int = 2,
    trainings: int | None = None,
    gpus: tuple[str, ...] = (),
    after: Callable[[], None] = lambda: None,
) -> list[str]:
    machine = Machine(name="a machine", jobs=jobs, trainings=trainings or jobs, gpus=gpus)
    with (folder / "lock").open("a") as lock:
        return run_steps(steps, folder, machine, lock=lock.fileno(), after=after)


def append(folder: Path, word: str) -> str:
    return f"open({str(folder / 'order')!r}, 'a').write({word!r} + ' ')"


def order(folder: Path) -> list[str]:
    return (folder / "order").read_text().split()


def test_needs_come_first_and_each_step_runs_once(tmp_path: Path) -> None:
    steps = [
        step("last", append(tmp_path, "last"), "middle"),
        step("middle", append(tmp_path, "middle"), "first"),
        step("first", append(tmp_path, "first")),
    ]
    run(steps, tmp_path)
    run(steps, tmp_path)
    assert order(tmp_path) == ["first", "middle", "last"]
    mark = mark_of(tmp_path, "last")
    assert mark["device"] == "a machine"
    assert mark["seconds"] >= 0


def test_it_is_told_of_each_step_that_ended_well(tmp_path: Path) -> None:
    steps = [step("one", ""), step("wrong", "raise SystemExit(1)", "one"), step("last", "", "one")]
    there: list[list[str]] = []
    run(
        steps,
        tmp_path,
        after=lambda: there.append([one.name for one in steps if ended(tmp_path, one)]),
    )
    assert there == [["one"], ["one", "last"]]


def test_training_comes_first_where_jobs_are_left_for_the_rest(tmp_path: Path) -> None:
    """Two others that wait for it would fill both jobs and never end."""
    wait = f"""
import pathlib, time
while not pathlib.Path({str(tmp_path / "order")!r}).exists():
    time.sleep(0.01)
"""
    steps = [step("one", wait), step("two", wait), step("train", append(tmp_path, "train"))]
    steps[-1] = replace(steps[-1], trains=True)
    assert run(steps, tmp_path, jobs=2, trainings=1) == []


def test_no_more_trainings_than_allowed(tmp_path: Path) -> None:
    alone = f"""
import os, time
os.mkdir({str(tmp_path / "training")!r})
time.sleep(0.2)
os.rmdir({str(tmp_path / "training")!r})
"""
    steps = [replace(step(name, alone), trains=True) for name in ("one", "two", "three")]
    assert run(steps, tmp_path, jobs=3, trainings=1) == []


def test_jobs_run_at_the_same_time(tmp_path: Path) -> None:
    """Each waits for the other's file: one at a time would never end."""

    def meet(own: str, other: str) -> str:
        return f"""
import pathlib, time
folder = pathlib.Path({str(tmp_path)!r})
(folder / {own!r}).touch()
end = time.time() + 20
while not (folder / {other!r}).exists():
    assert time.time() < end
    time.sleep(0.01)
"""

    run([step("a", meet("a", "b")), step("b", meet("b", "a"))], tmp_path)


def test_commands_are_spread_over_gpus(tmp_path: Path) -> None:
    code = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(0.5)"
    run([step("a", code), step("b", code)], tmp_path, gpus=("3", "5"))
    seen = {(tmp_path / "logs" / f"{name}.txt").read_text().strip() for name in "ab"}
    assert seen == {"3", "5"}


def test_trainings_are_spread_over_gpus_before_all_else(tmp_path: Path) -> None:
    code = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(0.5)"
    first, second = (replace(step(name, code), trains=True) for name in ("first", "second"))
    run([first, step("other", code), second], tmp_path, jobs=3, gpus=("3", "5"))
    seen = [(tmp_path / "logs" / f"{name}.txt").read_text().strip() for name in ("first", "second")]
    assert sorted(seen) == ["3", "5"]


def test_a_failure_stops_what_needs_it_alone_and_shows_its_log(tmp_path: Path) -> None:
    steps = [
        step("bad", "raise SystemExit('the disk is full')"),
        step("after", append(tmp_path, "after"), "bad"),
        step("later", append(tmp_path, "later"), "after"),
        step("beside", append(tmp_path, "beside")),
        step("further", append(tmp_path, "further"), "beside"),
    ]
    failed = run(steps, tmp_path, jobs=1)
    assert len(failed) == 1
    assert re.match(r"bad: exit code 1\n(.|\n)*the disk is full", failed[0])
    assert order(tmp_path) == ["beside", "further"]
    assert ended(tmp_path, steps[-1])
    assert not ended(tmp_path, steps[0])
    mended = [step("bad", append(tmp_path, "good")), *steps[1:]]
    assert run(mended, tmp_path, jobs=1) == []
    assert order(tmp_path) == ["beside", "further", "good", "after", "later"]


def test_a_changed_command_is_refused(tmp_path: Path) -> None:
    run([step("a", "pass")], tmp_path)
    with pytest.raises(RequestError, match=r"step a .* was run as"):
        run([step("a", "print(1)")], tmp_path)
    assert json.loads((tmp_path / "steps" / "a.json").read_text())["command"][-1] == "pass"


def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    run([step("a", "pass")], tmp_path)
    (tmp_path / "steps" / "a.json").write_text('{"comm')
    with pytest.raises(RequestError, match=r"a.json is damaged .*: delete it and what it made"):
        run([step("a", "pass")], tmp_path)


_INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, {scripts!r})
from steps import Machine, Step, run_steps
from arra_med.store import try_lock
folder = Path({folder!r})
code = "import os, time; open(os.environ['BEGUN'], 'w').write(str(os.getpid())); time.sleep(60)"
steps = [Step(name="long", command=(sys.executable, "-S", "-c", code))]
with (folder / "lock").open("a") as lock:
    assert try_lock(lock.fileno(), folder / "lock")
    machine = Machine(name="a machine", jobs=1, trainings=1)
    run_steps(steps, folder, machine, lock=lock.fileno())
"""


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs one long command, whose number stands in the file ``begun``."""
    scripts = str(Path(__file__).parents[2] / "scripts" / "study")
    code = _INTERRUPTED.format(scripts=scripts, folder=str(tmp_path))
    begun = tmp_path / "begun"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "BEGUN": str(begun)},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: begun.is_file() and begun.read_text() != "")
    yield process
    process.kill()
    process.wait()


def wait_until(holds: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def locked(folder: Path) -> bool:
    with (folder / "lock").open("a") as lock:
        return not try_lock(lock.fileno(), folder / "lock")


def test_an_interrupt_ends_the_commands_too(
    interrupted: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    pid = int((tmp_path / "begun").read_text())
    interrupted.send_signal(signal.SIGINT)
    interrupted.wait(60)
    wait_until(lambda: not alive(pid))
    assert not locked(tmp_path)
    assert not (tmp_path / "steps").exists()


def test_what_a_killed_run_left_behind_keeps_the_lock(
    interrupted: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Or a second run would start the same command beside it."""
    pid = int((tmp_path / "begun").read_text())
    interrupted.kill()
    interrupted.wait(60)
    assert alive(pid)
    assert locked(tmp_path)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not locked(tmp_path))
