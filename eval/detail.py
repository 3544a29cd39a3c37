"""Fine detail of pictures, without a network: are generated ones blurred?

Encoders and MS-SSIM forgive blur, some even reward it. The variance of the Laplacian measures how
much there is of edges, texture and grain (Pech-Pacheco et al., ICPR 2000).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import laplace

from arra_med.images import decode_png


def fine_detail(pngs: Sequence[bytes]) -> NDArray[np.float64]:
    """Variance of the Laplacian of the grey values of each picture.

    Args:
        pngs: N PNG pictures of one size.

    Returns:
        ``(N,)`` in squared grey levels; 0 for a picture of one value.
    """
    return np.array([laplace(decode_png(p).astype(np.float64).mean(axis=2)).var() for p in pngs])
