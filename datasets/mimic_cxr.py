"""MIMIC-CXR: the DICOM release and the JPG release, with their reports and tables.

Johnson et al., MIMIC-CXR, Sci Data 2019, and MIMIC-CXR-JPG, arXiv 1901.07042. The folder holds
``files/p10/p10000032/s50414267/<dicom id>.dcm`` (or ``.dcm.gz``, ``.jpg``; ``files/`` may be
missing), reports ``…/p10000032/s50414267.txt`` anywhere below it or below ``reports``, and the
tables ``mimic-cxr-*-metadata``, ``-split``, ``-chexpert`` and ``-negbio`` (``.csv``, ``.csv.gz``).
Every picture in the metadata table or on disk becomes one sample or one exclusion.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from arra_med.datasets import splits, tables, views
from arra_med.datasets.base import DatasetAdapter, Picture, RootOptions
from arra_med.datasets.dicom import Rendering
from arra_med.datasets.pictures import read_picture
from arra_med.datasets.reports import (
    SOURCES,
    TEMPLATE,
    TEMPLATE_WITHOUT_VIEW,
    check_template,
    to_prompt,
)
from arra_med.errors import RequestError
from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample, Split

logger = logging.getLogger(__name__)

_SUFFIXES = (".dcm", ".dcm.gz", ".jpg", ".jpeg", ".png")  # of one picture, the first is taken
_DEEPEST = 7  # folder levels below the root that are searched; ends loops of links
_STUDY = re.compile(r"(?:^|/)p(\d+)/s(\d+)/([^/]+)$")
_REPORT = re.compile(r"(?:^|/)p(\d+)/s(\d+)\.txt$")
_METADATA = (
    "dicom_id", "subject_id", "study_id", "ViewPosition", "PerformedProcedureStepDescription",
)  # fmt: skip

Ids = tuple[str, str, str]  # subject, study, dicom


@dataclass(frozen=True, kw_only=True)
class MimicCxrOptions(RootOptions):
    """What to take from MIMIC-CXR and how.

    Attributes:
        root: folder of the pictures and tables.
        reports: folder of the reports, if they are not below ``root``.
        views: which views become samples.
        missing_view: pictures whose view is in no table: excluded, or prompted without a view.
        splits: the official split table, or one's own by patient.
        split_shares: of train, validate and test, for ``by-patient``.
        split_seed: key of the hash, for ``by-patient``.
        labels: which label table; one row a study, a blank is unknown.
        rendering: of DICOM files; the JPG release already is ``mimic-jpg``.
        prompt_template: with places ``{view}`` and ``{text}``.
        prompt_template_without_view: for pictures without a view.
        prompt_sources: report sections in order of preference.
    """

    reports: Path | None = None
    views: tuple[str, ...] = ("PA", "AP", "lateral")
    missing_view: Literal["exclude", "prompt-without-view"] = "exclude"
    splits: Literal["official", "by-patient"] = "official"
    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    labels: Literal["chexpert", "negbio", "none"] = "chexpert"
    rendering: Rendering = "clinical"
    prompt_template: str = TEMPLATE
    prompt_template_without_view: str = TEMPLATE_WITHOUT_VIEW
    prompt_sources: tuple[str, ...] = SOURCES

    def __post_init__(self) -> None:
        check_template(self.prompt_template)
        check_template(self.prompt_template_without_view, fields=("text",))
        views.wanted_views(self.views)
        splits.check_shares(self.split_shares)


class MimicCxr(DatasetAdapter):
    """Adapter of MIMIC-CXR.

    Args:
        options: see :class:`MimicCxrOptions`.

    Raises:
        FileNotFoundError: if the folder or a table it needs is not there.
        RequestError: if two tables could be meant.
    """

    Options = MimicCxrOptions
    label_names = CHEXPERT_LABELS

    def __init__(self, options: MimicCxrOptions) -> None:
        self.options = options
        self._views = views.wanted_views(options.views)
        for folder in (options.root, options.reports or options.root):
            if not folder.is_dir():
                raise FileNotFoundError(f"no MIMIC-CXR folder at {folder}")
        self._metadata = find_table(options.root, "metadata", "every picture's view")
        self._split = (
            find_table(options.root, "split", "the official split (or set splits: by-patient)")
            if options.splits == "official"
            else None
        )
        self._labels = (
            find_table(options.root, options.labels, "the labels (or set labels: none)")
            if options.labels != "none"
            else None
        )

    def items(self) -> Iterator[Sample | Exclusion]:
        """Pictures in the metadata table's order, then those only on disk, by path."""
        pictures, texts = _scan(self.options.root)
        if self.options.reports is not None:
            texts = _scan(self.options.reports)[1]
        released = sum(path.endswith((".jpg", ".jpeg")) for path in pictures.values())
        if released and self.options.rendering == "clinical":
            logger.warning("%d pictures are JPEG files: their rendering is as released", released)
        split_of, labels_of = self._read_splits(), self._read_labels()
        report = _ReportReader(self.options.reports or self.options.root, texts)
        seen: set[Ids] = set()
        for line, row in tables.read_table(self._metadata, columns=_METADATA)[1]:
            if row is None:
                raise RequestError(f"{self._metadata}, line {line}: wrong number of fields")
            ids = (row["subject_id"], row["study_id"], row["dicom_id"])
            source = pictures.get(ids, "")
            outcome = (
                _excluded(ids, source, "duplicate-key", "the metadata table lists it twice")
                if ids in seen
                else self._item(ids, source, row, split_of, labels_of, report)
            )
            seen.add(ids)
            yield outcome
        for ids, source in sorted(pictures.items(), key=lambda pair: pair[1]):
            if ids not in seen:
                yield _excluded(
                    ids, source, "not-in-metadata", "the metadata table does not list it"
                )

    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture; see :func:`arra_med.datasets.pictures.read_picture`."""
        return read_picture(
            self.options.root / sample.source, channels=1, rendering=self.options.rendering
        )

    def _item(
        self,
        ids: Ids,
        source: str,
        row: tables.Row,
        split_of: Mapping[Ids, Split] | None,
        labels_of: Mapping[tuple[str, str], dict[str, int | None]],
        report: "_ReportReader",
    ) -> Sample | Exclusion:
        options = self.options
        view = views.normalise_view(row["ViewPosition"]) or views.view_from_description(
            row["PerformedProcedureStepDescription"]
        )
        if view is None and options.missing_view == "exclude":
            return _excluded(ids, source, "no-view", "no table says which view it is")
        if view is not None and view not in self._views:
            return _excluded(ids, source, "view-not-wanted", f"its view is {view}")
        if not source:
            return _excluded(ids, source, "missing-image", "the metadata table lists no such file")
        subject, study, _ = ids
        if split_of is None:
            split = splits.patient_split(subject, options.split_shares, options.split_seed)
        elif ids in split_of:
            split = split_of[ids]
        else:
            return _excluded(ids, source, "not-in-split-table", "the split table does not list it")
        text = report.read(subject, study)
        if text is None:
            return _excluded(ids, source, *report.failure)
        prompt = to_prompt(
            text,
            view,
            template=options.prompt_template,
            template_without_view=options.prompt_template_without_view,
            sources=options.prompt_sources,
        )
        if prompt is None:
            wanted = ", ".join(options.prompt_sources)
            return _excluded(ids, source, "no-prompt", f"its report has no words in {wanted}")
        return Sample(
            key=_key(ids),
            patient_id=subject,
            study_id=study,
            split=split,
            view=view,
            prompt=prompt[0],
            prompt_source=prompt[1],
            labels=labels_of.get((subject, study), dict.fromkeys(CHEXPERT_LABELS)),
            modality="cxr",
            source=source,
        )

    def _read_splits(self) -> dict[Ids, Split] | None:
        if self._split is None:
            return None
        found: dict[Ids, Split] = {}
        columns = ("dicom_id", "study_id", "subject_id", "split")
        for line, row in tables.read_table(self._split, columns=columns)[1]:
            split = splits.normalise_split(row["split"]) if row else None
            if row is None or split is None:
                raise RequestError(f"{self._split}, line {line}: expected train, validate or test")
            found[row["subject_id"], row["study_id"], row["dicom_id"]] = split
        return found

    def _read_labels(self) -> dict[tuple[str, str], dict[str, int | None]]:
        if self._labels is None:
            return {}
        columns = ("subject_id", "study_id", *CHEXPERT_LABELS)
        found: dict[tuple[str, str], dict[str, int | None]] = {}
        for line, row in tables.read_table(self._labels, columns=columns)[1]:
            if row is None:
                raise RequestError(f"{self._labels}, line {line}: wrong number of fields")
            where = f"{self._labels}, line {line}"
            found[row["subject_id"], row["study_id"]] = {
                name: parse_label(row[name], f"{where}, column {name!r}")
                for name in CHEXPERT_LABELS
            }
        return found


def find_table(root: Path, name: str, purpose: str) -> Path:
    """The one table ``mimic-cxr-<version>-<name>.csv`` or ``.csv.gz`` in ``root``.

    Raises:
        FileNotFoundError: if there is none.
        RequestError: if there are several.
    """
    pattern = re.compile(rf"mimic-cxr-[\d.]+-{name}\.csv(\.gz)?")
    found = sorted(path for path in root.iterdir() if pattern.fullmatch(path.name))
    if not found:
        there = sorted(path.name for path in root.iterdir())[:10]
        raise FileNotFoundError(
            f"no table mimic-cxr-2.0.0-{name}.csv (or .csv.gz) in {root}, needed for {purpose}; "
            f"MIMIC-CXR-JPG ships it. There: {', '.join(there) or 'nothing'}"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise RequestError(f"{root} holds {len(found)} {name} tables ({names}): keep one")
    return found[0]


def parse_label(text: str, where: str) -> int | None:
    """A cell of a label table: ``1.0``, ``0.0``, ``-1.0``, or ``""`` for unknown.

    Raises:
        RequestError: for anything else, saying ``where``.
    """
    values = {"": None, "1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}
    if text not in values:
        raise RequestError(f"{where}: {text[:20]!r} is not a label (1, 0, -1 or empty)")
    return values[text]


class _ReportReader:
    """Reads a study's report; keeps the last, since the metadata table is sorted by study."""

    def __init__(self, folder: Path, paths: Mapping[tuple[str, str], str]) -> None:
        self._folder = folder
        self._paths = paths
        self._last: tuple[tuple[str, str], str | None] | None = None
        self.failure = ("", "")

    def read(self, subject: str, study: str) -> str | None:
        """The report's text, or ``None`` with ``failure`` set to a reason and a detail."""
        if self._last is None or self._last[0] != (subject, study):
            self._last = ((subject, study), self._load(subject, study))
        return self._last[1]

    def _load(self, subject: str, study: str) -> str | None:
        path = self._paths.get((subject, study))
        if path is None:
            self.failure = ("no-report", "its study has no report file")
            return None
        try:
            return (self._folder / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.failure = ("unreadable-report", f"{type(error).__name__} while reading it")
            return None


def _scan(root: Path) -> tuple[dict[Ids, str], dict[tuple[str, str], str]]:
    """One walk over the folder: pictures by their ids, reports by study, as relative paths."""
    pictures: dict[Ids, str] = {}
    texts: dict[tuple[str, str], str] = {}
    for folder, below, names in os.walk(root, followlinks=True):
        relative = Path(folder).relative_to(root)
        if len(relative.parts) >= _DEEPEST:
            below.clear()
        below.sort()
        for name in sorted(names):
            path = (relative / name).as_posix()
            report, picture = _REPORT.search(path), _STUDY.search(path)
            suffix = _suffix(name)
            if report:
                texts.setdefault((report[1], report[2]), path)
            elif suffix is not None:
                # A picture outside the layout has no ids; its path stands for them.
                ids = (picture[1], picture[2], name[: -len(suffix)]) if picture else ("", "", path)
                before = pictures.get(ids)
                if before is None or _rank(path) < _rank(before):
                    pictures[ids] = path
    return pictures, texts


def _suffix(name: str) -> str | None:
    return next((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), None)


def _rank(path: str) -> int:
    return _SUFFIXES.index(_suffix(path) or _SUFFIXES[-1])


def _key(ids: Ids) -> str:
    subject, study, dicom = ids
    return f"p{subject}/s{study}/{dicom}" if subject else dicom


def _excluded(ids: Ids, source: str, reason: str, detail: str) -> Exclusion:
    return Exclusion(item=_key(ids), source=source, reason=reason, detail=detail)
