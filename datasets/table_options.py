"""What each column of a hospital's table means: the options of ``table``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from arra_med.datasets import reports, splits
from arra_med.datasets.dicom import Rendering
from arra_med.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Columns and conversions of a table.

    Attributes:
        file: the ``.csv``, ``.tsv`` (also ``.gz``) or ``.parquet`` file.
        image: column with picture paths.
        image_root: folder they are relative to; the table's own if not given.
        text: column with report text, put into ``prompt_template``.
        prompt: column with complete prompts; exactly one of ``text`` and ``prompt`` is given.
        prompt_template: with places ``{view}`` (if there is a view column) and ``{text}``; by
            default ``{view} view chest x-ray image, {text}`` for films with a view column and
            ``<modality> image, {text}`` otherwise.
        prompt_template_without_view: for rows without a view.
        view: column with view positions.
        views: which views become samples; all if not given.
        missing_view: rows with an empty view: excluded, or prompted without one.
        patient: column with patient ids; without it every picture is its own patient.
        study: column with study ids.
        key: column with unique printable ids; made from the picture's path if not given.
        split: column with train / validate / test (usual spellings); otherwise by patient.
        split_shares: of train, validate and test, if there is no split column.
        split_seed: key of the hash, if there is no split column.
        labels: label columns: a list, or column → label name; values 1, 0, -1, yes, no, empty.
        label_column: column whose cell lists the labels that are present.
        label_separators: what separates them in a cell.
        label_values: which of those values become labels; all that occur if not given.
        modality: of every sample.
        channels: 1 to keep pictures grey, 3 in colour.
        rendering: of DICOM files.
        encoding: of a text table.
        delimiter: of a text table; by its suffix if not given.
    """

    file: Path
    image: str = "image"
    image_root: Path | None = None
    text: str | None = None
    prompt: str | None = None
    prompt_template: str | None = None
    prompt_template_without_view: str | None = None
    view: str | None = None
    views: tuple[str, ...] | None = None
    missing_view: Literal["exclude", "prompt-without-view"] = "exclude"
    patient: str | None = None
    study: str | None = None
    key: str | None = None
    split: str | None = None
    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    labels: tuple[str, ...] | dict[str, str] = ()
    label_column: str | None = None
    label_separators: tuple[str, ...] = ("|", ";", ",")
    label_values: tuple[str, ...] | None = None
    modality: str = "cxr"
    channels: Literal[1, 3] = 1
    rendering: Rendering = "clinical"
    encoding: str = "utf-8"
    delimiter: str | None = None

    def __post_init__(self) -> None:
        problems = [
            problem
            for problem, wrong in {
                "give exactly one of 'text' (report text) and 'prompt' (complete prompts)": (
                    (self.text is None) == (self.prompt is None)
                ),
                "prompt templates need 'text', they do nothing to 'prompt'": (
                    self.text is None
                    and (self.prompt_template or self.prompt_template_without_view) is not None
                ),
                "'views' needs a 'view' column": self.views is not None and self.view is None,
                "give 'labels' or 'label_column', not both": (
                    bool(self.labels) and self.label_column is not None
                ),
                "'label_values' needs a 'label_column'": (
                    self.label_values is not None and self.label_column is None
                ),
                "'label_values' must not be empty": self.label_values == (),
                "'label_separators' must not be empty": "" in self.label_separators,
                "'delimiter' must be one character": (
                    self.delimiter is not None and len(self.delimiter) != 1
                ),
            }.items()
            if wrong
        ]
        if problems:
            raise RequestError("; ".join(problems))
        fields = ("view", "text") if self.view is not None else ("text",)
        reports.check_template(self.template(), fields=fields)
        reports.check_template(self.template_without_view(), fields=("text",))
        splits.check_shares(self.split_shares)

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

    def columns(self) -> list[str]:
        """Every column that must be there."""
        single = (
            self.image, self.text, self.prompt, self.view, self.patient, self.study, self.key,
            self.split, self.label_column,
        )  # fmt: skip
        named = [name for name in single if name is not None]
        return list(dict.fromkeys([*named, *self.label_columns()]))
