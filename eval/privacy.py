"""The results file's section ``memorisation``: are generated pictures copies of training pictures?

The whole training split is searched in the space of each extractor and in that of the pixels, which
needs no weights. One space's features are in memory at a time and nothing is written to disk: no
picture, no feature of a real person leaves the prepared folder by this search.

Thresholds are fixed on all real pictures that were not trained on, of the evaluated split and of
the other one: the generator learned from neither, and a small false-match rate needs many. An
extractor that was itself fitted on the training pictures may see pairs of those closer together, or
further apart, than it sees a new picture and a training one. Generated pictures are new to it, as
held-out ones are, so that the threshold holds; the check of the false-match rate on training
pictures does not, and a note says so.

Generated pictures of one value throughout are left out and counted: a blank picture is as near as a
copy to any other blank one, and shows nobody.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arra_med.eval.inference import FolderPictures, PictureSource, predict
from arra_med.eval.memorisation import Pictures, Space, memorisation
from arra_med.eval.memorisation_result import Memorisation, memorisation_json, relative_distances
from arra_med.eval.neighbours import Metric
from arra_med.eval.pixel_features import PixelExtractor
from arra_med.eval.planted import planted_copies
from arra_med.images import decode_png, encode_png
from arra_med.settings import Memorisation as Options
from arra_med.store import PreparedFolder

CPU = torch.device("cpu")
PIXELS = "pixels"
MOST_HELD_OUT = 5000
"""Held-out pictures whose distances fix a threshold; drawn if there are more."""
MOST_CLOSEST = 20

Features = NDArray[np.float32]
Extract = Callable[[PictureSource, str], Features]
"""Pictures and a name for the progress bar to ``(N, D)`` features."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """An extractor in whose space is searched.

    Attributes:
        name: of the extractor.
        extract: its features.
        fitted_on_train: whether it learned from the training pictures that are searched.
    """

    name: str
    extract: Extract
    fitted_on_train: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneratedPictures:
    """What a generator drew, G pictures.

    Attributes:
        keys: of their prompts.
        indices: numbers among the pictures of one prompt.
        patients: whose prompts they are.
        pngs: the pictures.
        constant: whether each is of one value throughout; those are not tested.
    """

    keys: Sequence[str]
    indices: Sequence[int]
    patients: Sequence[str]
    pngs: Sequence[bytes]
    constant: Sequence[bool]


@dataclass(frozen=True, kw_only=True)
class Closest:
    """A generated picture and its nearest training picture.

    Attributes:
        row: of the generated picture.
        train_key: of the training picture.
        distance: between them.
        space: in which they are nearest, measured by how far real pictures lie apart there.
    """

    row: int
    train_key: str
    distance: float
    space: str


@dataclass(frozen=True, kw_only=True)
class CopySearch:
    """What the search gave.

    Attributes:
        section: of the results file; ``None`` if there was nothing to search in or to compare with.
        note: why; empty if there is a section.
        closest: generated pictures nearest to a training picture, nearest first, whether or not
            they count as copies.
    """

    section: dict[str, Any] | None
    note: str = ""
    closest: tuple[Closest, ...] = ()


def search_copies(
    spaces: Sequence[SearchSpace],
    prepared: PreparedFolder,
    generated: GeneratedPictures,
    *,
    options: Options,
    generator: np.random.Generator,
    batch_size: int,
    workers: int | None = None,
    device: torch.device = CPU,
) -> CopySearch:
    """Search the training split for every generated picture.

    Args:
        spaces: of extractors, one at least of another kind than pixels; that of the pixels is
            always added.
        prepared: real pictures: the split ``train`` is searched, all others are held out.
        generated: what is tested.
        options: false-match rate, number of planted copies.
        generator: draws the pictures that are copied, their noise and the samples.
        batch_size: most pictures at once where pixels are averaged.
        workers: processes that decode for that; by default as :func:`predict` chooses.
        device: where distances are computed.

    Raises:
        RequestError: if the folder lacks a picture.
        WorkError: if a feature is not finite.
    """
    rows = prepared.rows()
    train = [row for row in rows if row["split"] == "train"]
    held_out = [row for row in rows if row["split"] != "train"]
    note = _obstacle(train, held_out, generated)
    if note:
        return CopySearch(section=None, note=note)
    tested = [row for row, blank in enumerate(generated.constant) if not blank]
    keys = [generated.keys[row] for row in tested]
    notes = [_held_out_words(held_out)]
    if len(held_out) > MOST_HELD_OUT:
        drawn = np.sort(generator.permutation(len(held_out))[:MOST_HELD_OUT])
        held_out = [held_out[row] for row in drawn]
    pixels = partial(predict, PixelExtractor(), batch_size=batch_size, workers=workers, device=CPU)
    train_keys = [str(row["key"]) for row in train]
    of_train = pixels(FolderPictures(prepared, train_keys), what=f"{PIXELS}: training")
    twins = equal_pictures(prepared, train_keys, of_train)
    planted_rows = _planted_rows(len(train), twins, options.planted, generator)
    sources = _Sources(
        train=FolderPictures(prepared, train_keys),
        held_out=FolderPictures(prepared, [str(row["key"]) for row in held_out]),
        generated=generated.pngs,
        tested=tested,
        planted=_plant(prepared, [train_keys[row] for row in planted_rows], generator),
    )
    in_pixels = SearchSpace(name=PIXELS, extract=lambda source, what: pixels(source, what=what))
    lazily = _Spaces(sources, [in_pixels, *spaces], of_train)
    del of_train  # the collection lets go of it after the first space
    result = memorisation(
        lazily,
        Pictures(
            train_keys=train_keys,
            train_patients=[str(row["patient_id"]) for row in train],
            held_out_patients=[str(row["patient_id"]) for row in held_out],
            generated_keys=keys,
            generated_patients=[generated.patients[row] for row in tested],
            planted_rows=planted_rows,
        ),
        generator=generator,
        false_match_rate=options.false_match_rate,
        device=device,
    )
    num_twins = len(twins) - len(set(twins.values()))
    notes += _notes(result, spaces, num_twins)
    section = memorisation_json(
        result, indices=[generated.indices[row] for row in tested], keys=keys
    )
    counts = {"train_duplicates": num_twins, "constant": len(generated.keys) - len(tested)}
    return CopySearch(
        section={**section, **counts, "notes": notes},
        closest=_closest(result, train_keys, tested),
    )


def equal_pictures(
    prepared: PreparedFolder, keys: Sequence[str], pixels: Features
) -> dict[int, str]:
    """Pictures that equal another one in every pixel.

    Args:
        prepared: the folder.
        keys: of its pictures, N.
        pixels: ``(N, 1024)`` their pixel features; only where those agree are pictures decoded.

    Returns:
        row → SHA-256 of its pixels, for every row of which there are two or more.
    """
    by_features: dict[bytes, list[int]] = {}
    for row, values in enumerate(pixels):
        by_features.setdefault(hashlib.sha256(values.tobytes()).digest(), []).append(row)
    alike = {keys[row]: row for rows in by_features.values() if len(rows) > 1 for row in rows}
    if not alike:
        return {}
    by_pixels: dict[str, list[int]] = {}
    for key, png in prepared.iter_images():
        if key in alike:
            picture = decode_png(png)
            digest = hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).hexdigest()
            by_pixels.setdefault(digest, []).append(alike[key])
    return {row: name for name, rows in by_pixels.items() if len(rows) > 1 for row in rows}


@dataclass(frozen=True, eq=False, kw_only=True)
class _Sources:
    train: FolderPictures
    held_out: FolderPictures
    generated: Sequence[bytes]
    tested: Sequence[int]  # rows of those
    planted: Mapping[str, Sequence[bytes]]


class _Spaces(Collection[Space]):
    """Spaces one after the other, each made when asked for."""

    def __init__(
        self, sources: _Sources, spaces: Sequence[SearchSpace], first_train: Features
    ) -> None:
        self._sources, self._spaces = sources, spaces
        self._first_train: Features | None = first_train

    def __len__(self) -> int:
        return len(self._spaces)

    def __contains__(self, space: object) -> bool:
        return False  # what is made anew each time is never in here

    def __iter__(self) -> Iterator[Space]:
        for space in self._spaces:
            of_train, self._first_train = self._first_train, None
            yield self._space(space, of_train)
            del of_train

    def _space(self, space: SearchSpace, train: Features | None) -> Space:
        sources = self._sources
        if train is None:
            train = space.extract(sources.train, f"{space.name}: training")
        generated = space.extract(sources.generated, f"{space.name}: generated")[sources.tested]
        held_out = space.extract(sources.held_out, f"{space.name}: held out")
        every = [png for pngs in sources.planted.values() for png in pngs]
        features = space.extract(every, f"{space.name}: planted")
        copies = np.split(features, len(sources.planted))
        return Space(
            name=space.name,
            metric=_metric(space.name, train, generated, held_out, features),
            train=train,
            generated=generated,
            held_out=held_out,
            planted=dict(zip(sources.planted, copies, strict=True)),
        )


def _metric(name: str, *sets: Features) -> Metric:
    """Encoders are compared by angle, unless a vector has none; grey values by difference."""
    if name == PIXELS or any(not features.any(axis=1).all() for features in sets):
        return "euclidean"
    return "cosine"


def _obstacle(
    train: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]],
    generated: GeneratedPictures,
) -> str:
    if not generated.pngs:
        return "there is no generated picture"
    if all(generated.constant):
        return "every generated picture is of one value throughout"
    if len({row["patient_id"] for row in train}) < 2:
        return "the prepared folder has no training pictures of two patients to search"
    if not held_out:
        return (
            "the prepared folder has no real pictures outside its training split, which say how "
            "near pictures come by chance"
        )
    return ""


def _planted_rows(
    count: int, twins: Mapping[int, str], wanted: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Training rows to copy: without a twin, of which a copy would be one as well."""
    order = generator.permutation(count)
    single = order[[row not in twins for row in order.tolist()]]
    return np.sort((single if len(single) else order)[:wanted])


def _plant(
    prepared: PreparedFolder, keys: Sequence[str], generator: np.random.Generator
) -> dict[str, list[bytes]]:
    """kind → PNG copies of the pictures of ``keys``, in their order."""
    originals = prepared.images(keys)
    planted: dict[str, list[bytes]] = {}
    for key in keys:
        copies = planted_copies([decode_png(originals[key])], generator=generator)
        for kind, [copy] in copies.items():
            planted.setdefault(kind, []).append(encode_png(copy))
    return planted


def _held_out_words(held_out: Sequence[Mapping[str, Any]]) -> str:
    splits = sorted({str(row["split"]) for row in held_out})
    drawn = min(len(held_out), MOST_HELD_OUT)
    of_all = f" drawn from {len(held_out)}" if len(held_out) > drawn else ""
    return (
        f"Thresholds are fixed on {drawn} real pictures{of_all} that were not trained on "
        f"({' and '.join(splits)} split)."
    )


def _notes(result: Memorisation, spaces: Sequence[SearchSpace], num_twins: int) -> list[str]:
    notes = []
    if not result.detects:
        notes.append(
            "The search missed more than 5 % of the planted faithful copies: that it finds no copy "
            "says nothing."
        )
    notes += [
        f"{space.name} was fitted on the training pictures: the false-match rate measured on those "
        "is not that of new pictures there; the threshold, fixed on held-out pictures, is not "
        "affected."
        for space in spaces
        if space.fitted_on_train
    ]
    if num_twins:
        notes.append(
            f"{num_twins} training pictures equal an earlier one in every pixel; copies were "
            "planted of pictures without a twin."
        )
    equal = sum(int((s.held_out == 0).sum()) for s in result.spaces if s.name == PIXELS)
    if equal:
        notes.append(
            f"{equal} held-out pictures equal a training picture of another patient (at 32 × 32 "
            "pixels): the splits overlap, or one patient has two names. Thresholds are the lower "
            "for it, and fewer copies are found."
        )
    return notes


def _closest(
    result: Memorisation, train_keys: Sequence[str], tested: Sequence[int]
) -> tuple[Closest, ...]:
    relative = relative_distances(result.spaces)
    order = np.argsort(relative.min(axis=0), kind="stable")[:MOST_CLOSEST]
    found = []
    for row in order.tolist():
        space = result.spaces[int(relative[:, row].argmin())]
        found.append(
            Closest(
                row=tested[row],
                train_key=train_keys[int(space.nearest_rows[row])],
                distance=float(space.generated[row]),
                space=space.name,
            )
        )
    return tuple(found)
