"""``features``: a prepared folder's pictures to a teacher's vectors, memory-mapped Arrow.

On the CPU pictures go through the teacher one at a time, whatever ``batch_size`` says: matrix
kernels choose their order of summation by the batch's size, and the cache must not depend on it.
On a GPU batches never cross a part; the last bits of its floats may depend on ``batch_size``.
Several jobs share the parts as shards; so do the processes of ``torchrun``, one a GPU.
"""

import itertools
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arra_med.errors import RequestError, WorkError
from arra_med.parallel import available_cores, process_group
from arra_med.picture_loader import Batch, load_pictures
from arra_med.progress import Progress
from arra_med.settings import Features
from arra_med.store import PartWriter, PreparedFolder, Shard, vector_table
from arra_med.teachers.base import FittedTeacher, Teacher, aggregate
from arra_med.teachers.cache import (
    COLUMN,
    cache_folder,
    check_variety,
    check_vectors,
    expected_config,
    part_name,
    plugin_of,
    teacher_model,
)

logger = logging.getLogger(__name__)

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_AHEAD = 2  # batches that a GPU is given before the vectors of an earlier one are fetched


def extract_features(
    settings: Features,
    prepared: PreparedFolder,
    device: torch.device,
    *,
    shard: Shard | None = None,
) -> Path:
    """Write one feature part for each image part, resumable; a finished cache is left as it is.

    A teacher that learns from the prepared folder is fitted first if its weights are not there.

    Args:
        settings: teacher, aggregation, precision …
        prepared: whose pictures.
        device: where the teacher runs.
        shard: write only this shard's parts and do not finish; a run without a shard joins them.

    Returns:
        The cache, ``<prepared>/features/<name>-<aggregation>-<fingerprint>``.

    Raises:
        FileNotFoundError: if weights are missing.
        RequestError: if the teacher does not offer the aggregation or the layers, or a shard needs
            a teacher that is not fitted yet.
        WorkError: naming the pictures whose vector is not finite or constant, or if all pictures
            have the same vector; nothing that looks finished is left.
    """
    plugin, options = plugin_of(settings), settings.teacher.options
    width = plugin.describe(options).width(settings.aggregation, settings.layers)
    if issubclass(plugin, FittedTeacher) and not plugin.is_fitted(options):
        if shard is not None:
            raise RequestError(
                f"the {settings.teacher.name} teacher is not fitted yet, which shards cannot "
                "share: run 'features' once without --shard"
            )
        plugin.fit(options, prepared, device)
    config = expected_config(settings, prepared)
    if config["teacher"].get("fitted_on") not in (None, prepared.content_hash):
        raise RequestError(
            f"the {settings.teacher.name} teacher was fitted on other pictures than "
            f"{prepared.folder} holds, and may have seen its test split: delete its weights (they "
            "are fitted again) or name another folder for them"
        )
    folder = cache_folder(prepared, config)
    num_parts = len(prepared.image_parts)
    with PartWriter(folder, kind="features", config=config, shard=shard) as writer:
        if writer.finished:
            logger.info("%s is already done", folder)
            return folder
        missing = writer.missing(num_parts)
        if missing:
            _write_parts(writer, missing, settings, prepared, device, width)
        if shard is not None:
            logger.info("shard %s is done; run without --shard to join all shards", shard)
            return folder
        check_variety([folder / part_name(index) for index in range(num_parts)])
        writer.finish(num_parts)
    return folder


def extract_in_processes(
    settings: Features, prepared: PreparedFolder, device: torch.device
) -> Path:
    """:func:`extract_features` shared by the processes of ``torchrun``, each on its own GPU.

    Raises:
        As :func:`extract_features`.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return extract_features(settings, prepared, device)
    if str(device) == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)  # where memory is pinned, too
    with process_group():
        plugin, options = plugin_of(settings), settings.teacher.options
        if rank == 0 and issubclass(plugin, FittedTeacher) and not plugin.is_fitted(options):
            plugin.fit(options, prepared, device)
        torch.distributed.barrier()
        folder = extract_features(settings, prepared, device, shard=Shard(rank, world))
        torch.distributed.barrier()
        if rank == 0:  # every part is there: this joins them
            extract_features(settings, prepared, device)
        return folder


def _write_parts(
    writer: PartWriter,
    missing: Sequence[int],
    settings: Features,
    prepared: PreparedFolder,
    device: torch.device,
    width: int,
) -> None:
    model = teacher_model(settings).to(device)
    sizes = {part: _part_size(prepared, part) for part in missing}
    batches = load_pictures(
        prepared,
        missing,
        model.transform,
        batch_size=settings.batch_size,
        workers=_num_workers(settings, device),
        pin_memory=device.type == "cuda",
    )
    encoded = _encoded(model, batches, settings, device)
    whose = f"the {settings.teacher.name} teacher"
    with Progress(sum(sizes.values()), unit="image", label="features") as progress:
        groups = itertools.groupby(encoded, key=lambda one: one[0].part)
        for part in missing:
            keys: list[str] = []
            pieces = [np.zeros((0, width), settings.dtype)]
            for batch, vectors in next(groups)[1] if sizes[part] else ():  # an empty part: no batch
                keys += batch.keys
                pieces.append(vectors)
                progress.update(len(batch.keys))
            vectors = np.concatenate(pieces)
            check_vectors(keys, vectors, whose, WorkError)
            table = vector_table(keys, vectors, COLUMN)
            writer.write_part(part, {part_name(part): table}, {"samples": len(keys)})


def _part_size(prepared: PreparedFolder, part: int) -> int:
    return sum(prepared.chunk_size(part, chunk) for chunk in range(prepared.num_chunks(part)))


def _num_workers(settings: Features, device: torch.device) -> int:
    if settings.workers is not None:
        return settings.workers
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, available_cores() // processes) if device.type == "cuda" else 0


@torch.inference_mode()
def _encoded(
    model: Teacher, batches: Iterator[Batch], settings: Features, device: torch.device
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches with their ``(B, D)`` vectors; a GPU has work while others are read and written."""
    if device.type != "cuda":
        for batch in batches:
            yield batch, _to_numpy(_forward(model, batch.pixels, settings, device), settings)
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    running: deque[tuple[Batch, Tensor, torch.cuda.Event]] = deque()
    for batch in batches:
        running.append((batch, *_start(model, batch.pixels, settings, copying)))
        if len(running) > _AHEAD:
            yield _finish(*running.popleft(), settings)
    while running:
        yield _finish(*running.popleft(), settings)


def _start(
    model: Teacher, pixels: Tensor, settings: Features, copying: torch.cuda.Stream
) -> tuple[Tensor, torch.cuda.Event]:
    """Begin a forward pass on a GPU without waiting for anything.

    Pixels are copied beside the pass that runs. Vectors are copied back right behind their own
    pass: asked for later, the copy would stand behind the passes begun since.

    Args:
        model: on the GPU.
        pixels: ``(B, 3, S, S)`` in pinned memory.
        settings: precision, aggregation …
        copying: a stream of the GPU for copies alone.

    Returns:
        ``(B, D)`` on the CPU, and the event after which they are there.
    """
    computing = torch.cuda.current_stream(copying.device)
    with torch.cuda.stream(copying):
        there = pixels.to(copying.device, non_blocking=True)
    computing.wait_stream(copying)
    there.record_stream(computing)  # or its memory were given away while the pass reads it
    vectors = _forward(model, there, settings, copying.device).float()
    return vectors.to("cpu", non_blocking=True), computing.record_event()


def _finish(
    batch: Batch, vectors: Tensor, ready: torch.cuda.Event, settings: Features
) -> tuple[Batch, np.ndarray]:
    ready.synchronize()
    return batch, _to_numpy(vectors, settings)


def _forward(model: Teacher, pixels: Tensor, settings: Features, device: torch.device) -> Tensor:
    """``(B, 3, S, S)`` pixels to ``(B, D)`` vectors on the device, not waited for."""
    with torch.autocast(
        device.type, _AUTOCAST.get(settings.precision), enabled=settings.precision in _AUTOCAST
    ):
        if device.type == "cpu":
            return torch.cat([_vectors(model, picture[None], settings) for picture in pixels])
        return _vectors(model, pixels.to(device), settings)


def _vectors(model: Teacher, pixels: Tensor, settings: Features) -> Tensor:
    given = model(pixels) if settings.layers is None else model(pixels, settings.layers)
    return aggregate(given, settings.aggregation)


def _to_numpy(vectors: Tensor, settings: Features) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond float16: infinite, and refused as such
        array: np.ndarray = vectors.float().cpu().numpy().astype(settings.dtype)
    return array
