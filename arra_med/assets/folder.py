"""Where assets lie, and whether the network may be used.

Standard library only: loaders, and ``arra-med --help``, import it.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from arra_med.errors import RequestError

ASSETS_VARIABLE = "ARRA_MED_ASSETS"
OFFLINE_VARIABLES = ("ARRA_MED_OFFLINE", "HF_HUB_OFFLINE")
RECORD = "asset.json"
HUB, LOCAL = "hf-hub:", "local-dir:"
"""What may stand before the place of weights, as open_clip and timm write it: a repository of the
hub, a folder."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def offline() -> bool:
    """Whether the environment forbids the network."""
    return any(
        os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")
        for name in OFFLINE_VARIABLES
    )


def default_folder() -> Path:
    """Where assets belong: ``ARRA_MED_ASSETS``, else ``~/.cache/arra_med/assets``; perhaps new."""
    given = os.environ.get(ASSETS_VARIABLE, "").strip()
    return Path(given).expanduser() if given else Path.home() / ".cache" / "arra_med" / "assets"


def assets_folder() -> Path | None:
    """The asset folder, or ``None`` if this machine has none.

    Raises:
        FileNotFoundError: if ``ARRA_MED_ASSETS`` names a folder that is not there: a misspelt one
            must not look like an empty one.
    """
    folder = default_folder()
    if folder.is_dir():
        return folder
    if os.environ.get(ASSETS_VARIABLE, "").strip():
        raise FileNotFoundError(
            f"{ASSETS_VARIABLE} is {str(folder)!r}, which is not a folder: correct it, or fill it "
            "with 'arra-med assets unpack' or 'arra-med assets fetch'"
        )
    return None


def is_name(text: str) -> bool:
    """Whether ``text`` has the form ``owner/name``, as hub repositories and assets are called."""
    return _NAME.fullmatch(text) is not None


def folder_name(name: str) -> str:
    """``owner/name`` to the folder that holds it, ``owner__name``.

    Raises:
        RequestError: if it is not of that form.
    """
    if not is_name(name):
        raise RequestError(f"{name!r} is not the name of an asset: expected 'owner/name'")
    return name.replace("/", "__")


def asset_path(name: str) -> Path | None:
    """The folder of the asset ``name`` (a hub repository, say), or ``None`` if it is not here.

    Raises:
        FileNotFoundError: as :func:`assets_folder`.
    """
    root = assets_folder()
    if root is None or not is_name(name):
        return None
    folder = root / folder_name(name)
    return folder if (folder / RECORD).is_file() else None


def find_asset(name: str) -> Path:
    """The folder of the asset ``name``.

    Raises:
        FileNotFoundError: if it is not here: where it was looked for and how to bring it.
    """
    found = asset_path(name)
    if found is None:
        raise FileNotFoundError(not_here(name))
    return found


def not_here(name: str) -> str:
    """That the asset ``name`` is missing, where it was looked for, and how to bring it."""
    return f"{name} is not in the asset folder {default_folder()}. {how_to_get(name)}"


def how_to_get(*names: str) -> str:
    """What to do about missing assets, for messages."""
    text = " ".join(names)
    return (
        f"On a machine with internet: 'arra-med assets fetch {text}', then "
        f"'arra-med assets pack {text} assets.tar'. Carry assets.tar here, then: "
        "'arra-med assets unpack assets.tar'."
    )


def require_space(folder: Path, size: int) -> None:
    """Check that ``size`` bytes fit where ``folder`` is or will be.

    Raises:
        RequestError: if they do not.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise RequestError(
            f"{folder} needs {human_size(size)}, and only {human_size(free)} are free there: make "
            "room or name another folder"
        )


def human_size(size: int) -> str:
    """Bytes for people, in powers of ten: ``784 MB``."""
    value, units = float(size), ["B", "kB", "MB", "GB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return (
        f"{value:.1f} {units[0]}" if value < 9.95 and units[0] != "B" else f"{value:.0f} {units[0]}"
    )


def look_for(location: Path | str, names: Sequence[str]) -> tuple[Path, str]:
    """A file that the user names, directly or by its folder.

    Args:
        location: a file or folder (``local-dir:`` may stand before it), or ``hf-hub:owner/name``,
            looked for in the asset folder.
        names: of the file, where a folder is named.

    Returns:
        The file and ``""``; where there is none, the place that was looked at and what it is
        (``holds a.txt``, ``does not exist``), for a message.
    """
    text = str(location)
    if text.startswith(HUB):
        path = find_asset(text.removeprefix(HUB))
    else:
        path = Path(text.removeprefix(LOCAL)).expanduser()
    if path.is_file():
        return path, ""
    for name in names:
        if (path / name).is_file():
            return path / name, ""
    found = sorted(p.name for p in path.iterdir())[:8] if path.is_dir() else None
    return path, "does not exist" if found is None else f"holds {', '.join(found) or 'nothing'}"
