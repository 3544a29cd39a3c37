"""Bring an asset into the asset folder, on a machine with internet or from files already here."""

import dataclasses
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arra_med.assets import download, hub
from arra_med.assets.catalogue import Asset, KnownFile
from arra_med.assets.folder import (
    OFFLINE_VARIABLES,
    RECORD,
    folder_name,
    human_size,
    offline,
    require_space,
)
from arra_med.assets.record import (
    FileRecord,
    Record,
    install,
    partial_folder,
    problems,
    read_record,
    record_files,
)
from arra_med.errors import RequestError, WorkError
from arra_med.store import library_versions, locked

logger = logging.getLogger(__name__)

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def fetch(asset: Asset, root: Path, *, source: Path | None = None) -> Path:
    """Bring ``asset`` into the asset folder ``root``; one that is there and whole is left.

    Args:
        asset: what.
        root: the asset folder, made if need be.
        source: folder with the asset's files, downloaded by other means; no network then.

    Returns:
        The asset's folder.

    Raises:
        RequestError: if the network is forbidden, the asset cannot be fetched by a program, or
            the disk is too small.
        WorkError: if a file does not arrive, or is not the one that was expected.
    """
    if asset.source == "local":
        raise RequestError(f"{asset.name} is a folder of yours: copy it to the other machine")
    if source is None:
        _require_network(asset)
    with locked(root):
        final, partial = root / folder_name(asset.name), partial_folder(root, asset.name)
        if source is None and _is_whole(final, asset):
            logger.info("%s is already there", asset.name)
            return final
        require_space(root, asset.size or 0)
        partial.mkdir(exist_ok=True)
        try:
            where, known = (
                _download(asset, partial) if source is None else _copy(asset, source, partial)
            )
            record = _record(asset, partial, where, known)
            _refuse_without_weights(asset, record)
        finally:
            if not any(partial.iterdir()):
                partial.rmdir()  # nothing that a next attempt could go on from
        installed = install(partial, root, record)
    logger.info("%s: %s in %d files", asset.name, human_size(record.size), len(record.files))
    return installed


def _require_network(asset: Asset) -> None:
    if offline():
        set_here = [name for name in OFFLINE_VARIABLES if os.environ.get(name)]
        raise RequestError(
            f"{' and '.join(set_here)} forbids the network. On a machine with internet, without "
            "it, fetch and 'arra-med assets pack'; here 'arra-med assets unpack' the archive"
        )
    if asset.source == "form":
        raise RequestError(
            f"{asset.name} cannot be fetched by a program: {asset.note} ({asset.page})"
        )


def _refuse_without_weights(asset: Asset, record: Record) -> None:
    """A folder of configuration files alone is a download that was cut short."""
    if asset.source == "form" or any(name.endswith(_WEIGHTS) for name in record.files):
        return
    raise RequestError(
        f"{asset.name}: there are no weights among {', '.join(sorted(record.files)[:10])}; "
        f"expected a file ending in {', '.join(_WEIGHTS)}"
    )


def _is_whole(folder: Path, asset: Asset) -> bool:
    if not folder.is_dir():
        return False
    try:
        record = read_record(folder)
    except (FileNotFoundError, RequestError):
        return False
    wanted = asset.revision
    if wanted is not None and wanted not in (
        record.source.get("revision"),
        record.source.get("asked_for"),
    ):
        logger.info("%s is there at another revision: fetching %s", asset.name, wanted)
        return False
    found = problems(folder, record)
    if found:
        logger.warning("%s is damaged and fetched again: %s", asset.name, "; ".join(found[:3]))
    return not found


def _download(asset: Asset, partial: Path) -> tuple[dict[str, Any], Mapping[str, KnownFile]]:
    if asset.source == "url":
        for file in asset.files:
            target = partial / file.name
            if not target.is_file():
                assert file.url is not None  # the catalogue's rule
                download.download(file.url, target, sha256=file.sha256, size=file.size)
        _drop_others(partial, {file.name for file in asset.files})
        return {"urls": {file.name: file.url for file in asset.files}}, {}
    listing = hub.list_files(asset)
    require_space(partial, listing.size)
    hub.download(asset, listing, partial)
    _drop_others(partial, {file.name for file in listing.files})
    where = {"hub": asset.name, "revision": listing.revision}
    if asset.revision not in (None, listing.revision):
        where["asked_for"] = str(asset.revision)  # a tag or a branch
    return where, {file.name: file for file in listing.files}


def _copy(
    asset: Asset, source: Path, partial: Path
) -> tuple[dict[str, Any], Mapping[str, KnownFile]]:
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source} to take {asset.name} from")
    files = {path.relative_to(source).as_posix(): path for path in source.rglob("*")}
    files = {name: path for name, path in files.items() if path.is_file()}
    if asset.source == "hub":
        names = hub.choose(list(files), asset.patterns)
    else:
        names = [file.name for file in asset.files]
    missing = [name for name in names if name not in files]
    if missing or not names:
        raise RequestError(
            f"{source} lacks {', '.join(missing) or 'every file'} of {asset.name}; it holds "
            f"{sorted(files)[:8]}"
        )
    _drop_others(partial, set())
    for name in names:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[name], partial / name)
    return {"copied_from": source.name}, {}


def _drop_others(folder: Path, names: set[str]) -> None:
    """Remove what an earlier attempt, of another revision perhaps, left."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _record(
    asset: Asset, partial: Path, where: dict[str, Any], listed: Mapping[str, KnownFile]
) -> Record:
    """Hash what arrived, compare it with all that is known of it, convert it."""
    (partial / RECORD).unlink(missing_ok=True)
    files = record_files(partial)
    absent = [file.name for file in (*asset.files, *listed.values()) if file.name not in files]
    if absent:
        raise WorkError(f"{asset.name}: {', '.join(absent)} did not arrive: fetch it again")
    for name, found in files.items():
        for known in (asset.known(name), listed.get(name)):
            if known is not None:
                _compare(asset, partial / name, found, known)
    converted: dict[str, FileRecord] = {}
    if asset.convert == "torchxrayvision":
        from arra_med.assets.xrv import convert_torchxrayvision

        converted, names = files, list(files)
        convert_torchxrayvision(partial / names[0], partial, weights=asset.name.rpartition("/")[2])
        for name in names:
            (partial / name).unlink()
        files = record_files(partial)
    return Record(
        name=asset.name,
        source=where,
        licence=asset.licence,
        files=files,
        converted_from=converted,
        versions=library_versions(
            "huggingface_hub", *(("torch", "torchxrayvision") if converted else ())
        ),
    )


def _compare(asset: Asset, path: Path, found: FileRecord, known: KnownFile) -> None:
    expected = dataclasses.replace(
        found, size=known.size or found.size, sha256=known.sha256 or found.sha256
    )
    if expected != found:
        path.unlink()
        raise WorkError(
            f"{asset.name}: {known.name} has {found.size} bytes and SHA-256 {found.sha256}, "
            f"expected {expected.size} and {expected.sha256}: it was damaged on the way or "
            "replaced at its source; it was not kept"
        )
