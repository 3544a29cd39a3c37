"""A hospital's own data: one table (CSV, TSV, Parquet) with a row a picture, or a folder of them.

Which column holds what is configuration::

    dataset:
      name: table
      file: films.csv
      image: file_name          # column with paths, relative to the table or to image_root
      report: report_text       # column with whole reports; the impression becomes the prompt
      view: projection
      patient: patient_no
      labels: {effusion: Pleural Effusion, cardiomegaly: Cardiomegaly}

Without a table, ``file`` is the folder of the pictures or a pattern, the columns are DICOM
keywords, and the reports lie beside the pictures::

    dataset:
      name: table
      file: /archive/**/*.dcm
      report_suffix: .txt
      view: ViewPosition
      patient: PatientID
      study: StudyInstanceUID

Every row, or file, becomes one sample or one exclusion.
"""

import difflib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arra_med.datasets import dicom_folder, splits, table_text, views
from arra_med.datasets.base import DatasetAdapter, Identifier, Picture
from arra_med.datasets.dicom_folder import PictureFiles
from arra_med.datasets.paths import is_file, key_from_path, relative_source, without_suffix
from arra_med.datasets.pictures import header_identifiers, read_picture
from arra_med.datasets.privacy import identifiers
from arra_med.datasets.reports import has_words
from arra_med.datasets.table_ids import (
    columns_of_persons,
    refuse_rounded,
    refuse_two_spellings,
    without_fraction,
)
from arra_med.datasets.table_labels import LabelReader
from arra_med.datasets.table_options import TableOptions
from arra_med.datasets.tables import Line, Row, Rows, read_table, says_no_value
from arra_med.errors import RequestError
from arra_med.schema import Exclusion, Sample, Split, check_key

logger = logging.getLogger(__name__)


class Table(DatasetAdapter):
    """Adapter of a table with configurable columns.

    Args:
        options: see :class:`~arra_med.datasets.table_options.TableOptions`.

    Raises:
        FileNotFoundError: if the table or the picture folder is not there.
        RequestError: if a column is missing, a tag may identify a person, or a label is not one.
    """

    Options = TableOptions

    @classmethod
    def tables(cls, options: TableOptions) -> dict[str, Path]:
        """The table, unless ``file`` is a folder or a pattern."""
        return {} if "*" in str(options.file) or options.file.is_dir() else {"file": options.file}

    def __init__(self, options: TableOptions) -> None:
        self.options = options
        self.channels = options.channels
        if options.image_root is not None and not options.image_root.is_dir():
            raise FileNotFoundError(f"no picture folder at {options.image_root} (image_root)")
        self._lines = _open_source(options)
        self._root = self._lines.root
        if isinstance(self._lines, _TableLines):
            ids = [one for one in (options.patient, options.study) if one is not None]
            refuse_rounded(options.file, [*ids, *options.name_columns], self._rows)
            refuse_two_spellings(options.file, ids, self._rows)
        self._labels = LabelReader(options, self._rows())
        self.label_names = self._labels.names
        self._view_names = {views.folded(n): view for n, view in options.view_names.items()}
        self._refuse_unused_view_names()
        self._views = self._wanted_views()
        if isinstance(self._lines, PictureFiles):
            self.id_tags = identifiers.ID_TAGS & {
                column for column in (options.patient, options.study, options.key) if column
            }
        if options.patient is None:
            own = "study" if options.study is not None else "picture"
            logger.warning("no patient column: every %s is taken for a patient of its own", own)

    def __getstate__(self) -> dict[str, Any]:
        """Without the rows: a worker process needs none, and they may be large."""
        return {name: value for name, value in vars(self).items() if name != "_lines"}

    def num_items(self) -> int:
        """Rows of the table, or files of the folder."""
        return len(self._lines)

    def items(self) -> Iterator[Sample | Exclusion]:
        """Rows in the table's order."""
        conflicting = self._conflicting()
        keys: set[str] = set()
        used: set[str] = set()
        missing, garbled = False, 0
        for line in self._lines.lines():
            item = self._item(line, conflicting)
            if isinstance(item, Sample) and item.source in used:
                item = self._excluded(line, "duplicate-image", "an earlier row has this picture")
            elif isinstance(item, Sample) and item.key in keys:
                item = self._excluded(
                    line,
                    "duplicate-key",
                    "an earlier row has this key"
                    + ("" if self.options.key else "; give a column 'key'"),
                )
            if isinstance(item, Sample):
                keys.add(item.key)
                used.add(item.source)
                garbled += "\ufffd" in item.prompt
            missing = missing or (isinstance(item, Exclusion) and item.reason == "missing-image")
            yield item
        if garbled:
            logger.warning(
                "%d texts hold U+FFFD: an earlier conversion lost characters of theirs; export the "
                "table anew if you can",
                garbled,
            )
        if missing and not keys:
            logger.warning(
                "no row can become a sample, and pictures are missing: they were looked for below "
                "%s (image_root)",
                self._root,
            )

    def complete(self, sample: Sample, redact: Callable[[str], str]) -> Sample:
        """Make the prompt; see :func:`arra_med.datasets.table_text.complete`."""
        return table_text.complete(sample, self.options, self._root, redact)

    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture; see :func:`arra_med.datasets.pictures.read_picture`."""
        return read_picture(
            self._root / sample.source,
            channels=self.options.channels,
            rendering=self.options.rendering,
        )

    def identifiers(self, source: str) -> tuple[Identifier, ...]:
        """See :func:`arra_med.datasets.pictures.header_identifiers`."""
        return header_identifiers(self._root / source)

    def _rows(self) -> Iterator[tuple[int, Row]]:
        return ((line.number, line.row) for line in self._lines.lines() if line.row is not None)

    def _conflicting(self) -> set[str]:
        """Pictures that rows of different patients claim."""
        column = self.options.patient
        if column is None or isinstance(self._lines, PictureFiles):
            return set()
        owners: dict[str, str] = {}
        conflicting = set()
        for line in self._lines.lines():
            patient = line.row[column] if line.row is not None else ""
            if patient and owners.setdefault(line.source, patient) != patient:
                conflicting.add(line.source)
        return conflicting

    def _wanted_views(self) -> tuple[str, ...] | None:
        """The wanted views; one that only this archive uses must stand in its column."""
        if self.options.views is None:
            return None
        wanted: dict[str | None, None] = {}
        own = set()
        for view in self.options.views:
            name = views.normalise_view(view)
            wanted[name] = None
            if name is not None and not views.is_known(name):
                own.add(name)
        if own:
            own -= {self._view(row) or "" for _, row in self._rows()}
        if own or not wanted or None in wanted:  # unknown and unused, or empty: say what is wrong
            views.wanted_views(sorted(own) or self.options.views)
        return tuple(name for name in wanted if name is not None)

    def _item(self, line: Line, conflicting: set[str]) -> Sample | Exclusion:
        options, row, source = self.options, line.row, line.source
        if row is None:
            return self._excluded(line, *line.problem)
        if not source:
            named = bool(row[options.image])
            return self._excluded(
                line,
                "outside-image-root" if named else "missing-image",
                "its path leads out of image_root; set image_root to a folder that holds all"
                if named
                else f"column {options.image!r} is empty",
            )
        if not isinstance(self._lines, PictureFiles) and not is_file(self._root / source):
            return self._excluded(line, "missing-image", "there is no such file below image_root")
        if source in conflicting:
            return self._excluded(
                line, "conflicting-patients", "rows of different patients claim this picture"
            )
        if options.patient is not None and says_no_value(row[options.patient]):
            return self._excluded(line, "no-patient", f"column {options.patient!r} is empty")
        view = self._view(row)
        problem = self._view_problem(view)
        if problem is not None:
            return self._excluded(line, *problem)
        column = options.prompt or options.text or options.report
        if column is not None and (not has_words(row[column]) or says_no_value(row[column])):
            return self._excluded(line, "no-prompt", f"column {column!r} has no words")
        return self._sample(line, row, view, "" if column is None else row[column])

    def _view(self, row: Row) -> str | None:
        """The view that a row's cell says, or means by ``view_names``."""
        if self.options.view is None:
            return None
        cell = row[self.options.view]
        return views.normalise_view(self._view_names.get(views.folded(cell), cell))

    def _refuse_unused_view_names(self) -> None:
        unused, column = set(self._view_names), self.options.view
        if unused and column is not None:
            unused -= {views.folded(row[column]) for _, row in self._rows()}
        if unused:
            names = [name for name in self.options.view_names if views.folded(name) in unused]
            raise RequestError(
                f"view_names: no cell of column {column!r} says {', '.join(map(repr, names))}: "
                "write it as it stands there, or remove it"
            )

    def _view_problem(self, view: str | None) -> tuple[str, str] | None:
        options = self.options
        if options.view is None:
            return None
        if view is None:
            detail = f"column {options.view!r} does not say one"
            return ("no-view", detail) if options.missing_view == "exclude" else None
        if view in (self._views or ()):
            return None
        if options.modality == "cxr" and not views.is_known(view):
            near = difflib.get_close_matches(view.lower(), [v.lower() for v in views.VIEWS], n=1)
            name = next((v for v in views.VIEWS if [v.lower()] == near), None)
            nearest = "" if name is None else f", the nearest is {name}"
            detail = (
                f"column {options.view!r} holds no known view{nearest}; if it is one, say in "
                "'view_names' which, or name it in 'views'"
            )
            return "unknown-view", detail
        if self._views is not None:
            shown = f"its view is {view}" if views.is_known(view) else "its view is another one"
            return "view-not-wanted", shown
        return None

    def _sample(self, line: Line, row: Row, view: str | None, text: str) -> Sample | Exclusion:
        options = self.options
        given = row[options.key] if options.key is not None else None
        try:
            key = key_from_path(line.source) if given is None else check_key(given)
        except ValueError:
            return self._excluded(line, "unusable-key", "its key holds other than A-Z 0-9 . _ + -")
        named = options.study is not None and not says_no_value(row[options.study])
        study = row[options.study] if options.study is not None and named else key
        patient = row[options.patient] if options.patient is not None else study
        split = self._split(row, patient)
        if split is None:
            return self._excluded(
                line, "unknown-split", f"column {options.split!r} is not train, validate or test"
            )
        suffix = options.text_suffix or options.report_suffix
        return Sample(
            key=key,
            patient_id=patient,
            study_id=study,
            split=split,
            view=view,
            prompt=text,
            prompt_source=options.prompt or options.text or options.report or "file",
            labels=self._labels.labels(row),
            modality=options.modality,
            source=line.source,
            text_source="" if suffix is None else without_suffix(line.source) + suffix,
            names=self._names(row),
        )

    def _names(self, row: Row) -> dict[str, str]:
        """What identifies a person in a row, by column."""
        cells = {column: row[column] for column in self.options.name_columns}
        return {
            column: without_fraction(cell)
            for column, cell in cells.items()
            if not says_no_value(cell)
        }

    def _excluded(self, line: Line, reason: str, detail: str) -> Exclusion:
        return Exclusion(
            item=line.name,
            source=line.source,
            reason=reason,
            detail=detail,
            names={} if line.row is None else self._names(line.row),
        )

    def _split(self, row: Row, patient: str) -> Split | None:
        if self.options.split is not None:
            return splits.normalise_split(row[self.options.split])
        return splits.patient_split(patient, self.options.split_shares, self.options.split_seed)


class _TableLines:
    """A table file's rows with the paths of their pictures."""

    def __init__(self, options: TableOptions) -> None:
        self.root = options.image_root or options.file.parent
        self._file, self._image = options.file, options.image
        columns = list(dict.fromkeys([options.image, *options.columns()]))
        header, rows = read_table(
            options.file, columns=columns, encoding=options.encoding, delimiter=options.delimiter
        )
        if persons := columns_of_persons(header, columns):
            logger.warning(
                "columns that may say who a person is, and are not in name_columns: %s; what "
                "stands there is left in texts and not searched for",
                ", ".join(persons),
            )
        self._rows = Rows(columns, rows)
        if not len(self._rows):
            raise RequestError(f"{options.file} has column names but no rows")

    def __len__(self) -> int:
        return len(self._rows)

    def lines(self) -> Iterator[Line]:
        for number, row in self._rows:
            name = f"{self._file.name}#{number}"
            source = None if row is None else relative_source(self.root, row[self._image])
            yield Line(name, source or "", row, number=number)


def _open_source(options: TableOptions) -> _TableLines | PictureFiles:
    if not dicom_folder.is_folder_or_pattern(options.file):
        if options.allow_tags:
            raise RequestError(f"'allow_tags' does nothing to a table such as {options.file}")
        return _TableLines(options)
    for name, default in (("image", "image"), ("delimiter", None)):
        if getattr(options, name) != default:
            raise RequestError(f"{name!r} does nothing to a folder such as {options.file}")
    if tags := [name for name in options.name_columns if name not in dicom_folder.PATH_COLUMNS]:
        raise RequestError(
            f"'name_columns' names {', '.join(tags)}: what headers say of a person is replaced "
            f"without it; of a folder it can name {', '.join(dicom_folder.PATH_COLUMNS)}"
        )
    columns = options.columns()
    dicom_folder.check_tags(columns, options.allow_tags)
    suffixes = [one for one in (options.text_suffix, options.report_suffix) if one is not None]
    return PictureFiles(options.file, list(columns), root=options.image_root, beside=suffixes)
