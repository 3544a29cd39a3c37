"""``features``: a prepared folder's pictures to a teacher's vectors, memory-mapped Arrow.

On the CPU pictures go through the teacher one at a time, whatever ``batch_size`` says: matrix
kernels choose their order of summation by the batch's size, and the cache must not depend on it.
On a GPU batches never cross a part; the last bits of its floats may depend on ``batch_size``.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from arra_med.errors import RequestError, WorkError
from arra_med.images import decode_png
from arra_med.registry import TEACHERS
from arra_med.settings import Features
from arra_med.store import (
    Cache,
    PartWriter,
    PreparedFolder,
    difference,
    fingerprint,
    read_manifest,
    vector_table,
)
from arra_med.teachers.base import FittedTeacher, Teacher, aggregate

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
    model: Teacher = _plugin(settings)(settings.teacher.options)
    return model.requires_grad_(False).eval()


def extract_features(settings: Features, prepared: PreparedFolder, device: torch.device) -> Path:
    """Write one feature part for each image part, resumable; a finished cache is left as it is.

    A teacher that learns from the prepared folder is fitted first if its weights are not there.

    Returns:
        The cache, ``<prepared>/features/<name>-<aggregation>-<fingerprint>``.

    Raises:
        FileNotFoundError: if weights are missing.
        RequestError: if the teacher does not offer the aggregation.
        WorkError: naming the pictures whose vector is not finite or constant, or if all pictures
            have the same vector; nothing that looks finished is left.
    """
    plugin, options = _plugin(settings), settings.teacher.options
    width = plugin.describe(options).width(settings.aggregation)
    if issubclass(plugin, FittedTeacher) and not plugin.is_fitted(options):
        plugin.fit(options, prepared, device)
    config = _expected(settings, prepared)
    if config["teacher"].get("fitted_on") not in (None, prepared.content_hash):
        raise RequestError(
            f"the {settings.teacher.name} teacher was fitted on other pictures than "
            f"{prepared.folder} holds, and may have seen its test split: delete its weights (they "
            "are fitted again) or name another folder for them"
        )
    folder = _folder(prepared, config)
    num_parts = len(prepared.image_parts)
    with PartWriter(folder, kind="features", config=config) as writer:
        missing = writer.missing(num_parts)
        if writer.finished:
            logger.info("%s is already done", folder)
            return folder
        model = teacher_model(settings).to(device) if missing else None
        with tqdm(total=len(prepared.keys), desc="features", unit="image") as progress:
            for index in range(num_parts):
                if model is None or index not in missing:
                    progress.update(len(_read_part(folder / _part_name(index))[0]))
                    continue
                part = prepared.read_part(index)
                vectors = np.zeros((len(part), width), settings.dtype)
                start = 0
                for rows in _vectors(model, [png for _, png in part], settings, device):
                    vectors[start : start + len(rows)] = rows
                    start += len(rows)
                    progress.update(len(rows))
                keys = [key for key, _ in part]
                _check_vectors(keys, vectors, f"the {settings.teacher.name} teacher", WorkError)
                table = vector_table(keys, vectors, COLUMN)
                writer.write_part(index, {_part_name(index): table}, {"samples": len(part)})
        _check_variety([folder / _part_name(index) for index in range(num_parts)])
        writer.finish(num_parts)
    return folder


def open_features(settings: Features, prepared: PreparedFolder) -> Cache:
    """The feature cache that these settings and pictures call for; no model is loaded.

    Every key of ``prepared`` is there once and every vector is finite and not constant.

    Raises:
        FileNotFoundError: if weights are missing, or there is no such cache: which part of the
            nearest one differs, and the command that makes it.
        RequestError: naming what in the cache does not fit.
    """
    expected = _expected(settings, prepared)
    folder = _folder(prepared, expected)
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
        _check_vectors(keys, vectors, f"{folder} ({remedy})", RequestError)
    return cache


@torch.inference_mode()
def _vectors(
    model: Teacher, pngs: list[bytes], settings: Features, device: torch.device
) -> Iterator[np.ndarray]:
    """Vectors of the pictures of one part, in order, ``(b, D)`` of the settings' dtype."""
    batch_size = 1 if device.type == "cpu" else settings.batch_size
    for start in range(0, len(pngs), batch_size):
        images = np.stack([decode_png(png) for png in pngs[start : start + batch_size]])
        pixels = model.preprocess(torch.from_numpy(images).permute(0, 3, 1, 2))
        vectors = aggregate(model(pixels.to(device)), settings.aggregation)
        with np.errstate(over="ignore"):  # beyond float16: infinite, and refused as such
            yield vectors.float().cpu().numpy().astype(settings.dtype)


def _plugin(settings: Features) -> type[Teacher]:
    plugin: type[Teacher] = TEACHERS.get(settings.teacher.name)
    return plugin


def _expected(settings: Features, prepared: PreparedFolder) -> dict[str, Any]:
    """Everything that the cache's content depends on."""
    return {
        "teacher": _plugin(settings).identity(settings.teacher.options),
        "aggregation": settings.aggregation,
        "dtype": settings.dtype,
        "prepared": prepared.content_hash,
    }


def _folder(prepared: PreparedFolder, config: dict[str, Any]) -> Path:
    """Where the cache lies: changed pictures keep the place, and are then refused by their hash."""
    own = {name: value for name, value in config.items() if name != "prepared"}
    name = f"{config['teacher']['name']}-{config['aggregation']}-{fingerprint(own)}"
    return prepared.folder / "features" / name


def _part_name(index: int) -> str:
    return f"part-{index:05d}.arrow"


def _read_part(path: Path) -> tuple[list[str], np.ndarray]:
    """Keys and ``(N, D)`` vectors of a written part."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    column = table[COLUMN].combine_chunks()
    vectors = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return table["key"].to_pylist(), vectors


def _check_vectors(
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


def _check_variety(parts: list[Path]) -> None:
    """Refuse a cache in which every picture has the same vector."""
    first: np.ndarray | None = None
    seen: list[str] = []
    for path in parts:
        keys, vectors = _read_part(path)
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
