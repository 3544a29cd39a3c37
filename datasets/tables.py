"""CSV, TSV and Parquet tables as rows of strings, with errors that say where and what to do."""

import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from arra_med.errors import RequestError

Row = dict[str, str]


def read_table(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> tuple[list[str], Iterator[tuple[int, Row | None]]]:
    """Read a ``.csv``, ``.tsv`` (also ``.gz``) or ``.parquet`` table.

    Args:
        path: the file.
        columns: which to keep, ``None`` for all; each must be there.
        encoding: of text files; a byte-order mark is accepted.
        delimiter: of text files; by default a tab for ``.tsv`` and a comma otherwise.

    Returns:
        The header and an iterator of ``(line or row number, row)``. Values are stripped strings, a
        missing value is ``""``; a line with too few or too many fields gives ``None``.

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
    lines = _text_lines(path, encoding)
    name = path.name.removesuffix(".gz")
    reader = csv.reader(
        lines, delimiter=delimiter or ("\t" if name.endswith(".tsv") else ","), strict=True
    )
    header = [cell.strip() for cell in next(_csv_rows(reader, path), [])]
    check_columns(path, header, columns)
    return header, _dict_rows(reader, path, header, columns)


def check_columns(path: Path, header: Sequence[str], columns: Sequence[str] | None) -> None:
    """Refuse an empty or ambiguous header and name missing columns with the nearest ones.

    Raises:
        RequestError: naming all that is wrong.
    """
    if not any(header):
        raise RequestError(f"{path} is empty: expected a first line with column names")
    problems = []
    for column in dict.fromkeys(columns or ()):
        if column not in header:
            near = difflib.get_close_matches(column, header, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else "no column has a similar name."
            problems.append(f"no column {column!r}: {hint}")
        elif list(header).count(column) > 1:
            problems.append(f"column {column!r} is there {list(header).count(column)} times")
    if problems:
        raise RequestError(f"{path}: {' '.join(problems)} Columns: {', '.join(header)}.")


def _siblings(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []


def _text_lines(path: Path, encoding: str) -> io.StringIO:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RequestError(
            f"{path} is not {encoding}: byte 0x{data[error.start]:02x} in line {line}. Say in "
            "which encoding it is (often cp1252 for files saved by Excel), or save it as UTF-8."
        ) from error
    except LookupError as error:
        raise RequestError(f"unknown encoding {encoding!r} for {path}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{path} is not readable gzip data: {error}") from error
    return io.StringIO(text, newline="")


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
    for cells in _csv_rows(reader, path):
        number = int(getattr(reader, "line_num", 0))
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
        header = list(pq.read_schema(path).names)
        check_columns(path, header, columns)
        table = pq.read_table(path, columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise RequestError(f"{path} is not a readable Parquet file: {error}") from error
    return header, _parquet_rows(table)


def _parquet_rows(table: pa.Table) -> Iterator[tuple[int, Row | None]]:
    number = 0
    for batch in table.to_batches(max_chunksize=4096):
        for values in batch.to_pylist():
            number += 1
            yield number, {name: _text(value) for name, value in values.items()}


def _text(value: object) -> str:
    if value is None or value != value:  # null, or the NaN that pandas writes for it
        return ""
    return str(value).strip()
