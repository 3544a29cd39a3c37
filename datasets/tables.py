"""CSV, TSV and Parquet tables as rows of strings, with errors that say where and what to do."""

import csv
import difflib
import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from arra_med.errors import RequestError

Row = dict[str, str]

_BATCH = 4096
_DELIMITERS = {",": "a comma", ";": "';'", "\t": "a tab", "|": "'|'"}
_YAML = {",": '","', ";": '";"', "\t": '"\\t"', "|": '"|"'}
_BINARY = {
    b"PK\x03\x04": "an Excel workbook (or another zip file): save its sheet as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls): save its sheet as 'CSV UTF-8'",
    b"PAR1": "a Parquet file: give its name the suffix .parquet",
    b"\x1f\x8b": "gzip data: give its name the suffix .gz",
}


NO_VALUE = frozenset(("", "nan", "none", "null", "n/a", "<na>", "nat"))
"""Empty, or what programs write for an empty cell; in small letters."""


def says_no_value(value: str) -> bool:
    """Whether a cell is empty, or holds what programs write for an empty one (``nan``)."""
    return value.strip().lower() in NO_VALUE


@dataclass(frozen=True)
class Line:
    """One item of a table or folder.

    Attributes:
        name: what exclusions call it.
        source: path of its picture relative to the root, ``""`` if there is none.
        row: its columns; ``None`` if something is wrong with it.
        problem: reason code and sentence of what is wrong.
        number: of its line.
    """

    name: str
    source: str
    row: Row | None = None
    problem: tuple[str, str] = ("malformed-row", "it has too few or too many fields")
    number: int = 0


def read_table(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> tuple[list[str], Iterator[tuple[int, Row | None]]]:
    """Read a ``.csv``, ``.tsv`` (also ``.gz``) or ``.parquet`` table as a stream.

    Args:
        path: the file.
        columns: which to keep, ``None`` for all; each must be there.
        encoding: of text files; a byte-order mark is accepted.
        delimiter: of text files; by default a tab for ``.tsv`` and a comma otherwise.

    Returns:
        The header and an iterator of ``(line or row number, row)``. Values are stripped strings, a
        missing value is ``""``; a line with too few or too many fields gives ``None``. The
        iterator raises :class:`RequestError` too, where the file is broken further down.

    Raises:
        FileNotFoundError: if there is no such file.
        RequestError: if it is not such a table or lacks a column.
    """
    if not path.is_file():
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        hint = f"; there is {near[0]!r} beside it" if near else ""
        raise FileNotFoundError(f"no table at {path}{hint}")
    if path.suffix == ".parquet":
        return _read_parquet(path, columns)
    name = path.name.removesuffix(".gz")
    delimiter = delimiter or ("\t" if name.endswith(".tsv") else ",")
    reader = csv.reader(_text_lines(path, encoding), delimiter=delimiter, strict=True)
    header = [cell.strip() for cell in next(_csv_rows(reader, path), [])]
    check_columns(path, header, columns, delimiter=delimiter)
    return header, _dict_rows(reader, path, header, columns)


class Rows:
    """Rows of strings, kept at about the size of their text, numbered as in their file.

    Args:
        header: every row's columns.
        rows: ``(number, row)`` pairs; ``None`` stands for a row that is not well formed.
    """

    def __init__(self, header: Sequence[str], rows: Iterator[tuple[int, Row | None]]) -> None:
        self._header = tuple(header)
        self._batches: list[tuple[pa.Array, list[pa.Array]]] = []
        numbers: list[int] = []
        kept: list[Row | None] = []
        for number, row in rows:
            numbers.append(number)
            kept.append(row)
            if len(kept) == _BATCH:
                self._keep(numbers, kept)
                numbers, kept = [], []
        if kept:
            self._keep(numbers, kept)

    def __len__(self) -> int:
        return sum(len(numbers) for numbers, _ in self._batches)

    def __iter__(self) -> Iterator[tuple[int, Row | None]]:
        for numbers, columns in self._batches:
            lists = [column.to_pylist() for column in columns]
            for number, *cells in zip(numbers.to_pylist(), *lists, strict=True):
                if cells[0] is None:
                    yield number, None
                else:
                    texts = (cell.decode("utf-8", "surrogatepass") for cell in cells)
                    yield number, dict(zip(self._header, texts, strict=True))

    def _keep(self, numbers: list[int], rows: list[Row | None]) -> None:
        columns = [
            pa.array(
                [None if row is None else row[name].encode("utf-8", "surrogatepass")
                 for row in rows],
                pa.large_binary(),
            )
            for name in self._header
        ]  # fmt: skip
        self._batches.append((pa.array(numbers, pa.int64()), columns))


def check_columns(
    path: Path, header: Sequence[str], columns: Sequence[str] | None, *, delimiter: str = ","
) -> None:
    """Refuse an empty or ambiguous header and name missing columns with the nearest ones.

    Args:
        path: the table, for messages.
        header: its column names.
        columns: which must be there, ``None`` for none in particular.
        delimiter: with which the header was cut.

    Raises:
        RequestError: naming all that is wrong.
    """
    if not any(header):
        raise RequestError(f"{path} is empty: expected a first line with column names")
    problems = []
    for column in dict.fromkeys(columns or ()):
        if column not in header:
            folded = {name.lower(): name for name in header}
            near = difflib.get_close_matches(column.lower(), folded, n=1, cutoff=0.4)
            hint = f"did you mean {folded[near[0]]!r}?" if near else "no column has a similar name."
            problems.append(f"no column {column!r}: {hint}")
        elif list(header).count(column) > 1:
            problems.append(f"column {column!r} is there {list(header).count(column)} times.")
    if not problems:
        return
    line = delimiter.join(header)
    for other, name in _DELIMITERS.items():
        if other != delimiter and set(columns or ()) <= {c.strip() for c in line.split(other)}:
            expected = _DELIMITERS.get(delimiter, repr(delimiter))
            raise RequestError(
                f"{path}: the columns are separated by {name}, not by {expected}: set delimiter: "
                f"{_YAML[other]}, or save it with {expected} between them"
            )
    for other, name in _DELIMITERS.items():
        if len(header) == 1 and other in header[0]:
            problems.append(f"If {name} separate the columns, set delimiter: {_YAML[other]}.")
    raise RequestError(f"{path}: {' '.join(problems)} Columns: {', '.join(header)}.")


def codec(encoding: str) -> str:
    """The codec that reads ``encoding``, and UTF-8 with a byte-order mark too."""
    return "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding


def _siblings(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _text_lines(path: Path, encoding: str) -> Iterator[str]:
    try:
        with _open(path) as stream:
            _refuse_binary(path, stream.read(512), encoding)
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding=codec(encoding), newline="") as lines:
            yield from lines
    except UnicodeError as error:
        raise _undecodable(path, encoding) from error
    except LookupError as error:
        raise RequestError(f"unknown encoding {encoding!r} for {path}") from error
    except PermissionError as error:
        raise RequestError(f"{path} may not be read: {error.strerror}") from error
    except (OSError, EOFError, zlib.error) as error:
        what = "gzip data" if path.suffix == ".gz" else "text"
        raise RequestError(f"{path} is not readable {what}: {error}") from error


def _refuse_binary(path: Path, start: bytes, encoding: str) -> None:
    """Say what to do with what Excel and others write instead of CSV in UTF-8."""
    for magic, advice in _BINARY.items():
        if start.startswith(magic):
            raise RequestError(f"{path} is not a text table but {advice}")
    wide = encoding.lower().replace("-", "").replace("_", "").startswith(("utf16", "utf32"))
    marked = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not wide and (marked or b"\0" in start):
        tabs = b"\t" in start.replace(b"\0", b"")
        separated = ' and delimiter: "\\t"' if tabs else ""
        raise RequestError(
            f"{path} is UTF-16 (Excel calls it 'Unicode text'): set encoding: "
            f"utf-16{separated}, or save it as 'CSV UTF-8'"
            if marked
            else f"{path} is not a text table in {encoding}: it holds zero bytes. If it is UTF-16, "
            "set encoding: utf-16-le or utf-16-be, or save it as 'CSV UTF-8'"
        )


def _undecodable(path: Path, encoding: str) -> RequestError:
    with _open(path) as stream:
        data = stream.read()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return RequestError(
            f"{path} is not {encoding}: byte 0x{data[error.start]:02x} in line {line}. Set "
            "encoding (often cp1252 for files saved by Excel), or save it as UTF-8."
        )
    except UnicodeError:
        pass
    return RequestError(f"{path} is not {encoding}: set encoding, or save it as UTF-8")


def _csv_rows(reader: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        line = getattr(reader, "line_num", 0)
        raise RequestError(f"{path}, line {line}: {error}") from error


def _dict_rows(
    reader: Iterator[list[str]], path: Path, header: list[str], columns: Sequence[str] | None
) -> Iterator[tuple[int, Row | None]]:
    kept = [(i, name) for i, name in enumerate(header) if columns is None or name in columns]
    read = int(getattr(reader, "line_num", 0))
    for cells in _csv_rows(reader, path):
        number, read = read + 1, int(getattr(reader, "line_num", 0))  # a row may have many lines
        if not cells:  # a blank line is no row
            continue
        if len(cells) != len(header):
            yield number, None
        else:
            yield number, {name: cells[i].strip() for i, name in kept}


def _read_parquet(
    path: Path, columns: Sequence[str] | None
) -> tuple[list[str], Iterator[tuple[int, Row | None]]]:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise RequestError(f"{path} is not a readable Parquet file: {error}") from error
    header = list(schema.names)
    check_columns(path, header, columns)
    for name in columns or ():
        if pa.types.is_nested(kind := schema.field(name).type):
            raise RequestError(f"{path}: column {name!r} holds {kind}, not one value a row")
    return header, _parquet_rows(path, columns)


def _parquet_rows(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[int, Row | None]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            wanted = None if columns is None else list(columns)
            for batch in file.iter_batches(_BATCH, columns=wanted):
                for values in batch.to_pylist():
                    number += 1
                    where = f"{path}, row {number}"
                    yield number, {name: _text(value, where) for name, value in values.items()}
    except (pa.ArrowInvalid, OSError) as error:
        raise RequestError(f"{path} is not a readable Parquet file: {error}") from error


def _text(value: object, where: str) -> str:
    if value is None or value != value:  # null, or the NaN that pandas writes for it
        return ""
    if isinstance(value, bytes):  # text that Hive, Impala or Spark wrote without saying so
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise RequestError(f"{where}: bytes that are not UTF-8 text") from error
    return str(value).strip()
