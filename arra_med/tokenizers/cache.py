"""``tokenize``: a prepared folder's pictures to codes, cached as memory-mapped Arrow.

Batches never cross a part, so that shards, which take whole parts, change no byte.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from arra_med.errors import RequestError
from arra_med.images import decode_png
from arra_med.store import (
    MANIFEST,
    Cache,
    PartWriter,
    PreparedFolder,
    Shard,
    read_manifest,
    vector_table,
)
from arra_med.tokenizers.base import ImageTokenizer, load_tokenizer, tokenizer_id
from arra_med.tokenizers.batches import to_tensor

logger = logging.getLogger(__name__)


def tokenize(
    prepared: PreparedFolder,
    tokenizer_folder: Path,
    *,
    batch_size: int,
    device: torch.device,
    shard: Shard | None = None,
) -> Path:
    """Encode every picture; one token part for each image part, resumable.

    Args:
        prepared: whose pictures.
        tokenizer_folder: the image tokenizer.
        batch_size: pictures encoded at once.
        device: where the tokenizer runs.
        shard: write only this shard's parts and do not finish; a run without a shard joins them.

    Returns:
        The token cache's folder, ``<prepared>/tokens/<tokenizer id>``.

    Raises:
        FileNotFoundError: if there is no tokenizer.
        RequestError: if it has more codes than 16 bits can name.
    """
    folder, config = _cache_config(prepared, tokenizer_folder)
    _say_if_trained_elsewhere(tokenizer_folder, prepared)
    num_parts = len(prepared.image_parts)
    with PartWriter(folder, kind="tokens", config=config, shard=shard) as writer:
        if writer.finished:
            logger.info("%s is already done", folder)
            return folder
        missing = writer.missing(num_parts)
        if missing:
            tokenizer = load_tokenizer(tokenizer_folder).to(device)
            if tokenizer.num_codes > 2**16:
                raise RequestError(
                    f"the image tokenizer in {tokenizer_folder} has {tokenizer.num_codes:,} codes, "
                    f"and codes are kept in 16 bits: {2**16:,} at most"
                )
            _write_parts(writer, missing, prepared, tokenizer, batch_size)
        if shard is not None:
            logger.info("shard %s is done; run without --shard to join all shards", shard)
            return folder
        writer.finish(num_parts)
    return folder


def _say_if_trained_elsewhere(tokenizer_folder: Path, prepared: PreparedFolder) -> None:
    if not (tokenizer_folder / MANIFEST).is_file():
        return
    config = read_manifest(tokenizer_folder, "tokenizer")["config"]
    if "training" in config and config["prepared"] != prepared.content_hash:  # not: imported
        logger.warning(
            "the image tokenizer in %s was trained on another prepared folder than %s (or that was "
            "made anew): where pictures are the same and splits are not, test pictures trained it",
            tokenizer_folder,
            prepared.folder,
        )


def _write_parts(
    writer: PartWriter,
    missing: Sequence[int],
    prepared: PreparedFolder,
    tokenizer: ImageTokenizer,
    batch_size: int,
) -> None:
    sizes = (prepared.chunk_size(p, c) for p in missing for c in range(prepared.num_chunks(p)))
    with tqdm(total=sum(sizes), desc="tokenize", unit="image") as progress:
        for index in missing:
            part = prepared.read_part(index)
            codes = _encode(tokenizer, [png for _, png in part], batch_size, progress)
            table = vector_table([key for key, _ in part], codes, "codes")
            writer.write_part(index, {f"part-{index:05d}.arrow": table}, {"samples": len(part)})


def _encode(
    tokenizer: ImageTokenizer, pngs: list[bytes], batch_size: int, progress: "tqdm[Any]"
) -> np.ndarray:
    """``(N, rows · columns)`` uint16 codes of PNG pictures."""
    codes = [torch.zeros(0, tokenizer.grid[0] * tokenizer.grid[1], dtype=torch.int64)]
    for start in range(0, len(pngs), batch_size):
        batch = to_tensor([decode_png(png) for png in pngs[start : start + batch_size]])
        codes.append(tokenizer.encode(batch.to(tokenizer.device)).flatten(1).cpu())
        progress.update(len(batch))
    return torch.cat(codes).numpy().astype(np.uint16)


def open_tokens(prepared: PreparedFolder, tokenizer_folder: Path) -> Cache:
    """The token cache of ``prepared`` made by this tokenizer.

    Raises:
        FileNotFoundError: if it was not made or not finished.
    """
    folder, _ = _cache_config(prepared, tokenizer_folder)
    if not folder.exists():
        raise FileNotFoundError(
            f"{prepared.folder} has no tokens of the image tokenizer at {tokenizer_folder} "
            f"(looked for {folder}): run 'arra-med tokenize'"
        )
    return Cache(folder, kind="tokens", column="codes")


def _cache_config(prepared: PreparedFolder, tokenizer_folder: Path) -> tuple[Path, dict[str, str]]:
    identity = tokenizer_id(tokenizer_folder)
    config = {"tokenizer": identity, "prepared": prepared.content_hash}
    return prepared.folder / "tokens" / identity, config
