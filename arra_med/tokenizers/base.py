"""The image-tokenizer plug-in interface: pictures to a grid of codes and back."""

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors.torch
import torch
from torch import Tensor, nn

from arra_med.errors import RequestError
from arra_med.registry import TOKENIZERS
from arra_med.store import canonical_json, fingerprint, sha256_file, write_atomic

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CHUNK_PIXELS = 4 * 512 * 512
"""Of one forward pass: what a network holds of them is bounded, however many pictures there are."""


class ImageTokenizer(nn.Module, ABC):
    """Turns pictures into a grid of discrete codes and codes into pictures.

    Attributes:
        num_codes: size of the codebook; codes are ``0 … num_codes - 1``.
        image_size: side of the square pictures, in pixels.
        grid: ``(rows, columns)`` of codes of one picture.
        channels: 1 or 3.
        can_decode: whether it has a decoder; some checkpoints carry the encoder alone.
    """

    Options: ClassVar[type[Any]]
    num_codes: int
    image_size: int
    grid: tuple[int, int]
    channels: int
    can_decode: bool = True

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 pictures to ``(B, rows, columns)`` int64 codes."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """``(B, rows, columns)`` int64 codes to ``(B, C, H, W)`` uint8 pictures."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """What a folder of this tokenizer holds: ``config.json`` (with ``name``) and weights."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder that holds :meth:`files`."""

    def save(self, folder: Path) -> None:
        """Write :meth:`files` into ``folder``."""
        for name, content in self.files().items():
            write_atomic(folder / name, content)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def patch(self) -> int:
        """Side of what one code stands for, in pixels."""
        return self.image_size // self.grid[0]

    @property
    def codebook(self) -> Tensor | None:
        """Vectors of the codes, ``(num_codes, D)``; ``None`` if there are none."""
        return None


def chunks(pictures: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Pictures, or their codes, in pieces for one forward pass each.

    Args:
        pictures: ``(B, …)``.
        size: height and width of one in pixels.
    """
    return torch.split(pictures, max(1, CHUNK_PIXELS // (size[0] * size[1])))


def pack(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, bytes]:
    """``config.json`` and ``model.safetensors`` of a tokenizer, for its ``files()``."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in state.items()}
    return {
        CONFIG: canonical_json(config).encode(),
        WEIGHTS: safetensors.torch.save(tensors),
    }


def unpack(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What :func:`pack` gave: configuration and tensors, on the CPU."""
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return config, safetensors.torch.load_file(folder / WEIGHTS)


@contextlib.contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Say so if weights that are loaded in the block do not fit the configuration.

    Raises:
        RequestError: if configuration and weights do not belong together.
    """
    try:
        yield
    except RuntimeError as error:
        raise RequestError(f"{folder / WEIGHTS} does not fit {CONFIG}: {error}") from error


class TrainableTokenizer(ImageTokenizer):
    """A tokenizer that can be trained on one's own pictures."""

    @classmethod
    @abstractmethod
    def create(
        cls,
        options: Any,  # noqa: ANN401 - an instance of Options
        *,
        image_size: int,
        channels: int,
        seed: int,
    ) -> Self:
        """A new one with random weights.

        Raises:
            RequestError: if the options do not fit the picture size.
        """

    @abstractmethod
    def training_loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of one batch of ``(B, C, H, W)`` uint8 pictures, to be minimised."""


class PublishedTokenizer(ImageTokenizer):
    """A tokenizer that somebody else trained: ``train-tokenizer`` imports it as it is."""

    @classmethod
    @abstractmethod
    def open(
        cls,
        options: Any,  # noqa: ANN401 - an instance of Options
        *,
        image_size: int,
        channels: int,
    ) -> Self:
        """Read it from the files its publisher distributes.

        Raises:
            FileNotFoundError: if they are not there.
            RequestError: if they are another model's, or do not fit the picture size.
        """

    @classmethod
    def sources(cls, options: Any) -> Sequence[Path]:  # noqa: ANN401 - an instance of Options
        """The files it is read from: it is imported anew, elsewhere, once they change.

        Raises:
            FileNotFoundError: if they are not there.
        """
        return ()

    def import_metrics(
        self,
        options: Any,  # noqa: ANN401 - the instance of Options it was opened with
        batches: Iterable[Tensor],
    ) -> dict[str, float]:
        """What the importer measures beside the reconstruction; nothing by default.

        Args:
            options: that it was opened with.
            batches: held-out ``(B, C, H, W)`` uint8 pictures, on any device.
        """
        return {}


def tokenizer_name(folder: Path) -> str:
    """The plug-in that wrote a tokenizer folder.

    Raises:
        FileNotFoundError: if the folder is not a tokenizer's.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no image tokenizer at {folder} ({name} is missing): run "
                "'arra-med train-tokenizer', or point paths.tokenizer at a trained one"
            )
    try:
        return str(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["name"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise RequestError(f"{folder / CONFIG} is not an image tokenizer's: {error!r}") from error


def load_tokenizer(folder: Path) -> ImageTokenizer:
    """Load any image tokenizer, frozen and in evaluation mode.

    Raises:
        FileNotFoundError: if the folder is not a tokenizer's.
    """
    tokenizer: ImageTokenizer = TOKENIZERS.get(tokenizer_name(folder)).load(folder)
    return tokenizer.eval().requires_grad_(False)


def tokenizer_id(folder: Path) -> str:
    """``<plug-in>-<hash of configuration and weights>``, without loading the weights."""
    name = tokenizer_name(folder)
    return f"{name}-{fingerprint([sha256_file(folder / file) for file in (CONFIG, WEIGHTS)])}"
