"""``phantom-cxr``: drawn chest films with reports, the embedded default that needs no data.

The films are written as DICOM files in MIMIC-CXR's layout, with its reports and tables, and then
read by the real ``mimic-cxr`` adapter: nothing downstream can tell them from the original.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from arra_med.datasets.base import DatasetAdapter, Picture
from arra_med.datasets.cleanup import CleanUp
from arra_med.datasets.dicom import Rendering
from arra_med.datasets.mimic_cxr import MimicCxr, MimicCxrOptions
from arra_med.datasets.phantom.collection import PhantomOptions, draw_collection
from arra_med.datasets.phantom.cxr_files import study_files, tables
from arra_med.datasets.phantom.cxr_plan import plan_studies
from arra_med.datasets.phantom.findings import Anatomy
from arra_med.datasets.reports import SOURCES, TEMPLATE
from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample

KIND = "phantom-cxr"
DRAWING_VERSION = 1
"""Goes up whenever the same options draw other bytes; a folder of another version is refused."""
RICH_DRAWING_VERSION = 1
"""The same for films of rich anatomy."""


@dataclass(frozen=True, kw_only=True)
class PhantomCxrOptions(PhantomOptions):
    """What to draw, and how to read it.

    Attributes:
        anatomy: ``simple`` bodies with six findings, or ``rich`` ones with twelve.
        rendering: of the DICOM files, see ``mimic-cxr``.
        prompt_template: see ``mimic-cxr``; every phantom has a view.
        prompt_sources: see ``mimic-cxr``.
        clean_up: see ``mimic-cxr``.
    """

    anatomy: Anatomy = "simple"
    rendering: Rendering = "clinical"
    prompt_template: str = TEMPLATE
    prompt_sources: tuple[str, ...] = SOURCES
    clean_up: CleanUp = field(default_factory=CleanUp)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.mimic()

    def mimic(self) -> MimicCxrOptions:
        """The options with which the drawn folder is read.

        Raises:
            RequestError: if one of them is wrong.
        """
        return MimicCxrOptions(
            root=self.root,
            rendering=self.rendering,
            prompt_template=self.prompt_template,
            prompt_sources=self.prompt_sources,
            clean_up=self.clean_up,
        )


class PhantomCxr(DatasetAdapter):
    """Draws the collection if it is not there yet, then reads it as MIMIC-CXR.

    Raises:
        RequestError: if the folder holds something else, or a collection of other options.
    """

    Options = PhantomCxrOptions
    label_names = CHEXPERT_LABELS
    pseudonymous_tags = MimicCxr.pseudonymous_tags

    def __init__(self, options: PhantomCxrOptions) -> None:
        draw_films(options)
        self._mimic = MimicCxr(options.mimic())

    def num_items(self) -> int:
        """Pictures of the collection."""
        return self._mimic.num_items()

    def items(self) -> Iterator[Sample | Exclusion]:
        """Every picture, in the metadata table's order."""
        return self._mimic.items()

    def complete(self, sample: Sample, redact: Callable[[str], str]) -> Sample:
        """Make the prompt from the study's report."""
        return self._mimic.complete(sample, redact)

    def read(self, sample: Sample) -> Picture:
        """Decode a film."""
        return self._mimic.read(sample)


def draw_films(options: PhantomCxrOptions) -> None:
    """Draw what is missing of the films, reports and tables below ``options.root``."""
    rich = options.anatomy == "rich"
    draw_collection(
        options,
        kind=KIND,
        drawing_version=RICH_DRAWING_VERSION if rich else DRAWING_VERSION,
        # folders of simple films say nothing of it: there are some from before there was a choice
        extra_config={"anatomy": options.anatomy} if rich else None,
        plan=lambda: plan_studies(
            options.num_samples,
            seed=options.seed,
            shares=options.split_shares,
            anatomy=options.anatomy,
        ),
        draw=partial(study_files, size=options.size),
        tables=lambda studies: tables(studies, options.size),
    )
