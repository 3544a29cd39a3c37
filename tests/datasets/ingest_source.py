"""A small table with pictures, and what ingest makes of it."""

import numpy as np
from PIL import Image

from arra_med.config import PluginConfig
from arra_med.datasets.table import Table
from arra_med.settings import Ingest

NUM = 23


def write_source(folder):
    """23 rows: 20 pictures of several sizes, one broken, one missing, one without words."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for index in range(NUM):
        name = f"film {index:02d}.png"
        picture = rng.integers(0, 256, (40 + index, 64 - index), np.uint8)
        if index == 7:
            (folder / name).write_bytes(b"no picture")
        elif index != 9:
            Image.fromarray(picture).save(folder / name)
        text = "" if index == 11 else f"report {index}"
        rows.append(f"{name},{text},p{index // 2},{'test' if index > 15 else 'train'}")
    (folder / "films.csv").write_text("file,text,patient,split\n" + "\n".join(rows) + "\n")
    return folder


def settings(source, **changes):
    options = Table.Options(
        file=source / "films.csv", image="file", text="text", patient="patient", split="split"
    )
    return Ingest(
        dataset=PluginConfig(name="table", options=options),
        **{"size": 32, "part_size": 5, "workers": 0} | changes,
    )


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
