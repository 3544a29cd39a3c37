"""Lungs as layers of a film that findings change in place, seen from the front or the side."""

from dataclasses import dataclass

import numpy as np

from arra_med.datasets.phantom.canvas import Array
from arra_med.datasets.phantom.findings import Size

GRADE: dict[Size, int] = {"small": 0, "moderate": 1, "large": 2}
"""Row of a table by severity."""


@dataclass(kw_only=True)
class LungLayers:
    """Lungs as layers of a film, ``(size, size)`` float32.

    Attributes:
        chest: 1 inside their outline, softened.
        heart: 1 where the heart is.
        air: how airy they are, 0 to about 1.
        vessels: how much of one lies here, 0 to about 1.
        extra: absorption of what is in them beside vessels.
    """

    chest: Array
    heart: Array
    air: Array
    vessels: Array
    extra: Array

    def fill(self, mask: Array, density: float) -> None:
        """Put something without air where ``mask`` is 1; below 1, air is left before or behind."""
        self.air = np.asarray(self.air * (1 - density * mask), np.float32)
