"""Pictures drawn with left and right exchanged are read as the run's own are."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from arra_med.errors import RequestError
from arra_med.eval.evaluate import _swapped
from arra_med.eval.plain_folder import open_pictures
from arra_med.generation.folder import GENERATIONS_SCHEMA, image_name
from arra_med.images import decode_png, encode_png
from arra_med.schema import Sample
from arra_med.sides import exchange_one_side
from arra_med.store import PartWriter, PreparedFolder
from tests.prepared import save_prepared

SIZE, NUMBER = 8, 120
PROMPT = "Left pleural effusion."


def picture(index: int, channels: int) -> NDArray[np.uint8]:
    grey = np.random.default_rng(index).integers(0, 256, (SIZE, SIZE, 1), dtype=np.uint8)
    return np.repeat(grey, channels, axis=2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    """Grey pictures."""
    items = []
    for index in range(NUMBER):
        sample = Sample(
            key=f"p{index:03d}", patient_id=f"p{index}", study_id=f"s{index}", split="test",
            view="PA", prompt=PROMPT, prompt_source="impression", labels={"Edema": None},
            modality="cxr", source=f"{index}.png",
        )  # fmt: skip
        items.append((sample, picture(index, 1)))
    return save_prepared(tmp_path_factory.mktemp("swapped") / "prepared", items, part_size=NUMBER)


def write(folder: Path, *, swap: bool, damaged: int = 0) -> Path:
    """RGB pictures of one run, the first ``damaged`` of them cut off."""
    prompt = exchange_one_side(PROMPT) if swap else PROMPT
    rows: list[dict[str, Any]] = []
    files = {}
    for index in range(NUMBER):
        key = f"p{index:03d}"
        file = image_name(key, 0)
        rows.append({"key": key, "index": 0, "prompt": prompt, "file": file, "seed": 0})
        png = encode_png(picture(index, 3))
        files[file] = png[: len(png) // 2] if index < damaged else png
    config = {"model": {"teacher": None}, "images_per_prompt": 1, "swap_sides": swap}
    with PartWriter(folder, kind="generated", config=config) as writer:
        writer.write_part(0, files, {"images": len(rows)})
        table = pa.Table.from_pylist(rows, GENERATIONS_SCHEMA)
        writer.finish(1, {"generations.parquet": table})
    return folder


def test_they_are_brought_to_the_real_pictures_channels(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    generated = open_pictures(write(tmp_path / "generated", swap=False), prepared)
    folder = write(tmp_path / "swapped", swap=True)
    swapped = _swapped(folder, generated, prepared)
    assert swapped is not None
    assert (len(swapped.rows), swapped.unreadable) == (NUMBER, 0)
    np.testing.assert_array_equal(decode_png(swapped.pngs[3]), picture(3, 1))


def test_unreadable_ones_are_counted_and_many_refused(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    generated = open_pictures(write(tmp_path / "generated", swap=False), prepared)
    few = write(tmp_path / "few", swap=True, damaged=1)
    swapped = _swapped(few, generated, prepared)
    assert swapped is not None
    assert (len(swapped.rows), len(swapped.pngs), swapped.unreadable) == (NUMBER - 1,) * 2 + (1,)
    many = write(tmp_path / "many", swap=True, damaged=2)
    with pytest.raises(RequestError, match="many: 2 of 120 pictures are unreadable"):
        _swapped(many, generated, prepared)
