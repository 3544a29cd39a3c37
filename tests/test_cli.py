"""The command line: exit codes, messages, nothing half-written."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from arra_med.cli.main import main
from arra_med.cli.stages import pick_device
from arra_med.errors import RequestError
from arra_med.store import PreparedFolder
from tests.pipeline import arra_med, write_config


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list_and_its_errors(capsys: pytest.CaptureFixture[str], caplog) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert "mimic-cxr" in out
    assert "biomedclip" in out
    assert run(capsys, "list", "teachers")[1].startswith("teachers: ")
    assert run(capsys, "list", "pupils")[0] == 2
    assert "no kind 'pupils'. Known: datasets" in caplog.text
    assert run(capsys, "list", "teacher")[0] == 2
    assert "did you mean 'teachers'?" in caplog.text


def test_info_of_a_folder(capsys: pytest.CaptureFixture[str], prepared: PreparedFolder) -> None:
    code, out, _ = run(capsys, "info", prepared.folder, "--verify")
    assert code == 0
    assert '"kind": "prepared"' in out
    assert run(capsys, "info", prepared.folder / "nowhere")[0] == 2
    (prepared.folder / "samples.parquet").write_bytes(b"")
    assert run(capsys, "info", prepared.folder, "--verify")[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evalute run.yaml", "'evalute' is unknown; did you mean 'evaluate'? Known: ingest, "),
        ("assets fetsch all", "'fetsch' is unknown; did you mean 'fetch'? Known: list, fetch"),
        ("xyz", "'xyz' is unknown. Known: ingest, "),
        (
            "train run.yaml --epochs 3",
            "--epochs 3; a setting is overridden as key=value; 'arra-med",
        ),
        ("list teachers --all", "arguments: --all; 'arra-med list --help' lists the options"),
    ],
)
def test_a_mistyped_word_gets_a_way_out(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_overrides_may_stand_behind_a_shard(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("paths: {output: nowhere}\n")
    assert run(capsys, "ingest", path, "--shard", "0/2", "ingest.size=x")[0] == 2
    for wrong in (["--shards", "0/2"], ["--shard", "0/2", "stray"]):
        with pytest.raises(SystemExit) as ended:
            main(["ingest", str(path), *wrong])
        assert ended.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "nowhere.yaml"),
        ("validate", "{config}", "training.batch_sizee=4"),
        ("ingest", "{config}"),
        ("tokenize", "{config}"),
        ("train", "{config}"),
        ("generate", "{config}"),
        ("evaluate", "{config}"),
        ("validate", "{config}", "device=gpu"),
    ],
)
def test_wrong_requests_end_with_2_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], caplog
) -> None:
    config = write_config(tmp_path)
    code, out, _ = run(capsys, *(argument.format(config=config) for argument in arguments))
    assert (code, out) == (2, "")
    assert "error: " in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_validate_prints_what_it_resolved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "validate", write_config(tmp_path), "seed=5")
    assert code == 0
    assert "seed: 5" in out
    assert f"weights: {tmp_path}/teacher" in out


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (FileNotFoundError("no table at a.csv"), "error: no table at a.csv", 2),
        (FileNotFoundError(errno.ENOENT, "no", "/proc/p"), "cannot use this path: [Errno 2] no", 2),
        (PermissionError(errno.EACCES, "no", "/etc/p"), "cannot use this path: [Errno 13] no", 2),
        (OSError(errno.EROFS, "no", "/mnt/p"), "cannot use this path: [Errno 30] no: '/mnt/p'", 2),
        (OSError(errno.ENOSPC, "no"), "the disk is full: make room", 1),
        (OSError(errno.EIO, "no"), "error: [Errno 5] no", 1),
    ],
)
def test_what_the_system_refuses_is_told_from_work_that_failed(
    monkeypatch: pytest.MonkeyPatch, caplog, error: OSError, message: str, code: int
) -> None:
    def raises(_: object) -> None:
        raise error

    monkeypatch.setattr("arra_med.cli.inspect.list_plugins", raises)
    assert main(["list"]) == code
    assert message in caplog.text


def test_sigterm_ends_a_verb_with_the_usual_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        "arra_med.cli.inspect.list_plugins", lambda _: os.kill(os.getpid(), signal.SIGTERM)
    )
    try:
        assert main(["list"]) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "run the same command again to resume" in caplog.text


def test_ctrl_c_ends_a_verb_with_the_usual_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(_: object) -> None:  # no signal: a shell's background jobs ignore SIGINT
        raise KeyboardInterrupt

    monkeypatch.setattr("arra_med.cli.inspect.list_plugins", interrupted)
    assert main(["list"]) == 130
    assert "run the same command again to resume" in caplog.text


def test_ctrl_c_while_the_command_line_is_imported_ends_alike(tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text("raise KeyboardInterrupt\n")  # before it is imported
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from arra_med.__main__ import run; sys.exit(run())"],
        capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr == "error: interrupted; run the same command again to resume\n"


def test_errors_go_to_stderr_and_results_to_stdout(tmp_path: Path) -> None:
    done = arra_med("train", tmp_path / "none.yaml", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no configuration file at" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in arra_med("train", tmp_path / "n.yaml", "--debug", check=False).stderr


def test_deepspeed_that_a_library_imports_keeps_off_stdout() -> None:
    program = """
import sys
from arra_med.cli import inspect
from arra_med.cli.main import main

def imports_deepspeed(options):
    import deepspeed
    deepspeed.utils.logger.warning("beware")
    print("the result")

inspect.list_plugins = imports_deepspeed
sys.exit(main(["list"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "the result\n"
    assert "beware" in done.stderr


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert pick_device("cuda:1").index == 1
    with pytest.raises(RequestError, match="device is 'cuda:2' but this machine has 2"):
        pick_device("cuda:2")
