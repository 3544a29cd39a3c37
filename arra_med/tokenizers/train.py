"""``train-tokenizer``: train an image tokenizer on a prepared folder, or import a published one."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arra_med.config import to_tree
from arra_med.errors import RequestError
from arra_med.images import decode_png
from arra_med.registry import TOKENIZERS
from arra_med.settings import Tokenizer, TokenizerTraining
from arra_med.store import (
    MANIFEST,
    PartWriter,
    PreparedFolder,
    canonical_json,
    read_manifest,
    sampled_sha256,
    sha256_file,
)
from arra_med.tokenizers.base import PublishedTokenizer, TrainableTokenizer
from arra_med.tokenizers.batches import to_tensor
from arra_med.tokenizers.optimise import CHECKPOINT, TokenizerTrainer
from arra_med.tokenizers.perceptual import find_perceptual
from arra_med.tokenizers.reconstruction import reconstruct

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
_MEASURED = 256  # pictures that an importer measures on beside reconstruction


def train_tokenizer(
    settings: Tokenizer, prepared: PreparedFolder, folder: Path, *, seed: int, device: torch.device
) -> dict[str, Any]:
    """Train on the training split; write weights and a report on the reconstruction.

    The same seed gives the same bytes on the CPU with as many threads and, without the perceptual
    term, on the same kind of GPU. A run that was stopped goes on from its last checkpoint, to the
    bytes of an undisturbed one. A published tokenizer is imported instead: the same
    files, of weights as they are. One without a decoder has no reconstruction figures and no
    picture grid.

    Returns:
        The manifest; its ``metrics`` hold ``psnr_db`` (mean over held-out pictures) and
        ``codebook_perplexity``.

    Raises:
        FileNotFoundError: if published weights, or the perceptual loss's, are not there.
        RequestError: if the plug-in cannot be trained or its options do not fit the pictures.
        WorkError: if the loss is not finite, or a checkpoint is damaged.
    """
    plugin = TOKENIZERS.get(settings.plugin.name)
    if issubclass(plugin, PublishedTokenizer):
        return _import(plugin, settings, prepared, folder, device)
    if not issubclass(plugin, TrainableTokenizer):
        raise RequestError(f"image tokenizer {settings.plugin.name!r} is not trained here")
    perceptual = settings.training.perceptual.weights
    perceptual_file = find_perceptual(perceptual) if perceptual is not None else None
    config = {
        "plugin": to_tree(settings.plugin),
        "training": to_tree(settings.training, compared=True),
        "seed": seed,
        "prepared": prepared.content_hash,
    }
    if perceptual_file is not None:
        config["perceptual_sha256"] = sha256_file(perceptual_file)
    # part 0 is the newest checkpoint, which goes away at the end; part 1 is the tokenizer
    with PartWriter(folder, kind="tokenizer", config=config) as writer:
        if not writer.wants(1) or writer.finished:
            return _finish(writer, 2)
        tokenizer = plugin.create(
            settings.plugin.options,
            image_size=prepared.image_size,
            channels=prepared.channels,
            seed=seed,
        ).to(device)
        trainer = TokenizerTrainer(
            tokenizer, settings.training, seed=seed, perceptual_file=perceptual_file
        )
        if not writer.wants(0):
            trainer.resume(folder / CHECKPOINT)
        trainer.run(prepared, writer)
        report = reconstruct(tokenizer, prepared, "validate", settings.batch_size)
        logger.info(
            "reconstruction of held-out pictures: PSNR %.2f dB, codebook perplexity %.0f of %d",
            report.metrics["psnr_db"],
            report.metrics["codebook_perplexity"],
            tokenizer.num_codes,
        )
        if writer.wants(0):
            writer.write_part(0, {}, {})  # too short a run for a checkpoint
        files = tokenizer.files() | report.files()
        files[METRICS] = canonical_json(report.metrics).encode()
        writer.write_part(1, files, {})
        return _finish(writer, 2)


def _finish(writer: PartWriter, num_parts: int) -> dict[str, Any]:
    """The manifest, with the figures in it; also of a run that was killed just before."""
    if writer.finished:
        logger.info("%s is already done", writer.folder)
    metrics = json.loads((writer.folder / METRICS).read_text(encoding="utf-8"))
    return writer.finish(num_parts, summary={"metrics": metrics})


def _import(
    plugin: type[PublishedTokenizer],
    settings: Tokenizer,
    prepared: PreparedFolder,
    folder: Path,
    device: torch.device,
) -> dict[str, Any]:
    """Write a published tokenizer's folder; see :func:`train_tokenizer`."""
    name = settings.plugin.name
    if settings.training != TokenizerTraining():
        raise RequestError(
            f"tokenizer.training is set, but {name!r} is a published image tokenizer, which is "
            "imported and not trained: leave tokenizer.training out"
        )
    config = {
        "plugin": to_tree(settings.plugin),
        "prepared": prepared.content_hash,
        "sources": _sources(plugin, settings.plugin.options, folder),
    }
    with PartWriter(folder, kind="tokenizer", config=config) as writer:
        if not writer.missing(1):
            return _finish(writer, 1)
        logger.info("importing the published image tokenizer %r: nothing is trained", name)
        options = settings.plugin.options
        tokenizer = plugin.open(
            options, image_size=prepared.image_size, channels=prepared.channels
        ).to(device)
        batches = _held_out(prepared, settings.batch_size)
        metrics: dict[str, Any] = dict(tokenizer.import_metrics(options, batches))
        files = tokenizer.files()
        if tokenizer.can_decode:
            report = reconstruct(tokenizer, prepared, "validate", settings.batch_size)
            metrics |= report.metrics
            files |= report.files()
        else:
            logger.warning(
                "%r has no decoder: it can tokenize pictures for training, not draw any, so there "
                "are no reconstruction figures",
                name,
            )
        logger.info("figures of held-out pictures: %s", canonical_json(metrics).strip())
        files[METRICS] = canonical_json(metrics).encode()
        writer.write_part(0, files, {})
        return _finish(writer, 1)


def _sources(plugin: type[PublishedTokenizer], options: object, folder: Path) -> list[str]:
    """Hashes of the published files; once they were imported they need not be there any more."""
    try:
        return [sampled_sha256(path) for path in plugin.sources(options)]
    except FileNotFoundError:
        if not (folder / MANIFEST).is_file():
            raise
        imported: list[str] = read_manifest(folder, "tokenizer")["config"]["sources"]
        return imported


def _held_out(prepared: PreparedFolder, batch_size: int) -> Iterator[Tensor]:
    """Batches of the first validation pictures, ``(B, C, S, S)`` uint8."""
    keys = [row["key"] for row in prepared.rows("validate")][:_MEASURED]
    pictures = list(prepared.images(keys).values())
    for start in range(0, len(pictures), batch_size):
        yield to_tensor([decode_png(png) for png in pictures[start : start + batch_size]])
