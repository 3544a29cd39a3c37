"""Pictures offered for evaluation: a generated folder, or any folder of pictures with a table.

The table of a plain folder is ``pictures.csv`` (or another ``.csv``, ``.tsv`` or ``.parquet``) with
the columns ``key`` (the sample whose prompt was drawn) and ``file`` (relative to the folder), and,
where there are several pictures of a prompt, ``index`` (0, 1, …); ``prompt``, if it is there, must
be the sample's. Pictures of any size and mode are brought to the real ones' when they are read; how
is said in words.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from PIL import Image

from arra_med.datasets.paths import is_file, relative_source
from arra_med.datasets.pictures import FORMATS, decode_image
from arra_med.datasets.tables import Row, read_table
from arra_med.errors import RequestError
from arra_med.generation.folder import GeneratedFolder
from arra_med.images import Crop, encode_png, fit
from arra_med.settings import OtherPictures
from arra_med.store import (
    MANIFEST,
    PARTIAL,
    PreparedFolder,
    canonical_json,
    content_hash,
    sha256_bytes,
    sha256_file,
)

TABLE = "pictures.csv"
PLAIN = "plain folder"
Kind = Literal["run", "plain folder"]

_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_MOST_NAMED = 3
_HOW = {
    "center-crop": "shorter side to size, middle kept",
    "pad": "longer side to size, black around",
    "squash": "both sides to size",
}

_Header = tuple[tuple[int, int], str]  # width and height, and Pillow's mode


@dataclass(frozen=True, eq=False, kw_only=True)
class OfferedPictures:
    """Pictures of one generator, as alike to the real ones as evaluation needs them.

    Attributes:
        name: of the generator.
        kind: ``run`` if ``arra-med generate`` wrote the folder.
        folder: where they are.
        rows: ``key``, ``index``, ``prompt`` and ``file`` of each, and what else is known.
        manifest: of the folder; for a plain folder one in its place. ``config.model`` says what
            drew the pictures; a plain folder does not say which teacher there was, if any.
        resized: how pictures are changed when they are read, in words; ``None`` if they are not.
    """

    name: str
    kind: Kind
    folder: Path
    rows: list[dict[str, Any]]
    manifest: dict[str, Any]
    resized: str | None
    _size: int
    _channels: Literal[1, 3]
    _crop: Crop | None

    @property
    def unchanged(self) -> bool:
        """Whether :meth:`png` gives the files as they are."""
        return self.kind == "run" and self.resized is None

    def raw(self, row: Mapping[str, Any]) -> bytes:
        """The file of one row as it is."""
        return (self.folder / str(row["file"])).read_bytes()

    def png(self, row: Mapping[str, Any]) -> bytes:
        """PNG bytes of one row, brought to the real pictures' size and channels if need be.

        Raises:
            UnreadableImage: if it has to be changed and cannot be read.
        """
        data = self.raw(row)
        if self.unchanged:
            return data
        pixels = decode_image(data, channels=self._channels)
        if pixels.shape[:2] != (self._size, self._size):
            pixels = fit(pixels, self._size, self._crop or "squash")
        return encode_png(pixels)

    def content_hash(self) -> str:
        """One hash for the table and every picture; reads all files of a plain folder."""
        if self.kind == "run":
            return content_hash(self.folder, "generated")
        pictures = [
            [row["key"], row["index"], sha256_file(self.folder / row["file"])] for row in self.rows
        ]
        return sha256_bytes(canonical_json(pictures).encode())


def open_pictures(
    folder: Path,
    prepared: PreparedFolder,
    *,
    name: str = "generated",
    table: Path | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> OfferedPictures:
    """A finished generated folder, or a plain folder of pictures with its table.

    A generated folder whose pictures all have another size or other channels than the real ones
    is brought to theirs; one in which only some have is left as it is.

    Args:
        folder: where the pictures are.
        prepared: whose prompts were drawn.
        name: of the generator, for messages and the report.
        table: of a plain folder, by default its ``pictures.csv``.
        encoding: of that table.
        delimiter: of that table; by its suffix if not given.

    Raises:
        FileNotFoundError: if there is neither, or the table is not there.
        RequestError: if the table and the pictures do not agree, naming every kind of mistake, or
            pictures that are not square cannot be brought to the real ones' shape.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the pictures of {name!r}: no folder at {folder}: run 'arra-med generate' first, or "
            "correct the path"
        )
    if (folder / MANIFEST).is_file():
        given = {"table": table, "encoding": encoding != "utf-8", "delimiter": delimiter}
        if any(given.values()):
            named = " and ".join(repr(option) for option, value in given.items() if value)
            raise RequestError(
                f"{folder} holds what 'arra-med generate' wrote and needs no table: remove {named}"
            )
        return _of_run(GeneratedFolder(folder), prepared, name)
    path = table or folder / TABLE
    if (folder / PARTIAL).is_dir() and not path.is_file():
        GeneratedFolder(folder)  # says that it is not finished
    if not path.is_file():
        raise FileNotFoundError(
            f"the pictures of {name!r}: {folder} holds neither what 'arra-med generate' writes (no "
            f"{MANIFEST}) nor a table of its pictures (no {path}); the table needs the columns "
            "'key' and 'file'"
        )
    if not path.name.endswith(_SUFFIXES):
        raise RequestError(f"{path}: expected a table ({', '.join(_SUFFIXES)})")
    header, _ = read_table(path, encoding=encoding, delimiter=delimiter)
    columns = ["key", "file", *(column for column in ("index", "prompt") if column in header)]
    _, lines = read_table(path, columns=columns, encoding=encoding, delimiter=delimiter)
    rows = _checked_rows(lines, folder, path, prepared, name)
    headers = [_header(folder / row["file"]) for row in rows]
    crop = _crop(prepared)
    oblong = sum(header is not None and header[0][0] != header[0][1] for header in headers)
    if oblong and crop is None:
        raise RequestError(
            f"the pictures of {name!r}: {oblong} of {len(rows)} are not square, and "
            f"{prepared.folder} does not say how the real ones were made so: make them square first"
        )
    return OfferedPictures(
        name=name,
        kind="plain folder",
        folder=folder,
        rows=rows,
        manifest={
            "kind": PLAIN,
            "config": {"model": {"name": name, "kind": PLAIN}},
            "counts": {"images": len(rows)},
        },
        resized=_words(headers, prepared, crop),
        _size=prepared.image_size,
        _channels=_channels(prepared),
        _crop=crop,
    )


def open_other(chosen: OtherPictures, prepared: PreparedFolder) -> OfferedPictures:
    """The pictures of one of ``evaluation.others``; see :func:`open_pictures`."""
    return open_pictures(
        chosen.folder,
        prepared,
        name=chosen.name,
        table=chosen.table,
        encoding=chosen.encoding,
        delimiter=chosen.delimiter,
    )


def _of_run(generated: GeneratedFolder, prepared: PreparedFolder, name: str) -> OfferedPictures:
    headers = [_header(generated.folder / row["file"]) for row in generated.rows]
    alike = len(set(headers)) == 1 and headers[0] is not None
    crop = _crop(prepared)
    return OfferedPictures(
        name=name,
        kind="run",
        folder=generated.folder,
        rows=generated.rows,
        manifest=generated.manifest,
        resized=_words(headers, prepared, crop) if alike else None,
        _size=prepared.image_size,
        _channels=_channels(prepared),
        _crop=crop,
    )


def _crop(prepared: PreparedFolder) -> Crop | None:
    """How the real pictures were made square; ``None`` if the folder does not say."""
    crop = prepared.manifest["config"].get("crop")
    return cast("Crop", crop) if crop in _HOW else None


def _channels(prepared: PreparedFolder) -> Literal[1, 3]:
    return 1 if prepared.channels == 1 else 3


def _header(path: Path) -> _Header | None:
    """Size and mode without decoding a pixel; ``None`` where that cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return picture.size, picture.mode
    except Exception:  # noqa: BLE001 - codecs raise anything; whoever reads the picture counts it
        return None


def _words(
    headers: Sequence[_Header | None], prepared: PreparedFolder, crop: Crop | None
) -> str | None:
    """What :meth:`OfferedPictures.png` changes; ``None`` if nothing."""
    known = [header for header in headers if header is not None]
    wanted = (prepared.image_size, prepared.image_size)
    sizes = Counter(size for size, _ in known if size != wanted)
    parts = []
    if sizes:
        found = ", ".join(f"{n} of {w} × {h} px" for (w, h), n in sorted(sizes.items())[:5])
        more = f" and {len(sizes) - 5} sizes more" if len(sizes) > 5 else ""
        shape = ""
        if crop is not None and any(w != h for w, h in sizes):
            shape = f"; {_HOW[crop]}, as the real pictures were made square"
        parts.append(
            f"{found}{more} brought to {wanted[0]} × {wanted[1]} px (anti-aliased bicubic{shape})"
        )
    deep = sum(mode.startswith(("I", "F")) for _, mode in known)
    if deep:
        parts.append(f"{deep} of more than 8 bits stretched from their smallest to largest value")
    colour = sum(mode not in ("1", "L") and not mode.startswith(("I", "F")) for _, mode in known)
    if prepared.channels == 1 and colour:
        parts.append(f"{colour} in colour made grey (ITU-R 601 luma)")
    if prepared.channels == 3 and len(known) > colour:
        parts.append(f"{len(known) - colour} grey ones given three equal channels")
    return f"of {len(headers)} pictures, {'; '.join(parts)}" if parts else None


def _checked_rows(
    lines: Iterable[tuple[int, Row | None]],
    folder: Path,
    path: Path,
    prepared: PreparedFolder,
    name: str,
) -> list[dict[str, Any]]:
    prompts = dict(zip(prepared.keys, prepared.samples["prompt"].to_pylist(), strict=True))
    mistakes: dict[str, list[int]] = {}
    rows: list[dict[str, Any]] = []
    numbers = []
    for number, line in lines:
        row, mistake = _row(folder, line, prompts)
        if row is None:
            mistakes.setdefault(mistake, []).append(number)
        else:
            rows.append(row)
            numbers.append(number)
    for words, identities in (
        ("stand there twice (give a prompt's pictures different 'index')",
         [(row["key"], row["index"]) for row in rows]),
        ("name a file that another line names", [row["file"] for row in rows]),
    ):  # fmt: skip
        twice = _repeated(identities)
        if twice:
            mistakes[words] = [numbers[place] for place in twice]
    if mistakes:
        raise RequestError(
            f"{path}, the table of {name!r}: "
            + "; ".join(_said(words, found) for words, found in mistakes.items())
        )
    if not rows:
        raise RequestError(f"{path}, the table of {name!r}, names no picture")
    return rows


def _row(
    folder: Path, line: Row | None, prompts: Mapping[str, str]
) -> tuple[dict[str, Any] | None, str]:
    """A row of the table, or what is wrong with its line."""
    if line is None:
        return None, "have too few or too many fields"
    key, index = line["key"], line.get("index", "0")
    if key not in prompts:
        return None, "have a key that is not in the prepared folder"
    if not index.isdecimal():
        return None, "have an 'index' that is not a whole number from 0"
    if line.get("prompt", prompts[key]).strip() != prompts[key].strip():
        return None, "have another prompt than the prepared folder"
    source = relative_source(folder, line["file"])
    if source is None:
        return None, "name no file, or one outside the folder"
    if not is_file(folder / source):
        return None, "name a file that is not there"
    return {"key": key, "index": int(index), "prompt": prompts[key], "file": source}, ""


def _repeated(items: Iterable[Any]) -> list[int]:
    """Places of items that stood before."""
    seen: set[str] = set()
    places = []
    for place, item in enumerate(items):
        text = json.dumps(item)
        if text in seen:
            places.append(place)
        seen.add(text)
    return places


def _said(words: str, numbers: Sequence[int]) -> str:
    some = ", ".join(str(number) for number in numbers[:_MOST_NAMED])
    more = ", …" if len(numbers) > _MOST_NAMED else ""
    lines = f"{len(numbers)} lines" if len(numbers) > 1 else "1 line"
    return f"{lines} {words} (line {some}{more})"
