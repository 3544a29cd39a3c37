"""The dry run: numbers that can be checked by hand, and no step taken."""

import json
import re
from pathlib import Path

import pytest

from arra_med.cli.main import main
from arra_med.training.metrics import MetricsLog, read_log


def dry(pipeline: Path, run: Path, *more: str) -> int:
    """The exit code of a dry run."""
    return main(["train", str(pipeline / "config.yaml"), f"paths.run={run}", "--dry-run", *more])


def test_the_plan_of_a_run(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry(pipeline, tmp_path / "new", "--processes", "2", "--rate", "1000") == 0
    text = capsys.readouterr().out
    assert not (tmp_path / "new").exists(), "nothing is written"
    assert "2 processes × 1 micro-batches of 4" in text
    tokens = int(re.search(r"8 samples, ([\d,]+) tokens", text).group(1).replace(",", ""))
    whole = int(re.search(r"steps +6, ([\d,]+) tokens", text).group(1).replace(",", ""))
    assert whole == pytest.approx(6 * tokens, abs=6)
    assert f"{whole / 1000 / 3600:.2f} h at 1,000 tokens/s (as given)" in text
    total, *parts = (float(size) for size in re.findall(r"([\d.]+) GB", text))
    assert total == pytest.approx(sum(parts), abs=0.05)


def test_parameters_are_counted_and_the_log_gives_the_rate(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = [{"step": step, "samples_per_second": speed} for step, speed in enumerate([1, 4, 4.5])]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    assert dry(pipeline, tmp_path) == 0
    text = capsys.readouterr().out
    tokens = int(re.search(r"8 samples, ([\d,]+) tokens", text).group(1).replace(",", ""))
    rate = re.search(r"at ([\d,]+) tokens/s \(median of", text).group(1).replace(",", "")
    assert int(rate) == pytest.approx(4 * tokens / 8, abs=1)
    every, rows = (
        int(re.search(pattern, text).group(1).replace(",", ""))
        for pattern in (r"parameters +([\d,]+)", r"vocabulary +([\d,]+)")
    )
    block = 4 * 32 * 32 + 3 * 32 * 64 + 2 * 32  # attention, MLP, two norms
    projector = 32 * 16 + 16 + 16 * 16 + 16  # hidden 32, teacher 16
    assert every == 2 * rows * 32 + 2 * block + 32 + projector


def test_packed_rows_are_what_divides(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = ("training.pack_tokens=300", "training.micro_batch_size=1", "training.batch_size=8")
    assert dry(pipeline, tmp_path / "new", *packed, "--processes", "3") == 0
    text = capsys.readouterr().out
    batches = int(re.search(r"3 processes × (\d+) micro-batches of 1", text).group(1))
    assert 1 <= batches < 8 / 3, "rows hold several samples"


def test_a_log_that_a_crash_cut_short_is_read_without_its_last_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, 0)
    for step in (1, 2):
        log.write(step, {"total": 1 / 3})
    with log.path.open("a") as file:
        file.write('{"step": 3, "tot')
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]
    resumed = MetricsLog(tmp_path, 2)
    resumed.write(3, {"total": 0.25})
    assert [line["total"] for line in read_log(tmp_path)] == [1 / 3, 1 / 3, 0.25]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--processes", "3"], "does not divide into micro-batches of 4 on 3 processes"),
        (["--processes", "0"], "must be positive"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(
    pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, more: list[str], message: str
) -> None:
    assert dry(pipeline, tmp_path / "new", *more) == 2
    assert message in caplog.text


def test_the_dry_runs_options_alone_are_refused(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["train", str(pipeline / "config.yaml"), "--rate", "5"]) == 2
    assert "give --dry-run too" in caplog.text
