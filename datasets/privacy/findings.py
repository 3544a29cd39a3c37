"""The table of what the guard found: which row, which field, which tag, and never the value.

It lies in the scratch of a folder that is not finished, so that whoever has the source finds what
to redact.
"""

import csv
import dataclasses
import functools
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arra_med.datasets.privacy.redaction import Leak
from arra_med.datasets.privacy.watch import Watch

_SAMPLES, _EXCLUDED = "samples.parquet", "excluded.jsonl"
_BY_SAMPLE = (_SAMPLES, "images/*.parquet")  # equal rows are of one sample


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An identifier in one field of one row.

    Attributes:
        key: of the sample, or the excluded item; ``""`` where it holds an identifier itself, or
            what was found belongs to no row.
        field: the column.
        tag: which header tag, or which column of names, it is the value of.
        file: of the prepared folder.
        row: of that file, counted from 1; ``None`` if it has none, or is not written yet.
        source_sha256: of the source file, by which a picture is found that its key does not tell.
    """

    key: str
    field: str
    tag: str
    file: str
    row: int | None = None
    source_sha256: str = ""


def of_row(row: Mapping[str, Any], leaks: Iterable[Leak]) -> list[Finding]:
    """Findings in a row of ``samples.parquet`` that is not written yet.

    Args:
        row: as :func:`arra_med.schema.sample_row` makes it.
        leaks: of its own picture's header, each with the column as its place.
    """
    found = list(leaks)
    key = "" if any(leak.where == "key" for leak in found) else row["key"]
    return [
        Finding(
            key=key,
            field=leak.where,
            tag=leak.tag,
            file=_SAMPLES,
            source_sha256=row["source_sha256"],
        )
        for leak in found
    ]


def in_folder(folder: Path, leaks: Iterable[Leak], watch: Watch) -> Iterator[Finding]:
    """The rows of what :func:`arra_med.datasets.privacy.scan_folder` found.

    Args:
        folder: the one that was searched.
        leaks: what was found.
        watch: with which.
    """
    samples = pq.read_table(folder / _SAMPLES, columns=["key", "source_sha256"])

    @functools.cache  # a row may hold several identifiers
    def harmless(key: str) -> str:
        return "" if watch.find(key) else key

    for leak in leaks:
        if leak.file in _BY_SAMPLE and leak.rows:
            yield from _of_samples(samples, leak, harmless)
        elif leak.file == _EXCLUDED and leak.rows:
            yield from _of_exclusions(folder / _EXCLUDED, leak, watch, harmless)
        else:
            for row in leak.rows or (None,):
                yield Finding(key="", field=leak.column, tag=leak.tag, file=leak.file, row=row)


def as_csv(findings: Iterable[Finding]) -> bytes:
    """The table, with a line of column names."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(Finding)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(finding) for finding in findings)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _of_samples(samples: pa.Table, leak: Leak, harmless: Callable[[str], str]) -> Iterator[Finding]:
    named = samples.take([row - 1 for row in leak.rows]).to_pylist()
    for row, sample in zip(leak.rows, named, strict=True):
        yield Finding(
            key=harmless(sample["key"]),
            field=leak.column,
            tag=leak.tag,
            file=leak.file,
            row=row,
            source_sha256=sample["source_sha256"],
        )


def _of_exclusions(
    path: Path, leak: Leak, watch: Watch, harmless: Callable[[str], str]
) -> Iterator[Finding]:
    wanted = set(leak.rows)
    with path.open(encoding="utf-8") as lines:
        for row, line in enumerate(lines, 1):
            if row in wanted:
                values: dict[str, str] = json.loads(line)
                key = harmless(values["item"])
                fields = [name for name, value in values.items() if leak.tag in watch.find(value)]
                for name in fields or [""]:  # "": what stands in two fields together
                    yield Finding(key=key, field=name, tag=leak.tag, file=_EXCLUDED, row=row)
