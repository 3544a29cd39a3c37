"""MIMIC-CXR: the DICOM release and the JPG release, with their reports and tables.

Johnson et al., MIMIC-CXR, Sci Data 2019, and MIMIC-CXR-JPG, arXiv 1901.07042. The folder holds
``files/p10/p10000032/s50414267/<dicom id>.dcm`` (or ``.dcm.gz``, ``.jpg``; ``files/`` may be
missing), reports ``…/p10000032/s50414267.txt`` anywhere below it or below ``reports``, and the
tables ``mimic-cxr-*-metadata``, ``-split``, ``-chexpert`` and ``-negbio`` (``.csv``, ``.csv.gz``).
Every picture in the metadata table or on disk becomes one sample or one exclusion.
"""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from arra_med.datasets import splits, views
from arra_med.datasets.base import DatasetAdapter, Excluded, Picture, RootOptions
from arra_med.datasets.cleanup import CleanUp
from arra_med.datasets.dicom import Rendering
from arra_med.datasets.mimic_index import MimicIndex, Row, Sources
from arra_med.datasets.pictures import read_picture
from arra_med.datasets.plain_text import plain_text
from arra_med.datasets.reports import (
    SOURCES,
    TEMPLATE,
    TEMPLATE_WITHOUT_VIEW,
    check_sources,
    check_template,
    emptied,
    to_prompt,
)
from arra_med.datasets.source_files import read_start
from arra_med.errors import RequestError
from arra_med.schema import CHEXPERT_LABELS, SPLITS, Exclusion, Sample, Split, check_key

logger = logging.getLogger(__name__)

_LARGEST_REPORT = 1_000_000  # bytes; the longest report of MIMIC-CXR has a few thousand
_LABEL_VALUES = {"": None, "1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}


@dataclass(frozen=True, kw_only=True)
class MimicCxrOptions(RootOptions):
    """What to take from MIMIC-CXR and how.

    Attributes:
        root: folder of the pictures and tables.
        reports: folder of the reports, if they are not below ``root``.
        views: which views become samples.
        missing_view: pictures whose view is in no table: excluded, or prompted without a view.
        splits: the official split table, or one's own by patient.
        take_splits: which splits become samples.
        split_shares: of train, validate and test, for ``by-patient``.
        split_seed: key of the hash, for ``by-patient``.
        labels: which label table; one row a study, a blank is unknown.
        rendering: of DICOM files; the JPG release already is ``mimic-jpg``.
        prompt_template: with places ``{view}`` and ``{text}``.
        prompt_template_without_view: for pictures without a view.
        prompt_sources: report sections in order of preference.
        clean_up: what is removed from the report's text.
    """

    reports: Path | None = None
    views: tuple[str, ...] = ("PA", "AP", "lateral")
    missing_view: Literal["exclude", "prompt-without-view"] = "exclude"
    splits: Literal["official", "by-patient"] = "official"
    take_splits: tuple[Split, ...] = SPLITS
    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    labels: Literal["chexpert", "negbio", "none"] = "chexpert"
    rendering: Rendering = "clinical"
    prompt_template: str = TEMPLATE
    prompt_template_without_view: str = TEMPLATE_WITHOUT_VIEW
    prompt_sources: tuple[str, ...] = SOURCES
    clean_up: CleanUp = field(default_factory=CleanUp)

    def __post_init__(self) -> None:
        check_template(self.prompt_template)
        check_template(self.prompt_template_without_view, fields=("text",))
        check_sources(self.prompt_sources)
        views.wanted_views(self.views)
        splits.check_shares(self.split_shares)
        if not self.take_splits or set(self.take_splits) - set(SPLITS):
            raise RequestError(
                f"take_splits {list(self.take_splits)} must name one or more of {', '.join(SPLITS)}"
            )


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
    # the release's own pseudonyms: subject_id, study_id, and UIDs that were replaced by hashes
    pseudonymous_tags = frozenset(
        {
            "PatientID", "StudyID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID",
            "MediaStorageSOPInstanceUID",
        }
    )  # fmt: skip

    @classmethod
    def tables(cls, options: MimicCxrOptions) -> dict[str, Path]:
        """Metadata, and the tables of splits and labels that are asked for."""
        names = ["metadata"]
        names += ["split"] if options.splits == "official" else []
        names += [options.labels] if options.labels != "none" else []
        found: dict[str, Path] = {}
        for name in names:
            try:
                found[name] = find_table(options.root, name, "")
            except FileNotFoundError:  # said when it is opened; a finished folder needs it no more
                found[name] = options.root / f"mimic-cxr-2.0.0-{name}.csv"
        return found

    def __init__(self, options: MimicCxrOptions) -> None:
        self.options = options
        self._views = views.wanted_views(options.views)
        self._index: MimicIndex | None = None
        for name, folder in {"root": options.root, "reports": options.reports}.items():
            if folder is not None and not folder.is_dir():
                raise FileNotFoundError(
                    f"no MIMIC-CXR folder at {folder}: correct ingest.dataset.{name}"
                )
        self._sources = Sources(
            root=options.root,
            reports=options.reports or options.root,
            metadata=find_table(options.root, "metadata", "every picture's view"),
            split=find_table(
                options.root, "split", "the official split (or set splits: by-patient)"
            )
            if options.splits == "official"
            else None,
            labels=find_table(options.root, options.labels, "the labels (or set labels: none)")
            if options.labels != "none"
            else None,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}  # a worker needs the options only

    def num_items(self) -> int:
        """Rows of the metadata table and pictures only on disk.

        Raises:
            FileNotFoundError: if no picture, or no report, is where it should be.
            RequestError: if a table has a broken row.
        """
        return self._indexed().num_items

    def items(self) -> Iterator[Sample | Exclusion]:
        """Pictures in the metadata table's order, then those only on disk, by path."""
        return map(self._item, self._indexed().rows())

    def complete(self, sample: Sample, redact: Callable[[str], str]) -> Sample:
        """Read the study's report and make the prompt."""
        text, edits = read_report(self._sources.reports / sample.text_source)
        text = redact(text)
        prompt = to_prompt(
            text,
            sample.view,
            template=self.options.prompt_template,
            template_without_view=self.options.prompt_template_without_view,
            sources=self.options.prompt_sources,
            clean_up=self.options.clean_up,
        )
        if prompt is None:
            wanted = ", ".join(self.options.prompt_sources)
            why = emptied(text, self.options.prompt_sources, self.options.clean_up)
            raise Excluded("no-prompt", why or f"its report has no words in {wanted}")
        return replace(
            sample,
            prompt=prompt.text,
            prompt_source=prompt.source,
            edits={**prompt.edits, **edits},
        )

    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture; see :func:`arra_med.datasets.pictures.read_picture`."""
        return read_picture(
            self.options.root / sample.source, channels=1, rendering=self.options.rendering
        )

    def _indexed(self) -> MimicIndex:
        if self._index is None:
            logger.info("listing the archive")
            index = MimicIndex(
                self._sources, check_split=parse_split, check_label=lambda text, where: str(
                    "" if (value := parse_label(text, where)) is None else value
                ),
            )  # fmt: skip
            _refuse_empty(index, self._sources)
            if index.num_released and self.options.rendering == "clinical":
                logger.warning(
                    "%d pictures are JPEG files: their rendering is as released", index.num_released
                )
            self._index = index
        return self._index

    def _item(self, row: Row) -> Sample | Exclusion:
        options = self.options
        view = views.normalise_view(row.view) or views.repair_view(
            row.view_code, row.procedure, row.procedure_code
        )
        split: str | None = row.split
        if options.splits == "by-patient":
            split = splits.patient_split(row.subject, options.split_shares, options.split_seed)
        problem = _integrity(row) or self._unwanted(view, split)
        if problem is None and not row.source:
            problem = ("missing-image", "the metadata table lists it, and there is no such file")
        if problem is None and not row.report:
            problem = ("no-report", "its study has no report file")
        if problem is not None:
            return Exclusion(
                item=_key(row) if row.subject else row.source or row.dicom,
                source=row.source or row.astray,
                reason=problem[0],
                detail=problem[1],
            )
        assert split is not None, "otherwise it is excluded"
        values = (row.labels or "," * (len(CHEXPERT_LABELS) - 1)).split(",")
        return Sample(
            key=_key(row),
            patient_id=row.subject,
            study_id=row.study,
            split=cast("Split", split),
            view=view,
            prompt="",
            prompt_source="",
            labels={
                name: int(value) if value else None
                for name, value in zip(CHEXPERT_LABELS, values, strict=True)
            },
            modality="cxr",
            source=row.source,
            text_source=row.report,
        )

    def _unwanted(self, view: str | None, split: str | None) -> tuple[str, str] | None:
        """Why a picture is not wanted, as a reason and a sentence."""
        if view is None and self.options.missing_view == "exclude":
            return "no-view", "no table says which view it is"
        if view is not None and not views.is_known(view):
            return "unknown-view", "its ViewPosition is none of the known views"
        if view is not None and view not in self._views:
            return "view-not-wanted", f"its view is {view}"
        if split is None:
            return "not-in-split-table", "the split table does not list it"
        if split not in self.options.take_splits:
            return "split-not-wanted", f"its split is {split}"
        return None


def find_table(root: Path, name: str, purpose: str) -> Path:
    """The one table ``mimic-cxr-<version>-<name>.csv`` or ``.csv.gz`` in ``root``.

    Raises:
        FileNotFoundError: if there is none.
        RequestError: if there are several.
    """
    pattern = re.compile(rf"mimic-cxr-[\d.]+-{name}\.csv(\.gz)?")
    found = sorted(path for path in root.iterdir() if pattern.fullmatch(path.name))
    if not found:
        raise FileNotFoundError(
            f"no table mimic-cxr-2.0.0-{name}.csv (or .csv.gz) in {root}, needed for {purpose}; "
            f"MIMIC-CXR-JPG ships it. {_there(root)}"
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
    if text not in _LABEL_VALUES:
        raise RequestError(f"{where}: {text[:20]!r} is not a label (1, 0, -1 or empty)")
    return _LABEL_VALUES[text]


def parse_split(text: str, where: str) -> str:
    """A cell of the split table.

    Raises:
        RequestError: if it is no split, saying ``where``.
    """
    split = splits.normalise_split(text)
    if split is None:
        raise RequestError(f"{where}: expected train, validate or test, found {text[:20]!r}")
    return split


def read_report(path: Path) -> tuple[str, dict[str, int]]:
    """A report's text, and what had to be done to read it.

    MIMIC's reports are ASCII; copies that went through other programs may be UTF-8, or cp1252
    (``°``, curly quotes), which is tried second and counted as ``read-as-cp1252``. What else other
    programs leave in them is undone; see :func:`~arra_med.datasets.plain_text.plain_text`.

    Raises:
        Excluded: if it cannot be read, or is no text.
    """
    reason = "unreadable-report"
    try:
        data = read_start(path, _LARGEST_REPORT + 1)
    except OSError as error:
        raise Excluded(reason, f"{type(error).__name__} while reading its report") from error
    if len(data) > _LARGEST_REPORT:
        raise Excluded(reason, f"its report has more than {_LARGEST_REPORT:,} bytes")
    for encoding, edits in (("utf-8-sig", {}), ("cp1252", {"read-as-cp1252": 1})):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        text, undone = plain_text(text.replace("\r\n", "\n"))
        return text, {**edits, **undone}
    raise Excluded(reason, "its report is no text in UTF-8 or cp1252")


def _integrity(row: Row) -> tuple[str, str] | None:
    """What keeps a picture's tables and files from being trusted."""
    if not row.listed:
        return "not-in-metadata", "the metadata table does not list it"
    if row.repeated:
        return "duplicate-key", "the metadata table lists it twice"
    try:
        check_key(_key(row))
    except ValueError:
        return "unusable-ids", "its ids in the metadata table are empty or hold odd characters"
    if row.astray:
        group, patient, study = _folders(row)
        return "wrong-folder", f"its file should lie in {group}/{patient}/{study}"
    if row.split_differs:
        return "ids-differ", "the split table gives it other ids, or two splits"
    if row.labels_differ:
        return (
            "ids-differ",
            "the label table gives its study another patient, or two sets of labels",
        )
    return None


def _key(row: Row) -> str:
    return f"p{row.subject}/s{row.study}/{row.dicom}"


def _folders(row: Row) -> tuple[str, str, str]:
    return f"p{row.subject[:2]}", f"p{row.subject}", f"s{row.study}"


def _refuse_empty(index: MimicIndex, sources: Sources) -> None:
    """Say what was looked for when nothing was found; that is never what was meant."""
    row = next(index.rows(), None)
    if row is None or not index.num_rows:
        raise FileNotFoundError(f"{sources.metadata} lists no picture")
    folder = "/".join(_folders(row))
    if not index.num_found:
        found = f"{index.num_pictures:,} pictures"
        if index.num_pictures:
            found += f", and none of the {index.num_rows:,} that {sources.metadata.name} lists"
        raise FileNotFoundError(
            f"{sources.root} holds {found}; looked for files/{folder}/{row.dicom}.dcm, .dcm.gz or "
            f".jpg, with or without files/. {_there(sources.root)}"
        )
    if not index.num_reports:
        raise FileNotFoundError(
            f"{sources.reports} holds no reports; looked for files/{folder}.txt, also without "
            "files/ or below mimic-cxr-reports/ (unpack mimic-cxr-reports.zip, and set 'reports' "
            f"if they lie elsewhere). {_there(sources.reports)}"
        )


def _there(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"Found there: {', '.join(names[:10]) or 'nothing'}{more}."
