"""Pictures to files while the next ones are drawn."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from arra_med.generation.backend import Backend, Drawn, Request
from arra_med.generation.folder import dicom_name, image_name
from arra_med.generation.metadata import described_png
from arra_med.generation.secondary_capture import secondary_capture
from arra_med.settings import Generation
from arra_med.store import PARTIAL, PartWriter

_THREADS = 2  # encoding: zlib works beside the interpreter


class PartQueue:
    """Encodes and writes parts in threads, one part behind the drawing; a context manager.

    Args:
        writer: of the generated folder.
        backend: for what each picture says of itself.
        settings: whether DICOM is written, and the prompt's text.
        depends_on: all that a picture depends on beside model, key, index and seed.
        schema: of the parts' tables.
    """

    def __init__(
        self,
        writer: PartWriter,
        backend: Backend,
        settings: Generation,
        depends_on: dict[str, Any],
        schema: pa.Schema,
    ) -> None:
        self.writer, self.backend, self.settings = writer, backend, settings
        self.depends_on, self.schema = depends_on, schema
        self._encoders = ThreadPoolExecutor(_THREADS, "encode")
        self._disk = ThreadPoolExecutor(1, "write")
        self._encoding: list[Future[dict[str, bytes]]] = []
        self._writing: Future[None] | None = None
        self._counts: Counter[str] = Counter()

    def add(self, requests: Sequence[Request], drawn: Drawn) -> None:
        """Begin to encode pictures of the current part."""
        self._counts["images"] += len(requests)
        if drawn.withheld:
            self._counts["withheld"] += drawn.withheld
        for request, pixels in zip(requests, drawn.pixels, strict=True):
            self._encoding.append(self._encoders.submit(self._encode, request, pixels))

    def close_part(self, part: int, requests: Sequence[Request], cut: set[str]) -> None:
        """Begin to write a part whose pictures are all added; waits for the part before.

        Args:
            part: its number.
            requests: all of its pictures.
            cut: keys of prompts that were truncated.
        """
        truncated = sum(r.index == 0 and r.prompt.key in cut for r in requests)
        if truncated:
            self._counts["truncated_prompts"] = truncated
        self.wait()
        self._writing = self._disk.submit(
            self._write, part, list(requests), self._encoding, dict(self._counts)
        )
        self._encoding, self._counts = [], Counter()

    def wait(self) -> None:
        """Wait for what is being written; raises what went wrong there."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _encode(self, request: Request, pixels: np.ndarray) -> dict[str, bytes]:
        key, index = request.prompt.key, request.index
        with_prompt = self.settings.prompt_in_metadata
        png = described_png(self.backend, request, pixels, with_prompt=with_prompt)
        files = {image_name(key, index): png}
        if self.settings.dicom:
            files[dicom_name(key, index)] = secondary_capture(
                pixels, self.backend, request, self.depends_on
            )
        return files

    def _write(
        self,
        part: int,
        requests: list[Request],
        encoding: list[Future[dict[str, bytes]]],
        counts: dict[str, int],
    ) -> None:
        files: dict[str, Any] = {}
        for future in encoding:
            files |= future.result()
        rows = [self._row(request) for request in requests]
        files[scratch(part)] = pa.Table.from_pylist(rows, self.schema)
        self.writer.write_part(part, files, counts)

    def _row(self, request: Request) -> dict[str, Any]:
        prompt = request.prompt
        return {
            "key": prompt.key,
            "index": request.index,
            "prompt": prompt.text,
            "file": image_name(prompt.key, request.index),
            "seed": request.seed,
            **self.backend.settings(),
            **prompt.carried,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._encoders.shutdown(cancel_futures=error is not None)
        self._disk.shutdown(cancel_futures=error is not None)


def scratch(part: int) -> str:
    """Where a part's rows stand until the folder is finished."""
    return f"{PARTIAL}/rows-{part:05d}.parquet"
