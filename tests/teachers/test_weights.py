"""Finding weights: given folder, Hugging Face's cache, the hub; and the message when nowhere."""

from pathlib import Path

import huggingface_hub
import pytest
import torch

from arra_med.errors import RequestError
from arra_med.teachers.weights import PublishedWeights, find_weights, offline, read_checkpoint

MODEL = PublishedWeights(
    title="Testnet",
    repository="someone/testnet",
    config="config.json",
    checkpoints=("model.safetensors", "model.bin"),
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("ARRA_MED_OFFLINE", "1")
    return tmp_path / "hub"


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.bin").write_bytes(b"x")
    return folder


@pytest.mark.usefixtures("no_network")
def test_given_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path / "testnet")
    assert find_weights(MODEL, folder) == folder
    assert MODEL.checkpoint(folder).name == "model.bin"


@pytest.mark.usefixtures("no_network")
def test_missing_folder_says_what_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        find_weights(MODEL, tmp_path / "nowhere")
    message = str(error.value)
    assert "weights of Testnet" in message
    assert f"{tmp_path / 'nowhere'}, which does not exist" in message
    assert "config.json and one of model.safetensors, model.bin" in message
    assert "hf download someone/testnet --local-dir testnet" in message
    assert "set the option 'weights'" in message
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.bin").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"half, which holds \['model.bin'\]"):
        find_weights(MODEL, tmp_path / "half")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "ARRA_MED_OFFLINE"])
def test_offline_never_downloads(
    cache: Path, monkeypatch: pytest.MonkeyPatch, no_network: None, variable: str
) -> None:
    monkeypatch.delenv("ARRA_MED_OFFLINE", raising=False)
    assert not offline()
    monkeypatch.setenv(variable, "1")
    assert offline()
    with pytest.raises(FileNotFoundError, match="network is switched off") as error:
        find_weights(MODEL, None)
    assert str(cache) in str(error.value)


@pytest.mark.usefixtures("no_network")
def test_hugging_face_cache_is_found_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = cache / "models--someone--testnet"
    revision = "a" * 40
    snapshot = fill(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setenv("ARRA_MED_OFFLINE", "1")
    assert find_weights(MODEL, None) == snapshot


def test_online_downloads_only_what_is_needed(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ARRA_MED_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    asked = []

    def download(repository: str, *, allow_patterns: list[str], local_files_only: bool = False):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not there")
        asked.append((repository, allow_patterns))
        return str(fill(tmp_path / "downloaded"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_weights(MODEL, None) == tmp_path / "downloaded"
    assert asked == [("someone/testnet", ["config.json", "model.safetensors", "model.bin"])]


def test_hub_out_of_reach(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARRA_MED_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def download(*args: object, **kwargs: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(FileNotFoundError, match=r"and the hub.*hf download"):
        find_weights(MODEL, None)


def test_checkpoints_that_are_not(tmp_path: Path) -> None:
    for name in ("a.bin", "a.safetensors"):
        (tmp_path / name).write_bytes(b"<html></html>")
        with pytest.raises(RequestError, match="not a checkpoint that can be read safely"):
            read_checkpoint(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.bin")
    with pytest.raises(RequestError, match="does not hold a mapping"):
        read_checkpoint(tmp_path / "list.bin")
    torch.save({"state_dict": {"module.x": torch.ones(1)}}, tmp_path / "nested.bin")
    assert list(read_checkpoint(tmp_path / "nested.bin")) == ["x"]
