"""Pictures through a frozen extractor or judge, streamed; every batch is checked."""

import io
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from arra_med.errors import WorkError
from arra_med.images import decode_png
from arra_med.parallel import available_cores
from arra_med.picture_loader import Batch, Transform, load_keys, load_pngs
from arra_med.progress import Progress
from arra_med.store import PreparedFolder

_FEW_PIXELS = 2**28
"""Below some 1,000 pictures of 512 px processes take longer to start than they save."""
_AHEAD = 2  # batches that a GPU is given before the outputs of an earlier one are fetched


@dataclass(frozen=True, eq=False)
class FolderPictures:
    """Pictures of a prepared folder, read as they are needed.

    Args:
        prepared: the folder.
        keys: of different samples; outputs come in this order.

    Raises:
        ValueError: if a key is named twice.
    """

    prepared: PreparedFolder
    keys: Sequence[str]

    def __post_init__(self) -> None:
        if len(set(self.keys)) < len(self.keys):
            raise ValueError("expected keys of different samples: a key is named twice")

    def __len__(self) -> int:
        return len(self.keys)


PictureSource = Sequence[bytes] | FolderPictures
"""PNG pictures in memory, or those of a prepared folder."""


_DECODING = ContextVar("_DECODING", default=False)


@contextmanager
def decoding() -> Iterator[None]:
    """Within it a network is given what was decoded from files, where 0 and 1 are grey levels."""
    token = _DECODING.set(True)
    try:
        yield
    finally:
        _DECODING.reset(token)


def was_cast(highest: float) -> bool:
    """Whether the highest grey level of a batch is that of pictures in [0, 1] that were cast.

    Files may be nearly black; which of them share a batch must not matter.
    """
    return round(highest) == 1 and not _DECODING.get()


def check_pictures(images: Tensor) -> None:
    """Raise unless a batch is uint8 pictures on the scale 0 to 255.

    Args:
        images: expected ``(B, 1 or 3, H, W)`` uint8.

    Raises:
        ValueError: on another shape or type, or if no pixel is above 1 though some are 1: a
            picture in [0, 1] that was cast. (A batch that is black throughout is a picture, and
            so is what was decoded from files.)
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"expected (B, 1 or 3, H, W) pictures, got shape {tuple(images.shape)}")
    if images.dtype != torch.uint8:
        raise ValueError(
            f"expected uint8 pictures in [0, 255], got {images.dtype}: scale and round them first"
        )
    if was_cast(int(images.max())):
        raise ValueError(
            "no pixel of this batch is above 1: pictures in [0, 1] were cast to uint8; "
            "expected [0, 255]"
        )


def to_tensor(pngs: Sequence[bytes]) -> Tensor:
    """Equally large PNG pictures as ``(B, C, H, W)`` uint8."""
    return torch.from_numpy(np.stack([decode_png(png) for png in pngs])).permute(0, 3, 1, 2)


def predict(
    evaluator: nn.Module,
    pictures: PictureSource,
    *,
    batch_size: int,
    device: torch.device,
    what: str,
    workers: int | None = None,
) -> NDArray[np.float32]:
    """Outputs of a network for every picture, in order.

    Args:
        evaluator: in evaluation mode, on ``device``; its ``transform`` (see
            :attr:`arra_med.eval.evaluator.Evaluator.transform`) prepares each picture.
        pictures: of one size, if the transform keeps sizes. Those of a folder are never in memory
            together.
        batch_size: most pictures a forward pass.
        device: where it runs.
        what: name for the progress bar and in errors.
        workers: processes that decode and transform, 0 for none beside this one; by default as
            many as there are cores, or none for few pictures.

    Returns:
        ``(N, D)`` float32; a picture's row depends neither on ``batch_size`` nor on ``workers``
        but for the rounding of the network's sums.

    Raises:
        ValueError: if there is no picture, a batch is uint8 but not pictures in [0, 255], or the
            network does not give ``(B, D)``.
        RequestError: if a folder lacks a picture, or pictures differ in size.
        WorkError: naming the first picture whose output is not finite.
    """
    if not len(pictures):
        raise ValueError(f"{what}: there is no picture")
    if workers is None:
        workers = available_cores() if _num_pixels(pictures) >= _FEW_PIXELS else 0
    transform: Transform = evaluator.transform  # type: ignore[assignment] # nn.Module's are tensors
    batches = _load(pictures, transform, batch_size, workers, device)
    rows = _rows(pictures)
    outputs: NDArray[np.float32] | None = None
    with (
        torch.inference_mode(),
        decoding(),
        Progress(len(pictures), unit="image", label=what) as progress,
    ):
        for keys, output in _outputs(evaluator, batches, device):
            if output.ndim != 2 or len(output) != len(keys):
                raise ValueError(
                    f"{what}: expected ({len(keys)}, D) from the network, got {tuple(output.shape)}"
                )
            values = output.numpy()
            _check_finite(keys, values, what)
            if outputs is None:
                outputs = np.empty((len(pictures), values.shape[1]), dtype=np.float32)
            outputs[[rows[key] for key in keys]] = values
            progress.update(len(keys))
    assert outputs is not None, "there is a picture"
    return outputs


def _load(
    pictures: PictureSource,
    transform: Transform,
    batch_size: int,
    workers: int,
    device: torch.device,
) -> Iterator[Batch]:
    pin = device.type == "cuda"
    if isinstance(pictures, FolderPictures):
        return load_keys(
            pictures.prepared,
            pictures.keys,
            transform,
            batch_size=batch_size,
            workers=workers,
            pin_memory=pin,
        )
    return load_pngs(pictures, transform, batch_size=batch_size, workers=workers, pin_memory=pin)


def _rows(pictures: PictureSource) -> dict[str, int]:
    keys = pictures.keys if isinstance(pictures, FolderPictures) else map(str, range(len(pictures)))
    return {key: row for row, key in enumerate(keys)}


def _num_pixels(pictures: PictureSource) -> int:
    if isinstance(pictures, FolderPictures):
        return len(pictures) * pictures.prepared.image_size**2
    with Image.open(io.BytesIO(pictures[0])) as picture:  # its header alone is read
        return len(pictures) * picture.width * picture.height


def _outputs(
    evaluator: nn.Module, batches: Iterator[Batch], device: torch.device
) -> Iterator[tuple[list[str], Tensor]]:
    """Keys and ``(B, D)`` float32 on the CPU; a GPU has work while others are read and checked."""
    if device.type != "cuda":
        for batch in batches:
            yield batch.keys, evaluator(_checked(batch.pixels).to(device)).float().cpu()
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    running: deque[tuple[list[str], Tensor, torch.cuda.Event]] = deque()
    for batch in batches:
        running.append((batch.keys, *_start(evaluator, _checked(batch.pixels), copying)))
        if len(running) > _AHEAD:
            yield _finish(*running.popleft())
    while running:
        yield _finish(*running.popleft())


def _start(
    evaluator: nn.Module, pixels: Tensor, copying: torch.cuda.Stream
) -> tuple[Tensor, torch.cuda.Event]:
    """Begin a forward pass on a GPU; pixels are copied beside the pass that runs.

    Outputs are copied back right behind their own pass: asked for later, the copy would stand
    behind the passes begun since.
    """
    computing = torch.cuda.current_stream(copying.device)
    with torch.cuda.stream(copying):
        there = pixels.to(copying.device, non_blocking=True)
    computing.wait_stream(copying)
    there.record_stream(computing)  # or its memory were given away while the pass reads it
    output = evaluator(there).float()
    return output.to("cpu", non_blocking=True), computing.record_event()


def _finish(keys: list[str], output: Tensor, ready: torch.cuda.Event) -> tuple[list[str], Tensor]:
    ready.synchronize()
    return keys, output


def _checked(pixels: Tensor) -> Tensor:
    """Batches of uint8 are pictures; what other batches must be the network itself checks."""
    if pixels.dtype == torch.uint8:
        check_pictures(pixels)
    return pixels


def _check_finite(keys: Sequence[str], values: NDArray[np.float32], what: str) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise WorkError(
            f"{what}: {len(keys) - int(finite.sum())} outputs of a batch of {len(keys)} are NaN or "
            f"infinite, first that of picture {keys[int(finite.argmin())]}: check the weights"
        )
