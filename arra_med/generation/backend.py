"""What draws: the interface of our own language models and of others' pipelines."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from torch import Tensor

from arra_med.errors import RequestError
from arra_med.generation.prompts import Prompt
from arra_med.settings import Generation


@dataclass(frozen=True)
class Request:
    """One picture to draw.

    Attributes:
        prompt: whose.
        index: which of the prompt's pictures, counted from 0.
        seed: of the run; with key and index it decides the picture.
    """

    prompt: Prompt
    index: int
    seed: int


@dataclass(frozen=True)
class Drawn:
    """Pictures of one batch.

    Attributes:
        pixels: ``(B, H, W, C)`` uint8.
        codes: ``(B, rows, columns)`` int64, of a model that draws codes.
        withheld: pictures that the generator's own safety checker blacked out.
    """

    pixels: np.ndarray
    codes: np.ndarray | None = None
    withheld: int = 0


class Backend(ABC):
    """A text-to-image generator.

    What a folder of pictures depends on is known before any weight is loaded; the first call of
    :meth:`token_counts` or :meth:`start` loads them.

    Attributes:
        asked: the settings it draws by.
        model: ``manifest["config"]["model"]``: ``name``, ``content_hash``, perhaps ``teacher`` …
        channels: of the pictures, 1 or 3.
        warnings: what the person who asked should know, as sentences; the manifest keeps them.
    """

    asked: Generation
    model: dict[str, Any]
    channels: int
    warnings: list[str]

    @abstractmethod
    def token_counts(self, prompts: Sequence[Prompt]) -> tuple[list[int], int]:
        """Tokens of each prompt, and how many the longest may have.

        Raises:
            RequestError: if the weights do not allow what the settings ask for.
        """

    @abstractmethod
    def largest_batch(self, longest: int) -> int:
        """Pictures that can be drawn together if the longest prompt has so many tokens."""

    @abstractmethod
    def start(self, requests: Sequence[Request]) -> Callable[[], Drawn]:
        """Draw; the result is fetched by calling what is returned, so that a GPU need not wait."""

    def expect(self, num_pictures: int) -> None:  # noqa: B027 - nothing to do for most
        """Told how many pictures the whole work has, before any is drawn."""

    @abstractmethod
    def again(self, settings: Generation) -> Self:
        """The same loaded weights, to draw by other settings of guidance and sampling."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What a picture's own record says: ``guidance`` and what else the backend can be told."""

    @property
    @abstractmethod
    def long_prompts(self) -> Literal["refuse", "truncate"]:
        """What to do about prompts that are too long."""

    @cached_property
    def hash12(self) -> str:
        """The model's hash as people read it."""
        return str(self.model["content_hash"])[:12]


def check_lengths(backend: Backend, prompts: Sequence[Prompt]) -> tuple[list[int], set[str]]:
    """Tokens of each prompt as drawn, and the keys of those that are cut.

    Raises:
        RequestError: if one is too long and not to be cut; it names keys, never texts.
    """
    counts, most = backend.token_counts(prompts)
    long = [p.key for p, count in zip(prompts, counts, strict=True) if count > most]
    if long and backend.long_prompts == "refuse":
        raise RequestError(
            f"{len(long)} of {len(prompts)} prompts are longer than the {most} tokens this model "
            f"takes, first {long[:3]}: shorten them, or set generation.long_prompts to 'truncate'"
        )
    return [min(count, most) for count in counts], set(long)


def to_channels(pixels: Tensor, channels: int) -> Tensor:
    """``(B, C, H, W)`` uint8 pictures in grey (the luma of ITU-R BT.601) or colour."""
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    red, green, blue = pixels.float().unbind(1)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return grey.round().clamp(0, 255).to(pixels.dtype)[:, None]
