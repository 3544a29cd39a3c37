"""What the drawn collections share: options, and a folder drawn once, in parts, resumably."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from arra_med.datasets.base import RootOptions
from arra_med.datasets.splits import check_shares
from arra_med.errors import RequestError
from arra_med.store import PartWriter

logger = logging.getLogger(__name__)

Unit = TypeVar("Unit")

_UNITS_PER_PART = 16


@dataclass(frozen=True, kw_only=True)
class PhantomOptions(RootOptions):
    """What to draw.

    Attributes:
        root: folder that the collection is drawn into, unless it is already there.
        num_samples: pictures; a patient has one or more.
        seed: equal options draw equal bytes.
        size: side of the pictures in pixels.
        split_shares: of train, validate and test; patients stay together.
    """

    num_samples: int = 600
    seed: int = 0
    size: int = 320
    split_shares: tuple[float, float, float] = (0.7, 0.1, 0.2)

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.seed < 0 or not 16 <= self.size <= 4096:
            raise RequestError(
                "expected num_samples ≥ 1, seed ≥ 0 and size from 16 to 4096, got "
                f"num_samples={self.num_samples}, seed={self.seed}, size={self.size}"
            )
        check_shares(self.split_shares)


def draw_collection(
    options: PhantomOptions,
    *,
    kind: str,
    drawing_version: int,
    plan: Callable[[], Sequence[Unit]],
    draw: Callable[[Unit], Mapping[str, bytes]],
    tables: Callable[[Sequence[Unit]], Mapping[str, bytes]],
) -> None:
    """Draw what is missing of a collection; an interrupted run resumes and gives equal bytes.

    Args:
        options: what to draw and where.
        kind: of the folder, in its manifest.
        drawing_version: a folder of another one is refused.
        plan: all units (studies, pictures) of the collection, in order.
        draw: files of one unit, by path.
        tables: files about the whole collection, by path.

    Raises:
        RequestError: if the folder holds something else, or a collection of other options.
    """
    config = {
        "num_samples": options.num_samples,
        "seed": options.seed,
        "size": options.size,
        "split_shares": options.split_shares,
        "drawing_version": drawing_version,
    }
    with PartWriter(options.root, kind=kind, config=config) as writer:
        if writer.finished:
            return
        units = plan()
        num_parts = -(-len(units) // _UNITS_PER_PART)
        logger.info("drawing %d pictures (%s)", options.num_samples, kind)
        for index in tqdm(writer.missing(num_parts), desc=f"draw {kind}", disable=None):
            files: dict[str, bytes] = {}
            for unit in units[index * _UNITS_PER_PART : (index + 1) * _UNITS_PER_PART]:
                files |= draw(unit)
            writer.write_part(index, files, {"files": len(files)})
        writer.finish(num_parts, tables(units))
