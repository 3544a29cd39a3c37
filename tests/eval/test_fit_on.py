"""A judge or encoder fitted on another prepared folder than the one that is evaluated."""

import shutil
from pathlib import Path

import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.fitted_pair import FittedPairOptions
from arra_med.eval.independence import objections, ready_identity
from arra_med.eval.probe import ProbeOptions
from arra_med.registry import IMAGE_TEXT_ENCODERS, JUDGES, Registry
from arra_med.store import PreparedFolder
from tests.conftest import write_prepared

CPU = torch.device("cpu")


@pytest.fixture
def theirs(tmp_path: Path) -> PreparedFolder:
    """Other pictures than the fixture ``prepared``."""
    return write_prepared(tmp_path / "theirs", num=48)


def cnn(folder: Path, fit_on: Path | None = None) -> PluginConfig:
    options = CnnOptions(weights=folder / "cnn", fit_on=fit_on, input_size=32, epochs=1)
    return PluginConfig(name="cnn", options=options)


def plugins(folder: Path, fit_on: Path) -> list[tuple[Registry, PluginConfig]]:
    below = cnn(folder, fit_on)
    probe = ProbeOptions(weights=folder / "probe", fit_on=fit_on, extractor=below, min_positives=5)
    pair = FittedPairOptions(weights=folder / "pair", fit_on=fit_on, extractor=below)
    return [
        (JUDGES, below),
        (JUDGES, PluginConfig(name="probe", options=probe)),
        (IMAGE_TEXT_ENCODERS, PluginConfig(name="fitted", options=pair)),
    ]


@pytest.mark.parametrize("which", range(3))
def test_it_saw_no_split_of_the_evaluated_folder(
    prepared: PreparedFolder, theirs: PreparedFolder, tmp_path: Path, which: int
) -> None:
    registry, plugin = plugins(tmp_path, theirs.folder)[which]
    identity = ready_identity(plugin, registry, prepared, CPU)
    assert identity["fitted_on"] == theirs.content_hash != prepared.content_hash
    assert identity["fitted_splits"] == []
    assert objections(identity, teacher=None, dataset="fake", split="train") == []
    words = registry.get(plugin.name)(plugin.options).info.trained_on
    assert "another" in words
    assert "this prepared folder" not in words


def test_weights_serve_without_the_pictures_they_were_fitted_on(
    prepared: PreparedFolder, theirs: PreparedFolder, tmp_path: Path
) -> None:
    plugin = cnn(tmp_path, theirs.folder)
    first = ready_identity(plugin, JUDGES, prepared, CPU)
    shutil.rmtree(theirs.folder)
    assert ready_identity(plugin, JUDGES, prepared, CPU) == first


def test_changed_pictures_are_refused(
    prepared: PreparedFolder, theirs: PreparedFolder, tmp_path: Path
) -> None:
    plugin = cnn(tmp_path, theirs.folder)
    ready_identity(plugin, JUDGES, prepared, CPU)
    shutil.rmtree(theirs.folder)
    write_prepared(theirs.folder, num=44)
    with pytest.raises(RequestError, match=r"other pictures than .*theirs"):
        ready_identity(plugin, JUDGES, prepared, CPU)


def test_without_saying_so_their_weights_are_refused(
    prepared: PreparedFolder, theirs: PreparedFolder, tmp_path: Path
) -> None:
    ready_identity(cnn(tmp_path, theirs.folder), JUDGES, prepared, CPU)
    with pytest.raises(RequestError, match="other pictures"):
        ready_identity(cnn(tmp_path), JUDGES, prepared, CPU)


def test_the_evaluated_folder_itself_is_not_another(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    identity = ready_identity(cnn(tmp_path, prepared.folder), JUDGES, prepared, CPU)
    assert identity["fitted_splits"] == ["train"]


def test_a_missing_folder_is_named(prepared: PreparedFolder, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ready_identity(cnn(tmp_path, tmp_path / "nowhere"), JUDGES, prepared, CPU)
