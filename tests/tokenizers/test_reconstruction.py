"""The reconstruction report against computations of the test's own."""

import math
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor

from arra_med.images import decode_png
from arra_med.store import PreparedFolder
from arra_med.tokenizers.base import ImageTokenizer
from arra_med.tokenizers.reconstruction import panel, reconstruct
from tests.conftest import write_prepared


class Coarse(ImageTokenizer):
    """Codes are the brightness of blocks of 4 px in steps of 16; half of the codebook is idle."""

    num_codes, channels = 32, 1

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.grid = (image_size // 4, image_size // 4)
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def encode(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images.float(), 4)[:, 0].div(16).long()

    def decode(self, codes: Tensor) -> Tensor:
        pixels = (codes * 16 + 8).to(torch.uint8)[:, None]
        return pixels.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)

    def files(self) -> dict[str, bytes]:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError


def pairs(prepared: PreparedFolder) -> list[tuple[np.ndarray, np.ndarray]]:
    """Validation pictures and their reconstruction, without torch, ``(H, W)`` float64."""
    keys = {row["key"] for row in prepared.rows("validate")}
    found = []
    for key, png in prepared.iter_images():
        if key in keys:
            picture = decode_png(png)[..., 0].astype(float)
            blocks = picture.reshape(8, 4, 8, 4).mean(axis=(1, 3))
            again = (blocks // 16 * 16 + 8).repeat(4, axis=0).repeat(4, axis=1)
            found.append((picture, again))
    return found


def naive_ms_ssim(x: np.ndarray, y: np.ndarray, weights: list[float]) -> float:
    """Wang, Simoncelli and Bovik (2003), formula 7, windows inside the picture alone."""
    axis = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(axis, axis) / axis.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    total = 1.0
    for scale, weight in enumerate(weights):
        a, b, aa, bb, ab = (
            convolve2d(p, window, mode="valid") for p in (x, y, x * x, y * y, x * y)
        )
        structure = (2 * (ab - a * b) + c2) / (aa - a * a + bb - b * b + c2)
        luminance = (2 * a * b + c1) / (a * a + b * b + c1)
        last = scale == len(weights) - 1
        total *= max(0.0, (structure * luminance if last else structure).mean()) ** weight
        half = x.shape[0] // 2
        x, y = (p.reshape(half, 2, half, 2).mean(axis=(1, 3)) for p in (x, y))
    return total


def test_the_figures_are_those_of_an_independent_computation(prepared: PreparedFolder) -> None:
    report = reconstruct(Coarse(32), prepared, "validate", batch_size=3)
    known = pairs(prepared)
    psnr = [10 * math.log10(255**2 / ((a - b) ** 2).mean()) for a, b in known]
    codes = np.concatenate([(b[::4, ::4] // 16).ravel() for _, b in known])
    _, counts = np.unique(codes, return_counts=True)
    share = counts / counts.sum()
    weights = [0.0448 / 0.3304, 0.2856 / 0.3304]  # the first two, scaled up to 1
    assert report.metrics == {
        "psnr_db": pytest.approx(np.mean(psnr), abs=1e-4),
        "psnr_db_p5": pytest.approx(np.percentile(psnr, 5), abs=1e-4),
        "ms_ssim": pytest.approx(
            np.mean([naive_ms_ssim(a, b, weights) for a, b in known]), abs=1e-4
        ),
        "ms_ssim_scales": 2,
        "codebook_perplexity": pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4),
        "codes_used": pytest.approx(len(counts) / 32),
        "num_codes": 32,
        "num_images": 8,
    }


def test_the_page_says_the_figures_and_how_many_scales(prepared: PreparedFolder) -> None:
    report = reconstruct(Coarse(32), prepared, "validate", batch_size=8)
    files = report.files()
    page = files["report.md"].decode()
    assert "MS-SSIM, 2 scales, not the usual 5: the pictures are too small" in page
    assert f"{report.metrics['psnr_db']:.2f} dB" in page
    assert "(reconstructions.png)" in page
    shown = decode_png(files["reconstructions.png"])
    assert shown.shape == (96, 8 * 32 + 7 * 2, 1)  # eight panels of three pictures


def test_five_scales_are_used_where_they_fit_and_none_below_a_window(tmp_path: Path) -> None:
    large = write_prepared(tmp_path / "large", num=10, size=176)
    page = reconstruct(Coarse(176), large, "validate", batch_size=8).files()["report.md"].decode()
    assert "MS-SSIM, 5 scales |" in page
    small = write_prepared(tmp_path / "small", num=10, size=8)
    report = reconstruct(Coarse(8), small, "validate", batch_size=8)
    assert "ms_ssim" not in report.metrics
    assert "MS-SSIM" not in report.files()["report.md"].decode()


def test_a_panel_is_picture_reconstruction_and_four_times_the_difference() -> None:
    picture = torch.tensor([[[10, 200]]], dtype=torch.uint8)
    decoded = torch.tensor([[[13, 100]]], dtype=torch.uint8)
    assert panel(picture, decoded)[..., 0].tolist() == [[10, 200], [13, 100], [12, 255]]
