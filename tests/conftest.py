"""Fixtures every folder of tests shares: a small prepared folder, written without any adapter."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from arra_med.images import encode_png
from arra_med.schema import CHEXPERT_LABELS, Sample, images_schema, sample_row, samples_schema
from arra_med.store import PartWriter, PreparedFolder

os.environ.setdefault("OMP_NUM_THREADS", "1")

TEXTS = (
    "left effusion.",
    "no acute finding.",
    "large right pneumothorax with shift, and a line that ends in the vein.",
    "clear.",
)


def write_prepared(
    folder: Path, *, num: int = 40, size: int = 32, channels: int = 1, part_size: int = 16
) -> PreparedFolder:
    """A prepared folder of ``num`` pictures: effusion brightens the lower half, and so on."""
    rng = np.random.default_rng(0)
    rows, pngs = [], []
    for index in range(num):
        effusion, heart = int(index % 2 == 0), int(index % 3 == 0)
        picture = rng.normal(90, 12, (size, size, channels))
        picture[size // 2 :] += 80 * effusion
        picture[:, size // 3 : size // 2] += 60 * heart
        labels: dict[str, int | None] = dict.fromkeys(CHEXPERT_LABELS)
        labels |= {"Pleural Effusion": effusion, "Cardiomegaly": heart}
        sample = Sample(
            key=f"p{index:03d}/s{index:03d}/i{index:03d}",
            patient_id=f"p{index // 2:03d}",
            study_id=f"s{index:03d}",
            split="train" if index < num * 0.6 else "validate" if index < num * 0.8 else "test",
            view=("PA", "AP", "lateral")[index % 3],
            prompt=f"PA view chest x-ray image, {TEXTS[index % len(TEXTS)]}",
            prompt_source="impression",
            labels=labels,
            modality="cxr",
            source=f"i{index:03d}.png",
        )
        pngs.append(encode_png(picture.clip(0, 255).astype(np.uint8)))
        rows.append(sample_row(sample, sha256="0" * 64, width=size, height=size))
    num_parts = -(-num // part_size)
    config = {"dataset": {"name": "fixture"}, "size": size, "part_size": part_size, "num": num}
    with PartWriter(folder, kind="prepared", config=config) as writer:
        for part in writer.missing(num_parts):
            chosen = slice(part * part_size, (part + 1) * part_size)
            images = [{"bytes": png, "path": None} for png in pngs[chosen]]
            keys = [row["key"] for row in rows[chosen]]
            table = pa.table({"key": keys, "image": images}, schema=images_schema())
            writer.write_part(
                part, {f"images/part-{part:05d}.parquet": table}, {"samples": len(keys)}
            )
        samples = pa.Table.from_pylist(rows, samples_schema(CHEXPERT_LABELS))
        writer.finish(num_parts, {"samples.parquet": samples}, summary={"channels": channels})
    return PreparedFolder(folder)


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedFolder:
    return write_prepared(tmp_path / "prepared")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The open stand-in data, or a skip that says where it was looked for."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ARRA_MED_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no stand-in data at {folder}; set ARRA_MED_REAL_DATA to its folder")
    return folder
