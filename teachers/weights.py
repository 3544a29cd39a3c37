"""Published weights in local folders: finding them, and the message when they are not there.

The network is used only when no local copy exists and neither ``HF_HUB_OFFLINE`` nor
``ARRA_MED_OFFLINE`` is set; everything after :func:`find_weights` reads a local folder.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from arra_med.errors import RequestError

OFFLINE_VARIABLES = ("ARRA_MED_OFFLINE", "HF_HUB_OFFLINE")


def offline() -> bool:
    """Whether the environment forbids the network."""
    return any(
        os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")
        for name in OFFLINE_VARIABLES
    )


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A model that somebody published, and the files of it that are needed.

    Attributes:
        title: its name, for messages.
        repository: on the Hugging Face hub.
        config: file that describes the architecture.
        checkpoints: files that may hold the weights; the first one found is used.
        extra: further files that are used if they are there.
    """

    title: str
    repository: str
    config: str
    checkpoints: tuple[str, ...]
    extra: tuple[str, ...] = ()

    def complete(self, folder: Path) -> bool:
        """Whether ``folder`` holds the configuration and one of the checkpoints."""
        return (folder / self.config).is_file() and any(
            (folder / name).is_file() for name in self.checkpoints
        )

    def checkpoint(self, folder: Path) -> Path:
        """The checkpoint of a complete folder."""
        return next(folder / name for name in self.checkpoints if (folder / name).is_file())


def find_weights(published: PublishedWeights, folder: Path | None) -> Path:
    """The folder that holds ``published``.

    Args:
        published: what is looked for.
        folder: where the user says it is (only that place is tried), or ``None`` for Hugging
            Face's own cache, filled from the hub if it is empty and the network is allowed.

    Raises:
        FileNotFoundError: if it is not there: which weights, where they were looked for, how to
            carry them to a machine without internet.
    """
    if folder is not None:
        if published.complete(folder):
            return folder
        found = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else None
        state = "does not exist" if found is None else f"holds {found or 'nothing'}"
        raise _missing(published, f"{folder}, which {state}")
    patterns = [published.config, *published.checkpoints, *published.extra]
    try:
        cached = Path(
            huggingface_hub.snapshot_download(
                published.repository, allow_patterns=patterns, local_files_only=True
            )
        )
        if published.complete(cached):
            return cached
    except LocalEntryNotFoundError:
        pass  # not downloaded yet: what follows says so or downloads it
    cache = f"Hugging Face's cache ({huggingface_hub.constants.HF_HUB_CACHE})"
    if offline():
        raise _missing(
            published, f"{cache}; the network is switched off by {' or '.join(OFFLINE_VARIABLES)}"
        )
    try:
        downloaded = Path(
            huggingface_hub.snapshot_download(published.repository, allow_patterns=patterns)
        )
    except (OSError, LocalEntryNotFoundError) as error:
        raise _missing(published, f"{cache} and the hub ({type(error).__name__})") from error
    if not published.complete(downloaded):
        raise _missing(published, f"{cache} and the hub, whose copy is not complete")
    return downloaded


def _missing(published: PublishedWeights, where: str) -> FileNotFoundError:
    name = published.repository.rpartition("/")[2]
    return FileNotFoundError(
        f"the weights of {published.title} are not there. Needed: {published.config} and one of "
        f"{', '.join(published.checkpoints)}. Looked in {where}. On a machine with internet run "
        f"'hf download {published.repository} --local-dir {name}', copy the folder {name} to this "
        f"machine (no internet is needed here), and set the option 'weights' to its path."
    )


def read_checkpoint(path: Path) -> Mapping[str, Tensor]:
    """Every tensor of a ``.safetensors``, ``.bin`` or ``.pth`` file, on the CPU; no pickled code.

    Raises:
        RequestError: if the file cannot be read as a mapping of names to tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RequestError(
            f"{path} is not a checkpoint that can be read safely: {error}"
        ) from error
    tensors = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise RequestError(f"{path} does not hold a mapping of names to tensors")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
