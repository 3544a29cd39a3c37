"""The feature cache: what it is keyed by, where it lies, and whether it fits a run.

``arra_med.teachers.extract`` writes it.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from arra_med.errors import RequestError, WorkError
from arra_med.registry import TEACHERS
from arra_med.settings import Features
from arra_med.store import (
    Cache,
    PreparedFolder,
    difference,
    fingerprint,
    read_manifest,
)
from arra_med.teachers.base import Teacher

logger = logging.getLogger(__name__)

COLUMN = "vector"
COMMAND = "arra-med features"
_CHUNK = 4096  # vectors checked together

_PART_WORDS = {
    "teacher.weights_sha256": "weights",
    "teacher.preprocessing": "preprocessing",
    "prepared": "pictures",
}


def teacher_model(settings: Features) -> Teacher:
    """The teacher with its weights, frozen, on the CPU.

    Raises:
        FileNotFoundError: if weights are missing.
    """
    model: Teacher = plugin_of(settings)(settings.teacher.options)
    return model.requires_grad_(False).eval()


def open_features(settings: Features, prepared: PreparedFolder) -> Cache:
    """The feature cache that these settings and pictures call for; no model is loaded.

    Every key of ``prepared`` is there once and every vector is finite and not constant.

    Raises:
        FileNotFoundError: if weights are missing, or there is no such cache: which part of the
            nearest one differs, and the command that makes it.
        RequestError: naming what in the cache does not fit.
    """
    expected = expected_config(settings, prepared)
    folder = cache_folder(prepared, expected)
    if not folder.is_dir():
        raise FileNotFoundError(_explain_absence(folder, expected))
    cache = Cache(folder, kind="features", column=COLUMN)
    remedy = f"delete {folder} and run '{COMMAND}' again"
    differing = difference(cache.manifest["config"], expected)
    if differing:
        raise RequestError(f"{folder} does not fit: {_in_words(differing)}; {remedy}")
    cache.require(prepared, prepared.keys)
    if len(cache) != len(prepared.keys):
        raise RequestError(f"{folder} holds keys that {prepared.folder} does not; {remedy}")
    for start in range(0, len(prepared.keys), _CHUNK):
        keys = prepared.keys[start : start + _CHUNK]
        vectors = np.stack([cache[key] for key in keys])
        check_vectors(keys, vectors, f"{folder} ({remedy})", RequestError)
    return cache


def plugin_of(settings: Features) -> type[Teacher]:
    """The teacher's class."""
    plugin: type[Teacher] = TEACHERS.get(settings.teacher.name)
    return plugin


def expected_config(settings: Features, prepared: PreparedFolder) -> dict[str, Any]:
    """Everything that the cache's content depends on."""
    return {
        "teacher": plugin_of(settings).identity(settings.teacher.options),
        "aggregation": settings.aggregation,
        "layers": None if settings.layers is None else list(settings.layers),
        "precision": settings.precision,
        "dtype": settings.dtype,
        "prepared": prepared.content_hash,
    }


def cache_folder(prepared: PreparedFolder, config: dict[str, Any]) -> Path:
    """Where the cache lies: changed pictures keep the place, and are then refused by their hash."""
    own = {name: value for name, value in config.items() if name != "prepared"}
    name = f"{config['teacher']['name']}-{config['aggregation']}-{fingerprint(own)}"
    return prepared.folder / "features" / name


def part_name(index: int) -> str:
    """A part's file in the cache."""
    return f"part-{index:05d}.arrow"


def read_part(path: Path) -> tuple[list[str], np.ndarray]:
    """Keys and ``(N, D)`` vectors of a written part."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    column = table[COLUMN].combine_chunks()
    vectors = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return table["key"].to_pylist(), vectors


def check_vectors(
    keys: list[str], vectors: np.ndarray, whose: str, error: type[RequestError | WorkError]
) -> None:
    """Raise ``error`` naming keys whose vector is not finite or has all components equal."""
    infinite = ~np.isfinite(vectors).all(axis=1)
    constant = ~infinite & (vectors == vectors[:, :1]).all(axis=1) & (vectors.shape[1] > 1)
    not_finite = "not finite"
    if vectors.dtype == np.float16:
        not_finite += " (float16 holds numbers up to 65504: try features.dtype float32)"
    for wrong, word in ((infinite, not_finite), (constant, "constant (all components equal)")):
        if wrong.any():
            named = [key for key, bad in zip(keys, wrong, strict=True) if bad]
            first = ", ".join(named[:5])
            raise error(f"{whose}: vectors of {len(named)} pictures are {word}, first {first}")


def check_variety(parts: list[Path]) -> None:
    """Refuse a cache in which every picture has the same vector."""
    first: np.ndarray | None = None
    seen: list[str] = []
    for path in parts:
        keys, vectors = read_part(path)
        if keys:
            seen += keys
            first = vectors[0] if first is None else first
            if not (vectors == first).all():
                return
    if len(seen) > 1:
        raise WorkError(
            f"the teacher gives all {len(seen)} pictures the same vector (first keys: "
            f"{', '.join(seen[:5])}): its weights or its preprocessing are broken"
        )


def _explain_absence(folder: Path, expected: dict[str, Any]) -> str:
    """Why ``folder`` is not there: the nearest cache beside it, and what in it differs."""
    nearest: tuple[int, str, list[str]] | None = None
    for other in sorted(folder.parent.glob("*")) if folder.parent.is_dir() else []:
        try:
            config = read_manifest(other, "features")["config"]
        except (FileNotFoundError, RequestError):
            continue  # unfinished or of another version: not one to compare with
        differing = difference(config, expected)
        other_teacher = config["teacher"].get("name") != expected["teacher"]["name"]
        score = len(differing) + 100 * other_teacher
        if nearest is None or score < nearest[0]:
            nearest = (score, other.name, differing)
    beside = (
        f"the nearest cache, {nearest[1]}, differs in {_in_words(nearest[2])}"
        if nearest
        else "there are no features at all"
    )
    return f"no features of this teacher at {folder}: {beside}. Run '{COMMAND}' to make them."


def _in_words(differing: list[str]) -> str:
    """:func:`difference`'s names, the parts by the words that users know."""
    words = []
    for entry in differing:
        name = entry.split(" (", 1)[0]
        word = next((w for start, w in _PART_WORDS.items() if name.startswith(start)), name)
        words.append(entry if word == name else f"{word}: {entry}")
    return "; ".join(words)
