"""What the drawn collections share: options, and a folder drawn once, in parts, resumably.

Parts are drawn by several processes; the bytes do not depend on how many. Several commands (the
shards of a Slurm array) may ask for the same folder at once: the first draws, the others wait.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from arra_med.datasets.base import RootOptions
from arra_med.datasets.splits import check_shares
from arra_med.errors import RequestError
from arra_med.parallel import available_cores, map_in_order
from arra_med.progress import Progress
from arra_med.store import MANIFEST, PARTIAL, PartWriter, waiting_lock

logger = logging.getLogger(__name__)

Unit = TypeVar("Unit")
Files = Mapping[str, bytes]

_UNITS_PER_PART = 16
_FEWEST_PARTS = 8  # fewer are drawn sooner than worker processes start
_AHEAD = 2  # parts a worker that are drawn or wait to be written; bounds the memory


@dataclass(frozen=True, kw_only=True)
class PhantomOptions(RootOptions):
    """What to draw.

    Attributes:
        root: folder that the collection is drawn into, unless it is already there.
        num_samples: pictures; a patient has one or more.
        seed: equal options draw equal bytes.
        size: side of the pictures in pixels.
        split_shares: of train, validate and test; patients stay together.
        workers: processes that draw, by default one a core; 0 for none beside the main one. No
            byte depends on it.
    """

    num_samples: int = 600
    seed: int = 0
    size: int = 320
    split_shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    workers: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.seed < 0 or not 16 <= self.size <= 4096:
            raise RequestError(
                "expected num_samples ≥ 1, seed ≥ 0 and size from 16 to 4096, got "
                f"num_samples={self.num_samples}, seed={self.seed}, size={self.size}"
            )
        if self.workers is not None and self.workers < 0:
            raise RequestError(f"workers must not be negative, got {self.workers}")
        check_shares(self.split_shares)


def draw_collection(
    options: PhantomOptions,
    *,
    kind: str,
    drawing_version: int,
    extra_config: Mapping[str, Any] | None = None,
    plan: Callable[[], Sequence[Unit]],
    draw: Callable[[Unit], Files],
    tables: Callable[[Sequence[Unit]], Files],
) -> None:
    """Draw what is missing of a collection; an interrupted run resumes and gives equal bytes.

    Args:
        options: what to draw and where.
        kind: of the folder, in its manifest.
        drawing_version: a folder of another one is refused.
        extra_config: further options that decide the bytes; a folder of others is refused.
        plan: all units (studies, pictures) of the collection, in order.
        draw: files of one unit, by path; is pickled to worker processes.
        tables: files about the whole collection, by path.

    Raises:
        RequestError: if the folder holds something else, or a collection of other options.
        WorkError: if a worker process dies.
    """
    config = {
        "num_samples": options.num_samples,
        "seed": options.seed,
        "size": options.size,
        "split_shares": options.split_shares,
        "drawing_version": drawing_version,
        **(extra_config or {}),
    }
    with (
        _my_turn(options.root),
        PartWriter(options.root, kind=kind, config=config) as writer,
    ):
        if writer.finished:
            return
        units = plan()
        num_parts = -(-len(units) // _UNITS_PER_PART)
        missing = writer.missing(num_parts)
        parts = [
            units[index * _UNITS_PER_PART : (index + 1) * _UNITS_PER_PART] for index in missing
        ]
        workers = available_cores() if options.workers is None else options.workers
        if len(parts) < _FEWEST_PARTS:
            workers = 0
        logger.info("drawing %d pictures (%s)", options.num_samples, kind)
        with Progress(sum(map(len, parts)), unit="picture", label=f"draw {kind}") as progress:
            drawn = map_in_order(
                functools.partial(_draw_part, draw), parts, workers=workers, ahead=_AHEAD
            )
            for index, part, files in zip(missing, parts, drawn, strict=True):
                writer.write_part(index, files, {"files": len(files)})
                progress.update(len(part))
        writer.finish(num_parts, tables(units))


@contextlib.contextmanager
def _my_turn(folder: Path) -> Iterator[None]:
    """Wait while another process draws into the folder, on this machine or another."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if MANIFEST in names or (names and PARTIAL not in names):
        yield  # nothing to draw, or a folder that is not ours: the writer says so
        return
    with waiting_lock(folder / PARTIAL / "draw.lock", f"is drawing {folder}"):
        yield


def _draw_part(draw: Callable[[Any], Files], units: Sequence[Any]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for unit in units:
        files |= draw(unit)
    return files
