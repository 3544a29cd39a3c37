"""Small films, a prepared folder of them, and a search for copies among them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from arra_med.eval.evaluator import as_uint8
from arra_med.eval.inference import PictureSource, predict
from arra_med.eval.privacy import CopySearch, GeneratedPictures, SearchSpace, search_copies
from arra_med.images import encode_png
from arra_med.schema import Sample
from arra_med.settings import Memorisation
from arra_med.store import PreparedFolder
from tests.prepared import save_prepared

CPU = torch.device("cpu")
SIZE, TRAIN, HELD_OUT, MADE = 64, 320, 240, 60
PLANTED = 60


def film(patient: int, number: int = 0) -> NDArray[np.uint8]:
    """Two lungs and a heart of one patient; a second number is a second film of that patient."""
    body, taken = np.random.default_rng([patient]), np.random.default_rng([patient, number])
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    x, y = x - taken.normal(0, 0.02), y - taken.normal(0, 0.02)
    picture = np.full((SIZE, SIZE), body.uniform(120, 170))
    width, height = body.uniform(0.26, 0.38), body.uniform(0.5, 0.75)
    for side in (-1, 1):
        lung = ((x - side * 0.42) / width) ** 2 + ((y + 0.05) / height) ** 2
        picture -= body.uniform(70, 110) / (1 + np.exp(9 * (lung - 1)))
    heart = ((x - 0.12) / body.uniform(0.22, 0.45)) ** 2 + ((y - 0.35) / 0.3) ** 2
    picture += body.uniform(50, 90) / (1 + np.exp(8 * (heart - 1)))
    picture += 6 * np.cos(body.uniform(14, 22) * (y + 0.3 * np.abs(x)) + body.uniform(0, 6))
    picture += taken.normal(0, 3, picture.shape)
    return np.asarray(picture.clip(0, 255).astype(np.uint8)[..., None])


def save(folder: Path, splits: dict[str, list[NDArray[np.uint8]]]) -> PreparedFolder:
    """Two pictures a patient, keys ``train000``, ``train001`` …"""
    items = []
    for split, pictures in splits.items():
        for index, picture in enumerate(pictures):
            patient = f"{split}-p{index // 2}"
            sample = Sample(
                key=f"{split}{index:03d}", patient_id=patient, study_id=patient,
                split=split, view="PA", prompt="a film", prompt_source="impression",
                labels={"Disc": None}, modality="cxr", source=f"{index}.png",
            )  # fmt: skip  # type: ignore[arg-type]
            items.append((sample, picture))
    return save_prepared(folder, items, part_size=100)


def save_small(folder: Path) -> PreparedFolder:
    """Twenty patients of each split."""
    splits = {
        "train": [film(i // 2, i % 2) for i in range(40)],
        "test": [film(2000 + i // 2, i % 2) for i in range(40)],
    }
    return save(folder, splits)


class Encoder(nn.Module):
    """Random features of whole pictures."""

    transform = staticmethod(as_uint8)

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weights = nn.Buffer(torch.randn(SIZE * SIZE, 48, generator=generator) / SIZE)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh((images.float().flatten(1) / 255 - 0.5) @ self.weights)


def encode(source: PictureSource, what: str) -> NDArray[np.float32]:
    return predict(Encoder(), source, batch_size=64, device=CPU, what=what, workers=0)


ENCODER = SearchSpace(name="encoder", extract=encode)


def of_test(pictures: list[NDArray[np.uint8]]) -> GeneratedPictures:
    """Two pictures for each prompt of the test split."""
    rows = range(len(pictures))
    return GeneratedPictures(
        keys=[f"test{row // 2:03d}" for row in rows],
        indices=[row % 2 for row in rows],
        patients=[f"test-p{row // 4}" for row in rows],
        pngs=[encode_png(picture) for picture in pictures],
        constant=[bool(np.ptp(picture) == 0) for picture in pictures],
    )


def honest(count: int = MADE) -> GeneratedPictures:
    return of_test([film(5000 + i) for i in range(count)])


def search(
    prepared: PreparedFolder,
    generated: GeneratedPictures,
    *spaces: SearchSpace,
    options: Memorisation | None = None,
) -> CopySearch:
    return search_copies(
        spaces or [ENCODER],
        prepared,
        generated,
        options=options or Memorisation(planted=PLANTED),
        generator=np.random.default_rng(5),
        batch_size=64,
        workers=0,
    )


def section_of(found: CopySearch) -> dict[str, Any]:
    assert found.section is not None
    assert json.loads(json.dumps(found.section, allow_nan=False)) == found.section
    return found.section
