"""The catalogue: published weights this project names, as data in ``catalogue.yaml``.

Anything else on the Hugging Face hub is an asset too, by its name alone; its revision, sizes and
hashes are then recorded when it is fetched.
"""

import dataclasses
import difflib
import functools
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from arra_med.assets.folder import is_name
from arra_med.config import build
from arra_med.errors import RequestError

Kind = Literal["teacher", "tokenizer", "judge", "extractor", "backbone"]

DEFAULT_PATTERNS = (
    "*.json", "*.txt", "*.model", "*.safetensors", "*.bin", "*.pt", "*.pth", "LICENSE*",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """A file of an asset of which something is known before it is fetched.

    Attributes:
        name: its path inside the asset.
        sha256: hex, if known with certainty.
        size: in bytes, likewise.
        url: where it is, for assets that are not on the hub.
    """

    name: str
    sha256: str | None = None
    size: int | None = None
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asset:
    """Something published that a configuration may need.

    Attributes:
        name: ``owner/name``, the hub's for what is there; the path for a local folder.
        kinds: what it is used as.
        title: what it is, in a few words.
        source: ``hub``; ``url`` (plain files); ``form`` (a person must ask for it); ``local`` (a
            folder that a configuration names, not in the asset folder).
        page: web page with the terms.
        revision: the hub's commit, if one is pinned; else the newest when it is fetched.
        patterns: which files of a hub repository.
        files: what is known of single files; all files of a ``url`` or ``form`` asset.
        licence: as published; ``None`` if it could not be verified.
        size: in bytes, about.
        gated: whether its terms must be accepted by a person first.
        note: what to know or do before fetching it.
        convert: how pickled weights become safetensors when they arrive.
    """

    name: str
    kinds: tuple[Kind, ...] = ()
    title: str = ""
    source: Literal["hub", "url", "form", "local"] = "hub"
    page: str | None = None
    revision: str | None = None
    patterns: tuple[str, ...] = DEFAULT_PATTERNS
    files: tuple[KnownFile, ...] = ()
    licence: str | None = None
    size: int | None = None
    gated: bool = False
    note: str = ""
    convert: Literal["torchxrayvision"] | None = None

    def __post_init__(self) -> None:
        if self.source != "local" and not is_name(self.name):
            raise ValueError(f"{self.name!r} is not of the form owner/name")
        if self.source == "url" and not all(file.url for file in self.files):
            raise ValueError(f"{self.name}: every file of a 'url' asset needs a url")

    @property
    def where(self) -> str:
        """Its source, for people."""
        if self.source == "hub":
            at = f"@{self.revision[:8]}" if self.revision else ""
            return f"huggingface.co/{self.name}{at}"
        return (self.files[0].url or "") if self.source == "url" else (self.page or self.name)

    def known(self, file: str) -> KnownFile:
        """What is known of one of its files."""
        return next((f for f in self.files if f.name == file), KnownFile(name=file))


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """``catalogue.yaml``.

    Attributes:
        assets: the entries.
        plugins: kind (``teachers``) → plug-in → what it loads by default, for plug-ins without an
            ``assets`` method.
    """

    assets: tuple[Asset, ...]
    plugins: dict[str, dict[str, tuple[str, ...]]]


@functools.cache
def catalogue() -> Catalogue:
    """The built-in catalogue."""
    text = files("arra_med.assets").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    tree: Any = yaml.safe_load(text)
    return build(Catalogue, tree, where="catalogue.yaml")


def resolve(text: str) -> Asset:
    """The asset that ``text`` names: a catalogue entry, its part after the slash, or any hub
    repository as ``owner/name`` or ``owner/name@revision``.

    Raises:
        RequestError: if it names none or several; the nearest names are suggested.
    """
    name, _, revision = text.partition("@")
    entries = catalogue().assets
    matches = [asset for asset in entries if asset.name.lower() == name.lower()] or [
        asset for asset in entries if asset.name.partition("/")[2].lower() == name.lower()
    ]
    if len(matches) > 1:
        raise RequestError(f"{text!r} may be {' or '.join(asset.name for asset in matches)}")
    if not matches and not is_name(name):
        known = [asset.name for asset in entries]
        short = {n.partition("/")[2].lower(): n for n in known}
        near = difflib.get_close_matches(name.lower(), short, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(short[n] for n in near)}?" if near else ""
        raise RequestError(
            f"no asset is called {text!r}.{hint} Expected a configuration (a .yaml file), a name "
            "that 'arra-med assets list' shows, or a hub repository 'owner/name'"
        )
    asset = matches[0] if matches else Asset(name=name)
    if not revision:
        return asset
    if asset.source != "hub" or not re.fullmatch(r"[\w./-]+", revision):
        raise RequestError(f"{text!r}: only a hub repository has a revision (a commit, a tag)")
    # Hashes in the catalogue are of the pinned revision only.
    same = revision == asset.revision
    return asset if same else dataclasses.replace(asset, revision=revision, files=())


def local(path: Path, kind: Kind) -> Asset:
    """A folder of the user's own that a configuration names."""
    return Asset(name=str(path), kinds=(kind,), source="local", title="a folder of yours")
