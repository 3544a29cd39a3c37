"""What a look at a picture file tells: can it be read, how large, of which kind, equal to which?

Every picture is decoded to its last pixel, once. Pictures are equal if their decoded pixels are,
whatever the file says around them; a grey picture equals a colour one with three equal channels.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from PIL import Image

from arra_med.datasets.paths import walk_files
from arra_med.datasets.pictures import IMAGE_SUFFIXES
from arra_med.errors import RequestError
from arra_med.eval.plain_folder import OfferedPictures
from arra_med.generation.folder import GeneratedFolder
from arra_med.parallel import available_cores, map_in_order
from arra_med.progress import Progress
from arra_med.store import PreparedFolder

_FEW = 2000  # pictures below which processes take longer to start than they save
_AT_ONCE = 64  # files a process looks at before it answers
_AHEAD = 4
_CHANNELS = {"L": 1, "RGB": 3}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What one look at a picture tells.

    Attributes:
        name: key and index, or path in its folder.
        size: width and height in pixels; ``None`` if it cannot be read.
        mode: Pillow's name of its pixels' kind (``L`` is 8-bit grey).
        digest: of its decoded pixels; equal for equal pictures, ``""`` if it cannot be read.
        constant: every pixel has the same value.
        highest: value of any pixel.
        problem: the error that reading it ended in, by class; ``""`` if it was read.
    """

    name: str
    size: tuple[int, int] | None = None
    mode: str = ""
    digest: str = ""
    constant: bool = False
    highest: float = 0.0
    problem: str = ""

    @property
    def channels(self) -> int | None:
        """1 for 8-bit grey, 3 for RGB, ``None`` for any other mode."""
        return _CHANNELS.get(self.mode)


def look(name: str, data: bytes) -> PictureFacts:
    """Decode one picture."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            ends = picture.getextrema()
            constant = all(low == high for low, high in np.reshape(ends, (-1, 2)))
            return PictureFacts(
                name=name,
                size=picture.size,
                mode=picture.mode,
                digest=_digest(picture),
                constant=constant,
                highest=float(np.max(ends)),
            )
    except Exception as error:  # noqa: BLE001 - codecs raise anything; the picture is counted
        return PictureFacts(name=name, problem=type(error).__name__)


def prepared_facts(prepared: PreparedFolder, *, workers: int | None = None) -> list[PictureFacts]:
    """Every picture of a prepared folder by key, streamed from its image parts.

    Args:
        prepared: the folder.
        workers: processes that decode; by default one a core, none for few pictures.

    Raises:
        RequestError: if an image part is damaged.
    """
    chunks = [
        (part, chunk)
        for part in range(len(prepared.image_parts))
        for chunk in _chunks(prepared, part)
    ]
    work = partial(_look_at_chunk, prepared)
    return _in_processes(work, chunks, len(prepared.keys), workers)


def file_facts(
    files: Sequence[tuple[str, Path]], *, workers: int | None = None
) -> list[PictureFacts]:
    """Pictures in files, as ``(name, path)`` pairs; see :func:`prepared_facts`."""
    pieces = [files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE)]
    return _in_processes(_look_at_files, pieces, len(files), workers)


def offered_facts(
    pictures: GeneratedFolder | OfferedPictures, *, workers: int | None = None
) -> list[PictureFacts]:
    """Pictures of a generator, as they are on disk, in the order of its rows."""
    files = [(picture_name(row), pictures.folder / str(row["file"])) for row in pictures.rows]
    return file_facts(files, workers=workers)


def plain_facts(folder: Path, *, workers: int | None = None) -> list[PictureFacts]:
    """Every picture file below a folder, by its path in it.

    Raises:
        RequestError: if there is none.
    """
    names = [name for name in walk_files(folder) if name.lower().endswith(IMAGE_SUFFIXES)]
    if not names:
        raise RequestError(
            f"{folder} holds no picture file ({', '.join(IMAGE_SUFFIXES)}) and is no folder of ours"
        )
    return file_facts([(name, folder / name) for name in names], workers=workers)


def picture_name(row: Mapping[str, Any]) -> str:
    """``key-index`` of a generated picture."""
    return f"{row['key']}-{row['index']}"


def _digest(picture: Image.Image) -> str:
    if picture.mode not in _CHANNELS and not picture.mode.startswith(("I", "F")):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    pixels = np.asarray(picture)
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    sum_ = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    sum_.update(np.ascontiguousarray(pixels).data)
    return sum_.hexdigest()


def _chunks(prepared: PreparedFolder, part: int) -> range:
    with _damage_said(prepared, part):
        return range(prepared.num_chunks(part))


def _look_at_chunk(prepared: PreparedFolder, place: tuple[int, int]) -> list[PictureFacts]:
    with _damage_said(prepared, place[0]):
        pictures = prepared.read_chunk(*place)
    return [look(key, png) for key, png in pictures]


@contextmanager
def _damage_said(prepared: PreparedFolder, part: int) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise RequestError(
            f"{prepared.image_parts[part]} is damaged: 'arra-med info {prepared.folder} --verify' "
            "names what changed; delete the folder and ingest again"
        ) from error


def _look_at_files(files: Sequence[tuple[str, Path]]) -> list[PictureFacts]:
    return [_look_at_file(name, path) for name, path in files]


def _look_at_file(name: str, path: Path) -> PictureFacts:
    try:
        data = path.read_bytes()
    except OSError as error:
        return PictureFacts(name=name, problem=type(error).__name__)
    return look(name, data)


def _in_processes(
    work: Callable[[T], list[PictureFacts]], items: Sequence[T], count: int, workers: int | None
) -> list[PictureFacts]:
    if workers is None:
        workers = available_cores() if count >= _FEW else 0
    facts: list[PictureFacts] = []
    with Progress(count, unit="image", label="preflight") as progress:
        for some in map_in_order(work, items, workers=workers, ahead=_AHEAD):
            facts += some
            progress.update(len(some))
    return facts
