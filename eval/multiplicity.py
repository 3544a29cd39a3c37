"""Several tests at once: Holm, "A simple sequentially rejective multiple test procedure",
Scandinavian Journal of Statistics 6 (1979).
"""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted so that the chance of any false alarm among them stays at the level.

    Sorted upwards, the i-th of m (from 0) is multiplied by m - i, is no smaller than the one
    before it, and at most 1. It holds whatever the dependence between the tests.

    Args:
        p_values: of the m tests that are read together, each in [0, 1].

    Returns:
        The adjusted values in the order given; none for none.

    Raises:
        ValueError: if one is not in [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected p values in [0, 1], got {list(p_values)}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in adjusted]
