"""The batch scripts and their page, without Slurm: syntax, chaining, commands that exist."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from arra_med.cli.main import STAGES, build_parser

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "scripts" / "slurm"
PAGE = REPOSITORY / "docs" / "cluster.md"
NAMES = ["stage.sh", "submit_pipeline.sh"]


def test_every_script_is_tested_here() -> None:
    assert sorted(path.name for path in SCRIPTS.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_bash_accepts_the_script(name: str) -> None:
    subprocess.run(["bash", "-n", SCRIPTS / name], check=True)
    assert os.access(SCRIPTS / name, os.X_OK)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_shellcheck_finds_nothing(name: str) -> None:
    done = subprocess.run(
        ["shellcheck", SCRIPTS / name], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def submit(
    folder: Path, *arguments: str, sbatch: str = "", **environment: str
) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
    """Run the script with an ``sbatch`` that counts; returns what it was called with, too."""
    program = folder / "sbatch"
    program.write_text(
        f"#!/usr/bin/env bash\nn=$(cat {folder}/n 2>/dev/null || echo 0)\n{sbatch}\n"
        f"echo $((n + 1)) > {folder}/n\n"
        f'printf "%s\\n" "$((n + 1))" "$@" "--end--" >> {folder}/calls\necho "$((n + 1));east"\n'
    )
    program.chmod(0o755)
    config = folder / "run.yaml"
    config.write_text(f"paths: {{output: {folder}/out}}\n")
    done = subprocess.run(
        [SCRIPTS / "submit_pipeline.sh", config, *arguments],
        capture_output=True, text=True, check=False, cwd=folder,
        env={"PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"} | environment,
    )  # fmt: skip
    text = (folder / "calls").read_text() if (folder / "calls").exists() else ""
    return done, [call.strip("\n").split("\n") for call in text.split("--end--\n") if call.strip()]


def option(call: list[str], name: str) -> str | None:
    found = [word.partition("=")[2] for word in call if word.startswith(f"--{name}=")]
    return found[-1] if found else None


def test_each_stage_waits_for_those_whose_results_it_reads(tmp_path: Path) -> None:
    done, calls = submit(
        tmp_path, "seed=3", "--", "--partition=a", ARRA_MED_SHARDS="4", ARRA_MED_SHARDS_INGEST="1",
        ARRA_MED_SBATCH="--time=5", ARRA_MED_SBATCH_TRAIN_TOKENIZER="--gpus=1 --mem=2G",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    chain = {option(call, "job-name"): option(call, "dependency") for call in calls}
    assert chain == {
        "arra-ingest": None,
        "arra-train-tokenizer": "afterok:1",
        "arra-tokenize-shards": "afterok:2",
        "arra-tokenize": "afterok:3",
        "arra-features-shards": "afterok:1",
        "arra-features": "afterok:5",
        "arra-train": "afterok:4:6",
        "arra-generate-shards": "afterok:7",
        "arra-generate": "afterok:8",
        "arra-evaluate": "afterok:9",
    }
    arrays = {option(call, "array") for call in calls if "-shards" in option(call, "job-name")}
    assert arrays == {"0-3"}
    for call in calls:
        assert "seed=3" in call
        assert option(call, "partition") == "a"
        assert option(call, "time") == "5"
        assert ("--mem=2G" in call) == (option(call, "job-name") == "arra-train-tokenizer")
    lines = done.stdout.splitlines()
    assert lines[-1] == f"logs: {tmp_path}/logs"
    assert "train              7  after 4 6" in lines


def test_chosen_stages_wait_for_each_other_alone(tmp_path: Path) -> None:
    done, calls = submit(tmp_path, ARRA_MED_STAGES="features train evaluate")
    assert done.returncode == 0, done.stderr
    assert [(option(c, "job-name"), option(c, "dependency")) for c in calls] == [
        ("arra-features", None), ("arra-train", "afterok:1"), ("arra-evaluate", "afterok:2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["training.batch_size=x"], {}, "training.batch_size"),
        ([], {"ARRA_MED_STAGES": "ingest evalaute"}, "evalaute is not a stage"),
        ([], {"ARRA_MED_SHARDS": "08"}, "ARRA_MED_SHARDS: expected a number, got 08"),
        ([], {"ARRA_MED_SHARDS": "0"}, "ARRA_MED_SHARDS: expected a number, got 0"),
        ([], {"ARRA_MED_SHARDS_FEATURES": "many"}, "ARRA_MED_SHARDS_FEATURES: expected a number"),
        ([], {"ARRA_MED_MAX_REQUEUES": "many"}, "ARRA_MED_MAX_REQUEUES: expected a number"),
        (["ingest.dataset.name=table"], {"ARRA_MED_SOURCE": "/data"}, "root: unknown key"),
        ([], {"sbatch": '[ "$n" -lt 2 ] || { echo "queue is full" >&2; exit 1; }'}, "is full"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    done, calls = submit(tmp_path, *arguments, **environment)
    assert done.returncode != 0
    assert message in done.stderr
    assert len(calls) == (2 if "sbatch" in environment else 0)


def stage(
    folder: Path, srun: str, *, squeue: str = "echo RUNNING", scontrol: str = ""
) -> tuple[subprocess.CompletedProcess, str]:
    """Run ``stage.sh ingest`` with programs in Slurm's place; what ``scontrol`` was called with."""
    bodies = {
        "srun": srun,
        "squeue": squeue,
        "scontrol": f'echo "$@" >> {folder}/called\n{scontrol}',
        "sleep": f'echo "$@" >> {folder}/slept',
    }
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / name).chmod(0o755)
    done = subprocess.run(
        [SCRIPTS / "stage.sh", "ingest", "run.yaml"], capture_output=True, text=True, check=False,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"},
    )  # fmt: skip
    called = folder / "called"
    return done, called.read_text() if called.exists() else ""


@pytest.mark.parametrize("code", [75, 138, 140, 143])
def test_a_stage_that_a_signal_ended_goes_back_to_the_queue(tmp_path: Path, code: int) -> None:
    done, called = stage(tmp_path, f"exit {code}")
    assert (done.returncode, called) == (0, "requeue 7\n"), done.stderr


def test_a_pre_empted_stage_is_left_to_slurm(tmp_path: Path) -> None:
    done, called = stage(tmp_path, "exit 143", squeue="echo PREEMPTED")
    assert (done.returncode, called) == (143, "")
    assert "stopped while PREEMPTED" in done.stderr


def test_a_busy_controller_is_asked_again(tmp_path: Path) -> None:
    squeue = f"echo x >> {tmp_path}/asked; [ $(wc -l < {tmp_path}/asked) -gt 2 ] && echo RUNNING"
    done, called = stage(tmp_path, "exit 75", squeue=squeue)
    assert (done.returncode, called) == (0, "requeue 7\n"), done.stderr
    assert (tmp_path / "slept").read_text() == "5\n10\n"


@pytest.mark.parametrize("broken", ["squeue", "scontrol"])
def test_a_controller_that_is_away_is_told_of(tmp_path: Path, broken: str) -> None:
    done, _ = stage(tmp_path, "exit 75", **{broken: "exit 1"})
    assert done.returncode == 75
    assert "submit it again" in done.stderr


def test_without_a_configuration_it_explains_itself() -> None:
    done = subprocess.run(
        [SCRIPTS / "submit_pipeline.sh"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "ARRA_MED_SHARDS" in done.stderr
    assert "set -euo" not in done.stderr


def page_commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    text = "".join(blocks).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.strip()]


def test_the_pages_commands_are_accepted() -> None:
    parser, seen = build_parser(), 0
    for words in page_commands():
        names = [Path(word).name for word in words]
        if "arra-med" in names[:1]:
            rest = words[1:]
        elif "arra_med" in words and words[0] in ("torchrun", "deepspeed"):
            rest = words[words.index("arra_med") + 1 :]
        elif "stage.sh" in names:
            assert (REPOSITORY / words[names.index("stage.sh")]).is_file()
            rest = words[names.index("stage.sh") + 1 :]
            assert rest[0] in STAGES
        else:
            continue
        seen += 1
        if rest != ["--version"]:
            parser.parse_args(rest)
    assert seen >= 7


def test_the_page_and_the_scripts_speak_of_the_same_variables() -> None:
    in_scripts = {
        name for path in SCRIPTS.iterdir() for name in re.findall(r"ARRA_MED_\w+", path.read_text())
    }
    on_page = set(re.findall(r"ARRA_MED_\w+", PAGE.read_text()))
    stages = {stage.upper().replace("-", "_") for stage in STAGES}

    def of_all_stages(names: set[str]) -> set[str]:
        pattern = rf"(ARRA_MED_(?:SBATCH|SHARDS))_({'|'.join(stages)})\b"
        return {re.sub(pattern, r"\1", name) for name in names}

    assert of_all_stages(in_scripts) - {"ARRA_MED_OFFLINE"} <= of_all_stages(on_page)
    assert of_all_stages(on_page) - {"ARRA_MED_ASSETS"} <= of_all_stages(in_scripts)
    for word in re.findall(r"\]\(([\w.-]+\.md)\)", PAGE.read_text()):
        assert (PAGE.parent / word).is_file()


def test_the_pages_exit_codes_are_those_of_the_program() -> None:
    from arra_med.errors import EXIT_PREEMPTED

    assert f"stopped={EXIT_PREEMPTED} " in (SCRIPTS / "stage.sh").read_text()
    assert f"\n| {EXIT_PREEMPTED} |" in PAGE.read_text()
