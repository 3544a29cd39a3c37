"""Repositories of the Hugging Face hub: one exact commit, no code, safetensors before pickles."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError
    GatedRepoError,
    HTTPError,  # of the client below: a lost connection is one
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from arra_med.assets.catalogue import Asset, KnownFile
from arra_med.assets.listing import PIPELINE
from arra_med.errors import RequestError, WorkError

CODE = (".py", ".pyc", ".so", ".sh", ".ipynb")
UNREACHABLE = (OSError, HTTPError)  # the hub's client raises both, by version and cause
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a repository holds at one commit.

    Attributes:
        revision: the commit.
        files: those to fetch, with the hub's own size and, for large ones, SHA-256.
    """

    revision: str
    files: tuple[KnownFile, ...]

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(file.size or 0 for file in self.files)


def list_files(asset: Asset) -> Listing:
    """Ask the hub which commit and which files.

    Raises:
        RequestError: if the repository, the revision or permission is missing, or nothing fits.
        WorkError: if the hub cannot be reached.
    """
    try:
        info = huggingface_hub.HfApi().model_info(
            asset.name, revision=asset.revision, files_metadata=True
        )
    except GatedRepoError as error:
        raise RequestError(
            f"{asset.name} is given only to people who accepted its terms: accept them on "
            f"https://huggingface.co/{asset.name}, run 'hf auth login', then fetch it again"
        ) from error
    except RevisionNotFoundError as error:
        raise RequestError(f"{asset.name} has no revision {asset.revision!r}") from error
    except RepositoryNotFoundError as error:
        raise RequestError(
            f"the hub has no model repository {asset.name}, or not for you: check the name on "
            "https://huggingface.co, or run 'hf auth login' if it is private"
        ) from error
    except UNREACHABLE as error:
        raise WorkError(
            f"cannot ask the hub about {asset.name}: {type(error).__name__}: {error}"
        ) from error
    siblings = {file.rfilename: file for file in info.siblings or []}
    chosen = choose(list(siblings), asset.patterns)
    if not chosen or info.sha is None:
        raise RequestError(
            f"{asset.name} has no file to fetch: it holds {sorted(siblings)[:10]}, and "
            f"{', '.join(asset.patterns)} were looked for"
        )
    known = tuple(
        KnownFile(
            name=name,
            size=siblings[name].size,
            sha256=lfs.sha256 if (lfs := siblings[name].lfs) else None,
        )
        for name in chosen
    )
    return Listing(revision=info.sha, files=known)


def choose(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The files of a repository to fetch.

    A pattern without a slash is for the repository's root, where transformers, timm and open_clip
    keep what they load: variants for other runtimes lie in folders. Of a pipeline of diffusers it
    is for every folder, each of which holds a model, without copies of its weights
    (``a.fp16.bin`` beside ``a.bin``). Code is never taken; pickled weights only where there are no
    safetensors.
    """
    if PIPELINE in names:
        folders: dict[str, list[str]] = {}
        for name in names:
            folder, slash, file = name.partition("/")
            if slash:
                folders.setdefault(folder, []).append(file)
        models = (
            f"{folder}/{file}"
            for folder, files in folders.items()
            for file in choose([name for name in files if not _is_copy(name, files)], patterns)
        )
        return sorted([PIPELINE, *models])
    chosen = [
        name
        for name in names
        if any(fnmatchcase(name, p) for p in patterns if "/" in p or "/" not in name)
        and PurePosixPath(name).suffix not in CODE
    ]
    if any(name.endswith(".safetensors") for name in chosen):
        chosen = [name for name in chosen if PurePosixPath(name).suffix not in PICKLES]
    return sorted(chosen)


def _is_copy(name: str, files: Sequence[str]) -> bool:
    """Whether ``name`` is another file's with a variant before its suffix."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem.rpartition('.')[0]}.{suffix}" in files


def download(asset: Asset, listing: Listing, folder: Path) -> None:
    """Fetch the listed files into ``folder``; a download that stopped continues.

    Raises:
        WorkError: if the hub does not deliver.
    """
    try:
        huggingface_hub.snapshot_download(
            asset.name,
            revision=listing.revision,
            allow_patterns=[_literally(file.name) for file in listing.files],
            local_dir=folder,
        )
    except UNREACHABLE as error:
        raise WorkError(
            f"cannot fetch {asset.name}: {type(error).__name__}: {error}. Run the same command "
            "again: it continues where it stopped"
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's own notes


def _literally(name: str) -> str:
    return name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
