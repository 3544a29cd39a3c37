"""Pictures through a frozen extractor or judge; the pixels of every batch are checked."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from arra_med.errors import WorkError
from arra_med.images import decode_png


def check_pictures(images: Tensor) -> None:
    """Raise unless a batch is uint8 pictures on the scale 0 to 255.

    Args:
        images: expected ``(B, 1 or 3, H, W)`` uint8.

    Raises:
        ValueError: on another shape or type, or if no pixel is above 1 though some are 1: a
            picture in [0, 1] that was cast. (A batch that is black throughout is a picture.)
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"expected (B, 1 or 3, H, W) pictures, got shape {tuple(images.shape)}")
    if images.dtype != torch.uint8:
        raise ValueError(
            f"expected uint8 pictures in [0, 255], got {images.dtype}: scale and round them first"
        )
    if int(images.max()) == 1:
        raise ValueError(
            "no pixel of this batch is above 1: pictures in [0, 1] were cast to uint8; "
            "expected [0, 255]"
        )


def to_tensor(pngs: Sequence[bytes]) -> Tensor:
    """Equally large PNG pictures as ``(B, C, H, W)`` uint8."""
    return torch.from_numpy(np.stack([decode_png(png) for png in pngs])).permute(0, 3, 1, 2)


def batches(pngs: Iterable[bytes], batch_size: int) -> Iterator[Tensor]:
    """Decode pictures into ``(B, C, H, W)`` uint8 batches, checked one by one."""
    iterator = iter(pngs)
    while chunk := list(islice(iterator, batch_size)):
        images = to_tensor(chunk).contiguous()
        check_pictures(images)
        yield images


def predict(
    module: nn.Module, pngs: Sequence[bytes], *, batch_size: int, device: torch.device, what: str
) -> NDArray[np.float32]:
    """Outputs of ``module`` for every picture, in order.

    Args:
        module: an extractor or a judge, in evaluation mode.
        pngs: equally large PNG pictures.
        batch_size: pictures a forward pass.
        device: where to run.
        what: name for the progress bar.

    Returns:
        ``(N, D)`` float32.

    Raises:
        ValueError: if a batch is not uint8 pictures in [0, 255].
        WorkError: if an output is not finite.
    """
    outputs = []
    with torch.inference_mode(), tqdm(total=len(pngs), desc=what, unit="img") as progress:
        for images in batches(pngs, batch_size):
            output = module(images.to(device)).float().cpu()
            if not torch.isfinite(output).all():
                raise WorkError(f"{what}: a batch gave NaN or infinity; check the weights")
            outputs.append(output.numpy())
            progress.update(len(images))
    return np.concatenate(outputs)
