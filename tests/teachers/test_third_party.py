"""docs/own-teacher.md, followed word by word: a teacher in another package, without network."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from markdown_it import MarkdownIt
from PIL import Image
from safetensors.torch import load_file
from torchvision import models
from torchvision.transforms import functional

from arra_med.images import decode_png
from arra_med.store import PreparedFolder

PAGE = Path(__file__).parents[2] / "docs" / "own-teacher.md"
NO_NETWORK = """
import socket
def refuse(self, address):
    if self.family != socket.AF_UNIX:
        raise AssertionError("the network was used")
socket.socket.connect = socket.socket.connect_ex = refuse
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """The page's folder, and how commands are run in it."""

    folder: Path
    site: Path
    commands: list[str]

    def arra_med(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "arra_med", *arguments, check=check)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        switches = {"PYTHONPATH": str(self.site), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=self.folder, env=os.environ | switches | {"ARRA_MED_OFFLINE": "1"},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The page's files, with random weights, installed as a package of its own."""
    root = tmp_path_factory.mktemp("third-party")
    commands = []
    for token in MarkdownIt().parse(PAGE.read_text(encoding="utf-8")):
        language, _, name = token.info.partition(" ")
        if token.type == "fence" and name:
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(token.content)
        elif token.type == "fence" and language == "bash":
            commands += token.content.splitlines()
    package = Installed(root / "own-teacher", root / "site", commands)
    package.run(
        sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps",
        "--no-build-isolation", "--target", str(package.site), ".",
    )  # fmt: skip
    (package.site / "sitecustomize.py").write_text(NO_NETWORK)
    call = "import socket; socket.create_connection(('127.0.0.1', 9))"
    assert "the network was used" in package.run(sys.executable, "-c", call, check=False).stderr
    package.run(sys.executable, "make_weights.py")
    return package


def test_the_page_gives_the_commands_that_are_tested(installed: Installed) -> None:
    assert installed.commands == [
        "cd own-teacher",
        "python make_weights.py",
        "pip install -e .",
        "arra-med list teachers",
        "arra-med validate run.yaml",
        "arra-med features run.yaml",
    ]


def test_the_teacher_is_listed(installed: Installed) -> None:
    listed = installed.arra_med("list", "teachers").stdout
    assert "our-densenet" in listed.removeprefix("teachers: ").strip().split(", ")


def test_its_features_are_the_network_s_own(
    installed: Installed, tmp_path: Path, make_prepared: Callable[..., PreparedFolder]
) -> None:
    prepared = make_prepared(tmp_path / "prepared", num_samples=5, part_size=3)
    here = ("run.yaml", f"paths.prepared={prepared.folder}", "device=cpu")
    installed.arra_med("validate", *here)
    cache = Path(installed.arra_med("features", *here).stdout.split()[-1])
    assert cache.parent == prepared.folder / "features"
    assert cache.name.startswith("our-densenet-cls+mean-")

    tables = [pa.ipc.open_file(path).read_all() for path in sorted(cache.glob("*.arrow"))]
    keys = [key for table in tables for key in table["key"].to_pylist()]
    vectors = np.concatenate([np.stack(table["vector"].to_pylist()) for table in tables])
    assert keys == prepared.keys
    expected = maps(installed.folder / "densenet", [png for _, png in prepared.iter_images()])
    assert np.abs(vectors[:, :1024] - expected.amax(dim=(2, 3)).numpy()).max() < 1e-5
    assert np.abs(vectors[:, 1024:] - expected.mean(dim=(2, 3)).numpy()).max() < 1e-5


def maps(weights: Path, pngs: list[bytes]) -> torch.Tensor:
    """What torchvision's network has before its pooling, ``(N, 1024, 7, 7)``."""
    network = models.densenet121(num_classes=14).eval()
    network.load_state_dict(load_file(weights / "model.safetensors"))
    pixels = []
    for png in pngs:
        film = Image.fromarray(decode_png(png)[..., 0]).convert("RGB").resize((224, 224), 2)
        values = functional.pil_to_tensor(film) / 255
        pixels.append(functional.normalize(values, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        return torch.relu(network.features(torch.stack(pixels)))


def test_missing_weights_say_what_to_set(installed: Installed, prepared: PreparedFolder) -> None:
    here = ("run.yaml", f"paths.prepared={prepared.folder}", "features.teacher.weights=elsewhere")
    done = installed.arra_med("features", *here, check=False)
    assert done.returncode == 2
    assert "elsewhere/model.safetensors is not there" in done.stderr


def test_the_page_s_own_test_passes(installed: Installed) -> None:
    done = installed.run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_our_teacher.py"
    )
    assert "1 passed" in done.stdout
