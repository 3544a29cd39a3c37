"""A folder or a glob pattern of pictures as a table: a row a file, columns from DICOM headers.

A column is a DICOM keyword (``PatientID``, ``ViewPosition``) or a part of the path: ``folder``
(all folders the file lies in, from the root), ``top_folder`` (the first of them) and ``stem`` (the
file's name without its suffix). Only whitelisted tags may be asked for; headers are read one file
at a time, pixels never. Threads were tried for that and are slower (580 headers a second with
eight, 1,500 without): parsing is Python's own work. One after the other they still come faster
than pictures are decoded.
"""

import difflib
import glob
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pydicom
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom_checks import GZIP, quiet_pydicom
from arra_med.datasets.dicom_header import MAX_HEADER, until_pixels
from arra_med.datasets.paths import walk_files, without_suffix
from arra_med.datasets.pictures import DICOM_SUFFIXES, IMAGE_SUFFIXES
from arra_med.datasets.privacy import identifiers
from arra_med.datasets.source_files import is_passing, is_special, patiently
from arra_med.datasets.tables import Line, Row
from arra_med.errors import RequestError

PATH_COLUMNS = ("folder", "top_folder", "stem")
"""Columns that are parts of a file's path."""
ID_ROLES = ("patient", "study", "key")
"""What identifiers may be used for: columns the ingest can replace by keyed hashes."""

_WILDCARD = re.compile(r"[*?[]")


def is_folder_or_pattern(path: Path) -> bool:
    """Whether ``path`` stands for pictures themselves rather than for a table of them."""
    return path.is_dir() or (bool(_WILDCARD.search(str(path))) and not path.exists())


def check_tags(columns: Mapping[str, Sequence[str]], allowed: Sequence[str]) -> None:
    """Refuse columns that are no DICOM keyword or that may identify a person.

    Args:
        columns: column → the options that name it (``patient``, ``view`` …).
        allowed: tags the user takes the responsibility for.

    Raises:
        RequestError: naming all that is wrong.
    """
    problems = [
        problem
        for column, roles in columns.items()
        if column not in PATH_COLUMNS
        for problem in [_tag_problem(column, roles, allowed)]
        if problem
    ]
    problems += [
        f"allow_tags names {tag}, which no option uses" for tag in allowed if tag not in columns
    ]
    if problems:
        raise RequestError("; ".join(problems))


def _tag_problem(column: str, roles: Sequence[str], allowed: Sequence[str]) -> str | None:
    tag = tag_for_keyword(column)
    asked = f"{', '.join(roles)}: {column}"
    if tag is None:
        known = [*PATH_COLUMNS, *keyword_dict]
        near = difflib.get_close_matches(column, known, n=1, cutoff=0.7)
        return (
            f"{asked} is no DICOM keyword such as PatientID, nor one of {', '.join(PATH_COLUMNS)}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    if dictionary_VR(tag) in ("SQ", "OB", "OW", "OB or OW", "UN"):
        return f"{asked} holds no text"
    if column in allowed or column in identifiers.WHITELIST:
        return None
    if column in identifiers.ID_TAGS:
        wrong = [role for role in roles if role not in ID_ROLES]
        return f"{asked}: an identifier may only be {', '.join(ID_ROLES)}" if wrong else None
    return (
        f"{asked} is not on the list of tags that cannot identify a person: if yours are harmless, "
        f"set allow_tags: [{column}]"
    )


class PictureFiles:
    """Files of a folder or pattern, in the order of their paths.

    Args:
        source: the folder, or a pattern such as ``/archive/**/*.dcm``.
        columns: wanted of every file.
        root: paths are relative to it; by default the folder, or the pattern up to its first
            wildcard.
        beside: suffixes of files with texts, which are no items of their own.

    Raises:
        RequestError: if there is no file, or one lies outside ``root``.

    Attributes:
        root: see above.
    """

    def __init__(
        self,
        source: Path,
        columns: Sequence[str],
        *,
        root: Path | None = None,
        beside: Sequence[str] = (),
    ) -> None:
        self._keywords = [name for name in columns if name not in PATH_COLUMNS]
        self._columns = tuple(columns)
        self._any_name = source.is_dir()
        self.root = root or (source if self._any_name else fixed_part(source))
        if self._any_name:
            names = {self._relative(source / name) for name in walk_files(source)}
        else:
            # Unlike Path.glob, this follows links to folders.
            paths = map(Path, glob.iglob(str(source), recursive=True))  # noqa: PTH207
            names = {self._relative(path) for path in paths if not path.is_dir()}
        texts = {name for name in names if beside and name.endswith(tuple(beside))}
        stems = {without_suffix(name) for name in names - texts}
        self._alone = {name for name in texts if without_text_suffix(name, beside) not in stems}
        names -= texts - self._alone
        # As bytes, because a path is not always Unicode; in Arrow, because there are many.
        self._names = pa.array([os.fsencode(name) for name in sorted(names)], pa.large_binary())
        if not len(self._names):
            raise RequestError(f"no file at {source}" + (" (the folder is empty)" * self._any_name))

    def __len__(self) -> int:
        return len(self._names)

    def lines(self) -> Iterator[Line]:
        """A line a file, with its columns or with what is wrong with it."""
        for number, scalar in enumerate(self._names, 1):
            name = os.fsdecode(scalar.as_py())
            if name in self._alone:
                detail = "no picture has its name"
                yield Line(name, name, problem=("report-without-image", detail))
            else:
                yield self._line(name, number)

    def _line(self, name: str, number: int) -> Line:
        row, path = path_columns(name), self.root / name
        try:
            if is_special(path) or (self._any_name and not _may_be_picture(path)):
                return Line(name, name, problem=("not-a-picture", "no DICOM file or picture"))
            if self._keywords:
                row |= read_header(path, self._keywords)
        except UnreadableImage as error:
            return Line(name, name, problem=("unreadable-image", str(error)))
        wanted = {column: row[column] for column in self._columns}
        return Line(name, name, wanted, number=number)

    def _relative(self, path: Path) -> str:
        try:
            return path.absolute().relative_to(self.root.absolute()).as_posix()
        except ValueError as error:
            raise RequestError(f"image_root {self.root} does not hold every file found") from error


def read_header(path: Path, keywords: Sequence[str]) -> Row:
    """Values of a file's header, ``""`` where there is none; pictures that are not DICOM have none.

    Raises:
        UnreadableImage: if it is a DICOM file whose header cannot be read.
        WorkError: if it cannot be read at the moment.
    """
    return patiently(lambda: _read_header(path, keywords), str(path))


def _read_header(path: Path, keywords: Sequence[str]) -> Row:
    try:
        with path.open("rb") as file, quiet_pydicom():
            zipped = file.read(2) == GZIP
            file.seek(0)
            stream: Any = io.BytesIO(_unzipped(path)) if zipped else file
            stream.seek(128)
            if stream.read(4) != b"DICM":
                if path.name.lower().endswith(DICOM_SUFFIXES):
                    raise UnreadableImage("not a DICOM file: its 'DICM' mark is missing")
                return dict.fromkeys(keywords, "")
            dataset = until_pixels(stream, keywords)
            return {keyword: _text(dataset.get(keyword)) for keyword in keywords}
    except UnreadableImage:
        raise
    except Exception as error:  # the boundary of one item: parsers raise many classes
        if is_passing(error):
            raise
        if isinstance(error, OSError):
            raise UnreadableImage(f"the file cannot be read ({type(error).__name__})") from error
        raise UnreadableImage(f"its header cannot be parsed ({type(error).__name__})") from error


def path_columns(name: str) -> Row:
    """The columns that are parts of a relative path."""
    folder = PurePosixPath(name).parent
    inside = folder.parts
    return {
        "folder": folder.as_posix() if inside else "",
        "top_folder": inside[0] if inside else "",
        "stem": PurePosixPath(without_suffix(name)).name,
    }


def without_text_suffix(name: str, suffixes: Sequence[str]) -> str:
    """A text's path without whichever of ``suffixes`` it has."""
    return next((name.removesuffix(one) for one in suffixes if name.endswith(one)), name)


def _unzipped(path: Path) -> bytes:
    with gzip.open(path) as file:
        return file.read(MAX_HEADER)


def _text(value: Any) -> str:  # noqa: ANN401 - a DICOM value
    if value is None:
        return ""
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        return "\\".join(_text(one) for one in value)
    return str(value).replace("\0", "").strip()


def _may_be_picture(path: Path) -> bool:
    """By its name, or by its content if its name does not say."""
    if path.name.lower().endswith((*IMAGE_SUFFIXES, *DICOM_SUFFIXES)):
        return True
    try:
        return patiently(lambda: _starts_as_dicom(path), str(path))
    except (EOFError, zlib.error):  # broken gzip data of some kind
        return False
    except OSError as error:
        raise UnreadableImage(f"the file cannot be read ({type(error).__name__})") from error


def _starts_as_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(132)
    if start.startswith(GZIP):
        with gzip.open(path) as unzipped:
            start = unzipped.read(132)
    return start[128:] == b"DICM"


def fixed_part(pattern: Path) -> Path:
    """The folders of a pattern before its first wildcard."""
    parts = pattern.parts[:-1]
    wild = next((i for i, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
    return Path(*parts[:wild])
