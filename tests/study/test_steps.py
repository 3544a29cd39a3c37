"""Commands that depend on one another, run once each."""

import json
import re
import sys
from pathlib import Path

import pytest
from steps import Step, ended, mark_of, run_steps

from arra_med.errors import RequestError


def step(name: str, code: str, *needs: str) -> Step:
    return Step(name=name, command=(sys.executable, "-S", "-c", code), needs=needs)


def run(steps: list[Step], folder: Path, *, jobs: int = 2, gpus: tuple[str, ...] = ()) -> list[str]:
    return run_steps(steps, folder, jobs=jobs, gpus=gpus, device="a machine")


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


def test_gpus_are_taken_in_turn(tmp_path: Path) -> None:
    code = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(0.5)"
    run([step("a", code), step("b", code)], tmp_path, gpus=("3", "5"))
    seen = {(tmp_path / "logs" / f"{name}.txt").read_text().strip() for name in "ab"}
    assert seen == {"3", "5"}


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
