"""Write a prepared folder from pictures in memory, without any adapter."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from arra_med.images import encode_png
from arra_med.schema import Sample, images_schema, sample_row, samples_schema
from arra_med.store import PartWriter, PreparedFolder, sha256_bytes


def save_prepared(
    folder: Path,
    items: Sequence[tuple[Sample, np.ndarray]],
    *,
    part_size: int = 16,
    **config: object,
) -> PreparedFolder:
    """A finished prepared folder of ``(sample, (S, S, C) uint8 picture)`` pairs."""
    size, _, channels = items[0][1].shape
    num_parts = -(-len(items) // part_size)
    settings = {"dataset": {"name": "fixture"}, "size": size, "part_size": part_size, **config}
    with PartWriter(folder, kind="prepared", config=settings) as writer:
        for part in writer.missing(num_parts):
            chosen = items[part * part_size : (part + 1) * part_size]
            pictures = [{"bytes": encode_png(picture), "path": None} for _, picture in chosen]
            keys = [sample.key for sample, _ in chosen]
            table = pa.table({"key": keys, "image": pictures}, schema=images_schema())
            name = f"images/part-{part:05d}.parquet"
            writer.write_part(part, {name: table}, {"samples": len(chosen)})
        rows = [
            sample_row(sample, sha256=sha256_bytes(pixels.tobytes()), width=size, height=size)
            for sample, pixels in items
        ]
        samples = pa.Table.from_pylist(rows, samples_schema(list(items[0][0].labels)))
        files = {"samples.parquet": samples, "excluded.jsonl": b""}
        writer.finish(num_parts, files, summary={"channels": channels})
    return PreparedFolder(folder)
