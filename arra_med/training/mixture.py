"""The prepared folders that a run trains on, with the share of each: one, or a mixture.

``training.data_config`` names a YAML file in the form that ARRA's authors use, a list ``META`` of
``path`` and ``ratio``; paths are prepared folders, relative ones from the YAML's own folder. Of the
authors' other keys (``type``, which keeps batches to one kind of conversation) none has a meaning
here, and each is refused by name. A ``ratio`` below 1 there picks a part once and for all; here the
next epoch takes the next part, so that no sample stays unused.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from arra_med.config import build
from arra_med.errors import RequestError
from arra_med.settings import MixtureFolder, Settings, Training, section
from arra_med.store import Cache, PreparedFolder
from arra_med.teachers.cache import open_features
from arra_med.tokenizers.cache import open_tokens
from arra_med.yaml_files import read_yaml

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingFolder:
    """A folder whose training split is trained on.

    Attributes:
        prepared: the folder.
        tokens: its codes.
        features: its teacher vectors; ``None`` without alignment.
        ratio: share of it that an epoch takes.
    """

    prepared: PreparedFolder
    tokens: Cache
    features: Cache | None
    ratio: float = 1.0

    def identity(self) -> dict[str, Any]:
        """What of it the run's weights depend on, as JSON."""
        return {"prepared": self.prepared.content_hash, "ratio": self.ratio}

    def info(self) -> dict[str, Any]:
        """What an export says of it."""
        dataset = self.prepared.dataset
        return {"dataset": dataset, **self.identity()}


@dataclass(frozen=True, kw_only=True)
class _Meta:
    """An entry of the authors' ``META``."""

    path: Path
    ratio: float = 1.0


def mixture_of(training: Training) -> tuple[MixtureFolder, ...]:
    """The mixture that ``training`` names, wherever it is written down; empty if it names none.

    Raises:
        FileNotFoundError: if there is no such YAML file.
        RequestError: if it is not of the form above.
    """
    return training.mixture if training.data_config is None else _read(training.data_config)


def _read(path: Path) -> tuple[MixtureFolder, ...]:
    if not path.is_file():
        raise FileNotFoundError(f"training.data_config: there is no file at {path}")
    tree = read_yaml(path)
    entries = tree.get("META") if isinstance(tree, dict) else None
    if not isinstance(entries, list) or not entries:
        raise RequestError(f"{path}: expected 'META:' with a list of 'path' and 'ratio'")
    others = sorted(str(key) for key in tree if key != "META")
    if others:
        raise RequestError(f"{path}: only META has a meaning here; remove {', '.join(others)}")
    folders = []
    for number, entry in enumerate(entries):
        where = f"{path}, META[{number}]"
        if not isinstance(entry, dict):
            raise RequestError(f"{where}: expected 'path' and 'ratio', found {entry!r}")
        meta = build(_Meta, entry, where=where)
        try:
            folder = MixtureFolder(prepared=path.parent / meta.path, ratio=meta.ratio)
        except ValueError as error:
            raise RequestError(f"{where}: {error}") from error
        if folder.prepared.is_file():
            raise RequestError(
                f"{where}: {folder.prepared} is a file; a path here is a prepared folder: run "
                "'arra-med ingest' on it (dataset 'conversations' reads the authors' JSON) and "
                "name the folder that it writes"
            )
        folders.append(folder)
    return tuple(folders)


def open_folders(
    settings: Settings, training: Training, main: TrainingFolder
) -> list[TrainingFolder]:
    """The folders to train on: those of the mixture, or else ``main`` alone.

    Each must have its own tokens and features, of the same image tokenizer and the same teacher.

    Args:
        settings: of the run.
        training: its training section.
        main: ``paths.prepared``, opened.

    Raises:
        FileNotFoundError: if a folder, its tokens or its features are not there.
        RequestError: if a folder is there twice or does not fit the others.
    """
    folders: list[TrainingFolder] = []
    for one in mixture_of(training):
        if one.prepared.resolve() == main.prepared.folder.resolve():
            if any(folder.prepared is main.prepared for folder in folders):
                raise RequestError(
                    f"the mixture names {one.prepared} twice: name it once, with a higher ratio"
                )
            folders.append(replace(main, ratio=one.ratio))
            continue
        prepared = PreparedFolder(one.prepared)
        _check(prepared, [main.prepared, *(folder.prepared for folder in folders)])
        _check_held_out(prepared, main.prepared)
        folders.append(open_folder(settings, prepared, one.ratio))
    return folders or [main]


def open_folder(settings: Settings, prepared: PreparedFolder, ratio: float = 1.0) -> TrainingFolder:
    """A prepared folder with what ``tokenize`` and ``features`` made of it.

    Raises:
        FileNotFoundError: if they did not, or not for this tokenizer and this teacher.
        RequestError: if what they made is damaged.
    """
    tokens = open_tokens(prepared, settings.paths.folder("tokenizer"))
    features = None
    if settings.alignment.enabled and settings.alignment.weight > 0:
        features = open_features(section(settings.features, "features", "train"), prepared)
    return TrainingFolder(prepared=prepared, tokens=tokens, features=features, ratio=ratio)


def _check(prepared: PreparedFolder, others: Sequence[PreparedFolder]) -> None:
    """Refuse a folder that holds what another does, or pictures unlike those of the first."""
    for other in others:
        if other.content_hash == prepared.content_hash:
            raise RequestError(
                f"the mixture's {prepared.folder} and {other.folder} hold the same samples: name "
                "one of them, with a higher ratio"
            )
    for what in ("image_size", "channels"):
        found, expected = getattr(prepared, what), getattr(others[0], what)
        if found != expected:
            raise RequestError(
                f"{prepared.folder} does not fit the mixture: {what} is {found}, that of "
                f"{others[0].folder} is {expected}; ingest it with the same settings"
            )


def _check_held_out(prepared: PreparedFolder, main: PreparedFolder) -> None:
    """Refuse to train on what the run is validated and its pictures are evaluated on."""

    def of(folder: PreparedFolder, column: str, splits: Sequence[str]) -> set[str]:
        chosen = pc.is_in(folder.samples["split"], value_set=pa.array(splits))
        return set(folder.samples.filter(chosen)[column].to_pylist())

    def shared(column: str) -> int:
        return len(of(prepared, column, ["train"]) & of(main, column, ["validate", "test"]))

    if pictures := shared("source_sha256"):
        raise RequestError(
            f"{pictures} pictures of {prepared.folder}'s training split are of the validation or "
            f"test split of {main.folder}: ingest it with the same splits, or leave it out"
        )
    if patients := shared("patient_id"):
        logger.warning(
            "%d patient ids of the training split of %s are of the validation or test split of "
            "%s: if they are the same patients, results on those are no results on new patients",
            patients,
            prepared.folder,
            main.folder,
        )
