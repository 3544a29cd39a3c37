"""A small prepared folder, small models in the published formats, and a network that is off."""

import socket
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from torch import nn
from transformers import CLIPModel, Dinov2Model, SamModel

from arra_med.schema import Sample
from arra_med.store import PreparedFolder
from tests.prepared import save_prepared
from tests.teachers import models

LABELS = ("Disc", "Bar", "Never")
SPLITS = ("train",) * 24 + ("validate",) * 10 + ("test",) * 6


def draw(disc: bool, bar: bool, rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """``(size, size)`` uint8: noise, with a bright disc on the left, a bar along the bottom."""
    image = rng.normal(90, 20, (size, size))
    y, x = np.mgrid[:size, :size]
    if disc:
        centre = rng.integers(-2, 3, 2)
        image[(x - 12 - centre[0]) ** 2 + (y - 16 - centre[1]) ** 2 < 64] += 90
    if bar:
        image[38:44] += 80
    return np.clip(image, 0, 255).astype(np.uint8)


def write_prepared(
    folder: Path, *, num_samples: int = 40, part_size: int = 20, colour: bool = False, seed: int = 0
) -> PreparedFolder:
    """``num_samples`` pictures in parts of ``part_size``; one label unknown, one uncertain."""
    rng = np.random.default_rng(seed)
    items = []
    for index in range(num_samples):
        disc, bar = bool(rng.integers(2)), bool(rng.integers(2))
        image = draw(disc, bar, rng)
        channels = [image, image // 2, 255 - image] if colour else [image]
        labels: dict[str, int | None] = {"Disc": int(disc), "Bar": int(bar), "Never": 0}
        if index == 3:
            labels["Disc"] = None
        if index == 4:
            labels["Bar"] = -1
        sample = Sample(
            key=f"p{index}/x",
            patient_id=f"p{index}",
            study_id=f"s{index}",
            split=SPLITS[index % len(SPLITS)],
            view="PA",
            prompt=f"picture {index}",
            prompt_source="impression",
            labels=labels,
            modality="cxr",
            source=f"{index}.png",
        )
        items.append((sample, np.stack(channels, axis=-1)))
    return save_prepared(folder, items, part_size=part_size, seed=seed)


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedFolder:
    return write_prepared(tmp_path / "prepared")


@pytest.fixture
def make_prepared() -> Callable[..., PreparedFolder]:
    return write_prepared


@pytest.fixture
def make_open_clip() -> Callable[..., nn.Module]:
    return models.save_open_clip


@pytest.fixture(scope="session")
def biomedclip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """Folder and reference model of a small BiomedCLIP."""
    folder = tmp_path_factory.mktemp("models") / "biomedclip"
    return folder, models.save_open_clip(folder, "vit_tiny_patch16_224")


@pytest.fixture(scope="session")
def medsam(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SamModel]:
    """Folder and reference model of a small SAM."""
    folder = tmp_path_factory.mktemp("models") / "medsam"
    return folder, models.save_sam(folder)


@pytest.fixture(scope="session")
def conversion(biomedclip: tuple[Path, nn.Module]) -> tuple[Path, nn.Module]:
    """The small BiomedCLIP once more, as its Hugging Face conversion is published."""
    folder, model = biomedclip
    converted = folder.parent / "conversion"
    return models.save_conversion(converted, folder, model, models.SMALL_BERT), model


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CLIPModel]:
    """Folder and reference model of a small CLIP."""
    folder = tmp_path_factory.mktemp("models") / "clip"
    return folder, models.save_clip(folder)


@pytest.fixture(scope="session")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dinov2Model]:
    """Folder and reference model of a small DINOv2."""
    folder = tmp_path_factory.mktemp("models") / "dinov2"
    return folder, models.save_dinov2(folder)


@pytest.fixture(scope="session")
def timm_vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """Folder and reference model of a small timm ViT."""
    folder = tmp_path_factory.mktemp("models") / "timm"
    return folder, models.save_timm(folder, "vit_tiny_patch16_224", img_size=64, depth=3)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any use of a socket fails the test; the asset folder and Hugging Face's cache are empty."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("ARRA_MED_OFFLINE", raising=False)
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.setenv("ARRA_MED_ASSETS", str(empty))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(empty))
