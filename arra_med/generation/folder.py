"""The generated folder: ``generations.parquet``, ``images/<key>-<index>.png``, ``manifest.json``.

Beside them ``contact-sheet.png``, and ``dicom/<key>-<index>.dcm`` if asked for. Any generator that
writes the first three can be evaluated beside ours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arra_med.errors import RequestError
from arra_med.store import read_manifest, sha256_bytes

GENERATIONS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # the prompt's sample
        pa.field("index", pa.int32(), nullable=False),  # 0 … images_per_prompt - 1
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),  # relative to the folder
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("guidance", pa.float64()),
        pa.field("guidance_schedule", pa.string()),
        pa.field("temperature", pa.float64()),
        pa.field("top_k", pa.int32()),
        pa.field("top_p", pa.float64()),
    ]
)
"""Settings that a generator does not have are null. Columns carried from a table of prompts, all
text, follow."""


def generations_schema(carried: Sequence[str]) -> pa.Schema:
    """The schema with columns carried along.

    Raises:
        RequestError: if one has the name of a column of ours.
    """
    taken = [name for name in carried if name in GENERATIONS_SCHEMA.names]
    if taken:
        raise RequestError(
            f"generation.carry: generations.parquet has a column {taken[0]!r} of its own: rename "
            "it in the table of prompts"
        )
    fields = [pa.field(name, pa.string()) for name in dict.fromkeys(carried)]
    return pa.schema([*GENERATIONS_SCHEMA, *fields])


def image_name(key: str, index: int) -> str:
    """Path of a picture relative to the generated folder."""
    return f"images/{key}-{index}.png"


def dicom_name(key: str, index: int) -> str:
    """Path of a picture's DICOM file relative to the generated folder."""
    return f"dicom/{key}-{index}.dcm"


class GeneratedFolder:
    """A finished generated folder.

    ``manifest["config"]["model"]`` describes the generator; its ``teacher`` is ``None`` or the
    identity of the teacher it was aligned to (``{"name": …, …}``).

    Raises:
        FileNotFoundError: if it is not there or not finished.
        RequestError: if the table and the pictures on disk do not agree.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = read_manifest(folder, "generated")
        self.rows: list[dict[str, Any]] = pq.read_table(folder / "generations.parquet").to_pylist()
        missing = [row["file"] for row in self.rows if not (folder / row["file"]).is_file()]
        if missing:
            raise RequestError(
                f"{folder}: {len(missing)} of {len(self.rows)} pictures are missing, first "
                f"{missing[0]!r}: generate into a new folder"
            )

    def png(self, row: dict[str, Any]) -> bytes:
        """PNG bytes of one row.

        Raises:
            RequestError: if they are not those that were drawn.
        """
        name = str(row["file"])
        data: bytes = (self.folder / name).read_bytes()
        if self.manifest["files"].get(name, drawn := sha256_bytes(data)) != drawn:
            raise RequestError(
                f"{self.folder}: a picture was changed after it was drawn; 'arra-med info "
                "--verify' names it. Generate into a new folder"
            )
        return data
