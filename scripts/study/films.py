"""Films drawn for some prompts beside the real phantoms of the same prompts, as one PNG.

    python scripts/study/films.py --prepared work/study/prepared \
        --generated none=work/study/a/generated hybnext=work/study/b/generated \
        --output docs/study/films.png

No film is picked by hand. For each finding that a phantom can show, and for a film without any, the
prompt is the one whose key has the smallest SHA-256 among those of the split that every generator
drew and in which the finding is the only one present; if there is none, in which it is present at
all. The picture is the prompt's first.
"""

import argparse
import hashlib
import io
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from command import exit_status
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from arra_med.datasets.phantom.findings import RICH_FINDINGS
from arra_med.errors import RequestError
from arra_med.eval.plain_folder import OfferedPictures, open_pictures
from arra_med.picture_loader import to_picture
from arra_med.schema import PRESENT
from arra_med.store import PreparedFolder, write_atomic

NORMAL, NO_FINDING = "normal", "No Finding"
LARGEST = 10**6
"""Bytes of the PNG at most."""
SCALES = (2, 1)
"""Screen pixels a picture's pixel may take, as many as the size allows."""
_DPI, _GAP, _TEXT, _HEAD = 100, 6, 330, 30  # the last three in pixels
_LINE = 46  # characters of a prompt's line
_STYLE = {"font.family": "DejaVu Sans", "font.size": 9}  # comes with matplotlib


@dataclass(frozen=True, kw_only=True)
class Film:
    """One row of the picture.

    Attributes:
        finding: by its CheXpert name, or ``normal``.
        key: of the sample.
        prompt: its prompt.
        alone: whether the finding is the only one present.
    """

    finding: str
    key: str
    prompt: str
    alone: bool


def choose(rows: Sequence[Mapping[str, Any]]) -> list[Film]:
    """One film for each finding, then a normal one; a finding that no prompt has is left out.

    Args:
        rows: samples with ``key``, ``prompt`` and ``labels``.
    """
    present = {
        row["key"]: {name for name, value in row["labels"].items() if value == PRESENT}
        for row in rows
    }
    prompts = {row["key"]: row["prompt"] for row in rows}
    films = []
    for finding in (*RICH_FINDINGS, NORMAL):
        if finding == NORMAL:
            alone = [key for key, names in present.items() if names == {NO_FINDING}]
            some = [key for key, names in present.items() if not names - {NO_FINDING}]
        else:
            alone = [key for key, names in present.items() if names == {finding}]
            some = [key for key, names in present.items() if finding in names]
        if some:
            key = min(alone or some, key=lambda key: hashlib.sha256(key.encode()).hexdigest())
            films.append(Film(finding=finding, key=key, prompt=prompts[key], alone=bool(alone)))
    return films


def first_rows(offered: OfferedPictures) -> dict[str, dict[str, Any]]:
    """The first picture of every prompt, by key."""
    return {row["key"]: row for row in sorted(offered.rows, key=lambda r: r["index"], reverse=True)}


def sheet(
    films: Sequence[Film], columns: Mapping[str, Mapping[str, Image.Image]], scale: int
) -> Image.Image:
    """Films as rows, ``columns`` of pictures by key beside the prompts, all grey.

    Args:
        films: from top to bottom.
        columns: by name, from left to right; pictures are square and of one size.
        scale: screen pixels that a picture's pixel takes, unsmoothed.
    """
    side = scale * next(iter(next(iter(columns.values())).values())).width
    width = _TEXT + len(columns) * (side + _GAP)
    height = _HEAD + len(films) * (side + _GAP)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        for place, name in enumerate(columns):
            middle = _TEXT + place * (side + _GAP) + side / 2
            figure.text(
                middle / width, 1 - _HEAD / 2 / height, textwrap.shorten(name, 24),
                ha="center", va="center", weight="bold",
            )  # fmt: skip
        for place, film in enumerate(films):
            top = 1 - (_HEAD + place * (side + _GAP) + 4) / height
            also = "" if film.alone else ", among others"
            figure.text(4 / width, top, f"{film.finding}{also}", va="top", weight="bold")
            words = textwrap.wrap(film.prompt, _LINE, max_lines=(side - 26) // 15, placeholder=" …")
            figure.text(
                4 / width, top - 20 / height, "\n".join(words), va="top", linespacing=1.25,
                parse_math=False,
            )  # fmt: skip
        canvas.draw()
        drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("L")
    for across, pictures in enumerate(columns.values()):
        for down, film in enumerate(films):
            picture = pictures[film.key].convert("L").resize((side, side), Image.Resampling.NEAREST)
            corner = (_TEXT + across * (side + _GAP), _HEAD + down * (side + _GAP))
            drawn.paste(picture, corner)
    return drawn


def encode(films: Sequence[Film], columns: Mapping[str, Mapping[str, Image.Image]]) -> bytes:
    """The sheet as PNG, at the largest scale that keeps within ``LARGEST`` bytes.

    Raises:
        RequestError: if none does.
    """
    for scale in SCALES:
        file = io.BytesIO()
        sheet(films, columns, scale).save(file, "PNG", optimize=True)
        if file.tell() <= LARGEST:
            return file.getvalue()
    raise RequestError(
        f"the sheet takes {file.tell()} bytes, {LARGEST} at most: show fewer folders"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Choose, draw and write; the exit status."""
    options = _options(arguments)
    return exit_status(lambda: _draw(options))


def _draw(options: argparse.Namespace) -> None:
    prepared = PreparedFolder(options.prepared)
    offered = {
        name: open_pictures(folder, prepared, name=name) for name, folder in options.generated
    }
    firsts = {name: first_rows(pictures) for name, pictures in offered.items()}
    rows = prepared.rows(options.split)
    drawn = [row for row in rows if all(row["key"] in known for known in firsts.values())]
    films = choose(drawn)
    if not films:
        raise RequestError(f"no prompt of split {options.split!r} was drawn by all generators")
    real = prepared.images([film.key for film in films])
    columns = {"real phantom": {key: to_picture(png) for key, png in real.items()}}
    for name, pictures in offered.items():
        columns[name] = {
            film.key: to_picture(pictures.png(firsts[name][film.key])) for film in films
        }
    write_atomic(options.output, encode(films, columns))
    left_out = {*RICH_FINDINGS, NORMAL} - {film.finding for film in films}
    for finding in sorted(left_out):
        print(f"no prompt shows {finding}: it has no row", file=sys.stderr)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument(
        "--generated", type=_named, nargs="+", required=True, metavar="NAME=FOLDER",
        help="what a generator drew, and its name in the picture",
    )  # fmt: skip
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png")
    return parser.parse_args(arguments)


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, got {text!r}")
    return name, Path(folder)


if __name__ == "__main__":
    sys.exit(main())
