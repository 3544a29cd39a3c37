"""A hospital's own data: one table (CSV, TSV, Parquet) with a row a picture.

Which column holds what is configuration::

    dataset:
      name: table
      file: films.csv
      image: file_name          # column with paths, relative to the table or to image_root
      text: impression          # column with report text, put into prompt_template
      view: projection
      patient: patient_no
      labels: {effusion: Pleural Effusion, cardiomegaly: Cardiomegaly}

Every row becomes one sample or one exclusion.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from arra_med.datasets import splits, views
from arra_med.datasets.base import DatasetAdapter, Picture
from arra_med.datasets.paths import key_from_path, relative_source
from arra_med.datasets.pictures import read_picture
from arra_med.datasets.reports import fill_template, has_words
from arra_med.datasets.table_labels import LabelReader
from arra_med.datasets.table_options import TableOptions
from arra_med.datasets.tables import Row, read_table
from arra_med.errors import RequestError
from arra_med.schema import Exclusion, Sample, Split, check_key

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Line:
    number: int
    row: Row | None  # None: too few or too many fields


class Table(DatasetAdapter):
    """Adapter of a table with configurable columns.

    Args:
        options: see :class:`~arra_med.datasets.table_options.TableOptions`.

    Raises:
        FileNotFoundError: if the table or the picture folder is not there.
        RequestError: if a column is missing or a label is not one.
    """

    Options = TableOptions

    def __init__(self, options: TableOptions) -> None:
        self.options = options
        self.channels = options.channels
        self._root = options.image_root or options.file.parent
        if not self._root.is_dir():
            raise FileNotFoundError(f"no picture folder at {self._root} (image_root)")
        _, rows = read_table(
            options.file,
            columns=options.columns(),
            encoding=options.encoding,
            delimiter=options.delimiter,
        )
        self._lines = [_Line(number, row) for number, row in rows]
        if not self._lines:
            raise RequestError(f"{options.file} has column names but no rows")
        self._labels = LabelReader(
            options, [(line.number, line.row) for line in self._lines if line.row is not None]
        )
        self.label_names = self._labels.names
        self._views = None if options.views is None else views.wanted_views(options.views)
        if options.patient is None:
            logger.warning("no patient column: every picture is taken for a patient of its own")

    def items(self) -> Iterator[Sample | Exclusion]:
        """Rows in the table's order."""
        claims: dict[str, set[str]] = defaultdict(set)
        if self.options.patient is not None:
            for line in self._lines:
                if line.row is not None and line.row[self.options.patient]:
                    claims[self._source(line.row)].add(line.row[self.options.patient])
        keys: set[str] = set()
        used: set[str] = set()
        for line in self._lines:
            item = self._item(line, claims)
            if isinstance(item, Sample) and item.source in used:
                item = self._excluded(line, "duplicate-image", "an earlier row has this picture")
            elif isinstance(item, Sample) and item.key in keys:
                item = self._excluded(
                    line, "duplicate-key", "an earlier row has this key; give a column 'key'"
                )
            if isinstance(item, Sample):
                keys.add(item.key)
                used.add(item.source)
            yield item

    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture; see :func:`arra_med.datasets.pictures.read_picture`."""
        return read_picture(
            self._root / sample.source,
            channels=self.options.channels,
            rendering=self.options.rendering,
        )

    def _item(self, line: _Line, claims: dict[str, set[str]]) -> Sample | Exclusion:
        options, row = self.options, line.row
        if row is None:
            return self._excluded(line, "malformed-row", "it has too few or too many fields")
        source = self._source(row)
        if not source:
            named = bool(row[options.image])
            return self._excluded(
                line,
                "outside-image-root" if named else "missing-image",
                "its path leads out of image_root; set image_root to a folder that holds all"
                if named
                else f"column {options.image!r} is empty",
            )
        if not (self._root / source).is_file():
            return self._excluded(line, "missing-image", "there is no such file")
        if len(claims.get(source, ())) > 1:
            return self._excluded(
                line, "conflicting-patients", "rows of different patients claim this picture"
            )
        if options.patient is not None and not row[options.patient]:
            return self._excluded(line, "no-patient", f"column {options.patient!r} is empty")
        view = views.normalise_view(row[options.view]) if options.view is not None else None
        if options.view is not None and view is None and options.missing_view == "exclude":
            return self._excluded(line, "no-view", f"column {options.view!r} does not say one")
        if view is not None and self._views is not None and view not in self._views:
            return self._excluded(line, "view-not-wanted", f"its view is {view}")
        text = row[options.prompt or options.text or ""]
        if not has_words(text):
            column = options.prompt or options.text
            return self._excluded(line, "no-prompt", f"column {column!r} has no words")
        return self._sample(line, row, source, view, text)

    def _sample(
        self, line: _Line, row: Row, source: str, view: str | None, text: str
    ) -> Sample | Exclusion:
        options = self.options
        given = row[options.key] if options.key is not None else None
        try:
            key = key_from_path(source) if given is None else check_key(given)
        except ValueError:
            return self._excluded(line, "unusable-key", "its key holds other than A-Z 0-9 . _ + -")
        patient = row[options.patient] if options.patient is not None else key
        split = self._split(row, patient)
        if split is None:
            return self._excluded(
                line, "unknown-split", f"column {options.split!r} is not train, validate or test"
            )
        if options.prompt is not None:
            prompt = " ".join(text.split())
        else:
            prompt = fill_template(text, view, options.template(), options.template_without_view())
        return Sample(
            key=key,
            patient_id=patient,
            study_id=(row[options.study] if options.study is not None else "") or key,
            split=split,
            view=view,
            prompt=prompt,
            prompt_source=options.prompt or options.text or "",
            labels=self._labels.labels(row),
            modality=options.modality,
            source=source,
        )

    def _split(self, row: Row, patient: str) -> Split | None:
        if self.options.split is not None:
            return splits.normalise_split(row[self.options.split])
        return splits.patient_split(patient, self.options.split_shares, self.options.split_seed)

    def _source(self, row: Row) -> str:
        return relative_source(self._root, row[self.options.image]) or ""

    def _excluded(self, line: _Line, reason: str, detail: str) -> Exclusion:
        return Exclusion(
            item=f"{self.options.file.name}#{line.number}",
            source=self._source(line.row) if line.row is not None else "",
            reason=reason,
            detail=detail,
        )
