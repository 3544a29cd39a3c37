"""``phantom-cxr``: drawn chest films with reports, the embedded default that needs no data.

The films are written as DICOM files in MIMIC-CXR's layout, with its reports and tables, and then
read by the real ``mimic-cxr`` adapter: nothing downstream can tell them from the original.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tqdm import tqdm

from arra_med.datasets.base import DatasetAdapter, Picture, RootOptions
from arra_med.datasets.dicom import Rendering
from arra_med.datasets.mimic_cxr import MimicCxr
from arra_med.datasets.phantom_cxr_files import study_files, tables
from arra_med.datasets.phantom_cxr_plan import plan_studies
from arra_med.datasets.splits import check_shares
from arra_med.errors import RequestError
from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample
from arra_med.store import PartWriter

logger = logging.getLogger(__name__)

KIND = "phantom-cxr"
DRAWING_VERSION = 1
"""Goes up whenever the same options draw other bytes; a folder of another version is refused."""

_STUDIES_PER_PART = 16


@dataclass(frozen=True, kw_only=True)
class PhantomCxrOptions(RootOptions):
    """What to draw, and how to read it.

    Attributes:
        root: folder that the collection is drawn into, unless it is already there.
        num_samples: pictures; a study has one or two, a patient one or two studies.
        seed: equal options draw equal bytes.
        size: side of the films in pixels.
        split_shares: of train, validate and test; patients stay together.
        rendering: of the DICOM files, see ``mimic-cxr``.
    """

    num_samples: int = 600
    seed: int = 0
    size: int = 320
    split_shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    rendering: Rendering = "clinical"

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.seed < 0 or not 16 <= self.size <= 4096:
            raise RequestError(
                "expected num_samples ≥ 1, seed ≥ 0 and size from 16 to 4096, got "
                f"num_samples={self.num_samples}, seed={self.seed}, size={self.size}"
            )
        check_shares(self.split_shares)


class PhantomCxr(DatasetAdapter):
    """Draws the collection if it is not there yet, then reads it as MIMIC-CXR.

    Raises:
        RequestError: if the folder holds something else, or a collection of other options.
    """

    Options = PhantomCxrOptions
    label_names = CHEXPERT_LABELS

    def __init__(self, options: PhantomCxrOptions) -> None:
        draw_collection(options)
        self._mimic = MimicCxr(MimicCxr.Options(root=options.root, rendering=options.rendering))

    def items(self) -> Iterator[Sample | Exclusion]:
        """Every picture, in the metadata table's order."""
        return self._mimic.items()

    def read(self, sample: Sample) -> Picture:
        """Decode a film."""
        return self._mimic.read(sample)


def draw_collection(options: PhantomCxrOptions) -> None:
    """Draw what is missing of a collection; an interrupted run resumes and gives equal bytes."""
    config = {k: v for k, v in asdict(options).items() if k not in ("root", "rendering")}
    config |= {"drawing_version": DRAWING_VERSION}
    with PartWriter(options.root, kind=KIND, config=config) as writer:
        if writer.finished:
            return
        studies = plan_studies(options.num_samples, seed=options.seed, shares=options.split_shares)
        parts = [
            studies[start : start + _STUDIES_PER_PART]
            for start in range(0, len(studies), _STUDIES_PER_PART)
        ]
        logger.info("drawing %d chest phantoms", options.num_samples)
        for index in tqdm(writer.missing(len(parts)), desc="draw chest phantoms", disable=None):
            files: dict[str, bytes] = {}
            for study in parts[index]:
                files |= study_files(study, options.size)
            counts = {
                "samples": sum(len(study.pictures) for study in parts[index]),
                "studies": len(parts[index]),
            }
            writer.write_part(index, files, counts)
        writer.finish(len(parts), tables(studies, options.size))
