"""What every registered teacher must keep to."""

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arra_med.errors import RequestError
from arra_med.registry import TEACHERS
from arra_med.store import PreparedFolder, canonical_json
from arra_med.teachers.base import TeacherInfo, aggregate

BUILTIN = ("biomedclip", "linear", "medsam")


@pytest.fixture
def options_of(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Any]:
    def options(name: str) -> Any:
        plugin = TEACHERS.get(name)
        if name == "linear":
            prepared: PreparedFolder = request.getfixturevalue("prepared")
            chosen = plugin.Options(weights=tmp_path / "teacher", epochs=1)
            plugin.fit(chosen, prepared, torch.device("cpu"))
            return chosen
        folder, _ = request.getfixturevalue(name)
        return plugin.Options(weights=folder)

    return options


def test_builtin_names() -> None:
    assert set(BUILTIN) <= set(TEACHERS.names())


@pytest.mark.parametrize("name", TEACHERS.names())
def test_options_are_a_frozen_keyword_only_dataclass(name: str) -> None:
    options = TEACHERS.get(name).Options
    assert dataclasses.is_dataclass(options)
    assert options.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(options))


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.usefixtures("no_network")
def test_contract(name: str, options_of: Callable[[str], Any]) -> None:
    plugin, options = TEACHERS.get(name), options_of(name)
    identity = plugin.identity(options)
    assert canonical_json(identity) == canonical_json(plugin.identity(options))
    info = plugin.describe(options)
    assert isinstance(info, TeacherInfo)
    assert info.trained_on
    assert identity["name"] == name
    assert len(identity["weights_sha256"]) == 64
    assert identity["preprocessing"]
    assert (identity["dimension"], identity["input_size"]) == (info.dimension, info.input_size)

    model = plugin(options)
    assert model.info == info
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    pickle.loads(pickle.dumps(model.transform))
    for channels in (1, 3):
        images = torch.randint(0, 256, (2, channels, 70, 70), dtype=torch.uint8)
        pixels = model.preprocess(images)
        assert pixels.shape == (2, 3, info.input_size, info.input_size)
        assert pixels.dtype == torch.float32
        vectors = model(pixels)
        assert set(vectors) == set(info.aggregations)
        assert all(vector.shape == (2, info.dimension) for vector in vectors.values())
    with pytest.raises(ValueError, match="uint8 pictures"):
        model.preprocess(torch.zeros(2, 1, 70, 70))


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.usefixtures("no_network")
def test_missing_weights(name: str, tmp_path: Path) -> None:
    plugin = TEACHERS.get(name)
    for use in (plugin, plugin.identity):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            use(plugin.Options(weights=tmp_path / "nowhere"))


def test_aggregation() -> None:
    cls, mean = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    assert aggregate({"cls": cls, "mean": mean}, "cls").tolist() == [[1, 2]]
    assert aggregate({"cls": cls, "mean": mean}, "mean").tolist() == [[3, 4]]
    assert aggregate({"cls": cls, "mean": mean}, "cls+mean").tolist() == [[1, 2, 3, 4]]
    with pytest.raises(RequestError, match=r"offers \['mean'\], not cls"):
        aggregate({"mean": mean}, "cls+mean")
