"""The batch scripts on a real Slurm of one node, which this file starts and ends."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from arra_med.generation.folder import GeneratedFolder
from arra_med.store import PreparedFolder, verify
from tests.slurm.cluster import ENDED, Cluster, cluster, unavailable

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "scripts" / "slurm"
CNN = "{name: cnn, weights: '{output}/judge', epochs: 1, min_positives: 2}"
DEMO = REPOSITORY / "arra_med" / "cli" / "demo.yaml"
STEPS = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]


def overrides(output: Path) -> list[str]:
    """The demo, made tiny."""
    return [
        f"paths.output={output}",
        "device=cpu",
        "ingest.dataset.num_samples=48",
        "ingest.size=32",
        "ingest.part_size=12",
        "tokenizer.plugin.channels=[8, 8]",
        "tokenizer.plugin.num_codes=16",
        "tokenizer.plugin.code_dimension=8",
        "tokenizer.training.steps=20",
        "features.teacher={name: linear, weights: '{output}/teacher', dimension: 16, epochs: 2}",
        "backbone.llama.hidden_size=32",
        "backbone.llama.num_layers=2",
        "backbone.llama.num_heads=2",
        "backbone.llama.intermediate_size=64",
        f"training.max_steps={STEPS}",
        "training.epochs=100",
        "training.batch_size=4",
        "training.micro_batch_size=2",
        "training.loader_workers=1",
        "training.log_every=1",
        "training.validate_every=1000",
        "training.preview_every=1000",
        "training.checkpoint_every=1000",
        "generation.limit=4",
        "generation.part_size=2",
        f"evaluation.judges=[{CNN}]",
        f"evaluation.extractors=[{CNN}]",
        "evaluation.image_text=[]",
        "evaluation.swapped=null",
        "evaluation.bootstrap=20",
        "evaluation.min_positives=2",
    ]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As a user sets it; the logs lie in a folder of their own."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "env.sh").write_text(
        f'export PATH="{Path(sys.executable).parent}:$PATH" OMP_NUM_THREADS=1\n'
    )
    return {"ARRA_MED_ENV": str(folder / "env.sh"), "ARRA_MED_LOGS": str(folder / "logs")}


@pytest.fixture(scope="module")
def jobs(
    slurm: Cluster, environment: dict[str, str], output: Path
) -> dict[str, list[dict[str, str]]]:
    """The whole demo, submitted with one command: each job's tasks when all has ended."""
    text = slurm.run(
        SCRIPTS / "submit_pipeline.sh", DEMO, *overrides(output), "--", "--time=10",
        **environment, ARRA_MED_SBATCH_TRAIN="--ntasks=2", ARRA_MED_SHARDS="2",
        ARRA_MED_SHARDS_INGEST="1",  # for time
        ARRA_MED_SHARDS_FEATURES="1",  # the demo's teacher is fitted, which shards cannot share
    )  # fmt: skip
    lines = [line.split() for line in text.splitlines() if not line.startswith("logs:")]
    names = {words[0]: words[1] for words in lines}
    slurm.wait_for(names["evaluate"], ENDED, seconds=600)
    return {name: slurm.jobs(job) for name, job in names.items()}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output")


def log_text(environment: dict[str, str]) -> str:
    paths = sorted(Path(environment["ARRA_MED_LOGS"]).iterdir())
    return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in paths)


def test_the_whole_demo_runs_as_batch_jobs(
    jobs: dict[str, list[dict[str, str]]], environment: dict[str, str], output: Path
) -> None:
    found = {name: [task["JobState"] for task in tasks] for name, tasks in jobs.items()}
    one, two = ["COMPLETED"], ["COMPLETED"] * 2
    assert found == {
        "ingest": one, "train-tokenizer": one, "tokenize-shards": two, "tokenize": one,
        "features": one, "train": one, "generate-shards": two, "generate": one, "evaluate": one,
    }, log_text(environment)  # fmt: skip
    assert "<html" in (output / "evaluation" / "report.html").read_text().lower()
    assert verify(output / "prepared", "prepared") > 4
    assert len(PreparedFolder(output / "prepared").image_parts) == 4
    assert len(GeneratedFolder(output / "generated").rows) == 4


def test_logs_carry_the_job_id_and_shards_did_the_work(
    jobs: dict[str, list[dict[str, str]]], environment: dict[str, str]
) -> None:
    logs = Path(environment["ARRA_MED_LOGS"])
    first = jobs["tokenize-shards"][0]["ArrayJobId"]
    for index in (0, 1):
        text = (logs / f"arra-tokenize-shards-{first}_{index}.log").read_text()
        assert f"shard {index}/2 is done" in text
    assert (logs / f"arra-evaluate-{jobs['evaluate'][0]['JobId']}.log").is_file()


def metrics(run: Path) -> dict[int, float]:
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return {row["step"]: row["total"] for row in rows if "total" in row}


def wait_for_step(slurm: Cluster, job: str, run: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    while max(metrics(run), default=0) < step:
        state = slurm.jobs(job)[0]["JobState"]
        assert state not in ENDED, f"{state} before step {step}"
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.05)


def test_a_pre_empted_training_ends_as_an_undisturbed_one(
    slurm: Cluster, environment: dict[str, str], output: Path, jobs: object
) -> None:
    """Two ranks and a loader's workers: Slurm's signal reaches all processes of the step."""
    run = output / "disturbed"
    log = Path(environment["ARRA_MED_LOGS"]) / "disturbed.log"
    job = slurm.run(
        "sbatch", "--parsable", "--ntasks=2", "--time=10", f"--output={log}",
        SCRIPTS / "stage.sh", "train", DEMO, *overrides(output), f"paths.run={run}",
        **environment,
    ).strip()  # fmt: skip
    wait_for_step(slurm, job, run, 5)
    urgent = slurm.run(
        "sbatch", "--parsable", "--partition=high", "--ntasks=2", "--output=/dev/null",
        "--wrap=true",
    ).strip()  # fmt: skip
    slurm.wait_for(urgent, {"COMPLETED"}, seconds=300)
    assert 5 <= max(metrics(run)) < STEPS
    (task,) = slurm.wait_for(job, ENDED, seconds=300)
    text = log.read_text()
    assert (task["JobState"], task["Restarts"]) == ("COMPLETED", "1"), text
    assert "stopped by SIGUSR1" in text
    expected = metrics(output / "run")
    assert metrics(run) == expected, text
    assert max(expected) == STEPS
    assert (run / "export" / "manifest.json").is_file()


def fake_program(folder: Path, *lines: str) -> Path:
    """A file to source that puts an ``arra-med`` of these lines first on the path."""
    folder.mkdir()
    program = folder / "arra-med"
    program.write_text("\n".join(["#!/usr/bin/env bash", *lines]) + "\n")
    program.chmod(0o755)
    (folder / "env.sh").write_text(f'export PATH="{folder}:$PATH"\n')
    return folder / "env.sh"


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def submit_fake(slurm: Cluster, folder: Path, *lines: str, **environment: str) -> str:
    env = fake_program(folder, *lines)
    arguments = ("--parsable", "--ntasks=1", f"--output={folder}/log", SCRIPTS / "stage.sh")
    return slurm.run(
        "sbatch", *arguments, "train", "x.yaml", **environment, ARRA_MED_ENV=str(env)
    ).strip()


def test_a_signal_by_hand_puts_a_job_back_into_the_queue(slurm: Cluster, tmp_path: Path) -> None:
    began = tmp_path / "began"
    job = submit_fake(
        slurm, tmp_path / "fake", f"if [[ -e {began} ]]; then exit 0; fi", "trap 'exit 75' USR1",
        f"touch {began}", "while :; do sleep 0.1; done",
    )  # fmt: skip
    wait_for_file(began)
    slurm.run("scancel", "--signal=USR1", job)
    (task,) = slurm.wait_for(job, ENDED, seconds=300)
    assert (task["JobState"], task["Restarts"]) == ("COMPLETED", "1")


def test_a_job_that_never_advances_stops(slurm: Cluster, tmp_path: Path) -> None:
    job = submit_fake(slurm, tmp_path / "fake", "exit 75", ARRA_MED_MAX_REQUEUES="1")
    (task,) = slurm.wait_for(job, ENDED, seconds=300)
    assert (task["JobState"], task["ExitCode"], task["Restarts"]) == ("FAILED", "1:0", "1")
    assert "giving up" in (tmp_path / "fake" / "log").read_text()


def test_other_exit_codes_end_the_job_with_them(slurm: Cluster, tmp_path: Path) -> None:
    job = submit_fake(slurm, tmp_path / "fake", "echo $MASTER_ADDR $MASTER_PORT $1; exit 2")
    (task,) = slurm.wait_for(job, ENDED, seconds=300)
    assert (task["JobState"], task["ExitCode"], task["Restarts"]) == ("FAILED", "2:0", "0")
    text = (tmp_path / "fake" / "log").read_text()
    assert f"localhost {10000 + int(job) % 20000} train" in text


def test_a_cancelled_job_does_not_come_back(slurm: Cluster, tmp_path: Path) -> None:
    waits = ("trap 'exit 75' TERM", f"touch {tmp_path}/began", "while :; do sleep 0.1; done")
    job = submit_fake(slurm, tmp_path / "fake", *waits)
    wait_for_file(tmp_path / "began")
    slurm.run("scancel", job)
    (task,) = slurm.wait_for(job, ENDED, seconds=300)
    time.sleep(2)
    (task,) = slurm.jobs(job)
    assert (task["JobState"], task["Restarts"]) == ("CANCELLED", "0")


def test_an_array_with_gaps_is_refused(slurm: Cluster, tmp_path: Path) -> None:
    env = fake_program(tmp_path / "fake", "exit 0")
    job = slurm.run(
        "sbatch", "--parsable", "--array=3", f"--output={tmp_path}/log", SCRIPTS / "stage.sh",
        "ingest", "x.yaml", ARRA_MED_ENV=str(env),
    ).strip()  # fmt: skip
    (task,) = slurm.wait_for(job, ENDED, seconds=300)
    assert task["ExitCode"] == "2:0"
    assert "count from 0" in (tmp_path / "log").read_text()
