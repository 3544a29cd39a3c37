"""Requirement 4, and what else every registered judge and extractor must keep to.

A new plug-in needs an entry in ``OPTIONS``: random weights in the format it publishes.
"""

import dataclasses
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from arra_med.config import PluginConfig, build
from arra_med.eval.evaluator import Evaluator, EvaluatorInfo, Fitted
from arra_med.eval.extractor import Extractor
from arra_med.eval.inception import FILE
from arra_med.eval.independence import ready_identity, weight_hashes
from arra_med.eval.inference import predict
from arra_med.eval.judge import Judge
from arra_med.registry import DATASETS, EXTRACTORS, JUDGES, Registry
from arra_med.store import PreparedFolder, canonical_json
from tests.conftest import write_prepared
from tests.eval.test_inception import save_inception
from tests.eval.test_xrv import save_xrv
from tests.teachers.models import save_dinov2

CPU = torch.device("cpu")
CNN = {"input_size": 32, "epochs": 2, "dimension": 8, "min_positives": 4}
OPTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "cnn": lambda root: {"weights": f"{root}/cnn", **CNN},
    "probe": lambda root: {
        "weights": f"{root}/probe",
        "extractor": {"name": "cnn", "weights": f"{root}/cnn", **CNN},
        "min_positives": 4,
    },
    "xrv": lambda root: {"weights": f"{root}/xrv/converted"},
    "inception": lambda root: {"weights": f"{root}/{FILE}"},
    "teacher": lambda root: {"teacher": {"name": "rad-dino", "weights": f"{root}/dinov2"}},
}
"""Name → options, as a configuration file gives them; weights are in a folder ``root``."""
ALL = [(JUDGES, name) for name in JUDGES.names()] + [
    (EXTRACTORS, name) for name in EXTRACTORS.names()
]
IDS = [f"{registry.kind}-{name}" for registry, name in ALL]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of all published formats."""
    folder = tmp_path_factory.mktemp("weights")
    save_xrv(folder / "xrv")
    save_inception(folder / FILE)
    save_dinov2(folder / "dinov2")
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    return write_prepared(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def opened(root: Path, real: PreparedFolder) -> Callable[[Registry, str], tuple[Any, Evaluator]]:
    """Options and network of a plug-in, fitted first if it is to be; each is opened once."""
    kept: dict[tuple[str, str], tuple[Any, Evaluator]] = {}

    def open_it(registry: Registry, name: str) -> tuple[Any, Evaluator]:
        if (registry.kind, name) not in kept:
            options = options_of(registry, name, root)
            ready_identity(PluginConfig(name=name, options=options), registry, real, CPU)
            kept[registry.kind, name] = options, registry.get(name)(options)
        return kept[registry.kind, name]

    return open_it


def options_of(registry: Registry, name: str, root: Path) -> Any:
    assert name in OPTIONS, f"{registry.kind} {name!r} is not covered: add it to OPTIONS"
    return build(registry.get(name).Options, OPTIONS[name](root), where=name)


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def films(number: int, size: int = 40, mode: str = "L") -> list[Image.Image]:
    rng = np.random.default_rng(number)
    shape = (number, size, size) + ((3,) if mode == "RGB" else ())
    return [Image.fromarray(array) for array in rng.integers(0, 256, shape, dtype=np.uint8)]


def batch(evaluator: Evaluator, pictures: list[Image.Image]) -> Tensor:
    return torch.stack([evaluator.transform(picture) for picture in pictures])


@pytest.mark.parametrize(("registry", "name"), ALL, ids=IDS)
def test_options_are_a_frozen_keyword_only_dataclass(registry: Registry, name: str) -> None:
    options = registry.get(name).Options
    assert dataclasses.is_dataclass(options)
    assert options.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(options))


@pytest.mark.parametrize(("registry", "name"), ALL, ids=IDS)
def test_origin_and_identity(registry: Registry, name: str, root, real, opened) -> None:
    """Requirements 4 and 6: name, training data and preprocessing are declared, weights hashed."""
    options, evaluator = opened(registry, name)
    info = evaluator.info
    assert isinstance(info, EvaluatorInfo)
    assert info.name
    assert info.trained_on
    assert info.preprocessing
    assert info.input_size > 0
    assert set(info.saw) <= set(DATASETS.names())
    identity = registry.get(name).identity(options)
    assert canonical_json(identity) == canonical_json(registry.get(name).identity(options))
    assert any(len(value) == 64 for value in weight_hashes(identity))
    assert str(root) not in json.dumps([identity, dataclasses.asdict(info)])
    if "fitted_on" in identity:
        assert issubclass(registry.get(name), Fitted)
        assert identity["fitted_on"] == real.content_hash
        assert identity["fitted_splits"] == ["train"]


@pytest.mark.parametrize(("registry", "name"), ALL, ids=IDS)
def test_outputs(registry: Registry, name: str, opened, capsys) -> None:
    """Frozen, shaped as declared, the same for a batch as one by one, without side effects."""
    _, evaluator = opened(registry, name)
    modules = list(evaluator.modules())[1:]
    assert not any(module.training for module in modules)
    assert not any(parameter.requires_grad for parameter in evaluator.parameters())
    for module in evaluator.modules():  # a plain attribute would stay behind on .to(device)
        assert not [key for key, value in vars(module).items() if isinstance(value, Tensor)]
    state = torch.get_rng_state()
    with torch.inference_mode():
        whole = evaluator(batch(evaluator, films(2)))
        parts = torch.cat([evaluator(batch(evaluator, [film])) for film in films(2)])
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr().out == ""
    assert whole.dtype == torch.float32
    assert whole.isfinite().all()
    scale = float(whole.abs().max())
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4 * scale)
    assert (whole[0] - whole[1]).abs().max() > 0
    if registry is JUDGES:
        assert isinstance(evaluator, Judge)
        assert whole.shape == (2, len(evaluator.findings))
        assert len(set(evaluator.findings)) == len(evaluator.findings) > 0
        assert not set(evaluator.findings) & set(evaluator.not_judged)
        assert all(evaluator.not_judged.values())
        assert ((whole >= 0) & (whole <= 1)).all()
    else:
        assert isinstance(evaluator, Extractor)
        assert whole.shape == (2, evaluator.dimension)


@pytest.mark.parametrize(("registry", "name"), ALL, ids=IDS)
def test_pictures_of_both_modes_through_predict(registry: Registry, name: str, opened) -> None:
    """What PNG files hold, through the plug-in's own transform, which goes to worker processes."""
    _, evaluator = opened(registry, name)
    again = pickle.loads(pickle.dumps(evaluator.transform))
    film = films(1)[0]
    assert torch.equal(again(film), evaluator.transform(film))
    facts = {"batch_size": 2, "device": CPU, "what": name, "workers": 0}
    assert len(predict(evaluator, [png(picture) for picture in films(3)], **facts)) == 3
    colour = [png(picture) for picture in films(1, mode="RGB")]
    if "cnn" in evaluator.info.name:  # fitted on grey pictures
        with pytest.raises(ValueError, match="expected 1 channels, got 3"):
            predict(evaluator, colour, **facts)
    else:
        assert len(predict(evaluator, colour, **facts)) == 1


@pytest.mark.parametrize(("registry", "name"), ALL, ids=IDS)
def test_a_wrong_scale_raises_on_every_batch(registry: Registry, name: str, opened) -> None:
    """Requirement 4: twice in a row, and once more after a good batch."""
    _, evaluator = opened(registry, name)
    good = batch(evaluator, films(2))
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(good.shape, generator=generator)  # floats in [0, 1]
    black_and_nearly = [Image.fromarray(np.asarray(film) // 128) for film in films(2)]
    wrong = {
        "floats in [0, 1]": unit,
        "floats in [-1, 1]": unit * 2 - 1,
        "floats in [0, 255]": unit * 255,
        "floats beyond all": unit * 5000,
        "not a number": torch.full(good.shape, float("nan")),
        "pictures in [0, 1] cast to uint8": batch(evaluator, black_and_nearly),
        "another integer type": (unit * 255).to(torch.int16),
        "uint8 or float64": unit.to(torch.float64 if good.dtype == torch.uint8 else torch.uint8),
        "no batch": good[0],
        "too many channels": torch.cat([good] * 5, dim=1),
    }
    with torch.inference_mode():
        for _ in range(2):
            accepted = [case for case, images in wrong.items() if not refuses(evaluator, images)]
            assert accepted == []
        black = batch(evaluator, [Image.new("L", (40, 40))])
        assert evaluator(black).isfinite().all()  # a black picture is one
        assert [case for case, images in wrong.items() if not refuses(evaluator, images)] == []


def refuses(evaluator: Evaluator, images: Tensor) -> bool:
    try:
        evaluator(images)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(("registry", "name"), ALL, ids=IDS)
def test_missing_weights(registry: Registry, name: str, tmp_path, monkeypatch) -> None:
    """Which, and where they were looked for."""
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path))
    nowhere = tmp_path / "nowhere"
    options = options_of(registry, name, nowhere)
    for use in (registry.get(name), registry.get(name).identity):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            use(options)
