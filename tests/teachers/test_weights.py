"""Finding weights: given folder, asset folder, cache, hub; and the message when nowhere."""

import dataclasses
from pathlib import Path

import huggingface_hub
import pytest
import torch

from arra_med.assets.folder import offline
from arra_med.errors import RequestError
from arra_med.teachers.weights import (
    PublishedWeights,
    find_published,
    find_weights,
    read_checkpoint,
)

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
    (tmp_path / "assets").mkdir()
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path / "assets"))
    return tmp_path / "hub"


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.bin").write_bytes(b"x")
    return folder


def fill_cache(cache: Path, repository: str) -> Path:
    """A snapshot as Hugging Face's cache holds it."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = fill(folder / "snapshots" / ("a" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    return snapshot


def fill_asset(folder: Path, repository: str) -> Path:
    asset = fill(folder / repository.replace("/", "__"))
    (asset / "asset.json").write_text("{}")
    return asset


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
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    assert not offline()
    monkeypatch.setenv(variable, "1")
    assert offline()
    with pytest.raises(FileNotFoundError, match="network is switched off") as error:
        find_weights(MODEL, None)
    assert str(cache) in str(error.value)


@pytest.mark.usefixtures("no_network")
def test_hugging_face_cache_is_found_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("ARRA_MED_OFFLINE", "1")
    snapshot = fill_cache(cache, "someone/testnet")
    assert find_weights(MODEL, None) == snapshot
    assert find_weights(MODEL, Path("hf-hub:someone/testnet")) == snapshot
    with pytest.raises(FileNotFoundError, match=r"for other/name; .*hf download other/name"):
        find_weights(MODEL, Path("hf-hub:other/name"))


@pytest.mark.usefixtures("no_network")
def test_the_asset_folder_comes_first_and_mirrors_count(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Asset folder before cache, and in each the repository before its mirror."""
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("ARRA_MED_OFFLINE", "1")
    model = dataclasses.replace(MODEL, mirrors=("else/mirror",))
    places = [
        fill_cache(cache, "else/mirror"),
        fill_cache(cache, "someone/testnet"),
        fill_asset(tmp_path / "assets", "else/mirror"),
        fill_asset(tmp_path / "assets", "someone/testnet"),
    ]
    for place in reversed(places):
        assert find_weights(model, None) == place
        (place / "model.bin").unlink()  # what is not complete is passed over
    with pytest.raises(FileNotFoundError, match="for someone/testnet, else/mirror; the network"):
        find_weights(model, None)


@pytest.mark.usefixtures("no_network")
def test_alternative_formats(tmp_path: Path) -> None:
    """The first format that the folder holds; the message names what either needs."""
    other = PublishedWeights(
        title="Othernet", repository="a/b", config="other.json", checkpoints=("o.bin",)
    )
    folder = fill(tmp_path / "folder")
    assert find_published((other, MODEL), folder) == (MODEL, folder)
    for name in ("other.json", "o.bin"):
        (folder / name).write_bytes(b"x")
    assert find_published((other, MODEL), Path(f"local-dir:{folder}")) == (other, folder)
    with pytest.raises(FileNotFoundError, match=r"other\.json and one of o\.bin, or config\.json"):
        find_published((other, MODEL), tmp_path / "nowhere")


@pytest.mark.parametrize("location", ["hf-hub:", "hf-hub:no-owner", "local-dir:"])
def test_prefixes_without_a_name(location: str) -> None:
    with pytest.raises(RequestError, match=f"weights are '{location}': expected"):
        find_weights(MODEL, Path(location))


@pytest.mark.usefixtures("no_network")
def test_a_repository_s_name_in_place_of_a_folder() -> None:
    with pytest.raises(FileNotFoundError, match=r"write 'hf-hub:someone/testnet'"):
        find_weights(MODEL, Path("someone/testnet"))


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
