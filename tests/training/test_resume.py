"""A run that was stopped, killed or moved to other ranks learns what an undisturbed one does."""

import functools
import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from arra_med.cli.main import main
from arra_med.training.checkpoints import complete_checkpoints, damage, read_mark
from tests.training.ranks import Ranks, at_step, losses, run, weights

SETTINGS = ("training.preview_samples=1", "backbone.dropout=0.1")
TOLERANCE = 2e-6
"""Relative, float32: other ranks sum in another order."""
KILLS = int(os.environ.get("ARRA_MED_KILLS", "4"))
"""Random moments; by hand 20 of them: ``ARRA_MED_KILLS=20 pytest -k random_moments``."""


CASES = [(0, 1), (1, 1), (2, 1), (3, 1), (2, 2)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"zero{case[0]}x{case[1]}")
def whole(pipeline: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, list[str], int]]:
    """An undisturbed run with a checkpoint after steps 3 and 6; its arguments and processes."""
    stage, processes = request.param
    name = f"whole-{stage}-{processes}"
    arguments = [
        "train", str(pipeline / "config.yaml"), f"training.zero_stage={stage}",
        "training.checkpoint_every=3", "training.micro_batch_size=2", *SETTINGS,
    ]  # fmt: skip
    folder = pipeline / name
    run(pipeline / f"{name}.log", *arguments, f"paths.run={folder}", processes=processes)
    yield folder, arguments, processes
    shutil.rmtree(folder)


def test_killed_after_three_steps_and_resumed_equals_six(
    pipeline: Path, whole: tuple[Path, list[str], int]
) -> None:
    folder, arguments, processes = whole
    killed = pipeline / f"{folder.name}-killed"
    arguments = [*arguments, f"paths.run={killed}"]
    kill = functools.partial(at_step, 4, signal.SIGKILL, -1)
    log = pipeline / f"{killed.name}.log"
    run(log, *arguments, processes=processes, code=-signal.SIGKILL, prepare=kill)
    assert [p.name for p in complete_checkpoints(killed / "checkpoints")] == ["step-00000003"]
    run(log, *arguments, processes=processes)
    assert losses(killed) == losses(folder)
    assert weights(killed / "export") == weights(folder / "export")


def test_a_checkpoint_exports_what_training_exports(
    whole: tuple[Path, list[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments, _ = whole
    again = folder / "again"
    arguments = ["export", arguments[1], f"paths.run={folder}", "-q"]
    assert main([*arguments, f"paths.export={again}"]) == 0
    assert weights(again) == weights(folder / "export")
    assert (again / "arra.json").read_bytes() == (folder / "export/arra.json").read_bytes()
    assert main([*arguments, "--checkpoint", "step-00000003"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{folder}/export-step-00000003"
    assert weights(folder / "export-step-00000003") != weights(again)
    other = [*arguments, f"paths.export={again}", "--checkpoint", "step-00000003"]
    assert main(other) == 2
    assert main([*arguments, "--checkpoint", "step-00000004"]) == 2


def test_another_runs_export_is_not_taken_for_this_runs(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export = pipeline / "shared-export"
    words = ["train", str(pipeline / "config.yaml"), *SETTINGS, f"paths.export={export}"]
    words.append("training.zero_stage=0")
    first, second, third = (
        [*words, f"paths.run={pipeline}/shared-{number}", f"training.learning_rate={rate}"]
        for number, rate in enumerate(("1e-3", "2e-3", "3e-3"))
    )
    log = pipeline / "shared.log"
    stop = functools.partial(at_step, 3, signal.SIGUSR1, 0)
    run(log, *first, code=75, prepare=stop)  # pre-empted; meanwhile another run ends
    run(log, *second)
    for arguments in (first, third):
        ranks = run(log, *arguments, code=2)
        assert "shared-export holds an export of another run: delete it" in ranks.said(0)
    assert main(["export", *first[1:]]) == 2
    assert "holds an export of another run" in caplog.text
    assert "already done" in run(log, *second).said(0)


def test_an_export_before_the_end_does_not_end_training(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export = pipeline / "early-export"
    words = [str(pipeline / "config.yaml"), *SETTINGS, f"paths.export={export}"]
    words += ["training.zero_stage=0", f"paths.run={pipeline}/early"]
    log = pipeline / "early.log"
    stop = functools.partial(at_step, 3, signal.SIGUSR1, 0)
    run(log, "train", *words, code=75, prepare=stop)
    assert main(["export", *words, "-q"]) == 0
    assert main(["train", *words]) == 2
    assert "holds the export of step 3, this would be step 6" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_ranks_then_one_then_two(pipeline: Path, stage: int) -> None:
    arguments = [
        "train", pipeline / "config.yaml", f"training.zero_stage={stage}",
        "training.preview_samples=1", "training.micro_batch_size=2",
    ]  # fmt: skip
    plain, moved = pipeline / f"plain{stage}", pipeline / f"moved{stage}"
    log = pipeline / f"moved{stage}.log"
    run(log, *arguments, f"paths.run={plain}", processes=2)
    arguments.append(f"paths.run={moved}")
    for step, processes in ((2, 2), (4, 1)):
        stop = functools.partial(at_step, step, signal.SIGUSR1, 0)
        run(log, *arguments, processes=processes, code=75, prepare=stop)
    ranks = run(log, *arguments, processes=2)
    assert "converting step-00000004 from ZeRO" in ranks.said(0)
    assert losses(moved) == pytest.approx(losses(plain), rel=TOLERANCE)
    assert not (moved / "checkpoints/.universal").exists()


@pytest.mark.slow
def test_a_rank_killed_at_random_moments(pipeline: Path) -> None:
    """With a checkpoint after each step, so that many are killed while they are written."""
    arguments = [
        "train", pipeline / "config.yaml", "training.zero_stage=1", "training.checkpoint_every=1",
        "training.max_steps=300", "training.epochs=1000", "training.preview_samples=1",
        "backbone.dropout=0.1",
    ]  # fmt: skip
    folder = pipeline / "random"
    checkpoints = folder / "checkpoints"
    log = pipeline / "random.log"
    rng = random.Random(0)
    steps = 0
    for _ in range(KILLS):
        ranks = Ranks(log, *arguments, f"paths.run={folder}", processes=2)
        ranks.until(lambda ranks=ranks: "train:" in ranks.said(0))
        for process in ranks.processes:
            process.join(rng.uniform(0, 0.4))
        ranks.send(signal.SIGKILL, rng.randrange(2))
        codes = ranks.codes()
        assert sorted(code == -signal.SIGKILL for code in codes) == [False, True], codes
        found = complete_checkpoints(checkpoints)
        for path in found:
            assert damage(path, list(read_mark(path)["files"])) is None
        newest = read_mark(found[-1])["step"] if found else 0
        assert newest >= steps, "a checkpoint was lost"
        steps = newest
    assert steps, "killed before the first checkpoint every time"
    stop = functools.partial(at_step, steps + 3, signal.SIGTERM, 1)
    run(log, *arguments, f"paths.run={folder}", processes=2, code=75, prepare=stop)
    plain = pipeline / "not-killed"
    stop = functools.partial(at_step, steps + 3, signal.SIGTERM, 1)
    rare = [*arguments, "training.checkpoint_every=0", f"paths.run={plain}"]
    run(log, *rare, processes=2, code=75, prepare=stop)
    assert losses(folder) == losses(plain)
