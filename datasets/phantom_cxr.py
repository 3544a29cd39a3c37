"""``phantom-cxr``: drawn chest films with reports, the embedded default that needs no data.

The films are written as DICOM files in MIMIC-CXR's layout, with its reports and tables, and then
read by the real ``mimic-cxr`` adapter: nothing downstream can tell them from the original.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from arra_med.datasets.base import DatasetAdapter, Picture
from arra_med.datasets.dicom import Rendering
from arra_med.datasets.mimic_cxr import MimicCxr
from arra_med.datasets.phantom_base import PhantomOptions, draw_collection
from arra_med.datasets.phantom_cxr_files import study_files, tables
from arra_med.datasets.phantom_cxr_plan import plan_studies
from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample

KIND = "phantom-cxr"
DRAWING_VERSION = 1
"""Goes up whenever the same options draw other bytes; a folder of another version is refused."""


@dataclass(frozen=True, kw_only=True)
class PhantomCxrOptions(PhantomOptions):
    """What to draw, and how to read it.

    Attributes:
        rendering: of the DICOM files, see ``mimic-cxr``.
    """

    rendering: Rendering = "clinical"


class PhantomCxr(DatasetAdapter):
    """Draws the collection if it is not there yet, then reads it as MIMIC-CXR.

    Raises:
        RequestError: if the folder holds something else, or a collection of other options.
    """

    Options = PhantomCxrOptions
    label_names = CHEXPERT_LABELS

    def __init__(self, options: PhantomCxrOptions) -> None:
        draw_films(options)
        self._mimic = MimicCxr(MimicCxr.Options(root=options.root, rendering=options.rendering))

    def items(self) -> Iterator[Sample | Exclusion]:
        """Every picture, in the metadata table's order."""
        return self._mimic.items()

    def read(self, sample: Sample) -> Picture:
        """Decode a film."""
        return self._mimic.read(sample)


def draw_films(options: PhantomCxrOptions) -> None:
    """Draw what is missing of the films, reports and tables below ``options.root``."""
    draw_collection(
        options,
        kind=KIND,
        drawing_version=DRAWING_VERSION,
        plan=lambda: plan_studies(
            options.num_samples, seed=options.seed, shares=options.split_shares
        ),
        draw=lambda study: study_files(study, options.size),
        tables=lambda studies: tables(studies, options.size),
    )
