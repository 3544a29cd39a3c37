"""What each column of a hospital's table means: the options of ``table``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from arra_med.datasets import reports, splits, views
from arra_med.datasets.cleanup import CleanUp
from arra_med.datasets.dicom import Rendering
from arra_med.errors import RequestError, did_you_mean
from arra_med.settings.checks import NO_DELIMITER, is_no_delimiter

TEXTS = ("text", "prompt", "report", "text_suffix", "report_suffix")
"""Options that say where texts are; exactly one is given."""
_SOURCES = (*reports.SOURCES, reports.WHOLE)


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Columns and conversions of a table.

    Attributes:
        file: the ``.csv``, ``.tsv`` (also ``.gz``) or ``.parquet`` file; or a folder of pictures,
            or a pattern such as ``/archive/**/*.dcm``, whose columns are the tags of the DICOM
            headers by keyword and ``folder``, ``top_folder`` and ``stem`` of the path.
        image: column with picture paths; a folder or pattern needs none.
        image_root: folder they are relative to; the table's own if not given.
        text: column with short texts, put into ``prompt_template`` as they are.
        prompt: column with complete prompts.
        report: column with whole reports, of which a section becomes the text.
        text_suffix: as ``text``, from the file beside each picture with this suffix.
        report_suffix: as ``report``, from the file beside each picture with this suffix. Exactly
            one of these five is given.
        prompt_sources: sections of a whole report, in order of preference; ``full report`` is the
            text of one without any header.
        headers: headers of this archive's own → the section that stands under each, such as
            ``{Beurteilung: impression, Befund: findings}``; in any capitals.
        prompt_template: with places ``{view}`` (if there is a view column) and ``{text}``; by
            default ``{view} view chest x-ray image, {text}`` for films with a view column and
            ``<modality> image, {text}`` otherwise.
        prompt_template_without_view: for rows without a view.
        clean_up: what to do to texts and reports.
        view: column with view positions.
        views: which views become samples; all known ones if not given. Names that only this
            archive uses are taken too.
        view_names: values of the view column → the views they mean, such as ``{p.a.: PA, seitlich:
            lateral}``, in any capitals; what is not named is read as it stands.
        missing_view: rows with an empty view: excluded, or prompted without one.
        patient: column with patient ids; without it every picture is its own patient.
        study: column with study ids.
        key: column with unique printable ids; made from the picture's path if not given.
        name_columns: columns with names, numbers and birth dates of persons (patients, readers):
            what a row holds there is replaced by ``___`` in its own text, and searched for in the
            finished folder, as if it stood in the picture's header. Family and given name in two
            columns are to be named one after the other.
        split: column with train / validate / test (usual spellings); otherwise by patient.
        split_shares: of train, validate and test, if there is no split column.
        split_seed: key of the hash, if there is no split column.
        labels: label columns: a list, or column → label name; values 1, 0, -1, yes, no, empty.
        label_column: column whose cell lists the labels that are present.
        label_separators: what separates them in a cell.
        empty_label: what an empty cell of ``label_column`` says of every label: unknown, or none of
            them present, where normal films have an empty one.
        label_values: which of those values become labels; all that occur if not given.
        allow_tags: DICOM keywords to read although they are not on the list of harmless ones.
        modality: of every sample.
        channels: 1 to keep pictures grey, 3 in colour.
        rendering: of DICOM files.
        encoding: of a text table, and of texts beside pictures.
        delimiter: of a text table; by its suffix if not given.
    """

    file: Path
    image: str = "image"
    image_root: Path | None = None
    text: str | None = None
    prompt: str | None = None
    report: str | None = None
    text_suffix: str | None = None
    report_suffix: str | None = None
    prompt_sources: tuple[str, ...] = _SOURCES
    headers: dict[str, str] = field(default_factory=dict)
    prompt_template: str | None = None
    prompt_template_without_view: str | None = None
    clean_up: CleanUp = CleanUp()  # noqa: RUF009 - frozen
    view: str | None = None
    views: tuple[str, ...] | None = None
    view_names: dict[str, str] = field(default_factory=dict)
    missing_view: Literal["exclude", "prompt-without-view"] = "exclude"
    patient: str | None = None
    study: str | None = None
    key: str | None = None
    name_columns: tuple[str, ...] = ()
    split: str | None = None
    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    labels: tuple[str, ...] | dict[str, str] = ()
    label_column: str | None = None
    label_separators: tuple[str, ...] = ("|", ";", ",")
    empty_label: Literal["unknown", "none"] = "unknown"
    label_values: tuple[str, ...] | None = None
    allow_tags: tuple[str, ...] = ()
    modality: str = "cxr"
    channels: Literal[1, 3] = 1
    rendering: Rendering = "clinical"
    encoding: str = "utf-8"
    delimiter: str | None = None

    def __post_init__(self) -> None:
        problems = [problem for problem, wrong in self._problems().items() if wrong]
        if problems:
            raise RequestError("; ".join(problems))
        self._check_sections()
        self._check_view_names()
        fields = ("view", "text") if self.view is not None else ("text",)
        reports.check_template(self.template(), fields=fields)
        reports.check_template(self.template_without_view(), fields=("text",))
        splits.check_shares(self.split_shares)

    def _problems(self) -> dict[str, bool]:
        given = [name for name in TEXTS if getattr(self, name) is not None]
        ready_made = self.prompt is not None
        templates = (self.prompt_template, self.prompt_template_without_view)
        suffixes = [one for one in (self.text_suffix, self.report_suffix) if one is not None]
        parquet = self.file.suffix == ".parquet"
        whole = self.report is not None or self.report_suffix is not None
        return {
            "give exactly one of 'text' (column with short texts), 'prompt' (column with complete "
            "prompts), 'report' (column with whole reports), 'text_suffix' and 'report_suffix' "
            f"(files beside the pictures); given: {', '.join(given) or 'none'}": len(given) != 1,
            "prompt templates do nothing to a complete 'prompt'": (
                ready_made and any(template is not None for template in templates)
            ),
            "'clean_up' does nothing to a complete 'prompt'": (
                ready_made and self.clean_up != CleanUp()
            ),
            "'prompt_sources' are sections of a 'report' or of 'report_suffix' files": (
                not whole and self.prompt_sources != _SOURCES
            ),
            "'prompt_sources' must not be empty": not self.prompt_sources,
            "'headers' must differ in more than capitals": (
                len({header.strip().casefold() for header in self.headers}) < len(self.headers)
            ),
            "'headers' are those of a 'report' or of 'report_suffix' files": (
                not whole and bool(self.headers)
            ),
            "a suffix starts with a dot, such as .txt": any(
                len(suffix) < 2 or suffix[0] != "." or "/" in suffix for suffix in suffixes
            ),
            "'name_columns' must not name a column of texts, views, splits or labels": any(
                name in self._not_of_persons() for name in self.name_columns
            ),
            "'views' needs a 'view' column": self.views is not None and self.view is None,
            "'view_names' needs a 'view' column": bool(self.view_names) and self.view is None,
            "'view_names' must differ in more than capitals": (
                len({views.folded(name) for name in self.view_names}) < len(self.view_names)
            ),
            "give 'labels' or 'label_column', not both": (
                bool(self.labels) and self.label_column is not None
            ),
            "'label_values' needs a 'label_column'": (
                self.label_values is not None and self.label_column is None
            ),
            "'empty_label' needs a 'label_column'": (
                self.empty_label != "unknown" and self.label_column is None
            ),
            "'label_values' must not be empty": self.label_values == (),
            "'label_separators' must not be empty": "" in self.label_separators,
            "'delimiter' does nothing to a Parquet file": parquet and self.delimiter is not None,
            "'encoding' does nothing to a Parquet file": (
                parquet and self.encoding != "utf-8" and not suffixes
            ),
            NO_DELIMITER: is_no_delimiter(self.delimiter),
        }

    def _not_of_persons(self) -> set[str | None]:
        """Columns whose cells reach the prepared folder."""
        texts = (self.text, self.prompt, self.report, self.view, self.split)
        return {*texts, self.label_column, *self.label_columns()} - {None}

    def _check_sections(self) -> None:
        hint = "; name headers of the archive's own in 'headers'"
        reports.check_sources(self.prompt_sources, hint=hint)
        for header, section in self.headers.items():
            if section not in reports.HEADED:
                raise RequestError(
                    f"headers: {header!r} stands for {section!r}, which is none of "
                    f"{', '.join(reports.HEADED)}{did_you_mean(section, reports.HEADED)}"
                )
            if not header.strip() or set(header) & set(":\n"):
                raise RequestError(f"headers: {header!r} must be words without a colon")

    def _check_view_names(self) -> None:
        own = {views.normalise_view(view) for view in self.views or ()}
        for name, meant in self.view_names.items():
            view = views.normalise_view(meant)
            known = self.modality != "cxr" or view in own or (view and views.is_known(view))
            if view is None or not known:
                raise RequestError(
                    f"view_names: {name!r} stands for {meant!r}, which is none of "
                    f"{', '.join(views.VIEWS)}{did_you_mean(meant, views.VIEWS)}"
                )

    def template(self) -> str:
        """The prompt template, given or default."""
        if self.prompt_template is not None:
            return self.prompt_template
        if self.modality == "cxr" and self.view is not None:
            return reports.TEMPLATE
        return self.template_without_view()

    def template_without_view(self) -> str:
        """The prompt template for rows without a view, given or default."""
        if self.prompt_template_without_view is not None:
            return self.prompt_template_without_view
        if self.view is None and self.prompt_template is not None:
            return self.prompt_template
        if self.modality == "cxr":
            return reports.TEMPLATE_WITHOUT_VIEW
        return self.modality.replace("{", "").replace("}", "") + " image, {text}"

    def label_columns(self) -> dict[str, str]:
        """Column → label name of the one-label-a-column kind."""
        if isinstance(self.labels, dict):
            return dict(self.labels)
        return {name: name for name in self.labels}

    def columns(self) -> dict[str, list[str]]:
        """Every column that must be there but ``image`` → the options that name it."""
        roles: dict[str, list[str]] = {}
        for role in (
            "text", "prompt", "report", "view", "patient", "study", "key", "split", "label_column",
        ):  # fmt: skip
            column = getattr(self, role)
            if column is not None:
                roles.setdefault(column, []).append(role)
        for column in self.label_columns():
            roles.setdefault(column, []).append("labels")
        for column in self.name_columns:
            roles.setdefault(column, []).append("name_columns")
        return roles
