"""A judge or encoder fitted on another prepared folder than the one that is evaluated."""

import json
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.fitted_pair import FittedPairOptions
from arra_med.eval.independence import objections, ready_identity
from arra_med.eval.probe import ProbeOptions
from arra_med.registry import IMAGE_TEXT_ENCODERS, JUDGES, Registry
from arra_med.schema import Sample, Split
from arra_med.store import PreparedFolder
from tests.conftest import TEXTS
from tests.prepared import save_prepared

CPU = torch.device("cpu")


def first_for_training(index: int) -> Split:
    return "train" if index < 28 else "validate" if index < 38 else "test"


def last_for_training(index: int) -> Split:
    return "test" if index < 10 else "validate" if index < 20 else "train"


def collection(
    folder: Path,
    split_of: Callable[[int], Split] = first_for_training,
    *,
    num: int = 48,
    draw: int = 0,
    **dataset: Any,
) -> PreparedFolder:
    """Pictures that ``draw`` decides, two a patient; ``dataset`` names where they come from."""
    rng = np.random.default_rng(draw)
    items = []
    for index in range(num):
        effusion = index % 2
        picture = rng.normal(90, 12, (32, 32, 1))
        picture[16:] += 80 * effusion
        sample = Sample(
            key=f"p{index // 2:03d}/i{index:03d}",
            patient_id=f"p{index // 2:03d}",
            study_id=f"s{index:03d}",
            split=split_of(index),
            view="PA",
            prompt=f"PA view chest x-ray image, {TEXTS[index % len(TEXTS)]}",
            prompt_source="impression",
            labels={"Pleural Effusion": effusion},
            modality="cxr",
            source=f"i{index:03d}.png",
        )
        items.append((sample, picture.clip(0, 255).astype(np.uint8)))
    return save_prepared(folder, items, dataset={"name": "clinic", **dataset})


@pytest.fixture
def theirs(tmp_path: Path) -> PreparedFolder:
    """Other pictures than the fixture ``prepared``, of other patients."""
    return collection(tmp_path / "theirs")


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
    assert objections(identity, teacher=None, dataset="fake", split="test") == []
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


def test_two_evaluations_fit_a_judge_once(
    prepared: PreparedFolder,
    theirs: PreparedFolder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plugin = cnn(tmp_path, theirs.folder)
    caplog.set_level(logging.INFO)
    with ThreadPoolExecutor(2) as pool:
        found = list(
            pool.map(lambda _: ready_identity(plugin, JUDGES, prepared, CPU), range(2), timeout=300)
        )
    assert found[0] == found[1]
    assert caplog.text.count("fitting it") == 1


def test_changed_pictures_are_refused(
    prepared: PreparedFolder, theirs: PreparedFolder, tmp_path: Path
) -> None:
    plugin = cnn(tmp_path, theirs.folder)
    ready_identity(plugin, JUDGES, prepared, CPU)
    shutil.rmtree(theirs.folder)
    collection(theirs.folder, num=44)
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


@pytest.mark.parametrize("which", range(3))
def test_the_same_source_split_otherwise_is_found_out(tmp_path: Path, which: int) -> None:
    """10 pictures are tested; those of the last 28 train the network, with or without folder."""
    evaluated = collection(tmp_path / "evaluated")
    again = collection(tmp_path / "again", last_for_training)
    assert again.content_hash != evaluated.content_hash
    registry, plugin = plugins(tmp_path, again.folder)[which]
    first = ready_identity(plugin, registry, evaluated, CPU)
    assert first["shared"] == {
        "train": {"pictures": 8, "patients": 4},  # 20 to 27
        "validate": {"pictures": 10, "patients": 5},
        "test": {"pictures": 10, "patients": 5},
    }
    [reason] = objections(first, teacher=None, dataset="clinic", split="test")
    assert "another folder with 10 pictures and 5 patients of the test split" in reason
    assert ready_identity(plugin, registry, evaluated, CPU) == first
    shutil.rmtree(again.folder)
    assert ready_identity(plugin, registry, evaluated, CPU) == first


@pytest.mark.parametrize(
    ("dataset", "patients"),
    [
        ({}, 5),  # other pictures of the same patients: other views, say, or another format
        ({"name": "another clinic"}, 0),
        ({"seed": 1}, 0),  # drawn anew: other patients under the same numbers
    ],
)
def test_patients_are_compared_within_their_data_set(
    tmp_path: Path, dataset: dict[str, Any], patients: int
) -> None:
    evaluated = collection(tmp_path / "evaluated")
    other = collection(tmp_path / "other", last_for_training, draw=1, **dataset)
    identity = ready_identity(cnn(tmp_path, other.folder), JUDGES, evaluated, CPU)
    found = objections(identity, teacher=None, dataset="clinic", split="test")
    assert len(found) == bool(patients)
    if patients:
        assert f"0 pictures and {patients} patients of the test split" in found[0]


def test_weights_that_do_not_say_what_they_learned_from(tmp_path: Path) -> None:
    """An older version's: the folder tells, while it is there."""
    evaluated = collection(tmp_path / "evaluated")
    again = collection(tmp_path / "again", last_for_training)
    plugin = cnn(tmp_path, again.folder)
    first = ready_identity(plugin, JUDGES, evaluated, CPU)
    path = tmp_path / "cnn" / "config.json"
    config = json.loads(path.read_text())
    del config["learned_from"]
    path.write_text(json.dumps(config))
    assert ready_identity(plugin, JUDGES, evaluated, CPU) == first
    shutil.rmtree(again.folder)
    identity = ready_identity(plugin, JUDGES, evaluated, CPU)
    [reason] = objections(identity, teacher=None, dataset="clinic", split="test")
    assert "not known: fit it again" in reason


def test_weights_name_no_patient(prepared: PreparedFolder, tmp_path: Path) -> None:
    ready_identity(cnn(tmp_path), JUDGES, prepared, CPU)
    words = (tmp_path / "cnn" / "config.json").read_text()
    assert not any(row["patient_id"] in words for row in prepared.rows())
