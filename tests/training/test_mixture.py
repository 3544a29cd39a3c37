"""Training on several folders: read from both forms, checked, and part of what a run is."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch

from arra_med.config import load
from arra_med.errors import RequestError
from arra_med.settings import MixtureFolder, Settings, Training
from arra_med.tokenizers.cache import tokenize
from arra_med.training.inputs import Inputs
from arra_med.training.mixture import _check_held_out, mixture_of
from tests.conftest import write_prepared
from tests.training.ranks import run

UNALIGNED = "alignment.enabled=false"


@pytest.fixture(scope="session")
def other(pipeline: Path) -> Path:
    """A second prepared folder with tokens, its keys those of the first; without features, as the
    linear teacher serves only the folder that it was fitted on."""
    folder = pipeline / "other"
    prepared = write_prepared(folder, num=30)
    tokenize(prepared, pipeline / "tokenizer", batch_size=8, device=torch.device("cpu"))
    return folder


def inputs_of(pipeline: Path, *overrides: str) -> Inputs:
    return Inputs(load(Settings, pipeline / "config.yaml", overrides))


def mixture(*folders: Path) -> str:
    return f"training.mixture={json.dumps([{'prepared': str(f)} for f in folders])}"


def test_the_authors_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("META:\n  - path: a\n    ratio: 0.5\n  - {path: /b}\n")
    assert mixture_of(Training(data_config=path)) == (
        MixtureFolder(prepared=tmp_path / "a", ratio=0.5),
        MixtureFolder(prepared=Path("/b")),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("META: [{path: a, type: t2i}]", r"META\[0\].*(?s:.*)type: unknown key"),
        ("META: [{path: a, ratio: 0}]", r"META\[0\]: ratio must be positive"),
        ("META: [{path: data.yaml}]", "is a file.*arra-med ingest"),
        ("META: [{ratio: 1}]", "path: missing"),
        ("META: [a]", "expected 'path' and 'ratio', found 'a'"),
        ("META: []", "expected 'META:'"),
        ("DATA: []", "expected 'META:'"),
        ("META: [{path: a}]\nroot: /x", "remove root"),
        ("META: [", "not readable YAML"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=message):
        mixture_of(Training(data_config=path))


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    folder = MixtureFolder(prepared=tmp_path)
    with pytest.raises(ValueError, match="not both"):
        Training(mixture=(folder,), data_config=tmp_path)
    with pytest.raises(ValueError, match="twice"):
        Training(mixture=(folder, MixtureFolder(prepared=tmp_path / ".." / tmp_path.name)))
    with pytest.raises(FileNotFoundError, match="data_config"):
        mixture_of(Training(data_config=tmp_path / "none.yaml"))


def test_without_a_mixture_the_prepared_folder_is_trained_on(pipeline: Path) -> None:
    inputs = inputs_of(pipeline)
    assert [folder.prepared for folder in inputs.folders] == [inputs.prepared]


def test_folders_that_do_not_fit_are_refused_by_name(
    pipeline: Path, other: Path, tmp_path: Path
) -> None:
    shutil.copytree(other, tmp_path / "copy")
    with pytest.raises(RequestError, match=r"copy and .*other hold the same samples"):
        inputs_of(pipeline, UNALIGNED, mixture(other, tmp_path / "copy"))
    write_prepared(tmp_path / "bare", num=20)
    with pytest.raises(FileNotFoundError, match="bare has no tokens"):
        inputs_of(pipeline, UNALIGNED, mixture(other, tmp_path / "bare"))
    write_prepared(tmp_path / "larger", num=10, size=64)
    with pytest.raises(RequestError, match=r"larger does not fit.*image_size is 64.*is 32"):
        inputs_of(pipeline, UNALIGNED, mixture(tmp_path / "larger"))
    (tmp_path / "data.yaml").write_text(f"META: [{{path: {other}}}, {{path: {other}, ratio: 2}}]")
    with pytest.raises(RequestError, match="hold the same samples"):
        inputs_of(pipeline, UNALIGNED, f"training.data_config={tmp_path / 'data.yaml'}")
    main = pipeline / "prepared"
    (tmp_path / "data.yaml").write_text(f"META: [{{path: {main}}}, {{path: {main}, ratio: 2}}]")
    with pytest.raises(RequestError, match="prepared twice"):
        inputs_of(pipeline, UNALIGNED, f"training.data_config={tmp_path / 'data.yaml'}")
    with pytest.raises(FileNotFoundError, match=r"no features of this teacher at .*other"):
        inputs_of(pipeline, mixture(other))


def test_held_out_pictures_of_the_main_folder_are_not_trained_on(
    pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_prepared(tmp_path / "more", num=60)  # the same pictures, cut elsewhere
    with pytest.raises(RequestError, match=r"^12 pictures of .*more's training split are of the"):
        inputs_of(pipeline, UNALIGNED, mixture(tmp_path / "more"))
    ids = {"split": ["train", "test"], "patient_id": ["7", "8"]}
    main = SimpleNamespace(folder="a", samples=pa.table(ids | {"source_sha256": ["1", "2"]}))
    ids["patient_id"] = ["8", "7"]
    other = SimpleNamespace(folder="b", samples=pa.table(ids | {"source_sha256": ["3", "4"]}))
    _check_held_out(other, main)
    assert "1 patient ids of the training split of b are of the validation or test" in caplog.text


def test_a_mixture_is_trained_on_and_is_part_of_the_run(pipeline: Path, other: Path) -> None:
    """Packed, so that both parts of this folder's work go through the whole stage."""
    command = ("train", pipeline / "config.yaml", f"paths.run={pipeline / 'mixed'}")
    rest = ("training.max_steps=2", "training.pack_tokens=300", "training.micro_batch_size=1")
    rest += (UNALIGNED,)
    log = pipeline / "mixed.log"
    run(log, *command, *rest, mixture(pipeline / "prepared", other))
    record = json.loads((pipeline / "mixed" / "run.json").read_text())
    assert [folder["ratio"] for folder in record["folders"]] == [1, 1]
    told = json.loads((pipeline / "mixed" / "export" / "arra.json").read_text())["trained_on"]
    assert told["samples"] == 24 + 18
    hashes = [folder["prepared"] for folder in record["folders"]]
    assert [folder["prepared"] for folder in told["folders"]] == hashes
    ranks = run(log, *command, *rest, mixture(other, pipeline / "prepared"), code=2)
    assert "folders" in ranks.said(0)
    (pipeline / "mixed" / "run.json").write_text("\n")
    ranks = run(log, *command, *rest, mixture(pipeline / "prepared", other), code=2)
    assert "run.json is damaged" in ranks.said(0)
