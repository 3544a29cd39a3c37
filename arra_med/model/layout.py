"""Where image codes stand in the vocabulary and in a sequence.

A sequence is ``prompt · prompt end · image start · rows of codes · image end``; each row of codes
may be closed by tokens of its own. The *image part* is everything after the image start; it is what
the language model is trained to predict. Every position is found from the layout and the sample's
own prompt length, never by counting from the end of a padded batch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from arra_med.errors import RequestError

IGNORED = -100
"""Target of positions that no loss looks at, as in torch's cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """Token ids of an image.

    Attributes:
        start_ids: tokens that open an image, those that name its size included; the unconditional
            branch of guidance sees these only.
        end_ids: tokens that close it.
        code_ids: token id of each image code.
        grid: ``(rows, columns)`` of codes.
        pad_id: token that fills the rest of a batch's shorter sequences.
        rep_id: the ``<REP>`` token among ``start_ids`` that alignment uses with span ``rep``.
        prompt_end_ids: tokens that close a prompt; absent where there is no prompt.
        row_end_ids: tokens that close each row of codes.
        size_ids: token that names a side of 0, 1, 2 … ``size_unit`` codes, if there are such; the
            last two of ``start_ids`` are then those of ``grid``.
        size_unit: codes a step of ``size_ids``.
    """

    start_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    code_ids: tuple[int, ...]
    grid: tuple[int, int]
    pad_id: int
    rep_id: int | None = None
    prompt_end_ids: tuple[int, ...] = ()
    row_end_ids: tuple[int, ...] = ()
    size_ids: tuple[int, ...] = ()
    size_unit: int = 1

    @property
    def num_codes(self) -> int:
        """Size of the codebook."""
        return len(self.code_ids)

    @property
    def codes_per_image(self) -> int:
        """``rows · columns``."""
        return self.grid[0] * self.grid[1]

    @property
    def image_length(self) -> int:
        """Tokens after the image start: rows of codes and what closes them, the image end."""
        rows, columns = self.grid
        return rows * (columns + len(self.row_end_ids)) + len(self.end_ids)

    def sequence_length(self, prompt_tokens: int) -> int:
        """Tokens of a whole sequence whose prompt has so many."""
        return len(self.prompt([0] * prompt_tokens)) + self.image_length

    @property
    def vocabulary_end(self) -> int:
        """Rows that embedding and head need for this layout."""
        special = (self.pad_id, *self.start_ids, *self.end_ids, *self.row_end_ids)
        return max((*special, *self.prompt_end_ids, *self.size_ids, *self.code_ids)) + 1

    @cached_property
    def token_of_code(self) -> np.ndarray:
        """``(num_codes,)`` int64 token ids."""
        return np.asarray(self.code_ids, np.int64)

    def with_grid(self, rows: int, columns: int) -> "ImageLayout":
        """The same layout for images of another size.

        Raises:
            RequestError: if no token names such a side.
        """
        if (rows, columns) == self.grid:
            return self
        sides = []
        for side in (rows, columns):
            step, rest = divmod(side, self.size_unit)
            if rest or not 0 < step < len(self.size_ids):
                largest = (len(self.size_ids) - 1) * self.size_unit
                named = (
                    f"it names sides of {self.size_unit} to {largest} codes in steps of "
                    f"{self.size_unit}"
                    if self.size_ids
                    else "it has no tokens that name an image's size"
                )
                raise RequestError(
                    f"this model draws {self.grid[0]} × {self.grid[1]} codes and cannot be asked "
                    f"for {rows} × {columns}: {named}"
                )
            sides.append(self.size_ids[step])
        return replace(self, grid=(rows, columns), start_ids=(*self.start_ids[:-2], *sides))

    def prompt(self, prompt_ids: Sequence[int]) -> list[int]:
        """What stands before an image: the prompt and its end, the image start."""
        closed = [*prompt_ids, *self.prompt_end_ids] if len(prompt_ids) else []
        return [*closed, *self.start_ids]

    def image_part(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(rows · columns,)`` codes to the token ids after the image start.

        Returns:
            ``(U,)`` int64 ids, image end included, and ``(U,)`` bool: which of them are codes.

        Raises:
            ValueError: if the number of codes or a code does not fit.
        """
        if codes.shape != (self.codes_per_image,):
            raise ValueError(f"expected {self.codes_per_image} codes, got shape {codes.shape}")
        if codes.min() < 0 or codes.max() >= self.num_codes:
            raise ValueError(f"codes must be in 0 … {self.num_codes - 1}, got {codes.max()}")
        rows, columns = self.grid
        row_end = np.tile(np.asarray(self.row_end_ids, np.int64), (rows, 1))
        body = np.concatenate([self.token_of_code[codes].reshape(rows, columns), row_end], axis=1)
        is_code = np.zeros(body.shape, bool)
        is_code[:, :columns] = True
        end = np.asarray(self.end_ids, np.int64)
        return (
            np.concatenate([body.reshape(-1), end]),
            np.concatenate([is_code.reshape(-1), np.zeros(len(end), bool)]),
        )

    def example(self, prompt_ids: Sequence[int], codes: np.ndarray) -> "Example":
        """One training sequence."""
        before = self.prompt(prompt_ids)
        image, is_code = self.image_part(codes)
        ids = np.concatenate([np.asarray(before, np.int64), image])
        begin = len(before)  # index of the first code
        targets = np.full(len(ids), IGNORED, np.int64)
        targets[begin - 1 : -1] = image
        aligned = np.zeros(len(ids), bool)
        if self.rep_id is None:
            aligned[begin - 1 : -1] = is_code
        else:
            aligned[begin - len(self.start_ids) + self.start_ids.index(self.rep_id)] = True
        return Example(ids=ids, targets=targets, aligned=aligned)

    def to_json(self) -> dict[str, Any]:
        """Plain values, fit for :meth:`from_json`; a run of code ids is given by its ends."""
        value = asdict(self)
        first, last = self.code_ids[0], self.code_ids[-1]
        if self.code_ids == tuple(range(first, last + 1)):
            value["code_ids"] = {"first": first, "last": last}
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        value = dict(value)
        if isinstance(value["code_ids"], dict):
            value["code_ids"] = range(value["code_ids"]["first"], value["code_ids"]["last"] + 1)
        parts: dict[str, Any] = {
            name: tuple(part) if isinstance(part, (list, range)) else part
            for name, part in value.items()
        }
        return cls(**parts)


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
