"""Settings of generation and evaluation."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from arra_med.config import PluginConfig, plugins_field
from arra_med.registry import EXTRACTORS, IMAGE_TEXT_ENCODERS, JUDGES
from arra_med.settings.checks import not_negative, positive, sampling, text_table


@dataclass(frozen=True, kw_only=True)
class Diffusers:
    """A text-to-image pipeline of the diffusers library that draws instead of our model.

    Attributes:
        pipeline: its folder, which holds ``model_index.json``, or ``owner/name`` of one in the
            asset folder; nothing is downloaded.
        steps: of its scheduler.
    """

    pipeline: Path
    steps: int = 50

    def __post_init__(self) -> None:
        positive(self, "steps")


@dataclass(frozen=True, kw_only=True)
class Generation:
    """``generate``: prompts to pictures.

    Attributes:
        prompt: one prompt, in place of a prepared folder's; ``--prompt``.
        prompts: a ``.txt`` file with one prompt a line, or a ``.csv``, ``.tsv`` or ``.parquet``
            table, in place of a prepared folder's; ``--prompts``.
        key_column: of the table, with each prompt's key; without such a column prompts are
            numbered.
        prompt_column: of the table.
        encoding: of the file of prompts, unless it is Parquet.
        delimiter: of a text table of prompts; by default a tab for ``.tsv``, and otherwise a comma,
            or a semicolon where that gives the column of prompts.
        carry: further columns of the table that ``generations.parquet`` repeats (labels, say).
        split: which split's prompts, if they are a prepared folder's.
        limit: at most so many prompts, taken evenly; all if not given.
        images_per_prompt: pictures of each prompt; ``--num``.
        batch_size: pictures drawn together; ``auto`` takes as many as fit into the memory.
        part_size: pictures a part: an interrupted run resumes, and jobs share the work, in parts.
        guidance: classifier-free guidance g in u + g·(c - u); 1 for none.
        guidance_schedule: g at every step of a picture: ``constant``, or from 1 up to g in a
            ``linear`` or ``cosine`` ramp.
        temperature: of sampling; 0 picks the likeliest code.
        top_k: sample among the k likeliest codes; 0 for all.
        top_p: sample among the likeliest codes that together have this probability; 1 for all.
        size: height and width in pixels, for models that can draw several; by default the size
            the model was trained on.
        long_prompts: prompts longer than the model takes: ``refuse``, or ``truncate`` (counted);
            by default as in training.
        channels: 1 makes grey pictures of a colour model's; by default as the pictures that the
            prepared folder holds or that the model was trained on.
        image_tokenizer: folder of the image tokenizer to decode with, in place of the model's.
        precision: of the networks' weights; ``bf16`` and ``fp16`` are for GPUs. By default as they
            are stored, and on a GPU ``bf16`` for a published checkpoint.
        compile: compile the model's blocks for drawing, on a GPU: half a minute, then a fifth
            faster. By default from 256 pictures on.
        prompt_in_metadata: write the prompt's text into each PNG.
        dicom: write each picture as DICOM Secondary Capture too, marked as synthetic.
        swap_sides: draw only prompts that name exactly one side, with left and right exchanged and
            under their own keys, so that each differs from its counterpart by the prompt alone;
            what has no counterpart (right middle lobe, lingula) is left out. ``limit`` is applied
            before; not with ``prompt``. Evaluation sees by them whether the side is drawn.
        diffusers: draw with this pipeline instead of the export.
    """

    prompt: str | None = None
    prompts: Path | None = None
    key_column: str = "key"
    prompt_column: str = "prompt"
    encoding: str = "utf-8"
    delimiter: str | None = None
    carry: tuple[str, ...] = ()
    split: Literal["train", "validate", "test"] = "test"
    limit: int | None = None
    images_per_prompt: int = 1
    batch_size: int | Literal["auto"] = "auto"
    part_size: int = 128
    guidance: float = 4.0
    guidance_schedule: Literal["constant", "linear", "cosine"] = "constant"
    temperature: float = 1.0
    top_k: int = 2000
    top_p: float = 1.0
    size: tuple[int, int] | None = None
    long_prompts: Literal["refuse", "truncate"] | None = None
    channels: Literal[1, 3] | None = None
    image_tokenizer: Path | None = None
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    compile: bool | None = None
    prompt_in_metadata: bool = False
    dicom: bool = False
    swap_sides: bool = False
    diffusers: Diffusers | None = None

    def __post_init__(self) -> None:
        positive(self, "images_per_prompt", "part_size")
        if self.batch_size != "auto":
            positive(self, "batch_size")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size must be a height and a width in pixels, got {self.size}")
        sampling(self)
        if self.limit is not None:
            positive(self, "limit")
        if self.prompt is not None and self.prompts is not None:
            raise ValueError("give one of 'prompt' and 'prompts' (a file), not both")
        if self.carry and (self.prompts is None or self.prompts.suffix == ".txt"):
            raise ValueError("carry names columns of a table of prompts: give one, or remove it")
        if self.prompts is None and (self.encoding != "utf-8" or self.delimiter is not None):
            raise ValueError("encoding and delimiter are those of a file of 'prompts': give one")
        text_table(self, self.prompts)
        if self.diffusers is not None:
            self._check_diffusers()

    def _check_diffusers(self) -> None:
        """Refuse what only a model that draws code by code can do."""
        names = ("guidance_schedule", "temperature", "top_k", "top_p", "image_tokenizer")
        defaults = {field.name: field.default for field in fields(self)}
        changed = [name for name in names if getattr(self, name) != defaults[name]]
        if changed:
            raise ValueError(
                f"{', '.join(changed)}: a diffusers pipeline draws no codes, so this has no "
                "effect: remove it, or remove 'diffusers'"
            )


THIS_RUN = "this run"
"""What the report calls the run's own pictures, where others stand beside them."""


@dataclass(frozen=True, kw_only=True)
class OtherPictures:
    """Pictures of another generator, to be compared with the run's own.

    Attributes:
        name: what the report calls it.
        folder: what ``generate`` wrote, or any folder of pictures with a CSV table beside them.
        table: the CSV table of a plain folder: columns ``key`` and ``file``, and ``index`` where a
            prompt has several pictures; by default the folder's ``pictures.csv``.
        encoding: of that table.
        delimiter: of that table; by its suffix if not given.
        no_teacher: its generator was aligned to no teacher, where the pictures do not say so.
    """

    name: str
    folder: Path
    table: Path | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    no_teacher: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("name must not be empty: the report shows it")
        if self.name == THIS_RUN:
            raise ValueError(f"name is {THIS_RUN!r}, as the run's own pictures are called")
        text_table(self, self.table)


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """Search for copies of training pictures among the generated ones.

    Attributes:
        enabled: whether to search; the report says so if not.
        false_match_rate: share of real pictures of other patients that the thresholds let through.
        planted: training pictures that are copied in several ways as the positive control.
    """

    enabled: bool = True
    false_match_rate: float = 0.01
    planted: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.false_match_rate < 1:
            raise ValueError(f"false_match_rate must be in (0, 1), got {self.false_match_rate}")
        positive(self, "planted")


GoalMeasure = Literal[
    "auroc", "missed_per_100", "invented_per_100", "precision", "recall", "coverage",
    "kid_over_reference", "text_alignment", "copies_per_100", "view_agreement", "side_agreement",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What was to be reached, set before the pictures were seen.

    Attributes:
        measure: what is meant; of several judges or encoders the worst independent one counts.
        finding: one finding of the judge; all scored ones together if not given.
        at_least: smallest value that is good enough.
        at_most: largest value that is good enough.
    """

    measure: GoalMeasure
    finding: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give one of at_least and at_most")
        limit = self.at_least if self.at_least is not None else self.at_most
        most = 100 if self.measure.endswith("_per_100") else 1
        if self.measure != "kid_over_reference" and not 0 <= (limit or 0) <= most:
            raise ValueError(f"{self.measure} lies between 0 and {most}, got {limit}")
        if self.finding is not None and self.measure not in (
            "auroc", "missed_per_100", "invented_per_100"
        ):  # fmt: skip
            raise ValueError(f"{self.measure} is not measured by finding: remove 'finding'")


LEAST_RESAMPLES = 20
"""Enough for a trial of everything; intervals of so few are rough."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """``evaluate``: how the pictures are judged.

    Attributes:
        judges: classifiers that say what a picture shows; never the run's teacher. The report's
            first page is about the first independent one.
        extractors: encoders for distances between sets and the search for copies.
        image_text: encoders that say how well a picture fits its prompt; none by default.
        others: other generators' pictures of the same prompts, compared with the run's own.
        swapped: folder of pictures drawn with ``generation.swap_sides``, for the test of sides.
        memorisation: see :class:`Memorisation`.
        encoding: of the ``pictures.csv`` of the run's own pictures, if they are a plain folder.
        delimiter: of that table; a comma if not given.
        no_teacher: the run's generator was aligned to no teacher, where its pictures do not say so
            themselves, as those of a plain folder or of a pipeline. Without it no network counts as
            independent of such a generator.
        goals: see :class:`Goal`.
        labels: where a prompt's labels come from: ``dataset`` (its columns, and a labeller of the
            prompt's text for samples without any) or ``prompt`` (the labeller for all).
        force_fd: give Fréchet distances below two pictures a dimension too, marked as biased.
        chexgenbench: print CheXGenBench's published rows beside ours; needs the extractor
            ``teacher`` with ``rad-dino`` and that protocol's preprocessing.
        bootstrap: resamples for intervals, at least :data:`LEAST_RESAMPLES`.
        min_positives: findings with fewer positive samples are reported as "too few", not scored.
        batch_size: pictures a forward pass.
        workers: processes that decode pictures; by default one a core, none for a few pictures.
        panels: pictures shown side by side in the report.
    """

    judges: tuple[PluginConfig, ...] = plugins_field(JUDGES)
    extractors: tuple[PluginConfig, ...] = plugins_field(EXTRACTORS)
    image_text: tuple[PluginConfig, ...] = plugins_field(IMAGE_TEXT_ENCODERS)
    others: tuple[OtherPictures, ...] = ()
    swapped: Path | None = None
    memorisation: Memorisation = field(default_factory=Memorisation)
    encoding: str = "utf-8"
    delimiter: str | None = None
    no_teacher: bool = False
    goals: tuple[Goal, ...] = ()
    labels: Literal["dataset", "prompt"] = "dataset"
    force_fd: bool = False
    chexgenbench: bool = False
    bootstrap: int = 1000
    min_positives: int = 20
    batch_size: int = 64
    workers: int | None = None
    panels: int = 12

    def __post_init__(self) -> None:
        positive(self, "min_positives", "batch_size", "panels")
        if self.bootstrap < LEAST_RESAMPLES:
            raise ValueError(
                f"bootstrap must be at least {LEAST_RESAMPLES}, got {self.bootstrap}: fewer "
                "resamples give no interval (1000 do for what is published)"
            )
        if self.workers is not None:
            not_negative(self, "workers")
        text_table(self, None)
        if not self.judges or not self.extractors:
            raise ValueError("name at least one of 'judges' and one of 'extractors'")
        names = [other.name for other in self.others]
        if len(set(names)) < len(names):
            raise ValueError("two of 'others' have the same name")
