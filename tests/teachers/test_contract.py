"""What every registered teacher must keep to."""

import dataclasses
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arra_med.errors import RequestError
from arra_med.registry import TEACHERS
from arra_med.store import PreparedFolder, canonical_json
from arra_med.teachers.base import TeacherInfo, aggregate, concatenate, pool
from tests.teachers.models import picture

BUILTIN = ("biomedclip", "clip-l", "linear", "medsam", "rad-dino", "timm", "transformers")
FOLDERS = {"clip-l": "clip", "rad-dino": "dinov2", "transformers": "dinov2", "timm": "timm_vit"}


@pytest.fixture
def options_of(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Any]:
    def options(name: str) -> Any:
        plugin = TEACHERS.get(name)
        if name == "linear":
            prepared: PreparedFolder = request.getfixturevalue("prepared")
            chosen = plugin.Options(weights=tmp_path / "teacher", epochs=1)
            plugin.fit(chosen, prepared, torch.device("cpu"))
            return chosen
        folder, _ = request.getfixturevalue(FOLDERS.get(name, name))
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
    assert info.normalization
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
    for mode in ("L", "RGB", "RGBA", "I;16"):
        assert model.transform(picture(mode)).shape == pixels.shape[1:]


@pytest.mark.parametrize("name", [name for name in BUILTIN if name != "linear"])
@pytest.mark.usefixtures("no_network")
def test_another_configuration_of_the_same_weights_is_another_teacher(
    name: str, options_of: Callable[[str], Any], tmp_path: Path
) -> None:
    """Numbers of heads, epsilons: nothing that the weights' hash would tell."""
    plugin, options = TEACHERS.get(name), options_of(name)
    before = plugin.identity(options)
    copy = tmp_path / "copy"
    shutil.copytree(options.weights, copy)
    config = next(path for path in copy.glob("*config.json") if "preproc" not in path.name)
    tree = json.loads(config.read_text())
    moved = dataclasses.replace(options, weights=copy)
    config.write_text(json.dumps(tree | {"transformers_version": "99"}, indent=4))
    assert plugin.identity(moved) == before
    config.write_text(json.dumps(tree | {"layer_norm_eps": 0.1}))
    assert plugin.identity(moved) != before


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.usefixtures("no_network")
def test_layers(name: str, options_of: Callable[[str], Any]) -> None:
    """Widths as declared, order as asked, one layer as part of several, wrong numbers refused."""
    plugin, options = TEACHERS.get(name), options_of(name)
    model, info = plugin(options), plugin.describe(options)
    pixels = model.preprocess(torch.randint(0, 256, (2, 1, 70, 70), dtype=torch.uint8))
    if name == "linear":
        assert info.num_layers == 0
        for refuse in (lambda: model(pixels, layers=[1]), lambda: info.width("cls", [1])):
            with pytest.raises(RequestError, match=r"layers \[1\] are asked for, but this teacher"):
                refuse()
        return
    last = info.num_layers
    both, one = model(pixels, layers=[last, 1]), model(pixels, layers=[1])
    assert set(both) == set(info.aggregations)
    for part in both:
        assert both[part].shape == (2, info.width(part, [last, 1]))
        half = info.layer_dimension
        torch.testing.assert_close(both[part][:, half:], one[part], atol=1e-5, rtol=1e-5)
        assert (both[part][:, :half] - one[part]).abs().max() > 0.01
    for wrong in ([0], [last + 1], [], [2, 2], [-1]):
        for refuse in (
            lambda numbers=wrong: model(pixels, layers=numbers),
            lambda numbers=wrong: info.width("mean", numbers),
        ):
            with pytest.raises(RequestError, match=f"different numbers from 1 to {last}"):
                refuse()


def test_pool_and_concatenate() -> None:
    """One class token, one register, two patches, by hand."""
    tokens = torch.tensor([[[1.0, 2.0], [9.0, 9.0], [3.0, 5.0], [5.0, 7.0]]])
    vectors = pool(tokens, 2, class_token=True)
    assert {name: v.tolist() for name, v in vectors.items()} == {"cls": [[1, 2]], "mean": [[4, 6]]}
    assert set(pool(tokens, 0, class_token=False)) == {"mean"}
    joined = concatenate([vectors, {"cls": tokens[:, 1], "mean": tokens[:, 2]}])
    assert joined["cls"].tolist() == [[1, 2, 9, 9]]
    assert aggregate(joined, "cls+mean").tolist() == [[1, 2, 9, 9, 4, 6, 3, 5]]


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
