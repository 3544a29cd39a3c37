"""Is everything here, and is every byte right? What an air-gapped machine asks before a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arra_med.assets.catalogue import Asset, catalogue
from arra_med.assets.folder import RECORD, folder_name
from arra_med.assets.record import Record, problems, read_record
from arra_med.errors import RequestError
from arra_med.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found of one asset.

    Attributes:
        name: the asset's.
        folder: where it is or was looked for.
        missing: whether it is not there at all.
        problems: everything that is wrong with it, in words.
        size: bytes that were compared.
    """

    name: str
    folder: Path
    missing: bool = False
    problems: tuple[str, ...] = ()
    size: int = 0

    @property
    def is_right(self) -> bool:
        """Whether it is there and whole."""
        return not (self.missing or self.problems)


def check(assets: Sequence[Asset], root: Path) -> list[Finding]:
    """Compare every file of ``assets`` in the asset folder ``root`` with its recorded hash.

    A folder of the user's own is only looked for: nobody recorded its hashes.
    """
    records = {asset.name: _read(asset, root) for asset in assets}
    total = sum(record.size for record in records.values() if isinstance(record, Record))
    with Progress(total, unit="B", label="check") as progress:
        return [_check(asset, root, records[asset.name], progress) for asset in assets]


def recorded(folder: Path) -> Asset:
    """The asset that an installed folder claims to be."""
    name = folder.name.replace("__", "/", 1)
    return next((a for a in catalogue().assets if a.name == name), Asset(name=name))


def _read(asset: Asset, root: Path) -> Record | str | None:
    """The record, what is wrong with it, or ``None`` if the asset is not there."""
    if asset.source == "local":
        return None
    try:
        return read_record(root / folder_name(asset.name))
    except FileNotFoundError:
        return None
    except RequestError as error:
        return str(error)


def _check(asset: Asset, root: Path, record: Record | str | None, progress: Progress) -> Finding:
    if asset.source == "local":
        folder = Path(asset.name)
        there = folder.is_dir() and any(folder.iterdir())
        return Finding(name=asset.name, folder=folder, missing=not there)
    folder = root / folder_name(asset.name)
    if record is None:
        return Finding(name=asset.name, folder=folder, missing=True)
    if isinstance(record, str):
        return Finding(name=asset.name, folder=folder, problems=(record,))
    found = problems(folder, record, progress.update)
    return Finding(
        name=asset.name,
        folder=folder,
        problems=(*found, *_disagreements(asset, record)),
        size=record.size,
    )


def _disagreements(asset: Asset, record: Record) -> list[str]:
    """Where the record itself differs from what the catalogue knows of the asset."""
    found = []
    revision = record.source.get("revision")
    same = (None, revision, record.source.get("asked_for"))
    if revision is not None and asset.revision not in same:
        return [f"it is revision {revision}, expected {asset.revision}"]
    for known in asset.files:
        there = record.files.get(known.name) or record.converted_from.get(known.name)
        if there is None:
            found.append(f"{known.name} was never fetched")
        elif known.sha256 is not None and there.sha256 != known.sha256:
            found.append(f"{known.name} is not the published file, although {RECORD} lists it so")
    return found
