"""What is kept, what is removed, and what happens to damaged ones: without DeepSpeed."""

import errno
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from arra_med.errors import WorkError
from arra_med.training.checkpoints import MARK, Checkpoints, complete_checkpoints, read_mark


class Alone:
    """An agreement of one rank."""

    def wait(self) -> None: ...

    def everyone(self, value: Any) -> list[Any]:
        return [value]


def checkpoints(folder: Path, *, keep: int = 2, keep_best: bool = False) -> Checkpoints:
    return Checkpoints(folder, Alone(), rank=0, world_size=1, keep=keep, keep_best=keep_best)


def write(folder: str, name: str) -> None:
    path = Path(folder) / name
    path.mkdir(parents=True)
    (path / "weights.pt").write_bytes(name.encode() * 100)


def save(kept: Checkpoints, step: int, validation: float | None = None) -> None:
    kept.save(write, step, validation=validation, facts={"zero_stage": 0, "total_steps": 9})


def steps(folder: Path) -> list[int]:
    return [read_mark(path)["step"] for path in complete_checkpoints(folder)]


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path, keep=2, keep_best=True)
    for step, loss in enumerate([5.0, 3.0, None, 4.0, 3.0, 3.5, 3.2], start=1):
        save(kept, step, loss)
    assert steps(tmp_path) == [2, 6, 7]
    assert kept.best() == 3.0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000002", "step-00000006", "step-00000007",
    ]  # fmt: skip


def test_a_mark_says_what_the_files_are(tmp_path: Path) -> None:
    save(checkpoints(tmp_path), 3, 2.5)
    mark = json.loads((tmp_path / "step-00000003" / MARK).read_text())
    content = b"step-00000003" * 100
    assert mark["files"]["weights.pt"]["bytes"] == len(content)
    assert mark | {"files": 0, "versions": 0} == {
        "step": 3, "validation": 2.5, "world_size": 1, "zero_stage": 0, "total_steps": 9,
        "files": 0, "versions": 0,
    }  # fmt: skip
    assert {"torch", "deepspeed"} <= set(mark["versions"])


@pytest.mark.parametrize("how", ["content", "size", "lost", "mark"])
def test_a_damaged_newest_is_set_aside(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        save(kept, step)
    file = tmp_path / "step-00000003" / "weights.pt"
    if how == "mark":
        file = file.with_name(MARK)
        file.write_bytes(b"")
    elif how == "lost":
        file.unlink()
    else:
        file.write_bytes(b"X" * (file.stat().st_size - (how == "size")))
    with caplog.at_level(logging.WARNING):
        assert kept.newest() == tmp_path / "step-00000002"
    assert f"is damaged ({file.name}" in caplog.text
    save(kept, 3)
    assert steps(tmp_path) == [1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 3, "the damaged one is gone once another is good"


def test_without_a_whole_one_nothing_begins_anew(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    save(kept, 1)
    (tmp_path / "step-00000001/weights.pt").unlink()
    for _ in range(2):
        with pytest.raises(WorkError, match=r"no checkpoint in .* is whole"):
            kept.newest()


def test_an_incomplete_one_is_removed(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    assert kept.newest() is None
    save(kept, 1)
    write(str(tmp_path), "step-00000002")
    assert kept.newest() == tmp_path / "step-00000001"
    assert not (tmp_path / "step-00000002").exists()


def test_a_full_disk_leaves_those_before(tmp_path: Path) -> None:
    def full(folder: str, name: str) -> None:
        write(folder, name)
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = checkpoints(tmp_path, keep=1)
    save(kept, 1)
    with pytest.raises(WorkError, match=r"step 2 could not be written.*No space left.*intact"):
        kept.save(full, 2, validation=None, facts={"zero_stage": 0, "total_steps": 9})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert kept.newest() == tmp_path / "step-00000001"


def test_a_late_validation_is_written_down(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    save(kept, 1)
    assert kept.best() is None
    kept.set_validation(1, 4.0)
    assert kept.best() == 4.0
    assert kept.newest() == tmp_path / "step-00000001"
