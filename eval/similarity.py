"""MS-SSIM two ways that must not be confused: *paired* and *diversity*.

Paired compares a generated picture with the real one of the same prompt; higher is closer.
Diversity compares pictures of one set with each other; the value to reach is the real set's, and
a value near 1 means one picture over and over. Wang, Simoncelli and Bovik, Asilomar 2003; MONAI's
implementation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim
from numpy.typing import NDArray
from torch import Tensor

from arra_med.eval.inference import to_tensor

DATA_RANGE = 255.0
"""Of 8-bit pictures; always passed on, never left to a default."""
KERNEL_SIZE, KERNEL_SIGMA = 11, 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The paper's five scales, finest first."""


def scale_weights(size: int) -> tuple[float, ...]:
    """Weights of the scales that a picture of ``size`` px allows, adding up to 1.

    All five need 176 px, four 99, three 44, two 22. Fewer scales give other values:
    results at different scales do not compare.

    Raises:
        ValueError: if not even one 11-pixel window fits.
    """
    for scales in range(len(SCALE_WEIGHTS), 0, -1):
        fits = size // 2 ** (scales - 1) >= KERNEL_SIZE
        if fits and size // max(1, scales - 1) ** 2 >= KERNEL_SIZE:  # the second is MONAI's own
            weights = SCALE_WEIGHTS[:scales]
            return tuple(weight / sum(weights) for weight in weights)
    raise ValueError(f"MS-SSIM needs pictures of at least {KERNEL_SIZE} px, got {size}")


def method(size: int) -> str:
    """What :func:`ms_ssim` does at ``size`` px, in words."""
    weights = scale_weights(size)
    standard = ", the standard five" if len(weights) == len(SCALE_WEIGHTS) else ""
    return (
        f"MS-SSIM (MONAI) at {size} px: {len(weights)} scales{standard}, weights "
        f"{', '.join(f'{weight:.4f}' for weight in weights)}, {KERNEL_SIZE} px Gaussian window "
        f"with σ = {KERNEL_SIGMA}, data range {DATA_RANGE:.0f}"
    )


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of pictures taken in pairs.

    Args:
        x: ``(N, C, H, W)`` uint8 in [0, 255].
        y: the same shape and type.

    Returns:
        ``(N,)`` float32 in [0, 1].

    Raises:
        ValueError: on unequal shapes, other types, or pictures under 11 px.
    """
    if x.dtype != torch.uint8 or y.dtype != torch.uint8:
        raise ValueError(f"expected uint8 pictures, got {x.dtype} and {y.dtype}")
    values: Tensor = compute_ms_ssim(
        x.float(),
        y.float(),
        spatial_dims=2,
        data_range=DATA_RANGE,
        kernel_size=KERNEL_SIZE,
        kernel_sigma=KERNEL_SIGMA,
        weights=scale_weights(min(x.shape[2:])),
    )
    return values[:, 0]


def paired(
    generated: Sequence[bytes], real: Sequence[bytes], *, batch_size: int, device: torch.device
) -> NDArray[np.float64]:
    """MS-SSIM of each generated picture with the real one at the same place in the other list.

    Args:
        generated: N PNG pictures.
        real: N PNG pictures of the same size.
        batch_size: pairs at once.
        device: where to run.

    Returns:
        ``(N,)`` values in [0, 1].
    """
    values = []
    for start in range(0, len(generated), batch_size):
        rows = slice(start, start + batch_size)
        x, y = to_tensor(generated[rows]).to(device), to_tensor(real[rows]).to(device)
        values.append(ms_ssim(x, y).cpu().double().numpy())
    return np.concatenate(values)


def diversity(
    pictures: Sequence[bytes],
    pairs: NDArray[np.int64],
    *,
    batch_size: int,
    device: torch.device,
) -> NDArray[np.float64]:
    """MS-SSIM of pairs within one set.

    Args:
        pictures: N PNG pictures of one size.
        pairs: ``(P, 2)`` indices into them, see :func:`random_pairs`.
        batch_size: pairs at once.
        device: where to run.

    Returns:
        ``(P,)`` values in [0, 1].
    """
    first = [pictures[i] for i in pairs[:, 0]]
    second = [pictures[i] for i in pairs[:, 1]]
    return paired(first, second, batch_size=batch_size, device=device)


def random_pairs(
    groups: Sequence[str], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Up to ``count`` distinct pairs of pictures of different groups (patients).

    Returns:
        ``(P, 2)`` indices, the first smaller than the second; all pairs when there are no more
        than ``count``, and none when all pictures are of one group.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    n = len(group)
    if n * (n - 1) // 2 <= 4 * count:
        first, second = np.triu_indices(n, k=1)
    else:
        drawn = np.sort(generator.integers(0, n, size=(4 * count, 2)), axis=1)
        drawn = np.unique(drawn, axis=0)
        first, second = drawn[:, 0], drawn[:, 1]
    apart = np.flatnonzero(group[first] != group[second])
    chosen = np.sort(generator.permutation(apart)[:count])
    return np.stack([first[chosen], second[chosen]], axis=1)


def other_patients(
    groups: Sequence[str], generator: np.random.Generator
) -> NDArray[np.int64] | None:
    """For each picture, the index of one of another group (patient), drawn at random.

    Returns:
        ``(N,)`` indices, or ``None`` when all pictures are of one group.
    """
    _, group, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return None
    order = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])[group]
    size = counts[group]
    draws = generator.integers(0, len(group) - size)  # a place among those of other groups
    return np.asarray(order[np.where(draws < starts, draws, draws + size)])
