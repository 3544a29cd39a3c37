"""InceptionV3 for the Fréchet inception distance, against torch-fidelity, with random weights."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from arra_med.assets.catalogue import resolve
from arra_med.errors import RequestError
from arra_med.eval import inception
from arra_med.eval.fidelity import frechet_distance
from arra_med.eval.inception import ASSET, FILE, FILES, Inception, InceptionOptions
from arra_med.store import sha256_file
from tests.asset_folders import forbid_sockets, write_asset
from tests.test_assets_xrv import randomised


class Untrained(FeatureExtractorInceptionV3):
    """Torch-fidelity's module before any weights: its constructor insists on a file."""

    def __init__(self) -> None:
        empty = io.BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        super().__init__("untrained", ["2048"], feature_extractor_weights_path=empty)

    def load_state_dict(self, state_dict: object, *args: object, **kwargs: object) -> None:
        """Keep the random ones."""


def save_inception(path: Path, *, is_zip: bool = False) -> Path:
    """Random weights in torch-fidelity's published format, a pickled mapping of tensors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomised(Untrained())
        for module in model.modules():
            if isinstance(module, nn.Conv2d):  # or the signal dies on its way through 40 layers
                nn.init.kaiming_normal_(module.weight)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=is_zip)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_inception(tmp_path_factory.mktemp("inception") / FILE)


@pytest.fixture(scope="module")
def library(weights: Path) -> FeatureExtractorInceptionV3:
    return FeatureExtractorInceptionV3("library", ["2048"], str(weights))


def pictures(number: int, channels: int, size: int = 75, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (number, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def test_features_are_the_library_s(weights, library) -> None:
    """Requirement 2: exactly those of torch-fidelity's own loading of the same file."""
    extractor = Inception(InceptionOptions(weights=weights))
    colour, grey = pictures(2, 3, 120), pictures(2, 1)
    with torch.inference_mode():
        assert torch.equal(extractor(colour), library(colour)[0])
        features = extractor(grey)
        assert torch.equal(features, library(grey.repeat(1, 3, 1, 1))[0])
    assert features.shape == (2, extractor.dimension) == (2, 2048)
    assert features.dtype == torch.float32
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_distance_is_torch_fidelity_s(weights, library) -> None:
    """Requirement 2: within 1e-3 of torch-fidelity's, on the same pictures and weights.

    In 6 of the 2048 dimensions: its general eigenvalues of all of them take more than a minute.
    """
    one, other = pictures(4, 3), pictures(4, 3, seed=1) // 2 + 60
    extractor = Inception(InceptionOptions(weights=weights))
    with torch.inference_mode():
        ours = [extractor(images)[:, ::400].numpy() for images in (one, other)]
        theirs = [library(images)[0][:, ::400] for images in (one, other)]
    scale = float(np.concatenate(ours).std())  # of random weights; real features are near 1
    statistics = [fid_features_to_statistics((features / scale).double()) for features in theirs]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert expected > 0.1
    assert frechet_distance(ours[0] / scale, ours[1] / scale) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("is_zip", [False, True])
def test_both_formats_of_the_file_and_both_names(tmp_path, is_zip) -> None:
    path = save_inception(tmp_path / FILES[is_zip], is_zip=is_zip)
    for weights in (path, tmp_path, Path(f"local-dir:{tmp_path}")):
        identity = Inception.identity(InceptionOptions(weights=weights))
        assert identity["weights_sha256"] == sha256_file(path)
    assert str(tmp_path) not in json.dumps(identity)
    extractor = Inception(InceptionOptions(weights=path))
    assert not extractor.training
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_only_the_published_file_has_its_name(weights, monkeypatch) -> None:
    """A distance under other weights is not "FID"."""
    extractor = Inception(InceptionOptions(weights=weights))
    digest = sha256_file(weights)
    assert extractor.info.name == f"inception-v3-{digest[:8]}"
    assert "not the published file" in extractor.info.trained_on
    assert resolve(ASSET).known(FILE).sha256.startswith("6726825d")
    monkeypatch.setattr(inception, "sha256_file", lambda path: resolve(ASSET).known(FILE).sha256)
    published = Inception(InceptionOptions(weights=weights))
    assert published.info.name == "inception-v3-2015-12-05"
    assert "no medical pictures" in published.info.trained_on
    assert f"torch-fidelity {torch_fidelity.__version__}" in published.info.preprocessing


def test_weights_are_never_downloaded(weights, tmp_path, monkeypatch) -> None:
    forbid_sockets(monkeypatch)
    root = tmp_path / "assets"
    root.mkdir()
    monkeypatch.setenv("ARRA_MED_ASSETS", str(root))
    for use in (Inception, Inception.identity):
        with pytest.raises(FileNotFoundError, match=f"assets fetch {ASSET}'.*assets pack"):
            use(InceptionOptions())
        with pytest.raises(FileNotFoundError, match=rf"nowhere, which does not exist.*{FILE}"):
            use(InceptionOptions(weights=tmp_path / "nowhere"))
        with pytest.raises(FileNotFoundError, match=r"which holds assets\. Needed"):
            use(InceptionOptions(weights=tmp_path))
    write_asset(root, ASSET, {FILE: weights.read_bytes()})
    assert Inception.identity(InceptionOptions()) == Inception.identity(
        InceptionOptions(weights=weights)
    )


class Evil:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_file_that_would_run_something_runs_nothing(tmp_path) -> None:
    torch.save({"fc.weight": torch.ones(1), "x": Evil(tmp_path / "ran")}, tmp_path / FILE)
    with pytest.raises(RequestError, match="mkdir"):
        Inception(InceptionOptions(weights=tmp_path))
    assert not (tmp_path / "ran").exists()


def test_other_weights_are_refused(tmp_path) -> None:
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / FILE)
    with pytest.raises(RequestError, match="is not of torch-fidelity's Inception V3"):
        Inception(InceptionOptions(weights=tmp_path))
