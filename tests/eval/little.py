"""160 little pictures with two findings one can see, and generators of such pictures."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from arra_med.generation.folder import GENERATIONS_SCHEMA, image_name
from arra_med.images import encode_png
from arra_med.schema import Sample
from arra_med.store import PartWriter
from tests.prepared import save_prepared

CPU = torch.device("cpu")
LABELS = ("Cardiomegaly", "Edema", "Pleural Effusion")
SIZE = 32
QUICK = {"input_size": 32, "epochs": 8, "dimension": 8}


def draw(labels, rng):
    picture = rng.normal(90, 12, (SIZE, SIZE, 1))
    picture[SIZE // 2 :] += 60 * (labels["Pleural Effusion"] == 1)
    picture[:, SIZE // 3 : SIZE // 2] += 50 * (labels["Cardiomegaly"] == 1)
    return picture.clip(0, 255).astype(np.uint8)


def write_prepared(folder, num=160):
    rng = np.random.default_rng(0)
    items = []
    for i in range(num):
        labels = {"Cardiomegaly": int(i % 3 == 0), "Edema": None, "Pleural Effusion": i % 2}
        if i % 20 == 19:
            labels["Pleural Effusion"] = -1
        sample = Sample(
            key=f"p{i // 2:03d}/s{i:03d}",
            patient_id=f"p{i // 2:03d}",
            study_id=f"s{i:03d}",
            split="train" if i < 84 else "validate" if i < 112 else "test",
            view=("PA", "AP", None)[i % 3],
            prompt=f"view {i % 3}: effusion {i % 2}",
            prompt_source="impression",
            labels=labels,
            modality="cxr",
            source=f"{i}.png",
        )
        items.append((sample, draw(labels, rng)))
    return save_prepared(folder, items, part_size=num)


def generation_rows(prepared, images_per_prompt=2):
    return [
        {
            "key": row["key"],
            "index": index,
            "prompt": row["prompt"],
            "file": image_name(row["key"], index),
            "seed": 0,
        }
        for row in prepared.rows("test")
        for index in range(images_per_prompt)
    ]


def write_generated(folder, rows, pictures, *, model=None, images_per_prompt=2):
    """``pictures``: file → array or bytes; a ``None`` is not written."""
    config = {
        "model": {"name": "fake", "teacher": None} if model is None else model,
        "images_per_prompt": images_per_prompt,
    }
    files = {
        name: picture if isinstance(picture, bytes) else encode_png(picture)
        for name, picture in pictures.items()
        if picture is not None
    }
    with PartWriter(folder, kind="generated", config=config) as writer:
        writer.write_part(0, files, {"images": len(rows)})
        table = pa.Table.from_pylist(rows, GENERATIONS_SCHEMA)
        writer.finish(1, {"generations.parquet": table})
    return folder


def pictures_for(prepared, rows, seed=1):
    """New pictures that show what their prompts' labels say."""
    rng = np.random.default_rng(seed)
    labels = {row["key"]: row["labels"] for row in prepared.rows("test")}
    return {row["file"]: draw(labels[row["key"]], rng) for row in rows}


def read(folder: Path):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))
