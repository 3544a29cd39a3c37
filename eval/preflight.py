"""``preflight``: are the picture files in order? Looked at before any network is loaded.

Every picture is decoded to its last pixel, once. Pictures are equal if their decoded pixels are,
whatever the file says around them; a grey picture equals a colour one with three equal channels.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
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

LIMIT = 0.01
"""Share of a folder's pictures that a kind of problem may affect before it counts as one."""
MOST_NAMED = 20
TRAIN = "train"

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
        problem: the error that reading it ended in, by class; ``""`` if it was read.
    """

    name: str
    size: tuple[int, int] | None = None
    mode: str = ""
    digest: str = ""
    constant: bool = False
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


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong with some pictures of a folder.

    Attributes:
        count: pictures it affects.
        words: a sentence without its full stop.
        always: one picture is too many.
    """

    count: int
    words: str
    always: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderCheck:
    """One folder's pictures and what they must be.

    Attributes:
        name: of the folder in results: ``generated``, another generator, ``prepared``.
        facts: of its pictures.
        size: side in pixels that they must have, if one is required.
        channels: that they must have, if a number is required.
        splits: picture → split, of a prepared folder.
        training: digest → key of the training picture that it must not equal.
    """

    name: str
    facts: Sequence[PictureFacts]
    size: int | None = None
    channels: int | None = None
    splits: Mapping[str, str] | None = None
    training: Mapping[str, str] | None = None

    def copies(self) -> list[tuple[str, str]]:
        """Pictures that equal a training picture, with its key; constant ones say nothing."""
        training = self.training or {}
        return sorted(
            (one.name, training[one.digest])
            for one in self.facts
            if one.digest in training and not one.constant
        )

    @cached_property
    def equal(self) -> list[list[str]]:
        """Groups of pictures that are equal; those that stand in several splits come first."""
        groups: dict[str, list[str]] = {}
        for one in self.facts:
            if one.digest:
                groups.setdefault(one.digest, []).append(one.name)
        several = [group for group in groups.values() if len(group) > 1]
        return sorted(several, key=lambda group: (len(self._splits_of(group)) < 2, group))

    @property
    def leaking(self) -> list[list[str]]:
        """Groups of equal pictures that stand in several splits; constant ones say nothing."""
        constant = {one.name for one in self.facts if one.constant}
        several = [group for group in self.equal if len(self._splits_of(group)) > 1]
        return [group for group in several if group[0] not in constant]

    def _splits_of(self, group: Sequence[str]) -> set[str]:
        splits = self.splits or {}
        return {splits[name] for name in group if name in splits}

    def problems(self) -> list[Problem]:
        """Everything that is wrong, with counts."""
        read = [one for one in self.facts if not one.problem]
        grey = "8-bit grey" if self.channels == 1 else "8-bit RGB"
        splits = sorted({split for group in self.leaking for split in self._splits_of(group)})
        missing = len(set(self.splits or ()) - {one.name for one in self.facts})
        other_size = sum(one.size != (self.size, self.size) for one in read)
        other_mode = sum(one.channels != self.channels for one in read)
        found = [
            _problem(len(self.facts) - len(read), "unreadable"),
            _problem(sum(one.constant for one in self.facts), "of one value throughout"),
            _problem(other_size if self.size else 0, f"not of {self.size} × {self.size} px"),
            _problem(other_mode if self.channels else 0, f"not {grey}"),
            _problem(missing, "missing, though the table of samples names them", always=True),
            _problem(
                sum(len(group) - 1 for group in self.equal),
                "the same as another one, pixel for pixel",
            ),
            _problem(
                sum(map(len, self.leaking)),
                f"in several splits ({', '.join(splits)}), pixel for pixel",
                always=True,
            ),
            _problem(
                len(self.copies()), "equal to a training picture, pixel for pixel", always=True
            ),
        ]
        return [problem for problem in found if problem.count]

    def failures(self, limit: float = LIMIT) -> list[Problem]:
        """Problems that affect more than ``limit`` (a share) of the pictures."""
        most = limit * len(self.facts)
        return [one for one in self.problems() if one.always or one.count > most]

    def to_json(self) -> dict[str, Any]:
        """The folder's entry in the results file's section ``preflight``."""
        unreadable = [one for one in self.facts if one.problem]
        constant = [one.name for one in self.facts if one.constant]
        read = [one for one in self.facts if one.size is not None]
        sizes = Counter(f"{one.size[0]} × {one.size[1]}" for one in read if one.size)
        return {
            "name": self.name,
            "pictures": len(self.facts),
            "unreadable": [
                {"file": one.name, "reason": one.problem} for one in unreadable[:MOST_NAMED]
            ],
            "num_unreadable": len(unreadable),
            "sizes": dict(sorted(sizes.items())),
            "modes": dict(sorted(Counter(one.mode for one in read).items())),
            "num_constant": len(constant),
            "constant": constant[:MOST_NAMED],
            "num_duplicates": len(self.equal),
            "duplicates": [group[:MOST_NAMED] for group in self.equal[:MOST_NAMED]],
            "problems": [problem.words for problem in self.problems()],
        }


def check_prepared(
    prepared: PreparedFolder, facts: Sequence[PictureFacts], *, name: str = "prepared"
) -> FolderCheck:
    """A prepared folder must hold pictures of one kind, none of them in two splits."""
    splits = dict(zip(prepared.keys, prepared.samples["split"].to_pylist(), strict=True))
    return FolderCheck(
        name=name, facts=facts, size=prepared.image_size, channels=prepared.channels, splits=splits
    )


def check_offered(
    name: str,
    facts: Sequence[PictureFacts],
    prepared: PreparedFolder | None,
    real: Sequence[PictureFacts] | None,
    *,
    any_kind: bool = False,
) -> FolderCheck:
    """Pictures of a generator must be like the real ones, and none equal to a training picture.

    Args:
        name: of the generator.
        facts: of its pictures.
        prepared: the real ones, if they are known.
        real: facts of ``prepared``, if its pictures were looked at.
        any_kind: any size and mode will do, because pictures are brought to the real ones'.
    """
    training = None
    if prepared is not None and real is not None:
        splits = zip(prepared.keys, prepared.samples["split"].to_pylist(), strict=True)
        train = {key for key, split in splits if split == TRAIN}
        training = {one.digest: one.name for one in reversed(real) if one.digest and
                    one.name in train}  # fmt: skip
    fixed = prepared is not None and not any_kind
    return FolderCheck(
        name=name,
        facts=facts,
        size=prepared.image_size if prepared is not None and fixed else None,
        channels=prepared.channels if prepared is not None and fixed else None,
        training=training,
    )


def preflight_section(checks: Sequence[FolderCheck]) -> dict[str, Any]:
    """The results file's section ``preflight``.

    Args:
        checks: the run's own pictures first; copies of training pictures are told of these.
    """
    section: dict[str, Any] = {
        "folders": [check.to_json() for check in checks],
        "copies_of_training": None,
    }
    if not checks or checks[0].training is None:
        note = "the training pictures were not looked at"
        return section | {"copies_of_training_note": note}
    pairs = checks[0].copies()
    named = [list(pair) for pair in pairs[:MOST_NAMED]]
    return section | {"copies_of_training": {"num": len(pairs), "pairs": named}}


def _problem(count: int, words: str, *, always: bool = False) -> Problem:
    said = f"{count:,} pictures are" if count != 1 else "1 picture is"
    return Problem(count=count, words=f"{said} {words}", always=always)


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
