"""MS-SSIM of 8-bit pictures, at as many of its scales as they are large enough for.

Wang, Simoncelli and Bovik, Asilomar 2003; MONAI's implementation.
"""

import torch
from torch import Tensor

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
    from monai.metrics.regression import compute_ms_ssim  # takes seconds to import

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
