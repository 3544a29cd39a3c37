"""The plug-in interface of image-text encoders: how well does a picture fit its prompt?"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arra_med.eval.evaluator import Evaluator


@dataclass(frozen=True, eq=False, kw_only=True)
class TextVectors:
    """Vectors of texts.

    Attributes:
        vectors: ``(N, D)`` float32 of length 1.
        truncated: how many of the texts are longer than the encoder reads and were cut.
    """

    vectors: NDArray[np.float32]
    truncated: int


class ImageTextEncoder(Evaluator):
    """Two frozen encoders into one space; the cosine of picture and text says how well they fit.

    Its ``forward`` gives ``(B, dimension)`` float32 vectors of pictures, of any length.

    Attributes:
        dimension: length of a vector.
        context: most tokens of a text that are read; ``None`` if a text is never cut.
    """

    dimension: int
    context: int | None

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> TextVectors:
        """Vectors of texts, in order; each depends on its own text alone."""
