"""``generate``: a split's prompts to a generated folder, in parts, resumable."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from arra_med.config import to_tree
from arra_med.errors import RequestError
from arra_med.generation.folder import GENERATIONS_SCHEMA, image_name
from arra_med.generation.sampler import draw_codes, sample_uniforms
from arra_med.images import encode_png
from arra_med.model.backbones import context_length
from arra_med.model.export import Export, load_export
from arra_med.model.layout import ImageLayout
from arra_med.model.prompts import encode_prompts
from arra_med.settings import Generation
from arra_med.store import PartWriter, PreparedFolder

logger = logging.getLogger(__name__)

PART_SIZE = 256
"""Pictures a part; also the step in which an interrupted run resumes."""


def generate(
    settings: Generation,
    prepared: PreparedFolder,
    export_folder: Path,
    folder: Path,
    *,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """Draw pictures for the prompts of a split.

    Returns:
        The manifest of the generated folder.

    Raises:
        FileNotFoundError: if there is no export.
        RequestError: if the folder holds pictures of other settings, or a prompt is unusable.
    """
    export = load_export(export_folder, device)
    if settings.guidance != 1 and not export.info["prompt_dropout"]:
        logger.warning(
            "guidance is %g but the model never saw a dropped prompt: train with "
            "training.prompt_dropout, or set generation.guidance to 1",
            settings.guidance,
        )
    layout = sized_layout(export, settings.size)
    rows = choose_prompts(prepared, settings)
    requests = [(row, index) for row in rows for index in range(settings.images_per_prompt)]
    config = {
        "model": export.info | {"content_hash": export.content_hash},
        "prepared": prepared.content_hash,
        "seed": seed,
        **{name: value for name, value in to_tree(settings).items() if name != "batch_size"},
    }
    num_parts = -(-len(requests) // PART_SIZE)
    with PartWriter(folder, kind="generated", config=config) as writer:
        missing = writer.missing(num_parts)
        if not missing:
            logger.info("%s is already done", folder)
        done = len(requests) - sum(len(_part(requests, index)) for index in missing)
        with tqdm(total=len(requests), initial=done, desc="generate", unit="image") as progress:
            for part in missing:
                files: dict[str, bytes | pa.Table] = {}
                table = []
                for start in range(0, len(_part(requests, part)), settings.batch_size):
                    batch = _part(requests, part)[start : start + settings.batch_size]
                    pictures = draw(export, layout, batch, settings, seed)
                    for (row, index), picture in zip(batch, pictures, strict=True):
                        name = image_name(row["key"], index)
                        files[name] = encode_png(picture)
                        table.append(_record(row, index, name, settings, seed))
                    progress.update(len(batch))
                files[_scratch(part)] = pa.Table.from_pylist(table, GENERATIONS_SCHEMA)
                writer.write_part(part, files, {"images": len(table)})
        if writer.finished:
            return writer.finish(num_parts)
        tables = [pq.read_table(folder / _scratch(part)) for part in range(num_parts)]
        return writer.finish(num_parts, {"generations.parquet": pa.concat_tables(tables)})


def choose_prompts(prepared: PreparedFolder, settings: Generation) -> list[dict[str, Any]]:
    """The samples whose prompts are drawn: the split's, or ``limit`` of them evenly spread."""
    rows = prepared.rows(settings.split)
    if settings.limit is None or settings.limit >= len(rows):
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, settings.limit).round().astype(int)]


def sized_layout(export: Export, size: tuple[int, int] | None) -> ImageLayout:
    """The export's layout, for pictures of ``size`` (height, width) pixels if one is asked for.

    Raises:
        RequestError: if the size is no whole number of codes, the model has no tokens for it, or
            prompt and image would not fit into its context.
    """
    layout = export.layout
    if size is None:
        return layout
    patch = export.image_tokenizer.image_size // export.image_tokenizer.grid[0]
    if size[0] % patch or size[1] % patch:
        raise RequestError(f"generation.size {size}: expected multiples of {patch} px, one code")
    layout = layout.with_grid(size[0] // patch, size[1] // patch)
    context = context_length(export.model)
    needed = layout.sequence_length(export.info["max_prompt_tokens"])
    if context is not None and needed > context:
        raise RequestError(
            f"generation.size {size} takes {needed} tokens with the longest prompt, the model has "
            f"room for {context}"
        )
    return layout


def draw(
    export: Export,
    layout: ImageLayout,
    batch: list[tuple[dict[str, Any], int]],
    settings: Generation,
    seed: int,
) -> list[np.ndarray]:
    """Pictures of one batch of ``(sample, index)``.

    Returns:
        ``(H, W, C)`` uint8 arrays.
    """
    prompts = encode_prompts(
        export.text_tokenizer,
        [row["prompt"] for row, _ in batch],
        [row["key"] for row, _ in batch],
        max_tokens=export.info["max_prompt_tokens"],
        long_prompts=export.info["long_prompts"],
    )
    count = layout.codes_per_image
    uniforms = np.stack([sample_uniforms(seed, row["key"], i, count) for row, i in batch])
    codes = draw_codes(
        export.model,
        layout,
        prompts,
        torch.from_numpy(uniforms),
        guidance=settings.guidance,
        temperature=settings.temperature,
        top_k=settings.top_k,
    )
    pictures = export.image_tokenizer.decode(codes)
    return list(pictures.permute(0, 2, 3, 1).cpu().numpy())


def _part(requests: list[Any], index: int) -> list[Any]:
    return requests[index * PART_SIZE : (index + 1) * PART_SIZE]


def _scratch(part: int) -> str:
    return f".partial/rows-{part:05d}.parquet"


def _record(
    row: dict[str, Any], index: int, name: str, settings: Generation, seed: int
) -> dict[str, Any]:
    return {
        "key": row["key"],
        "index": index,
        "prompt": row["prompt"],
        "file": name,
        "seed": seed,
        "guidance": settings.guidance,
        "temperature": settings.temperature,
        "top_k": settings.top_k,
    }
