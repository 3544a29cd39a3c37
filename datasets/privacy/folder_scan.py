"""The scan of a prepared folder for identifiers seen in the pictures' headers.

Goes over every file: text columns of Parquet files, their metadata, the chunks of PNG pictures
(none of which may hold anything but pixels), and all texts. Reports tags and places, no values.
"""

import io
import json
import logging
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from arra_med.datasets.privacy.png_chunks import PIXEL_CHUNKS, SIGNATURE, png_chunks
from arra_med.datasets.privacy.redaction import Leak
from arra_med.datasets.privacy.watch import Watch
from arra_med.store import PARTIAL

logger = logging.getLogger(__name__)

IMAGE_METADATA = "image metadata"
"""The tag of leaks that are chunks of a PNG file."""

_NO_ROW = 0  # of what stands in no row; others are counted from 1
_BATCH = 256  # rows in memory at once; pictures are a few hundred kB
_TEXTS = (".jsonl", ".md", ".json", ".yaml", ".yml", ".txt", ".csv", ".tsv", ".html", ".log")
_KNOWN_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tIME"})


def scan_folder(folder: Path, watch: Watch) -> tuple[Leak, ...]:
    """Search a folder for what ``watch`` remembers, and for metadata inside its pictures.

    An id that is a number can stand somewhere by chance, the more so the more ids are known:
    such hits are reported only where there are more than chance explains.

    Args:
        folder: a prepared folder, finished or about to be; what is in ``.partial`` is scratch.
        watch: identifiers of all pictures.

    Returns:
        One leak for each tag and place, the place with its number of rows. Rows of the parts of a
        table are counted through all of them.
    """
    tallies: dict[str, _Tally] = {}
    rows_before: Counter[str] = Counter()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not path.is_file() or relative.parts[0] == PARTIAL:
            continue
        name = relative.as_posix()
        if watch.find(name):
            _tally(tallies, "the name of a file").look(watch, name)
            name = f"a file ({path.suffix})"
        place = f"{name.rpartition('/')[0]}/*{path.suffix}" if "/part-" in name else name
        _scan_file(path, place, watch, tallies, rows_before)
    return tuple(leak for tally in tallies.values() for leak in tally.leaks(watch))


class _Tally:
    """What was found in one place."""

    def __init__(self, where: str, unit: str, file: str, column: str) -> None:
        self._where, self._unit, self._file, self._column = where, unit, file, column
        self._certain: defaultdict[str, array[int]] = defaultdict(_no_rows)  # tag → rows
        self._numbers: defaultdict[str, array[int]] = defaultdict(_no_rows)
        self._seen: Counter[int] = Counter()

    def look(self, watch: Watch, text: str, rows: Iterable[int] = (_NO_ROW,)) -> None:
        rows = array("q", rows)
        sighting = watch.look(text)
        for tag in sighting.tags:
            self._certain[tag] += rows
        for tag in sighting.numbers:
            self._numbers[tag] += rows
        for digits, number in sighting.seen.items():
            self._seen[digits] += number * len(rows)

    def add(self, tag: str, row: int = _NO_ROW) -> None:
        self._certain[tag].append(row)

    def leaks(self, watch: Watch) -> Iterator[Leak]:
        chance = sum(count * watch.density(digits) for digits, count in self._seen.items())
        # Three times the mean and four standard deviations: numbers come in clusters.
        hits = sum(map(len, self._numbers.values()))
        credible = hits > 3 * chance + 4 * chance**0.5
        if hits and not credible:
            logger.info(
                "%s: %d numbers equal ids of other pictures, as chance would have it",
                self._where, hits,
            )  # fmt: skip
        for tag in sorted(self._certain.keys() | (self._numbers.keys() if credible else ())):
            places = [*self._certain[tag], *(self._numbers[tag] if credible else ())]
            rows = sorted(set(places) - {_NO_ROW})
            number = len(rows) + places.count(_NO_ROW)
            unit = self._unit if number == 1 else f"{self._unit}s"
            yield Leak(
                tag,
                f"{self._where}, {number} {unit}",
                file=self._file,
                column=self._column,
                rows=rows,
            )


def _no_rows() -> "array[int]":
    return array("q")


def _tally(
    tallies: dict[str, _Tally],
    where: str,
    unit: str = "place",
    *,
    file: str | None = None,
    column: str = "",
) -> _Tally:
    made = _Tally(where, unit, where if file is None else file, column)
    return tallies.setdefault(where, made)


def _scan_file(
    path: Path, place: str, watch: Watch, tallies: dict[str, _Tally], rows_before: Counter[str]
) -> None:
    if path.suffix == ".parquet":
        rows_before[place] += _scan_parquet(path, place, watch, tallies, rows_before[place])
    elif path.suffix == ".png":
        chunk = foreign_chunk(path.read_bytes())
        if chunk is not None:
            _tally(tallies, f"{place} ({chunk})", file=place).add(IMAGE_METADATA)
    elif path.suffix in _TEXTS:
        tally = _tally(tallies, place, "line" if path.suffix == ".jsonl" else "place")
        for line, text in _texts(path):
            tally.look(watch, text, (line,))
    else:
        logger.warning("%s is of a kind that was not searched for identifiers", place)


def foreign_chunk(png: bytes) -> str | None:
    """The first thing in a PNG that is not pixels: a chunk's type, or data after the end mark."""
    if not png.startswith(SIGNATURE):
        return "not a PNG"
    file = io.BytesIO(png)
    end = None
    for name, length in png_chunks(file):
        if name not in PIXEL_CHUNKS:
            return name.decode("ascii") if name in _KNOWN_CHUNKS else "an unknown chunk"
        end = file.tell() + length + 4 if name == b"IEND" else None
    return None if end == len(png) else "data after the end mark"


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """A text file's numbered lines, or what a structured file says: its numbers are counts, not
    ids."""
    if path.suffix in (".json", ".yaml", ".yml"):
        try:
            text = path.read_text(encoding="utf-8")
            tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError):
            pass
        else:
            yield from ((_NO_ROW, text) for text in _strings(tree))
            return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if path.suffix == ".jsonl":
                try:
                    yield number, "\n".join(_strings(json.loads(line)))
                    continue
                except ValueError:
                    pass
            yield number, line


def _strings(tree: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield str(name)
            yield from _strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _strings(value)
    elif isinstance(tree, str):
        yield tree


def _scan_parquet(
    path: Path, place: str, watch: Watch, tallies: dict[str, _Tally], rows_before: int
) -> int:
    """Search one file, whose rows follow on ``rows_before`` others; how many it has."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        notes = [*(file.metadata.metadata or {}).items(), *(schema.metadata or {}).items()]
        tally = _tally(tallies, f"{place} metadata", file=place)
        for name, value in notes:
            if name != b"ARROW:schema":  # the schema again, as base64
                tally.look(watch, b"\n".join((name, value)).decode("utf-8", "replace"))
        for name in _field_texts(schema):
            tally.look(watch, name)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH):
            for name, values, rows in _leaves(batch):
                _scan_column(values, place, name, rows + rows_before + number, watch, tallies)
            number += batch.num_rows
    return number


def _field_texts(fields: Any) -> Iterator[str]:  # noqa: ANN401 - a schema or a struct type
    for field in fields:
        notes = [*(field.metadata or {}).items()]
        yield "\n".join([field.name, *(b" ".join(n).decode("utf-8", "replace") for n in notes)])
        if pa.types.is_struct(field.type):
            yield from _field_texts(field.type)


def _leaves(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array, np.ndarray]]:
    """Every column that holds values itself, with the row of each value, counted from 1."""
    every = np.arange(1, batch.num_rows + 1)
    waiting = [(n, c, every) for n, c in zip(batch.schema.names, batch.columns, strict=True)]
    while waiting:
        name, values, rows = waiting.pop(0)
        if pa.types.is_struct(values.type):
            for part in values.type:
                waiting.append((f"{name}.{part.name}", pc.struct_field(values, part.name), rows))
        elif pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            waiting.append((name, values.flatten(), rows[pc.list_parent_indices(values)]))
        else:
            yield name, values, rows


def _scan_column(
    values: pa.Array,
    file: str,
    column: str,
    rows: np.ndarray,
    watch: Watch,
    tallies: dict[str, _Tally],
) -> None:
    kind, where = values.type, f"{file} column {column}"
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        tally = _tally(tallies, where, "row", file=file, column=column)
        for text, places in _rows_of_each(values, rows).items():
            tally.look(watch, text, places)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        for data, row in zip(values.to_pylist(), rows.tolist(), strict=True):
            chunk = None if data is None else foreign_chunk(data)
            if chunk is not None:
                place = f"{where} ({chunk})"
                _tally(tallies, place, "picture", file=file, column=column).add(IMAGE_METADATA, row)


def _rows_of_each(values: pa.Array, rows: np.ndarray) -> dict[str, list[int]]:
    """Different texts, each with the rows in which it stands."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for text, row in zip(values.to_pylist(), rows.tolist(), strict=True):
        if text is not None:
            places[text].append(row)
    return places
