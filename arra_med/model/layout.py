"""Where image codes stand in the vocabulary and in a sequence.

A sequence is ``prompt · image start · codes in raster order · image end``. The *image part* is
everything after the image start; it is what the language model is trained to predict. Every
position is found from the layout and the sample's own prompt length, never by counting from the
end of a padded batch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

IGNORED = -100
"""Target of positions that no loss looks at, as in torch's cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """Token ids of an image.

    Attributes:
        start_ids: tokens that open an image; the unconditional branch of guidance sees these only.
        end_ids: tokens that close it.
        first_code_id: token id of image code 0; code ``c`` is ``first_code_id + c``.
        num_codes: how many codes there are.
        grid: ``(rows, columns)`` of codes.
        rep_id: the ``<REP>`` token among ``start_ids`` that alignment uses with span ``rep``.
        pad_id: token that fills the rest of a batch's shorter sequences.
    """

    start_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    first_code_id: int
    num_codes: int
    grid: tuple[int, int]
    pad_id: int
    rep_id: int | None = None

    @property
    def codes_per_image(self) -> int:
        """``rows · columns``."""
        return self.grid[0] * self.grid[1]

    def image_ids(self, codes: np.ndarray) -> np.ndarray:
        """``(rows · columns,)`` codes to the token ids of a whole image, start and end included.

        Raises:
            ValueError: if the number of codes or a code does not fit.
        """
        if codes.shape != (self.codes_per_image,):
            raise ValueError(f"expected {self.codes_per_image} codes, got shape {codes.shape}")
        if codes.min() < 0 or codes.max() >= self.num_codes:
            raise ValueError(f"codes must be in 0 … {self.num_codes - 1}, got {codes.max()}")
        body = codes.astype(np.int64) + self.first_code_id
        return np.concatenate([np.array(self.start_ids), body, np.array(self.end_ids)])

    def example(self, prompt_ids: Sequence[int], codes: np.ndarray) -> "Example":
        """One training sequence."""
        image = self.image_ids(codes)
        ids = np.concatenate([np.asarray(prompt_ids, np.int64), image])
        begin = len(prompt_ids) + len(self.start_ids)  # index of the first code
        targets = np.full(len(ids), IGNORED, np.int64)
        targets[begin - 1 : -1] = ids[begin:]
        aligned = np.zeros(len(ids), bool)
        if self.rep_id is None:
            aligned[begin - 1 : begin - 1 + self.codes_per_image] = True
        else:
            aligned[len(prompt_ids) + self.start_ids.index(self.rep_id)] = True
        return Example(ids=ids, targets=targets, aligned=aligned)

    def to_json(self) -> dict[str, Any]:
        """Plain values, fit for :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        lists = {name: tuple(value[name]) for name in ("start_ids", "end_ids", "grid")}
        return cls(**(value | lists))


@dataclass(frozen=True)
class Example:
    """A training sequence of T tokens.

    Attributes:
        ids: ``(T,)`` int64 token ids.
        targets: ``(T,)`` int64: the id to predict at each position, ``IGNORED`` outside the image
            part.
        aligned: ``(T,)`` bool: the positions whose hidden state is aligned to the teacher: with
            HYBNEXT those that predict an image code, with REP the ``<REP>`` token.
    """

    ids: np.ndarray
    targets: np.ndarray
    aligned: np.ndarray
