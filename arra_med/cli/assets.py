"""``arra-med assets``: published weights for machines without internet.

``list`` what a configuration needs, ``fetch`` it where there is internet, ``pack`` it into one
archive, ``unpack`` and ``check`` it where there is none.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arra_med.assets.folder import (
    RECORD,
    default_folder,
    folder_name,
    how_to_get,
    human_size,
)
from arra_med.errors import RequestError, WorkError

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from arra_med.assets.catalogue import Asset
    from arra_med.assets.check import Finding
    from arra_med.assets.record import Record

_FOLDER = "the asset folder (default: $ARRA_MED_ASSETS, else ~/.cache/arra_med/assets)"
_WHAT = (
    "a configuration (.yaml), with settings to override (key=value), an asset's name, or a hub "
    "repository owner/name[@revision]"
)
_OVERRIDES = "settings of the configuration to override"


def add_parser(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    """Add ``assets`` and its actions to the command line."""
    parser = verbs.add_parser(
        "assets",
        help="bring published weights to machines without internet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="<action>", required=True)

    def action(name: str, text: str, folder_flags: Sequence[str]) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text, parents=[common])
        made.add_argument(*folder_flags, dest="folder", type=Path, metavar="FOLDER", help=_FOLDER)
        return made

    listing = action("list", "what a configuration needs, or all that is known", ["--folder"])
    listing.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yaml")
    listing.add_argument("--json", action="store_true", help="everything, with full hashes")
    fetching = action("fetch", "fetch assets from where they are published", ["--to", "--folder"])
    fetching.add_argument("what", nargs="+", metavar="WHAT", help=_WHAT)
    fetching.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help="take the one asset's files from here instead: downloaded by other means",
    )
    checking = action("check", "compare every file with its hash", ["--folder"])
    checking.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yaml")
    for one in (listing, checking):
        one.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=_OVERRIDES)
    packing = action("pack", "write assets into one archive", ["--folder"])
    packing.add_argument("what", nargs="*", metavar="WHAT", help=_WHAT)
    packing.add_argument("archive", type=Path, metavar="ARCHIVE.tar")
    packing.add_argument("--all", action="store_true", help="everything in the asset folder")
    unpacking = action("unpack", "put an archive's assets in place", ["--to", "--folder"])
    unpacking.add_argument("archive", type=Path, metavar="ARCHIVE.tar")


def run(options: argparse.Namespace) -> None:
    """Run the action named by ``options.action``; results go to stdout.

    Raises:
        RequestError: if the request is wrong.
        WorkError: if something is missing or damaged, or does not arrive.
    """
    root = options.folder or default_folder()
    if options.action not in ("fetch", "unpack") and not root.is_dir():
        logger.warning("the asset folder %s does not exist", root)
    if options.action == "list":
        _list(options.config, options.overrides, root, as_json=options.json)
    elif options.action == "fetch":
        _fetch(options.what, root, options.source)
    elif options.action == "check":
        _check(options.config, options.overrides, root)
    elif options.action == "pack":
        _pack(options.what, root, options.archive, everything=options.all)
    else:
        from arra_med.assets.archive import unpack

        for folder in unpack(options.archive, root):
            _print(str(folder))


def _list(config: Path | None, overrides: Sequence[str], root: Path, *, as_json: bool) -> None:
    from arra_med.assets.catalogue import catalogue
    from arra_med.assets.check import recorded
    from arra_med.assets.record import installed

    if config is not None:
        assets = _needed(config, overrides)
    else:
        here = {folder.name: recorded(folder) for folder in installed(root)}
        named = {folder_name(asset.name): asset for asset in catalogue().assets}
        assets = list((named | here).values())
    rows = [_row(asset, root) for asset in assets]
    if as_json:
        _print(json.dumps(rows, indent=1, ensure_ascii=False))
    elif not rows:
        _print("nothing: this configuration trains or makes all that it uses")
    else:
        _print(_table(rows))


def _row(asset: "Asset", root: Path) -> dict[str, Any]:
    """What is known and what is here of one asset; the hash is of its largest file."""
    record = _read(asset, root)
    if asset.source == "local":
        folder, here = Path(asset.name), Path(asset.name).is_dir()
    else:
        folder, here = root / folder_name(asset.name), record is not None
    largest = max(asset.files, key=lambda file: file.size or 0, default=None)
    return {
        "name": asset.name,
        "kind": "/".join(asset.kinds) or None,
        "title": asset.title,
        "source": asset.where,
        "licence": asset.licence,
        "gated": asset.gated,
        "note": asset.note,
        "size": record.size if record else asset.size,
        "sha256": record.main_sha256 if record else (largest.sha256 if largest else None),
        "is_local": asset.source == "local",
        "files": {name: vars(file) for name, file in record.files.items()} if record else None,
        "folder": str(folder) if here else None,
    }


def _read(asset: "Asset", root: Path) -> "Record | None":
    from arra_med.assets.record import read_record

    if asset.source == "local":
        return None
    try:
        return read_record(root / folder_name(asset.name))
    except (FileNotFoundError, RequestError):
        return None  # 'check' says what is wrong with it


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [("name", "kind", "size", "licence", "sha256", "here", "source")]
    for row in rows:
        size = human_size(row["size"]) if row["size"] else "?"
        digest = row["sha256"][:12] if row["sha256"] else "at fetch"
        licence = (row["licence"] or "see source").partition(" (")[0]
        if row["is_local"]:
            size, licence, digest = "-", "yours", "-"
        lines.append(
            (
                row["name"],
                row["kind"] or "?",
                size,
                licence + (", gated" if row["gated"] else ""),
                digest,
                "yes" if row["folder"] else "no",
                row["source"],
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]
        )
        for line in lines
    )


def _fetch(what: Sequence[str], root: Path, source: Path | None) -> None:
    from arra_med.assets.fetch import fetch

    assets = _assets(what)
    if source is not None and len(assets) != 1:
        raise RequestError(f"--from gives the files of one asset, and {len(assets)} are named")
    failed: list[str] = []
    for asset in assets:
        if asset.source == "local":
            sys.stderr.write(f"{asset.name} is a folder of yours: copy it yourself\n")
            continue
        try:
            _print(str(fetch(asset, root, source=source)))
        except (RequestError, WorkError) as error:
            if len(assets) == 1:
                raise
            failed.append(str(error))  # the others are worth having
    if failed:
        raise WorkError(
            f"{len(failed)} of {len(assets)} assets could not be fetched:\n"
            + "\n".join(f"  - {line}" for line in failed)
        )


def _check(config: Path | None, overrides: Sequence[str], root: Path) -> None:
    from arra_med.assets.check import check, recorded
    from arra_med.assets.record import installed

    if config is not None:
        assets = _needed(config, overrides)
    else:
        assets = [recorded(folder) for folder in installed(root)]
    findings = check(assets, root)
    for finding in findings:
        state = "ok" if finding.is_right else "missing" if finding.missing else "damaged"
        _print(f"{state:8} {finding.name}")
    wrong = [finding for finding in findings if not finding.is_right]
    if wrong:
        raise WorkError(_remedy(wrong, assets, root))
    if not findings:
        _print(f"no assets needed{'' if config else f', and none in {root}'}")


def _remedy(wrong: "Sequence[Finding]", assets: "Sequence[Asset]", root: Path) -> str:
    """What is wrong, and how each kind of trouble is mended."""
    lines = [f"{len(wrong)} of {len(assets)} assets are not right (asset folder: {root}):"]
    for finding in wrong:
        lines += [f"  - {finding.name}: not at {finding.folder}"] if finding.missing else []
        lines += [f"  - {finding.name}: {problem}" for problem in finding.problems]
    local = {asset.name for asset in assets if asset.source == "local"}
    names = [finding.name for finding in wrong if finding.name not in local]
    if names:
        lines.append(how_to_get(*names))
        lines += [f"{a.name}: {a.note}" for a in assets if a.name in names and a.note]
    if any(finding.name in local for finding in wrong):
        lines.append("Folders that the configuration names: copy them here, or correct the path.")
    return "\n".join(lines)


def _pack(what: Sequence[str], root: Path, archive: Path, *, everything: bool) -> None:
    from arra_med.assets.archive import pack
    from arra_med.assets.record import installed

    if archive.suffix != ".tar" and not what and not everything:
        raise RequestError(
            f"the archive to write is missing: arra-med assets pack {archive} ARCHIVE.tar"
        )
    if everything == bool(what):
        raise RequestError("say what to pack: a configuration or names, or --all, not both")
    if archive.suffix != ".tar":
        raise RequestError(f"the archive comes last and ends in .tar, found {str(archive)!r}")
    if everything:
        folders = installed(root)
    else:
        assets = _assets(what)
        for asset in assets:
            if asset.source == "local":
                sys.stderr.write(f"{asset.name} is a folder of yours: copy it yourself\n")
        names = [asset.name for asset in assets if asset.source != "local"]
        missing = [n for n in names if not (root / folder_name(n) / RECORD).is_file()]
        if missing:
            raise RequestError(
                f"{', '.join(missing)} not in {root}: run 'arra-med assets fetch "
                f"{' '.join(missing)}' first"
            )
        folders = [root / folder_name(name) for name in names]
    digest = pack(folders, archive)
    _print(f"{archive}  {human_size(archive.stat().st_size)}  sha256 {digest}")


def _assets(what: Sequence[str]) -> "list[Asset]":
    from arra_med.assets.catalogue import resolve

    found: dict[str, Asset] = {}
    overrides = [text for text in what if "=" in text]
    for text in what:
        if text in overrides:
            continue
        is_config = text.endswith((".yaml", ".yml"))
        for asset in _needed(Path(text), overrides) if is_config else [resolve(text)]:
            found.setdefault(asset.name, asset)
    return list(found.values())


def _needed(config: Path, overrides: Sequence[str]) -> "list[Asset]":
    from arra_med.assets.needs import needed
    from arra_med.config import load
    from arra_med.settings import Settings

    return needed(load(Settings, config, overrides))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
