"""torchxrayvision's judge and extractor against the library itself, with random weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import torchxrayvision as xrv
from PIL import Image
from torch import nn

from arra_med.assets.xrv import convert_torchxrayvision
from arra_med.errors import RequestError
from arra_med.eval.evaluator import as_uint8
from arra_med.eval.independence import objections
from arra_med.eval.xrv_extractor import XrvExtractor, XrvExtractorOptions
from arra_med.eval.xrv_judge import XrvJudge
from arra_med.eval.xrv_networks import ORIGINS, XrvNetwork, XrvOptions
from arra_med.schema import CHEXPERT_LABELS
from tests.asset_folders import write_asset
from tests.test_assets_xrv import randomised

RESNET = "resnet50-res512-all"
DENSE = "densenet121-res224-nih"
ROUNDING = 1e-6
"""Of probabilities: some CPUs round them by how many are computed together."""


def save_xrv(folder: Path, weights: str = DENSE) -> tuple[Path, nn.Module]:
    """A random network in torchxrayvision's published format, converted; the folder, the model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.rand(4, 1, 64, 64) * 2048 - 1024
        if weights.startswith("resnet"):
            model = torchvision.models.resnet50(num_classes=18, weights=None)
            model.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
            spread_out(randomised(model), model.fc, images)
            saved = model.state_dict()
        else:
            saved = model = randomised(xrv.models.DenseNet(num_classes=18))
            spread_out(model, model.classifier, images)
    folder.mkdir(parents=True, exist_ok=True)
    published = folder / xrv.models.model_urls[weights]["weights_url"].rpartition("/")[2]
    torch.save(saved, published)
    convert_torchxrayvision(published, folder / "converted")
    return folder / "converted", model


@torch.no_grad()
def spread_out(model: nn.Module, classifier: nn.Linear, images: torch.Tensor) -> None:
    """Bring logits to a standard deviation of 1: sigmoids of random weights are all 0 or 1."""
    model.eval()
    classifier.weight /= model(images).std()
    model.train()


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """The converted folder and torchxrayvision's own model of the same file."""
    folder, _ = save_xrv(tmp_path_factory.mktemp("dense"))
    return folder, xrv.models.DenseNet(weights=DENSE, cache_dir=str(folder.parent))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    folder, _ = save_xrv(tmp_path_factory.mktemp("resnet"), RESNET)
    return folder, xrv.models.ResNet(weights=RESNET, cache_dir=str(folder.parent))


def renamed(folder: Path, output: Path, weights: str) -> Path:
    """The same tensors under another published name, as its conversion would describe them."""
    published = next(folder.parent.glob("*.pt"))
    convert_torchxrayvision(published, output, weights=weights)
    return output


def film(height: int, width: int, channels: int = 1) -> np.ndarray:
    """``(height, width, channels)`` uint8: smooth shapes, noise, black and white."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    picture = 120 + 90 * np.cos(4 * x) * np.sin(5 * y) + rng.normal(0, 30, (height, width))
    shifts = np.arange(channels) * 25
    return (picture[..., None] + shifts).clip(0, 255).astype(np.uint8)


def library_pixels(path: Path, size: int) -> torch.Tensor:
    """``(1, 1, size, size)``: what torchxrayvision does with a file, up to its network."""
    cropped = xrv.datasets.XRayCenterCrop()(xrv.utils.load_image(str(path)))
    return xrv.utils.fix_resolution(torch.from_numpy(cropped)[None], size, nn.Identity())


@pytest.mark.parametrize("shape", [(300, 411, 1), (97, 97, 3), (224, 224, 1), (512, 381, 3)])
def test_preprocessing_is_the_library_s(dense, tmp_path, shape) -> None:
    """Requirement 4: normalisation, crop and resize equal torchxrayvision's own, bit for bit."""
    pixels = film(*shape)
    path = tmp_path / "film.png"
    picture = Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels)
    picture.save(path)
    network = XrvNetwork(dense[0])
    ours = network.prepare(as_uint8(picture)[None])
    assert torch.equal(ours, library_pixels(path, 224))
    assert ours.min() >= -1024
    assert ours.max() <= 1024


def test_densenet_equals_the_library(dense) -> None:
    folder, library = dense
    library.op_threshs = None  # plain logits
    images = torch.stack([torch.from_numpy(film(260, 224)).permute(2, 0, 1) for _ in range(2)])
    images[1] = images[1].flip(1)
    judge = XrvJudge(XrvOptions(weights=folder))
    pixels = judge.network.prepare(images)
    after, before = (
        XrvExtractor(XrvExtractorOptions(weights=folder, layer=layer))
        for layer in ("features2", "features")
    )
    with torch.inference_mode():
        targets = [t for t in library.targets if t]
        assert len(targets) == 14
        expected = torch.sigmoid(library(pixels))[:, :14]
        torch.testing.assert_close(judge(images), expected, rtol=0, atol=ROUNDING)
        assert ((expected > 0.01) & (expected < 0.99)).float().mean() > 0.5
        assert (expected[0] - expected[1]).abs().max() > 1e-4
        assert torch.equal(after(images), library.features2(pixels))
        pooled = library.features(pixels).mean(dim=(2, 3))
        torch.testing.assert_close(before(images), pooled, rtol=1e-5, atol=1e-5)
        assert after(images).shape == (2, after.dimension) == (2, 1024)
        assert (before(images) - after(images)).abs().max() > 0.01
        assert (before(images) < 0).any()
    assert after.info.name == "xrv-densenet121-res224-nih/features2"
    assert before.info.name == "xrv-densenet121-res224-nih/features"
    assert after.info.preprocessing.startswith("xrv-1: ")
    default = XrvExtractorOptions(weights=folder)
    assert XrvExtractor.identity(default)["layer"] == "features2"
    assert XrvExtractor.identity(default) != XrvExtractor.identity(
        XrvExtractorOptions(weights=folder, layer="features")
    )


def test_resnet_equals_the_library(resnet) -> None:
    folder, library = resnet
    library.op_threshs = None
    images = torch.from_numpy(film(300, 300)).permute(2, 0, 1)[None]
    judge = XrvJudge(XrvOptions(weights=folder))
    extractor = XrvExtractor(XrvExtractorOptions(weights=folder))
    pixels = judge.network.prepare(images)
    assert pixels.shape == (1, 1, 512, 512)
    with torch.inference_mode():
        logits = library(pixels)
        columns = [library.targets.index("Effusion"), library.targets.index("Mass")]
        ours = judge(images)
        names = [judge.findings.index("Pleural Effusion"), judge.findings.index("Mass")]
        torch.testing.assert_close(
            ours[:, names], torch.sigmoid(logits[:, columns]), rtol=0, atol=ROUNDING
        )
        assert torch.equal(extractor(images), library.features(pixels))
    assert extractor.dimension == 2048
    assert extractor.info.name == "xrv-resnet50-res512-all/features"
    # of its 18 outputs two have neither a training picture nor a threshold
    assert len(judge.findings) == 16
    for name in ("Lung Lesion", "Enlarged Cardiomediastinum"):
        assert "not trained on" in judge.not_judged[name]
    assert judge.info.saw == ()
    wrong = XrvExtractorOptions(weights=folder, layer="features2")
    for use in (XrvExtractor, XrvExtractor.identity):
        with pytest.raises(RequestError, match="a DenseNet's, and resnet50-res512-all"):
            use(wrong)


NOT_IN_CHEXPERT = {"Infiltration", "Emphysema", "Fibrosis", "Pleural Thickening", "Nodule", "Mass"}
NOT_IN_CHEXPERT |= {"Hernia"}


@pytest.mark.parametrize(
    ("weights", "judged", "saw"),
    [
        ("densenet121-res224-all", 11, ("mimic-cxr",)),
        ("densenet121-res224-mimic_ch", 11, ("mimic-cxr",)),
        ("densenet121-res224-mimic_nb", 11, ("mimic-cxr",)),
        ("densenet121-res224-nih", 7, ()),
        ("densenet121-res224-pc", 8, ()),
        ("densenet121-res224-chex", 11, ()),
        ("densenet121-res224-rsna", 2, ()),
    ],
)
def test_labels_and_origin(dense, tmp_path, weights, judged, saw) -> None:
    """Requirement 6, and no untrained output that looks like a prediction."""
    judge = XrvJudge(XrvOptions(weights=renamed(dense[0], tmp_path / "w", weights)))
    ours = [name for name in judge.findings if name in CHEXPERT_LABELS]
    assert len(ours) == judged
    assert set(judge.findings) - set(ours) <= NOT_IN_CHEXPERT
    assert set(ours) | set(judge.not_judged) == set(CHEXPERT_LABELS)
    assert not set(ours) & set(judge.not_judged)
    for name in ("No Finding", "Pleural Other", "Support Devices"):
        assert judge.not_judged[name] == f"torchxrayvision has no output for {name}"
    assert len(judge.outputs) == len(judge.findings)
    assert judge.info.name == f"xrv-{weights}"
    assert judge.info.saw == saw
    assert ("MIMIC" in judge.info.trained_on) == bool(saw)
    identity = {"plugin": "xrv", **XrvJudge.identity(XrvOptions(weights=tmp_path / "w"))}
    found = objections(identity, saw=saw, teacher=None, dataset="mimic-cxr", split="test")
    assert bool(found) == bool(saw)


def test_every_published_network_has_an_origin() -> None:
    published = {name for name in xrv.models.model_urls if "-" in name}
    assert set(ORIGINS) == published


def test_a_wrong_scale_raises_on_every_batch(dense) -> None:
    network = XrvNetwork(dense[0])
    good = network.prepare(torch.from_numpy(film(64, 64)).permute(2, 0, 1)[None])
    images = torch.rand(1, 1, 224, 224)
    for wrong in (images, images * 2 - 1, images * 4000, good * 100, good * float("nan")):
        for _ in range(2):
            with pytest.raises(ValueError, match=r"expected the scale \[-1024, 1024\]"):
                network.logits(wrong)
    for wrong in (good.double(), good[:, :, :100], good.expand(-1, 3, -1, -1), good[0]):
        with pytest.raises(ValueError, match=r"expected \(B, 1, 224, 224\) float32"):
            network.features(wrong, "features")
    assert network.logits(good).isfinite().all()
    black = network.prepare(torch.zeros(1, 1, 32, 32, dtype=torch.uint8))
    assert network.logits(black).isfinite().all()


def test_where_weights_are_looked_for(dense, tmp_path, monkeypatch) -> None:
    folder, _ = dense
    name = f"torchxrayvision/{DENSE}"
    root = tmp_path / "assets"
    root.mkdir()
    monkeypatch.setenv("ARRA_MED_ASSETS", str(root))
    for weights in (name, f"hf-hub:{name}"):
        with pytest.raises(FileNotFoundError, match=f"assets fetch {name}'.*assets pack"):
            XrvJudge(XrvOptions(weights=Path(weights)))
    with pytest.raises(FileNotFoundError, match=r"nowhere, which is not a folder.*assets fetch"):
        XrvJudge.identity(XrvOptions(weights=tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        XrvJudge(XrvOptions(weights=tmp_path))
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    write_asset(root, name, files)
    identities = [
        XrvJudge.identity(XrvOptions(weights=Path(weights)))
        for weights in (name, f"hf-hub:{name}", f"local-dir:{folder}", folder)
    ]
    assert all(identity == identities[0] for identity in identities)
    assert str(tmp_path) not in json.dumps(identities)
    assert XrvJudge.assets(XrvOptions(weights=Path(name))) == (name,)
    assert XrvJudge.assets(XrvOptions(weights=folder)) == ()


def test_weights_of_unknown_origin_are_refused(dense, tmp_path) -> None:
    folder = tmp_path / "w"
    shutil.copytree(dense[0], folder)
    config = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(config | {"weights": "densenet121-mine"}))
    with pytest.raises(RequestError, match="not known what they were trained on"):
        XrvJudge.identity(XrvOptions(weights=folder))
    for text in ("{", "[]", "{}"):
        (folder / "model.json").write_text(text)
        with pytest.raises(RequestError, match="is not of converted weights"):
            XrvJudge(XrvOptions(weights=folder))
    (folder / "model.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(RequestError):
        XrvJudge(XrvOptions(weights=folder))


def test_importing_them_does_not_silence_warnings() -> None:
    """torchxrayvision switches all of a process's warnings off when it is imported."""
    code = (
        "import warnings, arra_med.eval.xrv_judge\n"
        "print(('ignore', None, Warning, None, 0) in warnings.filters)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nothing_is_printed(dense, capsys) -> None:
    """torchxrayvision prints warnings of its own on the first batch."""
    judge = XrvJudge(XrvOptions(weights=dense[0]))
    judge(torch.full((1, 1, 50, 40), 128, dtype=torch.uint8))
    assert capsys.readouterr() == ("", "")
