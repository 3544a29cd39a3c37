"""MIMIC-CXR's tables and files on disk, joined in a temporary SQLite database.

377,110 pictures in five tables and one walk over the folder do not have to fit in memory: they
stream into the database and come out of it as one ordered stream of :class:`Row`.
"""

import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from arra_med.datasets import tables
from arra_med.errors import RequestError, WorkError
from arra_med.schema import CHEXPERT_LABELS

logger = logging.getLogger(__name__)

SUFFIXES = (".dcm", ".dcm.gz", ".jpg", ".jpeg", ".png")  # of one picture, the first is taken
_DEEPEST = 7  # folder levels below the root that are searched; ends loops of links
_BATCH = 4096
_PICTURE = re.compile(r"(?:(?:^|/)p(\d\d))?(?:^|/)p(\d{3,})/s(\d+)/[^/]+$")
_REPORT = re.compile(r"(?:(?:^|/)p(\d\d))?(?:^|/)p(\d{3,})/s(\d+)\.txt$")
_IDS = ("dicom_id", "study_id", "subject_id")
_DESCRIBED = (
    "ViewPosition", "PerformedProcedureStepDescription", "ViewCodeSequence_CodeMeaning",
    "ProcedureCodeSequence_CodeMeaning",
)  # fmt: skip
_OPTIONAL = _DESCRIBED[2:]  # the JPG release has them, extracts of it often do not

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE picture (
  dicom TEXT, study TEXT, subject TEXT, path BLOB, rank INTEGER, line INTEGER,
  PRIMARY KEY (dicom, study, subject)) WITHOUT ROWID;
CREATE TABLE report (
  study TEXT, subject TEXT, path BLOB, PRIMARY KEY (study, subject)) WITHOUT ROWID;
CREATE TABLE metadata (
  line INTEGER PRIMARY KEY, dicom TEXT, study TEXT, subject TEXT,
  view TEXT, procedure TEXT, view_code TEXT, procedure_code TEXT);
CREATE TABLE split (
  dicom TEXT, study TEXT, subject TEXT, value TEXT, clash INTEGER DEFAULT 0,
  PRIMARY KEY (dicom, study, subject)) WITHOUT ROWID;
CREATE TABLE label (
  study TEXT, subject TEXT, value TEXT, clash INTEGER DEFAULT 0,
  PRIMARY KEY (study, subject)) WITHOUT ROWID;
"""
_ADD_PICTURE = """
INSERT INTO picture (dicom, study, subject, path, rank) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (dicom, study, subject) DO UPDATE SET path = excluded.path, rank = excluded.rank
WHERE (excluded.rank, excluded.path) < (rank, path)
"""
_ADD_REPORT = """
INSERT INTO report VALUES (?, ?, ?)
ON CONFLICT (study, subject) DO UPDATE SET path = min(path, excluded.path)
"""
_ADD_METADATA = "INSERT INTO metadata VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_SPLIT = """
INSERT INTO split (dicom, study, subject, value) VALUES (?, ?, ?, ?)
ON CONFLICT (dicom, study, subject) DO UPDATE SET clash = clash OR value <> excluded.value
"""
_ADD_LABEL = """
INSERT INTO label (study, subject, value) VALUES (?, ?, ?)
ON CONFLICT (study, subject) DO UPDATE SET clash = clash OR value <> excluded.value
"""
# a file that no row lists, but whose name one row without a file has, lies in a wrong folder
_ASSIGN = """
CREATE INDEX metadata_ids ON metadata (dicom, study, subject);
UPDATE picture SET line = (
  SELECT min(m.line) FROM metadata m
  WHERE m.dicom = picture.dicom AND m.study = picture.study AND m.subject = picture.subject);
CREATE TABLE astray AS
  SELECT min(m.line) AS line, min(p.path) AS path
  FROM picture p JOIN metadata m ON m.dicom = p.dicom
  WHERE p.line IS NULL AND NOT EXISTS (SELECT 1 FROM picture own WHERE own.dicom = m.dicom
    AND own.study = m.study AND own.subject = m.subject)
  GROUP BY p.dicom;
CREATE UNIQUE INDEX astray_line ON astray (line);
CREATE UNIQUE INDEX astray_path ON astray (path);
"""
_LISTED = """
SELECT m.subject, m.study, m.dicom, m.view, m.procedure, m.view_code, m.procedure_code,
  p.path, r.path, s.value, l.value, a.path,
  EXISTS (SELECT 1 FROM metadata e WHERE e.dicom = m.dicom AND e.study = m.study
    AND e.subject = m.subject AND e.line < m.line),
  s.clash OR (s.value IS NULL AND EXISTS (SELECT 1 FROM split o WHERE o.dicom = m.dicom)),
  l.clash OR (l.value IS NULL AND EXISTS (SELECT 1 FROM label o WHERE o.study = m.study))
FROM metadata m
LEFT JOIN picture p ON p.dicom = m.dicom AND p.study = m.study AND p.subject = m.subject
LEFT JOIN report r ON r.study = m.study AND r.subject = m.subject
LEFT JOIN split s ON s.dicom = m.dicom AND s.study = m.study AND s.subject = m.subject
LEFT JOIN label l ON l.study = m.study AND l.subject = m.subject
LEFT JOIN astray a ON a.line = m.line
ORDER BY m.line
"""
_UNLISTED = "picture p WHERE p.line IS NULL AND p.path NOT IN (SELECT path FROM astray)"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where everything is.

    Attributes:
        root: folder of the pictures.
        reports: folder of the reports; the same one, or another.
        metadata: table of all pictures.
        split: table of the official split, or ``None``.
        labels: table of labels by study, or ``None``.
    """

    root: Path
    reports: Path
    metadata: Path
    split: Path | None
    labels: Path | None


class Row(NamedTuple):
    """One picture of the metadata table or on disk, with what the other tables say.

    Paths are relative, ``""`` if there is no such file; ``split`` and ``labels`` are ``None``
    if the table has no such row.
    """

    subject: str
    study: str
    dicom: str
    view: str = ""
    procedure: str = ""
    view_code: str = ""
    procedure_code: str = ""
    source: str = ""
    report: str = ""
    split: str | None = None
    labels: str | None = None
    astray: str = ""  # its file, if that lies in another picture's folder
    repeated: bool = False  # an earlier row has the same ids
    split_differs: bool = False  # the split table contradicts itself, or has other ids
    labels_differ: bool = False
    listed: bool = True  # in the metadata table


Walk = Callable[[Path], Iterable[str]]
"""Gives the paths of all files below a folder, relative to it, with ``/``."""


class MimicIndex:
    """The joined tables and files; its database goes away with it.

    Args:
        sources: where everything is.
        check_split: turns a cell of the split table into what :class:`Row` holds; raises.
        check_label: the same for the cells of the label table, with what to call it in messages.
        walk: lists the files below a folder.

    Attributes:
        num_items: rows of the metadata table and pictures only on disk.
        num_rows: rows of the metadata table.
        num_pictures: pictures on disk, whatever their formats.
        num_found: rows of the metadata table that have a picture.
        num_reports: reports on disk.
        num_released: pictures that are JPEG files.

    Raises:
        RequestError: if a table has a broken row. MIMIC's tables are published with checksums: a
            row that is not right means that the download is not, so nothing goes on.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        check_split: Callable[[str, str], str],
        check_label: Callable[[str, str], str],
        walk: Walk | None = None,
    ) -> None:
        self._sources = sources
        self._check_split, self._check_label = check_split, check_label
        self._walk = walk or files_below
        self._folder = tempfile.TemporaryDirectory(prefix="arra_med-mimic-")
        self._path = Path(self._folder.name) / "index.sqlite"
        with closing(self._connect()) as database:
            try:
                database.executescript(_SCHEMA)
                self._fill(database)
                database.executescript(_ASSIGN)
            except sqlite3.OperationalError as error:
                raise WorkError(
                    f"cannot write the index of the archive below {self._path.parent} ({error}): "
                    "set TMPDIR to a folder with 500 MB of free space"
                ) from error

            def count(query: str) -> int:
                return int(database.execute(f"SELECT count(*) FROM {query}").fetchone()[0])

            self.num_rows = count("metadata")
            self.num_items = self.num_rows + count(_UNLISTED)
            self.num_pictures = count("picture")
            self.num_found = count("picture WHERE line IS NOT NULL")
            self.num_reports = count("report")
            jpeg, last_jpeg = SUFFIXES.index(".jpg"), SUFFIXES.index(".jpeg")
            self.num_released = count(f"picture WHERE rank BETWEEN {jpeg} AND {last_jpeg}")

    def rows(self) -> Iterator[Row]:
        """Rows of the metadata table in its order, then pictures only on disk by path."""
        with closing(self._connect()) as database:
            for values in database.execute(_LISTED):
                yield _row(*values)
            for subject, study, dicom, path in database.execute(
                f"SELECT subject, study, dicom, path FROM {_UNLISTED} ORDER BY path"
            ):
                yield Row(subject, study, dicom, source=_text(path), listed=False)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path)
        database.execute("PRAGMA cache_size = -16000")  # 16 MB, whatever the archive's size
        return database

    def _fill(self, database: sqlite3.Connection) -> None:
        sources = self._sources
        _insert(database, _ADD_METADATA, self._metadata())
        if sources.split is not None:
            _insert(database, _ADD_SPLIT, self._splits(sources.split))
        if sources.labels is not None:
            _insert(database, _ADD_LABEL, self._labels(sources.labels))
        pictures: list[tuple[object, ...]] = []
        reports: list[tuple[object, ...]] = []
        misplaced = 0
        for folder in dict.fromkeys((sources.root, sources.reports)):
            for path in self._walk(folder):
                if folder == sources.root and (suffix := _suffix(path)) is not None:
                    pictures.append(_picture(path, suffix))
                elif folder == sources.reports and (named := _REPORT.search(path)) is not None:
                    if _right_group(named):
                        reports.append((named[3], named[2], os.fsencode(path)))
                    else:
                        misplaced += 1
                if len(pictures) + len(reports) >= _BATCH:
                    _flush(database, pictures, reports)
        _flush(database, pictures, reports)
        if misplaced:
            logger.warning(
                "%d reports lie in another patient group's folder and are not read", misplaced
            )

    def _metadata(self) -> Iterator[tuple[object, ...]]:
        path = self._sources.metadata
        header, rows = tables.read_table(path)
        tables.check_columns(path, header, (*_IDS, *_DESCRIBED[:2]))
        for line, row in _complete(path, rows):
            yield (
                line,
                *(row[name] for name in _IDS),
                *(row.get(name, "") for name in _DESCRIBED),
            )

    def _splits(self, path: Path) -> Iterator[tuple[object, ...]]:
        for line, row in _complete(path, tables.read_table(path, columns=(*_IDS, "split"))[1]):
            split = self._check_split(row["split"], f"{path}, line {line}")
            yield (*(row[name] for name in _IDS), split)

    def _labels(self, path: Path) -> Iterator[tuple[object, ...]]:
        columns = (*_IDS[1:], *CHEXPERT_LABELS)
        for line, row in _complete(path, tables.read_table(path, columns=columns)[1]):
            values = [
                self._check_label(row[name], f"{path}, line {line}, column {name!r}")
                for name in CHEXPERT_LABELS
            ]
            yield row["study_id"], row["subject_id"], ",".join(values)


def files_below(root: Path) -> Iterator[str]:
    """Every file below ``root``, relative to it, in one walk that follows links.

    A file is not looked at, only listed: the folder's own entries say what is a folder.
    """
    waiting = [("", 0)]
    while waiting:
        relative, depth = waiting.pop()
        try:
            entries = list(os.scandir(root / relative))
        except OSError as error:
            raise RequestError(f"cannot list {root / relative}: {error.strerror}") from error
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if not entry.is_dir():
                yield path
            elif depth + 1 < _DEEPEST and not (entry.is_symlink() and _leads_up(entry.path)):
                waiting.append((path, depth + 1))


def _leads_up(link: str) -> bool:
    """Whether a link to a folder leads to one that it lies in, and so would never end."""
    return Path(link).parent.resolve().is_relative_to(Path(link).resolve())


def _insert(database: sqlite3.Connection, query: str, rows: Iterable[tuple[object, ...]]) -> None:
    database.executemany(query, rows)  # takes them one by one
    database.commit()


def _flush(
    database: sqlite3.Connection,
    pictures: list[tuple[object, ...]],
    reports: list[tuple[object, ...]],
) -> None:
    _insert(database, _ADD_PICTURE, pictures)
    _insert(database, _ADD_REPORT, reports)
    pictures.clear()
    reports.clear()


def _complete(
    path: Path, rows: Iterator[tuple[int, tables.Row | None]]
) -> Iterator[tuple[int, tables.Row]]:
    for line, row in rows:
        if row is None:
            raise RequestError(
                f"{path}, line {line}: wrong number of fields, so the file was cut off or edited: "
                "download it again and compare it with the release's SHA256SUMS.txt"
            )
        yield line, row


def _picture(path: str, suffix: str) -> tuple[object, ...]:
    """Ids, path and rank of a picture; outside the layout its path stands for its ids."""
    named = _PICTURE.search(path)
    file = _printable(path.rpartition("/")[2][: -len(suffix)])
    ids = (file, named[3], named[2]) if named and _right_group(named) else (file, path, "")
    return (*map(_printable, ids), os.fsencode(path), SUFFIXES.index(suffix))


def _right_group(named: re.Match[str]) -> bool:
    """Whether a patient's folder lies in its group's: ``p10000032`` in ``p10``, or in none."""
    return named[1] is None or named[2].startswith(named[1])


def _suffix(path: str) -> str | None:
    lower = path.lower()
    if lower.endswith(".txt"):  # most files are; saves asking five times
        return None
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None)


def _printable(text: str) -> str:
    """File names may hold bytes that are not Unicode; SQLite's texts may not."""
    return text.encode("utf-8", "backslashreplace").decode()


def _row(
    subject: str, study: str, dicom: str, view: str, procedure: str, view_code: str,
    procedure_code: str, picture: bytes | None, report: bytes | None, split: str | None,
    labels: str | None, astray: bytes | None, repeated: int, split_differs: int | None,
    labels_differ: int | None,
) -> Row:  # fmt: skip
    """A row of ``_LISTED``."""
    return Row(
        subject, study, dicom, view, procedure, view_code, procedure_code, _text(picture),
        _text(report), split, labels, _text(astray), bool(repeated), bool(split_differs),
        bool(labels_differ),
    )  # fmt: skip


def _text(path: bytes | None) -> str:
    return "" if path is None else os.fsdecode(path)
