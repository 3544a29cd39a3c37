"""The perceptual term: its value, local weights in known layouts, files that are missing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet50

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.settings import Tokenizer, TokenizerTraining
from arra_med.settings.data import PerceptualTerm
from arra_med.store import PreparedFolder
from arra_med.tokenizers.monai_vqvae import MonaiVqvae, MonaiVqvaeOptions
from arra_med.tokenizers.optimise import TokenizerTrainer
from arra_med.tokenizers.perceptual import find_perceptual, load_perceptual
from arra_med.tokenizers.train import train_tokenizer

OPTIONS = MonaiVqvaeOptions(channels=(8, 16), residual_layers=1, num_codes=32, code_dimension=8)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return resnet50(weights=None).eval()


@pytest.fixture(scope="module")
def folder(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet")
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder


def by_hand(network: torch.nn.Module, a: Tensor, b: Tensor) -> float:
    """Unit features of the last block; the sum over channels, the mean over the rest."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    features = []
    for pixels in (a, b):
        hidden = (pixels.expand(-1, 3, -1, -1) / 2 + 0.5 - mean) / deviation
        for name, layer in network.named_children():
            if name not in ("avgpool", "fc"):
                hidden = layer(hidden)
        features.append(hidden / hidden.norm(dim=1, keepdim=True))
    return float((features[0] - features[1]).square().sum(dim=1).mean())


@pytest.mark.parametrize("channels", [1, 3])
def test_the_distance_is_monais_and_its_inputs_stay(
    network: torch.nn.Module, folder: Path, channels: int
) -> None:
    distance = load_perceptual(find_perceptual(folder))
    pixels, decoded = torch.rand(2, 2, channels, 32, 32) * 2 - 1
    kept = decoded.clone()
    decoded.requires_grad_()
    value = distance(decoded, pixels)
    with torch.no_grad():
        assert value.item() == pytest.approx(by_hand(network, decoded, pixels), rel=1e-3)
    assert torch.equal(decoded, kept)  # MONAI overwrites colour pictures
    value.backward()
    assert decoded.grad is not None
    assert decoded.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in distance.parameters())


def test_radimagenets_numbered_layers_are_the_same_network(
    network: torch.nn.Module, folder: Path, tmp_path: Path
) -> None:
    body = torch.nn.Sequential(*list(network.children())[:9])
    state = {f"backbone.{name}": tensor for name, tensor in body.state_dict().items()}
    torch.save(state, tmp_path / "ResNet50.pt")
    pictures = torch.rand(2, 1, 1, 32, 32)
    values = [load_perceptual(find_perceptual(p))(*pictures).item() for p in (folder, tmp_path)]
    assert values[0] == values[1]


def test_training_with_it_adds_its_weighted_value(folder: Path) -> None:
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    term = PerceptualTerm(weight=0.5, weights=folder)
    losses = []
    for training, file in (
        (TokenizerTraining(steps=2), None),
        (TokenizerTraining(steps=2, perceptual=term), find_perceptual(folder)),
    ):
        tokenizer = MonaiVqvae.create(OPTIONS, image_size=32, channels=1, seed=0)
        losses.append(
            TokenizerTrainer(tokenizer, training, seed=0, perceptual_file=file).learn(images)
        )
    extra = losses[1]["loss"] - losses[0]["loss"]
    assert extra.item() == pytest.approx(0.5 * losses[1]["perceptual"].item(), rel=1e-3)
    assert losses[1]["perceptual"] > 0


def test_missing_weights_say_what_where_and_how(prepared: PreparedFolder, tmp_path: Path) -> None:
    settings = Tokenizer(
        plugin=PluginConfig(name="monai-vqvae", options=OPTIONS),
        training=TokenizerTraining(
            steps=2, perceptual=PerceptualTerm(weight=1.0, weights=tmp_path / "nowhere")
        ),
    )
    expected = (
        r"no weights of a ResNet-50 .* at .*nowhere, which does not exist; expected .*"
        r"model.safetensors.*arra-med assets fetch timm/resnet50.tv_in1k.*assets pack.*unpack"
    )
    with pytest.raises(FileNotFoundError, match=expected):
        train_tokenizer(settings, prepared, tmp_path / "t", seed=0, device=torch.device("cpu"))
    assert not (tmp_path / "t").exists()


def test_an_asset_that_is_not_here_says_how_to_bring_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"timm/resnet50.tv_in1k is not in .*assets fetch"):
        find_perceptual(Path("hf-hub:timm/resnet50.tv_in1k"))


def test_another_network_is_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(RequestError, match="is not a ResNet-50 with torchvision's names"):
        load_perceptual(find_perceptual(tmp_path / "other.safetensors"))
