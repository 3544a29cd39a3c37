"""torchxrayvision's pickles to safetensors: the same outputs, and nothing in the pickle is run."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
import torchxrayvision as xrv
from torch import nn

from arra_med.assets.catalogue import resolve
from arra_med.assets.fetch import fetch
from arra_med.assets.pickles import load_state
from arra_med.assets.record import read_record
from arra_med.assets.xrv import convert_torchxrayvision, load_torchxrayvision
from arra_med.errors import RequestError, WorkError
from tests.asset_folders import sha256

DENSE, RES = "densenet121-res224-all", "resnet50-res512-all"


def release_file(weights: str) -> str:
    return str(xrv.models.model_urls[weights]["weights_url"]).rpartition("/")[2]


def randomised(model: nn.Module) -> nn.Module:
    """Statistics as after training: fresh batch norms hide faults."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.1, 0.1),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    return model


@pytest.fixture(scope="module")
def dense_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random DenseNet saved whole, as the release's files are, old format and new."""
    torch.manual_seed(0)
    model = randomised(xrv.models.DenseNet(num_classes=18))
    files = {}
    for name, is_zip in (("legacy", False), ("zip", True)):
        path = tmp_path_factory.mktemp(name) / release_file(DENSE)
        torch.save(model, path, _use_new_zipfile_serialization=is_zip)
        files[name] = path
    return files


@pytest.mark.parametrize("saved", ["legacy", "zip"])
def test_densenet_gives_torchxrayvision_s_own_output(
    dense_files: dict[str, Path], tmp_path: Path, saved: str
) -> None:
    path = dense_files[saved]
    reference = xrv.models.DenseNet(weights=DENSE, cache_dir=str(path.parent))
    convert_torchxrayvision(path, tmp_path)
    model = load_torchxrayvision(tmp_path)
    images = torch.linspace(-1024, 1024, 2 * 224 * 224).reshape(2, 1, 224, 224).flip(2)
    with torch.no_grad():
        assert torch.equal(model(images), reference(images))
        assert torch.equal(model.features2(images), reference.features2(images))
    assert model.targets == reference.targets
    assert torch.equal(model.op_threshs, reference.op_threshs)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    config = json.loads((tmp_path / "model.json").read_text())
    assert config["source_sha256"] == sha256(path.read_bytes())
    assert (config["input_size"], config["input_range"]) == (224, [-1024, 1024])


def test_the_same_weights_give_the_same_bytes(dense_files: dict[str, Path], tmp_path: Path) -> None:
    for name, path in dense_files.items():
        convert_torchxrayvision(path, tmp_path / name)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in dense_files)
    assert one == other


def test_missing_thresholds_are_kept_missing(dense_files: dict[str, Path], tmp_path: Path) -> None:
    convert_torchxrayvision(dense_files["zip"], tmp_path, weights="densenet121-res224-nih")
    model = load_torchxrayvision(tmp_path)
    expected = torch.tensor(xrv.models.model_urls["densenet121-res224-nih"]["op_threshs"])
    assert torch.equal(model.op_threshs.isnan(), expected.isnan())
    assert expected.isnan().any()


def test_resnet_gives_torchxrayvision_s_own_output(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inner = torchvision.models.resnet50(num_classes=18, weights=None)
    inner.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / release_file(RES)
    torch.save(randomised(inner).state_dict(), path)
    reference = xrv.models.ResNet(weights=RES, cache_dir=str(path.parent))
    convert_torchxrayvision(path, tmp_path / "out")
    model = load_torchxrayvision(tmp_path / "out")
    images = torch.linspace(-1, 1, 64 * 64).reshape(1, 1, 64, 64)  # 512 px takes seconds
    with torch.no_grad():
        assert torch.equal(model.model(images), reference.model(images))
    assert type(model).forward is type(reference).forward
    assert type(model).features is type(reference).features
    for name in ("op_threshs", "input_resolution", "apply_sigmoid"):
        ours, theirs = (torch.as_tensor(getattr(m, name)) for m in (model, reference))
        assert torch.equal(ours.nan_to_num(-1), theirs.nan_to_num(-1))
    assert model.targets == reference.targets


class Evil:
    """Makes a file when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_file_that_would_run_something_runs_nothing(tmp_path: Path, is_zip: bool) -> None:
    model = nn.Linear(2, 2)
    model.extra = Evil(tmp_path / "ran")
    torch.save(model, tmp_path / "m.pt", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(RequestError, match=r"names posix.mkdir"):
        load_state(tmp_path / "m.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["torch.hub.load", "torch.serialization.load", "numpy.load"])
def test_functions_of_the_allowed_libraries_are_not_run_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module, _, function = name.rpartition(".")
    run: list[object] = []
    monkeypatch.setattr(name, lambda *arguments: run.append(arguments))
    # PROTO 2, GLOBAL, one string in a tuple, REDUCE, STOP
    code = f"c{module}\n{function}\n".encode() + b"(X\x03\x00\x00\x00x/ytR."
    (tmp_path / "m.pt").write_bytes(b"\x80\x02" + code)
    pickle.load((tmp_path / "m.pt").open("rb"))
    assert run == [("x/y",)]  # what an ordinary unpickler does with it
    with pytest.raises(RequestError):
        load_state(tmp_path / "m.pt")
    assert len(run) == 1
    torch.save({"a": torch.ones(1)}, tmp_path / "ok.pt")
    assert load_state(tmp_path / "ok.pt")[1]["a"].tolist() == [1]


def test_state_of_a_module_is_its_state_dict(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    model.register_buffer("hidden", torch.ones(1), persistent=False)
    model.register_buffer("seen", torch.full((2,), 3.0))
    torch.save(nn.DataParallel(model), tmp_path / "m.pt")
    name, state = load_state(tmp_path / "m.pt")
    assert name == "Sequential"
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    files = {"html.pt": b"<html>", "list.pt": pickle.dumps([1]), "empty.pt": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    torch.save([1, 2], tmp_path / "torch-list.pt")
    torch.save(nn.Identity(), tmp_path / "nothing.pt")
    for path in tmp_path.glob("*.pt"):
        with pytest.raises(RequestError):
            load_state(path)


def test_weights_of_something_else(tmp_path: Path, dense_files: dict[str, Path]) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "m.pt")
    with pytest.raises(RequestError, match="not the name of a torchxrayvision release file"):
        convert_torchxrayvision(tmp_path / "m.pt", tmp_path / "out")
    with pytest.raises(RequestError, match="is not torchxrayvision's densenet121"):
        convert_torchxrayvision(tmp_path / "m.pt", tmp_path / "out", weights=DENSE)
    with pytest.raises(RequestError, match="no weights 'x'"):
        convert_torchxrayvision(tmp_path / "m.pt", tmp_path / "out", weights="x")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match="arra-med assets fetch torchxrayvision"):
        load_torchxrayvision(tmp_path)


def test_an_asset_holds_the_conversion_and_the_pickle_s_hash(
    dense_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = "densenet121-res224-nih"  # the catalogue does not know its hash
    given = tmp_path / "downloads"
    given.mkdir()
    shutil.copyfile(dense_files["legacy"], given / release_file(weights))
    folder = fetch(resolve(f"torchxrayvision/{weights}"), tmp_path / "assets", source=given)
    record = read_record(folder)
    assert set(record.files) == {"model.json", "model.safetensors"}
    original = record.converted_from[release_file(weights)]
    assert original.sha256 == sha256(dense_files["legacy"].read_bytes())
    assert {"torch", "torchxrayvision"} <= set(record.versions)
    assert load_torchxrayvision(folder).targets[0] == "Atelectasis"
    # A published file whose hash the catalogue does know is compared before it is converted.
    shutil.copyfile(dense_files["legacy"], given / release_file(DENSE))
    with pytest.raises(WorkError, match="expected 28382008 and 56524913"):
        fetch(resolve(DENSE), tmp_path / "assets", source=given)
