"""The loader's buffers: used again by workers, and never under a batch that somebody holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from arra_med.errors import RequestError
from arra_med.picture_loader import load_keys, load_pictures, load_pngs, to_picture
from arra_med.schema import Sample
from arra_med.store import PreparedFolder
from tests.prepared import save_prepared

NUMBER = 26


def transform(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float()


def save(folder: Path, part_size: int) -> PreparedFolder:
    """26 pictures, each of one grey level."""
    items = []
    for index in range(NUMBER):
        sample = Sample(
            key=f"p{index}", patient_id=f"p{index}", study_id=f"p{index}", split="train",
            view="PA", prompt="a film", prompt_source="impression", labels={"Disc": None},
            modality="cxr", source=f"{index}.png",
        )  # fmt: skip
        items.append((sample, np.full((8, 8, 1), 9 * index, np.uint8)))
    return save_prepared(folder, items, part_size=part_size)


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedFolder:
    return save(tmp_path / "prepared", part_size=NUMBER)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_that_are_kept_keep_their_pixels(prepared: PreparedFolder, workers: int) -> None:
    """Nine batches of three pictures, far more than a worker has buffers."""
    batches = list(load_pictures(prepared, [0], transform, batch_size=3, workers=workers))
    assert [len(batch.pixels) for batch in batches] == [3] * 8 + [2]
    levels = torch.cat([batch.pixels for batch in batches])
    assert levels.unique(dim=0).shape == (NUMBER, 3, 8, 8)
    assert levels[:, 0, 0, 0].tolist() == [9 * index for index in range(NUMBER)]


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_in_memory_are_sent_to_workers(prepared: PreparedFolder, workers: int) -> None:
    """Nine batches as above, numbered from 0; of the last ones first."""
    pngs = [png for _, png in reversed(prepared.read_part(0))]
    batches = list(load_pngs(pngs, transform, batch_size=3, workers=workers))
    assert [key for batch in batches for key in batch.keys] == [str(i) for i in range(NUMBER)]
    levels = torch.cat([batch.pixels for batch in batches])[:, 0, 0, 0]
    assert levels.tolist() == [9 * index for index in reversed(range(NUMBER))]
    assert list(load_pngs([], transform, batch_size=3)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_by_key_fill_batches_across_parts(tmp_path: Path, workers: int) -> None:
    """Every third picture of parts of five, in the folder's order."""
    parts = save(tmp_path / "parts", part_size=5)
    keys = [f"p{index}" for index in range(NUMBER) if index % 3 == 0]
    batches = list(load_keys(parts, keys[::-1], transform, batch_size=4, workers=workers))
    assert [len(batch.keys) for batch in batches] == [4, 4, 1]
    assert [batch.part for batch in batches] == [0, 2, 4]
    assert [key for batch in batches for key in batch.keys] == keys
    levels = torch.cat([batch.pixels for batch in batches])[:, 0, 0, 0]
    assert levels.tolist() == [9 * int(key[1:]) for key in keys]
    assert list(load_keys(parts, [], transform, batch_size=4)) == []
    with pytest.raises(RequestError, match=r"no picture for 1 keys, first \['p99'\]"):
        list(load_keys(parts, ["p1", "p99"], transform, batch_size=4))


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
