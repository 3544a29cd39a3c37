"""The scan of a prepared folder for identifiers seen in the pictures' headers.

Goes over every file: text columns of Parquet files, their metadata, the chunks of PNG pictures
(none of which may hold anything but pixels), and all texts. Reports tags and places, no values.
"""

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        One leak for each tag and place, the place with its number of rows.
    """
    tallies: dict[str, _Tally] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not path.is_file() or relative.parts[0] == PARTIAL:
            continue
        name = relative.as_posix()
        if watch.find(name):
            _tally(tallies, "the name of a file").look(watch, name)
            name = f"a file ({path.suffix})"
        place = f"{name.rpartition('/')[0]}/*{path.suffix}" if "/part-" in name else name
        _scan_file(path, place, watch, tallies)
    return tuple(leak for tally in tallies.values() for leak in tally.leaks(watch))


class _Tally:
    """What was found in one place."""

    def __init__(self, where: str, unit: str) -> None:
        self._where, self._unit = where, unit
        self._certain: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()
        self._seen: Counter[int] = Counter()

    def look(self, watch: Watch, text: str, times: int = 1) -> None:
        sighting = watch.look(text)
        for tag in sighting.tags:
            self._certain[tag] += times
        for tag in sighting.numbers:
            self._numbers[tag] += times
        for digits, number in sighting.seen.items():
            self._seen[digits] += number * times

    def add(self, tag: str) -> None:
        self._certain[tag] += 1

    def leaks(self, watch: Watch) -> Iterator[Leak]:
        chance = sum(count * watch.density(digits) for digits, count in self._seen.items())
        # Three times the mean and four standard deviations: numbers come in clusters.
        credible = self._numbers.total() > 3 * chance + 4 * chance**0.5
        if self._numbers and not credible:
            logger.info(
                "%s: %d numbers equal ids of other pictures, as chance would have it",
                self._where, self._numbers.total(),
            )  # fmt: skip
        found = self._certain + (self._numbers if credible else Counter())
        for tag, number in sorted(found.items()):
            unit = self._unit if number == 1 else f"{self._unit}s"
            yield Leak(tag, f"{self._where}, {number} {unit}")


def _tally(tallies: dict[str, _Tally], where: str, unit: str = "place") -> _Tally:
    return tallies.setdefault(where, _Tally(where, unit))


def _scan_file(path: Path, place: str, watch: Watch, tallies: dict[str, _Tally]) -> None:
    if path.suffix == ".parquet":
        _scan_parquet(path, place, watch, tallies)
    elif path.suffix == ".png":
        chunk = foreign_chunk(path.read_bytes())
        if chunk is not None:
            _tally(tallies, f"{place} ({chunk})").add(IMAGE_METADATA)
    elif path.suffix in _TEXTS:
        tally = _tally(tallies, place, "line" if path.suffix == ".jsonl" else "place")
        for text in _texts(path):
            tally.look(watch, text)
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


def _texts(path: Path) -> Iterator[str]:
    """A text file's lines, or what a structured file says: its numbers are counts, not ids."""
    if path.suffix in (".json", ".yaml", ".yml"):
        try:
            text = path.read_text(encoding="utf-8")
            tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError):
            pass
        else:
            yield from _strings(tree)
            return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if path.suffix == ".jsonl":
                try:
                    yield "\n".join(_strings(json.loads(line)))
                    continue
                except ValueError:
                    pass
            yield line


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


def _scan_parquet(path: Path, place: str, watch: Watch, tallies: dict[str, _Tally]) -> None:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        notes = [*(file.metadata.metadata or {}).items(), *(schema.metadata or {}).items()]
        tally = _tally(tallies, f"{place} metadata")
        for name, value in notes:
            if name != b"ARROW:schema":  # the schema again, as base64
                tally.look(watch, b"\n".join((name, value)).decode("utf-8", "replace"))
        for name in _field_texts(schema):
            tally.look(watch, name)
        for batch in file.iter_batches(batch_size=_BATCH):
            for name, array in _leaves(batch):
                _scan_column(array, f"{place} column {name}", watch, tallies)


def _field_texts(fields: Any) -> Iterator[str]:  # noqa: ANN401 - a schema or a struct type
    for field in fields:
        notes = [*(field.metadata or {}).items()]
        yield "\n".join([field.name, *(b" ".join(n).decode("utf-8", "replace") for n in notes)])
        if pa.types.is_struct(field.type):
            yield from _field_texts(field.type)


def _leaves(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    waiting = list(zip(batch.schema.names, batch.columns, strict=True))
    while waiting:
        name, array = waiting.pop(0)
        if pa.types.is_struct(array.type):
            waiting += [(f"{name}.{f.name}", pc.struct_field(array, f.name)) for f in array.type]
        elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
            waiting.append((name, array.flatten()))
        else:
            yield name, array


def _scan_column(array: pa.Array, where: str, watch: Watch, tallies: dict[str, _Tally]) -> None:
    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        tally = _tally(tallies, where, "row")
        for text, times in Counter(array.drop_null().to_pylist()).items():
            tally.look(watch, text, times)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        for data in array.drop_null().to_pylist():
            chunk = foreign_chunk(data)
            if chunk is not None:
                _tally(tallies, f"{where} ({chunk})", "picture").add(IMAGE_METADATA)
