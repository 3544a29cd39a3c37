"""What is drawn: prompts from the command line, a text file, a table or a prepared folder."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from arra_med.datasets.tables import codec, read_table
from arra_med.errors import RequestError
from arra_med.schema import check_key
from arra_med.settings import Generation
from arra_med.sides import exchange_one_side
from arra_med.store import PreparedFolder, canonical_json, sha256_bytes

logger = logging.getLogger(__name__)

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")  # not ends of lines or pages
T = TypeVar("T")


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        key: names it everywhere; never holds its text.
        text: what the model is given.
        carried: further columns of its table, kept as they are.
    """

    key: str
    text: str
    carried: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a run.

    Attributes:
        prompts: in their source's order, keys unique, no text empty.
        source: what the manifest says of them: where from, how many, one hash; no text.
        prepared: content hash of the prepared folder, if they are from one.
        channels: of that folder's pictures.
    """

    prompts: tuple[Prompt, ...]
    source: dict[str, Any]
    prepared: str | None = None
    channels: int | None = None


def choose_prompts(settings: Generation, prepared: Path) -> PromptSet:
    """Read and check the prompts that the settings ask for.

    With ``swap_sides``, those among them that name one side, with left and right exchanged and
    under their own keys, so that a picture and its counterpart differ by the prompt alone.

    Args:
        settings: which prompts, how many.
        prepared: the prepared folder, read only if no other prompts are given.

    Raises:
        FileNotFoundError: if the file or folder is not there.
        RequestError: if it holds no prompts, an empty one, an unusable key or a key twice, or no
            side to exchange; it names keys and lines, never texts.
    """
    if not settings.swap_sides:
        return _chosen(settings, prepared)
    if settings.prompt is not None:
        raise RequestError(
            "generation.swap_sides draws the counterparts of many prompts, and 'prompt' is one: "
            "write it with the other side, or remove one of the two"
        )
    return _with_sides_exchanged(_chosen(settings, prepared))


def _chosen(settings: Generation, prepared: Path) -> PromptSet:
    if settings.prompt is not None:
        return numbered([settings.prompt], "one prompt")
    if settings.prompts is not None:
        path = settings.prompts
        is_text = path.suffix == ".txt"
        read = _from_text(path, settings.encoding) if is_text else _from_table(path, settings)
        kind = "text file" if is_text else "table"
        return _checked(evenly(read, settings.limit), kind, str(path))
    folder = PreparedFolder(prepared)
    rows = evenly(folder.rows(settings.split), settings.limit)
    read = [Prompt(row["key"], row["prompt"]) for row in rows]
    chosen = _checked(read, f"prepared folder, {settings.split} split", str(prepared))
    return PromptSet(chosen.prompts, chosen.source, folder.content_hash, folder.channels)


def _with_sides_exchanged(chosen: PromptSet) -> PromptSet:
    """The prompts that name one side, with the other; ``source`` counts the rest."""
    turned = [
        replace(prompt, text=text)
        for prompt in chosen.prompts
        if (text := exchange_one_side(prompt.text)) is not None
    ]
    where = f"{chosen.source['source']}, left and right exchanged"
    left_out = len(chosen.prompts) - len(turned)
    if not turned:
        raise RequestError(
            f"generation.swap_sides: none of {left_out} prompts names exactly one side that has a "
            "counterpart: remove swap_sides, or draw other prompts"
        )
    logger.info("%d of %d prompts name one side", len(turned), len(chosen.prompts))
    checked = _checked(turned, where, where)
    return replace(checked, source=checked.source | {"left_out": left_out},
                   prepared=chosen.prepared, channels=chosen.channels)  # fmt: skip


def numbered(texts: Sequence[str], source: str) -> PromptSet:
    """Prompts without keys of their own: ``prompt-00001``, ``prompt-00002`` …

    Raises:
        RequestError: if there is none, or one is empty.
    """
    return _checked([Prompt(numbered_key(i), text) for i, text in enumerate(texts)], source, source)


def numbered_key(index: int) -> str:
    """Key of the prompt at a position counted from 0."""
    return f"prompt-{index + 1:05d}"


def evenly(items: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` of the items, evenly spread, the first and the last among them."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def _from_text(path: Path, encoding: str) -> list[Prompt]:
    """One prompt a line; blank lines count for the numbering and are no prompts."""
    if not path.is_file():
        raise FileNotFoundError(f"no file of prompts at {path}")
    try:
        text = path.read_text(encoding=codec(encoding))
    except UnicodeError as error:
        raise RequestError(
            f"{path} is not {encoding} text: set generation.encoding (often cp1252 or utf-16), or "
            "save it as UTF-8"
        ) from error
    except LookupError as error:
        raise RequestError(f"unknown encoding {encoding!r} for {path}") from error
    lines = text.split("\n")  # not at what Word or PDFs hold
    return [Prompt(numbered_key(i), line.strip()) for i, line in enumerate(lines) if line.strip()]


def _from_table(path: Path, settings: Generation) -> list[Prompt]:
    names = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
    if not path.name.endswith(names):
        raise RequestError(
            f"generation.prompts {path}: expected a .txt file with one prompt a line, or a table "
            f"({', '.join(names)})"
        )
    encoding, delimiter = settings.encoding, settings.delimiter
    header, _ = read_table(path, encoding=encoding, delimiter=delimiter)
    absent = settings.prompt_column not in header
    if absent and delimiter is None and path.suffix != ".parquet":
        # as Excel writes it in much of Europe
        other, _ = read_table(path, encoding=encoding, delimiter=";")
        if settings.prompt_column in other or (len(header) == 1 and len(other) > 1):
            header, delimiter = other, ";"  # if it lacks the column, read_table names the nearest
    wanted = [settings.prompt_column, *settings.carry]
    keyed = settings.key_column in header
    if not keyed and settings.key_column != "key":
        wanted.append(settings.key_column)  # asked for by name: read_table says what is there
    columns = [*wanted, *([settings.key_column] if keyed else [])]
    _, rows = read_table(path, columns=columns, encoding=encoding, delimiter=delimiter)
    prompts = []
    for index, (line, row) in enumerate(rows):
        if row is None:
            raise RequestError(f"{path}, line {line}: too few or too many fields")
        key = row[settings.key_column] if keyed else numbered_key(index)
        carried = {name: row[name] for name in settings.carry}
        prompts.append(Prompt(key, row[settings.prompt_column], carried))
    return prompts


def _checked(prompts: Sequence[Prompt], source: str, where: str) -> PromptSet:
    if not prompts:
        raise RequestError(f"{where} holds no prompts")
    for prompt in prompts:
        try:
            check_key(prompt.key)
        except ValueError as error:
            raise RequestError(f"{where}: {error}") from error
    empty = [prompt.key for prompt in prompts if not prompt.text.strip()]
    if empty:
        raise RequestError(
            f"{where}: {len(empty)} of {len(prompts)} prompts are empty, first {empty[:3]}: give "
            "each a text, or remove it"
        )
    garbled = [prompt.key for prompt in prompts if _CONTROL.search(prompt.text)]
    if garbled:
        raise RequestError(
            f"{where}: {len(garbled)} of {len(prompts)} prompts hold control characters, first "
            f"{garbled[:3]}: remove them, or set generation.encoding if the file is in another "
            "(often cp1252)"
        )
    twice = [key for key, count in Counter(p.key for p in prompts).items() if count > 1]
    if twice:
        raise RequestError(
            f"{where}: {len(twice)} keys are there more than once, first {twice[:3]}: each prompt "
            "needs a key of its own"
        )
    digest = sha256_bytes(canonical_json([[p.key, p.text, p.carried] for p in prompts]).encode())
    return PromptSet(tuple(prompts), {"source": source, "count": len(prompts), "sha256": digest})
