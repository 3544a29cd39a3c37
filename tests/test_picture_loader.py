"""The loader's buffers: used again by workers, and never under a batch that somebody holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from arra_med.picture_loader import load_pictures, to_picture
from arra_med.schema import Sample
from arra_med.store import PreparedFolder
from tests.prepared import save_prepared

NUMBER = 26


def transform(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float()


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedFolder:
    """26 pictures of one part, each of one grey level."""
    items = []
    for index in range(NUMBER):
        sample = Sample(
            key=f"p{index}", patient_id=f"p{index}", study_id=f"p{index}", split="train",
            view="PA", prompt="a film", prompt_source="impression", labels={"Disc": None},
            modality="cxr", source=f"{index}.png",
        )  # fmt: skip
        items.append((sample, np.full((8, 8, 1), 9 * index, np.uint8)))
    return save_prepared(tmp_path / "prepared", items, part_size=NUMBER)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_that_are_kept_keep_their_pixels(prepared: PreparedFolder, workers: int) -> None:
    """Nine batches of three pictures, far more than a worker has buffers."""
    batches = list(load_pictures(prepared, [0], transform, batch_size=3, workers=workers))
    assert [len(batch.pixels) for batch in batches] == [3] * 8 + [2]
    levels = torch.cat([batch.pixels for batch in batches])
    assert levels.unique(dim=0).shape == (NUMBER, 3, 8, 8)
    assert levels[:, 0, 0, 0].tolist() == [9 * index for index in range(NUMBER)]


def test_a_picture_is_as_ingest_wrote_it(prepared: PreparedFolder) -> None:
    grey = to_picture(prepared.read_part(0)[3][1])
    assert (grey.mode, grey.size, grey.getextrema()) == ("L", (8, 8), (27, 27))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 1])
def test_pinned_batches_are_pinned(prepared: PreparedFolder, workers: int) -> None:
    load = load_pictures(prepared, [0], transform, batch_size=3, workers=workers, pin_memory=True)
    batches = list(load)
    assert all(batch.pixels.is_pinned() for batch in batches)
    levels = torch.cat([batch.pixels for batch in batches])[:, 0, 0, 0]
    assert levels.tolist() == [9 * index for index in range(NUMBER)]
