"""Published weights in local folders: finding them, and the message when they are not there.

Looked at in turn: the place the user names, the asset folder, Hugging Face's cache, the hub. The
network is used only when no local copy exists and neither ``HF_HUB_OFFLINE`` nor
``ARRA_MED_OFFLINE`` is set; everything after :func:`find_weights` reads a local folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from arra_med.assets.folder import (
    HUB,
    LOCAL,
    OFFLINE_VARIABLES,
    asset_path,
    is_name,
    offline,
)
from arra_med.assets.listing import read_object, read_shards
from arra_med.errors import RequestError
from arra_med.store import fingerprint, sha256_bytes, sha256_file

SHARDS = ".index.json"
_SAVED_BY = {"_name_or_path", "transformers_version"}


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A model that somebody published, and the files of it that are needed.

    Attributes:
        title: its name, for messages.
        repository: on the Hugging Face hub.
        config: file that describes the architecture.
        checkpoints: files that may hold the weights; the first one found is used. One that ends in
            ``.index.json`` lists shards beside it.
        extra: further files that are used if they are there.
        mirrors: other repositories that hold the same files.
        licence: of the weights, as published.
    """

    title: str
    repository: str
    config: str
    checkpoints: tuple[str, ...]
    extra: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    licence: str = ""

    @property
    def files(self) -> list[str]:
        """Names, or patterns, of all files that may be used."""
        shards = [
            f"{name.removesuffix(SHARDS).partition('.')[0]}-*.{name.split('.')[1]}"
            for name in self.checkpoints
            if name.endswith(SHARDS)
        ]
        return [self.config, *self.checkpoints, *shards, *self.extra]

    def complete(self, folder: Path) -> bool:
        """Whether ``folder`` holds the configuration and one of the checkpoints."""
        return (folder / self.config).is_file() and any(
            (folder / name).is_file() for name in self.checkpoints
        )

    def checkpoint(self, folder: Path) -> Path:
        """The checkpoint, or the list of its shards, of a complete folder."""
        return next(folder / name for name in self.checkpoints if (folder / name).is_file())

    def config_fingerprint(self, folder: Path) -> str:
        """Names all that the configuration says (heads, norms …), but for who saved it.

        Raises:
            RequestError: if it is not JSON.
        """
        tree = read_object(folder / self.config)
        return fingerprint({name: tree[name] for name in tree.keys() - _SAVED_BY})

    def sha256(self, folder: Path) -> str:
        """Hash of the checkpoint; of the hashes of its shards, in order, if there are several.

        Raises:
            FileNotFoundError: if a shard is missing.
            RequestError: if the list of shards cannot be read.
        """
        path = self.checkpoint(folder)
        if not path.name.endswith(SHARDS):
            return sha256_file(path)
        shards = sorted(set(read_shards(path).values()))
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} lacks {len(missing)} of {len(shards)} shards of {self.title}, first "
                f"{missing[0]}: copy the whole folder again"
            )
        return sha256_bytes("\n".join(map(sha256_file, shards)).encode())


def find_weights(published: PublishedWeights, location: Path | None) -> Path:
    """The folder that holds ``published``; see :func:`find_published`."""
    return find_published((published,), location)[1]


def find_published(
    alternatives: Sequence[PublishedWeights], location: Path | None
) -> tuple[PublishedWeights, Path]:
    """Whichever of several formats of a model is there, and the folder that holds it.

    Args:
        alternatives: what will do, the best first.
        location: where the user says it is: a folder, ``local-dir:folder``, or a repository,
            ``hf-hub:owner/name``; ``None`` for the alternatives' own repositories. Repositories are
            looked for in the asset folder, then in Hugging Face's cache, which is filled from the
            hub if the network is allowed. A folder is the only place that is tried.

    Raises:
        FileNotFoundError: if it is not there: which weights, where they were looked for, how to
            carry them to a machine without internet.
        RequestError: if the location is a prefix without a name.
    """
    text = "" if location is None else str(location)
    if text.startswith(HUB):
        name = text.removeprefix(HUB)
        if not is_name(name):
            raise RequestError(f"weights are {text!r}: expected {HUB}owner/name")
        alternatives = [replace(each, repository=name, mirrors=()) for each in alternatives]
        return _in_repositories(alternatives)
    if location is None:
        return _in_repositories(alternatives)
    if text == LOCAL:
        raise RequestError(f"weights are {text!r}: expected {LOCAL} and a folder")
    return _in_folder(alternatives, Path(text.removeprefix(LOCAL)).expanduser())


def _in_folder(
    alternatives: Sequence[PublishedWeights], folder: Path
) -> tuple[PublishedWeights, Path]:
    for published in alternatives:
        if published.complete(folder):
            return published, folder
    found = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else None
    state = "does not exist" if found is None else f"holds {found or 'nothing'}"
    hint = ""
    if found is None and not folder.is_absolute() and is_name(str(folder)):
        hint = f" If {folder} is a repository of the hub, write '{HUB}{folder}'."
    raise _missing(alternatives, f"{folder}, which {state}", hint)


def _in_repositories(
    alternatives: Sequence[PublishedWeights],
) -> tuple[PublishedWeights, Path]:
    """The asset folder first, then the cache, for every repository; then the hub."""
    pairs = [
        (published, repository)
        for published in alternatives
        for repository in (published.repository, *published.mirrors)
    ]
    for look in (lambda published, repository: asset_path(repository), _cached):
        for published, repository in pairs:
            folder = look(published, repository)
            if folder is not None and published.complete(folder):
                return published, folder
    where = (
        f"the asset folder (ARRA_MED_ASSETS) and Hugging Face's cache "
        f"({huggingface_hub.constants.HF_HUB_CACHE}), for {', '.join(name for _, name in pairs)}"
    )
    if offline():
        switches = " or ".join(OFFLINE_VARIABLES)
        raise _missing(alternatives, f"{where}; the network is switched off by {switches}")
    published = alternatives[0]
    try:
        downloaded = Path(
            huggingface_hub.snapshot_download(published.repository, allow_patterns=published.files)
        )
    except (OSError, LocalEntryNotFoundError) as error:
        raise _missing(alternatives, f"{where}, and the hub ({type(error).__name__})") from error
    if not published.complete(downloaded):
        raise _missing(alternatives, f"{where}, and the hub, whose copy is not complete")
    return published, downloaded


def _cached(published: PublishedWeights, repository: str) -> Path | None:
    """The snapshot in Hugging Face's cache, if there is one; the network is not used."""
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repository, allow_patterns=published.files, local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None


def _missing(
    alternatives: Sequence[PublishedWeights], where: str, hint: str = ""
) -> FileNotFoundError:
    published = alternatives[0]
    name = published.repository.rpartition("/")[2]
    needed = ", or ".join(
        f"{each.config} and one of {', '.join(each.checkpoints)}" for each in alternatives
    )
    return FileNotFoundError(
        f"the weights of {published.title} are not there. Needed: {needed}. Looked in "
        f"{where}.{hint} On a machine with internet run 'hf download {published.repository} "
        f"--local-dir {name}', copy the folder {name} to this machine (no internet is needed "
        f"here), and set the option 'weights' to its path; or carry everything that a "
        f"configuration needs with 'arra-med assets'."
    )


def shortened(error: Exception, limit: int = 400) -> str:
    """An error in one line: torch lists every parameter that does not fit."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else f"{text[:limit]} …"


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
            f"{path} is not a checkpoint that can be read safely: {shortened(error)}"
        ) from error
    tensors = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise RequestError(f"{path} does not hold a mapping of names to tensors")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
