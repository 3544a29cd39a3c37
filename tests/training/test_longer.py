"""A run that is made longer learns what a run of that length learns."""

import functools
import json
import shutil
import signal
from pathlib import Path

import pytest

from arra_med.cli.main import main
from arra_med.training.checkpoints import complete_checkpoints
from tests.training.ranks import at_step, losses, run, weights

SETTINGS = ("training.preview_samples=1", "backbone.dropout=0.1", "training.checkpoint_every=3")


def words(pipeline: Path, folder: Path, *more: str) -> list[str]:
    return [str(pipeline / "config.yaml"), *SETTINGS, f"paths.run={folder}", *more]


@pytest.mark.parametrize(("stage", "processes"), [(0, 1), (2, 2)])
def test_three_steps_and_three_more_equal_six(pipeline: Path, stage: int, processes: int) -> None:
    settings = (f"training.zero_stage={stage}", "training.micro_batch_size=2")
    log = pipeline / "longer.log"
    whole = pipeline / f"six-{stage}"
    run(log, "train", *words(pipeline, whole, *settings), processes=processes)
    folder = pipeline / f"three-{stage}"
    short = words(pipeline, folder, *settings, "training.max_steps=3")
    run(log, "train", *short, processes=processes)
    earlier = weights(folder / "export")
    longer = words(pipeline, folder, *settings)
    kill = functools.partial(at_step, 4, signal.SIGKILL, -1)
    run(log, "train", *longer, processes=processes, code=-signal.SIGKILL, prepare=kill)
    assert not (folder / "export").exists(), "the run has no end now"
    assert weights(folder / "export-step-00000003") == earlier
    ranks = run(log, "train", *longer, processes=processes)
    assert "resuming after step 3" in ranks.said(0)
    assert losses(folder) == losses(whole)
    for name in ("model.safetensors", "arra.json"):
        assert (folder / "export" / name).read_bytes() == (whole / "export" / name).read_bytes()
    assert weights(folder / "export-step-00000003") == earlier
    ranks = run(log, "train", *short, code=2)
    assert "has 6: 'arra-med export" in ranks.said(0)


@pytest.fixture(scope="module")
def ended(pipeline: Path) -> Path:
    """A run of one epoch, which are three steps."""
    folder = pipeline / "ended"
    run(pipeline / "ended.log", "train", *words(pipeline, folder, "training.epochs=1"))
    return folder


@pytest.fixture
def copy(ended: Path, tmp_path: Path) -> Path:
    return shutil.copytree(ended, tmp_path / "run")


def test_it_says_that_it_may_be_longer(
    pipeline: Path, copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["train", *words(pipeline, copy, "training.epochs=1")]) == 0
    assert f"{copy / 'export'} is already done. To train it for longer, raise" in caplog.text
    shutil.rmtree(copy / "checkpoints")
    assert main(["train", *words(pipeline, copy, "training.epochs=1")]) == 0
    assert f"backbone.pretrained={copy / 'export'} backbone.llama=null" in caplog.text


def test_a_record_without_a_setting_that_came_later_has_no_other_length(
    pipeline: Path, copy: Path
) -> None:
    record = json.loads((copy / "run.json").read_text())
    assert record["training"].pop("bucket_batches") is None
    (copy / "run.json").write_text(json.dumps(record))
    shutil.rmtree(copy / "export")
    shutil.rmtree(copy / "checkpoints")
    assert main(["train", *words(pipeline, copy, "training.epochs=1"), "--dry-run"]) == 0


def test_more_epochs_and_a_dry_run_of_them(
    pipeline: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = words(pipeline, copy, "training.epochs=2", "training.max_steps=5")
    assert main(["train", *longer, "--dry-run", "-q"]) == 0
    assert "steps           5" in capsys.readouterr().out
    assert (copy / "export").exists(), "nothing was begun"
    run(pipeline / "epochs.log", "train", *longer)
    assert json.loads((copy / "export/arra.json").read_text())["trained_on"]["steps"] == 5
    assert main(["export", *words(pipeline, copy, "training.epochs=1")]) == 2, "it was longer"
    recorded = [str(pipeline / "config.yaml"), f"paths.run={copy}", "-q"]
    assert main(["export", *recorded]) == 0
    assert main(["export", *recorded, "--checkpoint", "step-00000003"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{copy}/export-step-00000003"


def test_the_export_of_a_run_made_longer_is_not_that_of_its_end(
    pipeline: Path,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shorter = (copy / "config.yaml").read_text()
    longer = words(pipeline, copy, "training.epochs=2", "training.max_steps=6")
    kill = functools.partial(at_step, 4, signal.SIGKILL, -1)
    run(pipeline / "killed.log", "train", *longer, code=-signal.SIGKILL, prepare=kill)
    assert [p.name for p in complete_checkpoints(copy / "checkpoints")] == ["step-00000003"]
    said = refused(caplog, *words(pipeline, copy, "training.epochs=9", "training.max_steps=3"))
    assert "make 3 steps" in said
    assert "has 6: 'arra-med export" in said
    shutil.rmtree(copy / "export-step-00000003")
    (copy / "config.yaml").write_text(shorter)  # as a kill right after run.json leaves it
    assert main(["export", str(pipeline / "config.yaml"), f"paths.run={copy}", "-q"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{copy}/export-step-00000003"
    assert not (copy / "export").exists()
    run(pipeline / "killed.log", "train", *longer)
    assert json.loads((copy / "export/arra.json").read_text())["trained_on"]["steps"] == 6


def refused(caplog: pytest.LogCaptureFixture, *arguments: str) -> str:
    caplog.clear()
    assert main(["train", *arguments]) == 2
    return caplog.text


def test_what_cannot_be_longer_says_why(
    pipeline: Path, copy: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    as_long = words(pipeline, copy, "training.epochs=1", "training.max_steps=9")
    said = run(pipeline / "as-long.log", "train", *as_long, code=2).said(0)
    assert f"make 3 steps, the run in {copy} has 3: raise the other too" in said
    said = refused(caplog, *words(pipeline, copy, "seed=1", "training.epochs=2"))
    assert "holds a run of another configuration" in said
    (copy / "export-step-00000003").mkdir()
    said = refused(caplog, *words(pipeline, copy, "training.epochs=2"))
    assert "export-step-00000003: delete that one" in said
    (copy / "export").rename(tmp_path / "mine")
    mine = f"paths.export={tmp_path / 'mine'}"
    said = refused(caplog, *words(pipeline, copy, mine, "training.epochs=2"))
    assert "choose another folder with paths.export" in said
    shutil.rmtree(copy / "checkpoints")
    said = refused(caplog, *words(pipeline, copy, mine, "training.epochs=2"))
    assert "none of its checkpoints is there any more" in said
    assert f"backbone.pretrained={tmp_path / 'mine'} backbone.llama=null" in said
    said = refused(caplog, *words(pipeline, copy, "training.epochs=2"))
    assert f"from the beginning, choose another paths.run, or delete {copy}" in said
    assert json.loads((copy / "run.json").read_text())["training"]["epochs"] == 1


def test_a_cosine_begins_another_run_from_the_export(
    pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, log = tmp_path / "cosine", pipeline / "cosine.log"
    cosine = words(pipeline, folder, "training.schedule=cosine")
    stop = functools.partial(at_step, 3, signal.SIGUSR1, 0)
    run(log, "train", *cosine, code=75, prepare=stop)
    said = refused(caplog, *cosine, "training.max_steps=9")
    assert "training.schedule is cosine" in said
    assert "from its export, which 'arra-med export' writes to the FOLDER that it prints" in said
    assert main(["export", *cosine, "-q"]) == 0
    said = refused(caplog, *cosine, "training.max_steps=9")
    assert f"backbone.pretrained={folder / 'export-step-00000003'} backbone.llama=null" in said
    run(log, "train", *cosine)
    assert [p.name for p in complete_checkpoints(folder / "checkpoints")][-1] == "step-00000006"
    said = refused(caplog, *cosine, "training.max_steps=9")
    begin = f"backbone.pretrained={folder / 'export'} backbone.llama=null"
    assert begin in said
    again = words(pipeline, tmp_path / "again", *begin.split(), "training.max_steps=2")
    run(log, "train", *again, "backbone.dropout=0.1")
    assert weights(tmp_path / "again/export") != weights(folder / "export")
