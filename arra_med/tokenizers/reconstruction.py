"""How well pictures survive an image tokenizer: figures, panels and a page to read."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arra_med.images import contact_sheet, decode_png, encode_png
from arra_med.ms_ssim import ms_ssim, scale_weights
from arra_med.store import PreparedFolder
from arra_med.tokenizers.base import ImageTokenizer
from arra_med.tokenizers.batches import to_tensor

PANELS, COLUMNS = 16, 8
AMPLIFIED = 4
"""Differences are shown this many times as large."""
_FEWEST_PIXELS = 11  # MS-SSIM's window


@dataclass(frozen=True)
class ReconstructionReport:
    """What :func:`reconstruct` found.

    Attributes:
        metrics: ``psnr_db`` (mean over pictures of 10·log10(255² / MSE)), ``psnr_db_p5`` (its 5th
            percentile), ``ms_ssim`` (mean) and ``ms_ssim_scales`` (pictures under 11 px have
            neither), ``codebook_perplexity`` (exp of the entropy of code use), ``codes_used``
            (share of the codebook), ``num_codes``, ``num_images``.
        grid: pictures, each with its reconstruction and the difference below it.
    """

    metrics: dict[str, float]
    grid: np.ndarray

    def files(self) -> dict[str, bytes]:
        """``reconstructions.png`` and ``report.md``."""
        return {"reconstructions.png": encode_png(self.grid), "report.md": self._page().encode()}

    def _page(self) -> str:
        found = self.metrics
        lines = [
            "# Reconstruction of held-out pictures",
            "",
            f"{found['num_images']:.0f} pictures of the validation split, encoded and decoded.",
            "",
            "| figure | value |",
            "|---|---|",
            f"| PSNR, mean | {found['psnr_db']:.2f} dB |",
            f"| PSNR, 5th percentile | {found['psnr_db_p5']:.2f} dB |",
        ]
        if "ms_ssim" in found:
            scales = int(found["ms_ssim_scales"])
            usual = "" if scales == 5 else ", not the usual 5: the pictures are too small"
            lines.append(f"| MS-SSIM, {scales} scales{usual} | {found['ms_ssim']:.4f} |")
        lines += [
            f"| codes used | {found['codes_used']:.1%} of {found['num_codes']:.0f} |",
            f"| codebook perplexity | {found['codebook_perplexity']:.1f} |",
            "",
            f"In each panel: the picture, its reconstruction, their difference × {AMPLIFIED}.",
            "",
            "![panels](reconstructions.png)",
            "",
        ]
        return "\n".join(lines)


@torch.no_grad()
def reconstruct(
    tokenizer: ImageTokenizer, prepared: PreparedFolder, split: str, batch_size: int
) -> ReconstructionReport:
    """Encode and decode every picture of ``split``.

    Raises:
        RequestError: if the split is empty.
    """
    keys = [row["key"] for row in prepared.rows(split)]
    pictures = prepared.pick_images(keys)
    psnr: list[float] = []
    similarity: list[float] = []
    usage = torch.zeros(tokenizer.num_codes)
    panels: list[np.ndarray] = []
    while batch := list(itertools.islice(pictures, batch_size)):
        images = to_tensor([decode_png(png) for _, png in batch])
        codes = tokenizer.encode(images.to(tokenizer.device))
        decoded = tokenizer.decode(codes).cpu()
        error = (images.float() - decoded.float()).square().mean(dim=(1, 2, 3)).clamp(min=1e-6)
        psnr += (10 * torch.log10(255**2 / error)).tolist()
        if tokenizer.image_size >= _FEWEST_PIXELS:
            similarity += ms_ssim(images, decoded).tolist()
        usage += torch.bincount(codes.flatten().cpu(), minlength=tokenizer.num_codes)
        for picture, again in zip(images, decoded, strict=True):
            if len(panels) < PANELS:
                panels.append(panel(picture, again))
    share = usage[usage > 0] / usage.sum()
    metrics: dict[str, float] = {
        "psnr_db": float(np.mean(psnr)),
        "psnr_db_p5": float(np.percentile(psnr, 5)),
        "codebook_perplexity": float((-(share * share.log()).sum()).exp()),
        "codes_used": float((usage > 0).float().mean()),
        "num_codes": tokenizer.num_codes,
        "num_images": len(keys),
    }
    if similarity:
        metrics["ms_ssim"] = float(np.mean(similarity))
        metrics["ms_ssim_scales"] = len(scale_weights(tokenizer.image_size))
    return ReconstructionReport(metrics, contact_sheet(panels, columns=COLUMNS))


def panel(picture: Tensor, decoded: Tensor) -> np.ndarray:
    """Picture, reconstruction and amplified absolute difference, one above the other.

    Args:
        picture: ``(C, H, W)`` uint8.
        decoded: the same.

    Returns:
        ``(3 · H, W, C)`` uint8.
    """
    difference = (picture.int() - decoded.int()).abs() * AMPLIFIED
    amplified = difference.clamp(max=255).to(torch.uint8)
    return np.asarray(torch.cat([picture, decoded, amplified], dim=1).permute(1, 2, 0))
