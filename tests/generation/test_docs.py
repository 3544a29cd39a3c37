"""``docs/generation.md``: every command in it runs, on tiny models."""

import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from arra_med.cli.main import main
from arra_med.generation.folder import GeneratedFolder
from arra_med.store import PreparedFolder
from tests.generation.conftest import write_tiny_export
from tests.generation.tiny_pipeline import write_pipeline
from tests.model.chameleon_files import Checkpoint
from tests.pipeline import arra_med
from tests.test_store import contents
from tests.tokenizers.meta_vqgan import VqGan, save_ckpt

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "generation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]
HERE = [c for c in COMMANDS if c.startswith("arra-med") and "--preview" not in c]
RUN = """
paths: {output: work}
device: cpu
generation: {top_k: 8, part_size: 8}
"""


@pytest.fixture
def place(tmp_path: Path, prepared: PreparedFolder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the docs' commands can be given."""
    (tmp_path / "work").mkdir()
    prepared.folder.rename(tmp_path / "work" / "prepared")
    write_tiny_export(tmp_path / "work" / "run")
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "prompts.txt").write_text("left effusion.\nclear.\n")
    (tmp_path / "prompts.csv").write_text("key,prompt,effusion\na,left effusion.,1\nb,clear.,0\n")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, *more: str) -> None:
    arguments = [*shlex.split(command), *more]
    assert arguments.pop(0) == "arra-med"
    assert main(arguments) == 0, command


def test_commands_are_found() -> None:
    assert len(COMMANDS) == 12
    assert len(HERE) == 10


def test_commands_draw(place: Path, capsys: pytest.CaptureFixture) -> None:
    write_pipeline(place / "models" / "sd")
    for command in HERE:
        if "arra_adapt" in command:
            continue
        more = ["generation.top_k=2000", "generation.limit=1"] if "diffusers" in command else []
        run(command, *more)
    printed = capsys.readouterr().out.split()
    assert len(printed) == 9
    assert len({*printed}) == 7  # two of shards and their joining print the same folder
    for folder in map(Path, printed):
        assert GeneratedFolder(folder).rows
    assert len(GeneratedFolder(Path("work/shared")).rows) == 8
    assert [r["effusion"] for r in GeneratedFolder(Path("work/from-table")).rows] == ["1", "0"]
    assert list(Path("work").glob("generated-*/dicom/prompt-00001-0.dcm"))


def test_the_published_checkpoint_s_command_draws(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARRA_MED_ASSETS", str(place / "assets"))
    for name in ("xing0916__ARRA-Adapt-MIMIC-7B", "meta__chameleon-tokenizer"):
        (place / "assets" / name).mkdir(parents=True)
        (place / "assets" / name / "asset.json").write_text("{}")
    Checkpoint(with_vq=False).write(place / "assets" / "xing0916__ARRA-Adapt-MIMIC-7B")
    vqgan = VqGan(ch=32, multipliers=(1, 1), z=16, dimension=8, codes=16)
    save_ckpt(vqgan, place / "assets" / "meta__chameleon-tokenizer" / "vqgan.ckpt")
    (command,) = (c for c in HERE if "arra_adapt" in c)
    run(command, "generation.size=[8, 8]", "device=cpu")  # 512 px are 65,536 of these codes
    assert list(Path("work/arra_adapt").glob("generated-*/images/*.png"))
    recipe = (ROOT / "scripts" / "mimic_cxr" / "arra_adapt_generate.yaml").read_text()
    assert f"#   {command}\n" in recipe


@pytest.mark.slow
def test_torchrun_draws(place: Path) -> None:
    (command,) = (c for c in COMMANDS if c.startswith("torchrun"))
    launcher, rest = command.split(" -m arra_med ")
    assert launcher == "torchrun --nproc_per_node=2"
    arra_med(*shlex.split(rest), "generation.part_size=3", processes=2)
    run("arra-med generate run.yaml", "generation.part_size=3")
    assert contents(Path("work/together")) == contents(Path("work/generated"))


def test_the_python_example_draws(place: Path) -> None:
    (code,) = (block for kind, block in BLOCKS if kind == "python")
    assert len([line for line in code.splitlines() if line]) <= 5
    exec(compile(code, "docs/generation.md", "exec"), {})
    assert Path("first.png").is_file()


@pytest.mark.slow
def test_the_preview_s_command_serves_its_page(place: Path) -> None:
    (command,) = (c for c in COMMANDS if "--preview" in c)
    arguments = [sys.executable, "-m", "arra_med", *shlex.split(command)[1:], "--port", "0"]
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts its background jobs, and these tests may be one, deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as job:
        assert job.stdout is not None
        assert job.stderr is not None
        url = next(line for line in job.stdout if line.startswith("http://127.0.0.1")).strip()
        with urllib.request.urlopen(url) as answer:
            assert b"arra_med preview" in answer.read()
        time.sleep(0.2)
        job.send_signal(signal.SIGINT)
        errors = job.stderr.read()
    assert job.returncode == 0
    assert "the preview has ended" in errors


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preview", "--shard", "0/2"], "leave --shard out"),
        (["--port", "1"], "give --preview too"),
        (["--num", "0"], "images_per_prompt must be positive"),
    ],
)
def test_flags_that_cannot_take_effect_are_refused(
    place: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture,
    flags: list[str], message: str,
) -> None:  # fmt: skip
    assert main(["generate", "run.yaml", *flags]) == 2
    assert message in caplog.text


def test_a_flag_goes_before_the_configuration(place: Path, capsys: pytest.CaptureFixture) -> None:
    text = "{top_k: 8, prompts: prompts.txt, prompt_in_metadata: true}"
    (place / "run.yaml").write_text(f"paths: {{output: work}}\ndevice: cpu\ngeneration: {text}\n")
    run('arra-med generate run.yaml --prompt "a: [b] {c}, \\"d\\" é"')
    (row,) = GeneratedFolder(Path(capsys.readouterr().out.strip())).rows
    assert row["prompt"] == 'a: [b] {c}, "d" é'
