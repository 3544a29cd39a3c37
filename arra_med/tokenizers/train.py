"""``train-tokenizer``: train an image tokenizer on a prepared folder, or import a published one."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from arra_med.config import to_tree
from arra_med.errors import RequestError, WorkError
from arra_med.images import contact_sheet, decode_png, encode_png
from arra_med.registry import TOKENIZERS
from arra_med.settings import Tokenizer, TokenizerTraining
from arra_med.store import PartWriter, PreparedFolder, canonical_json
from arra_med.tokenizers.base import ImageTokenizer, PublishedTokenizer, TrainableTokenizer

logger = logging.getLogger(__name__)

_PANEL = 16
_MEASURED = 256  # pictures that an importer measures on beside reconstruction


def train_tokenizer(
    settings: Tokenizer, prepared: PreparedFolder, folder: Path, *, seed: int, device: torch.device
) -> dict[str, Any]:
    """Train on the training split; write weights, reconstruction figures and a picture grid.

    A published tokenizer is imported instead: the same files, of weights as they are. One without
    a decoder has no reconstruction figures and no picture grid.

    Returns:
        The manifest; its ``metrics`` hold ``psnr_db`` (mean over held-out pictures) and
        ``codebook_perplexity``.

    Raises:
        FileNotFoundError: if published weights are not there.
        RequestError: if the plug-in cannot be trained or its options do not fit the pictures.
        WorkError: if the loss is not finite.
    """
    plugin = TOKENIZERS.get(settings.plugin.name)
    if issubclass(plugin, PublishedTokenizer):
        return _import(plugin, settings, prepared, folder, device)
    if not issubclass(plugin, TrainableTokenizer):
        raise RequestError(f"image tokenizer {settings.plugin.name!r} is not trained here")
    config = {
        "plugin": to_tree(settings.plugin),
        "training": to_tree(settings.training),
        "seed": seed,
        "prepared": prepared.content_hash,
    }
    with PartWriter(folder, kind="tokenizer", config=config) as writer:
        if not writer.missing(1):
            logger.info("%s is already done", folder)
            return writer.finish(1)
        tokenizer = plugin.create(
            settings.plugin.options,
            image_size=prepared.image_size,
            channels=prepared.channels,
            seed=seed,
        ).to(device)
        _optimise(tokenizer, settings, prepared, seed)
        metrics, grid = reconstruct(tokenizer, prepared, "validate", settings.batch_size)
        logger.info(
            "reconstruction of held-out pictures: PSNR %.2f dB, codebook perplexity %.0f of %d",
            metrics["psnr_db"],
            metrics["codebook_perplexity"],
            tokenizer.num_codes,
        )
        files = tokenizer.files() | {
            "metrics.json": canonical_json(metrics).encode(),
            "reconstructions.png": encode_png(grid),
        }
        writer.write_part(0, files, {})
        return writer.finish(1, summary={"metrics": metrics})


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
    config = {"plugin": to_tree(settings.plugin), "prepared": prepared.content_hash}
    with PartWriter(folder, kind="tokenizer", config=config) as writer:
        if not writer.missing(1):
            logger.info("%s is already done", folder)
            return writer.finish(1)
        logger.info("importing the published image tokenizer %r: nothing is trained", name)
        options = settings.plugin.options
        tokenizer = plugin.open(
            options, image_size=prepared.image_size, channels=prepared.channels
        ).to(device)
        batches = _held_out(prepared, settings.batch_size)
        metrics: dict[str, Any] = dict(tokenizer.import_metrics(options, batches))
        files = tokenizer.files()
        if tokenizer.can_decode:
            figures, grid = reconstruct(tokenizer, prepared, "validate", settings.batch_size)
            metrics |= figures
            files["reconstructions.png"] = encode_png(grid)
        else:
            logger.warning(
                "%r has no decoder: it can tokenize pictures for training, not draw any, so there "
                "are no reconstruction figures",
                name,
            )
        logger.info("figures of held-out pictures: %s", canonical_json(metrics).strip())
        files["metrics.json"] = canonical_json(metrics).encode()
        writer.write_part(0, files, {})
        return writer.finish(1, summary={"metrics": metrics})


def _held_out(prepared: PreparedFolder, batch_size: int) -> Iterator[Tensor]:
    """Batches of the first validation pictures, ``(B, C, S, S)`` uint8."""
    keys = [row["key"] for row in prepared.rows("validate")][:_MEASURED]
    pictures = list(prepared.images(keys).values())
    for start in range(0, len(pictures), batch_size):
        yield to_tensor([decode_png(png) for png in pictures[start : start + batch_size]])


def _optimise(
    tokenizer: TrainableTokenizer, settings: Tokenizer, prepared: PreparedFolder, seed: int
) -> None:
    training = settings.training
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    batches = _batches(prepared, training.batch_size, np.random.default_rng(seed))
    generator = torch.Generator().manual_seed(seed)
    tokenizer.train()
    with tqdm(total=training.steps, desc="train-tokenizer", unit="step") as progress:
        for step in range(training.steps):
            images = next(batches).to(tokenizer.device, non_blocking=True)
            loss = tokenizer.training_loss(images, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            progress.update()
            if step % 50 == 0 or step == training.steps - 1:
                value = loss.item()
                if not math.isfinite(value):
                    raise WorkError(f"the loss is {value} at step {step}: lower learning_rate")
                progress.set_postfix(loss=f"{value:.4f}")
    tokenizer.eval()


@torch.no_grad()
def reconstruct(
    tokenizer: ImageTokenizer, prepared: PreparedFolder, split: str, batch_size: int
) -> tuple[dict[str, float], np.ndarray]:
    """How well pictures of ``split`` survive encode and decode.

    Returns:
        ``psnr_db`` (mean over pictures of 10·log10(255² / MSE)), ``codebook_perplexity``
        (exp of the entropy of code use), ``num_images``; and a grid of originals, each with its
        reconstruction below it.
    """
    keys = [row["key"] for row in prepared.rows(split)]
    pictures = list(prepared.images(keys).values())
    psnr: list[float] = []
    usage = torch.zeros(tokenizer.num_codes)
    panels: list[np.ndarray] = []
    for start in range(0, len(pictures), batch_size):
        images = to_tensor([decode_png(p) for p in pictures[start : start + batch_size]])
        codes = tokenizer.encode(images.to(tokenizer.device))
        decoded = tokenizer.decode(codes).cpu()
        error = (images.float() - decoded.float()).square().mean(dim=(1, 2, 3)).clamp(min=1e-6)
        psnr += (10 * torch.log10(255**2 / error)).tolist()
        usage += torch.bincount(codes.flatten().cpu(), minlength=tokenizer.num_codes)
        for picture, again in zip(images, decoded, strict=True):
            if len(panels) < _PANEL:
                panels.append(torch.cat([picture, again], dim=1).permute(1, 2, 0).numpy())
    share = usage[usage > 0] / usage.sum()
    metrics = {
        "psnr_db": float(np.mean(psnr)),
        "codebook_perplexity": float((-(share * share.log()).sum()).exp()),
        "num_images": len(pictures),
    }
    return metrics, contact_sheet(panels, columns=8)


def to_tensor(pictures: list[np.ndarray]) -> Tensor:
    """``(H, W, C)`` uint8 arrays to one ``(B, C, H, W)`` uint8 tensor."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _batches(
    prepared: PreparedFolder, batch_size: int, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Endless shuffled batches of training pictures, one image part in memory at a time."""
    keys = {row["key"] for row in prepared.rows("train")}
    waiting: list[np.ndarray] = []
    while True:
        for part in rng.permutation(len(prepared.image_parts)):
            pictures = [png for key, png in prepared.read_part(int(part)) if key in keys]
            for index in rng.permutation(len(pictures)):
                waiting.append(decode_png(pictures[index]))
                if len(waiting) == batch_size:
                    yield to_tensor(waiting)
                    waiting = []
