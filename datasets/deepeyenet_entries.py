"""DeepEyeNet's JSON files, in every shape they come in.

A list of one-entry or several-entry objects, or one plain object; keywords as text or as a list;
fields spelled in several ways; trailing commas; ``valid`` for the file and ``val`` for the folder.
"""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from arra_med.datasets import splits
from arra_med.datasets.paths import without_suffix
from arra_med.errors import RequestError
from arra_med.schema import SPLITS, Split

logger = logging.getLogger(__name__)

_FIELDS = {
    "keywords": ("keywords", "keyword", "key-words", "key-word"),
    "description": (
        "clinical-description", "clinical-descriptions", "clinicaldescription", "description",
        "descriptions", "clinical-desc", "caption",
    ),
}  # fmt: skip
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[\]}])')
_GROUP = re.compile(r"(group\d+)[-_]\d+\w*", re.IGNORECASE)
_NOTHING = {"nan", "none", "null", "n/a"}


@dataclass(frozen=True)
class Entry:
    """One picture of a JSON file: its path, split, keywords (lower case) and description.

    ``keywords`` is ``None`` if the entry is not an object of texts, so that nothing is known of it.
    """

    path: str
    split: Split
    keywords: tuple[str, ...] | None
    description: str

    @property
    def text(self) -> str:
        """All its words."""
        return "\n".join((*(self.keywords or ()), self.description))


def patient_of(path: str) -> str:
    """Pictures ``group41-*`` are taken for one patient's; others stand for themselves."""
    group = _GROUP.fullmatch(PurePosixPath(without_suffix(path)).name)
    return group[1].lower() if group else without_suffix(path)


def json_files(root: Path) -> dict[Split, Path]:
    """The JSON file of each split.

    Raises:
        FileNotFoundError: if the folder or all of its JSON files are missing.
        RequestError: if two files claim a split.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no DeepEyeNet folder at {root}: correct ingest.dataset.root")
    found: dict[Split, Path] = {}
    for path in sorted(root.glob("*.json")):
        split = splits.normalise_split(path.stem.rpartition("_")[2])
        if split is None:
            continue
        if split in found:
            raise RequestError(
                f"{root} holds two files for {split}: {found[split].name} and {path.name}"
            )
        found[split] = path
    if not found:
        raise FileNotFoundError(
            f"no DeepEyeNet_train.json, DeepEyeNet_valid.json or DeepEyeNet_test.json in {root}"
        )
    return {split: found[split] for split in SPLITS if split in found}


def read_entries(path: Path, split: Split) -> list[Entry]:
    """Every entry of one JSON file, whatever its shape.

    Raises:
        RequestError: if it is not JSON of a known shape.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    tree = _parse(path, text)
    objects = [tree] if isinstance(tree, _Object) else tree
    if not isinstance(objects, list) or not all(isinstance(one, _Object) for one in objects):
        raise RequestError(
            f"{path}: expected objects of picture path → keywords and clinical-description, or a "
            "list of such objects"
        )
    return [_entry(name, value, split) for one in objects for name, value in one]


def split_keywords(value: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - any JSON value
    """Distinct keywords in lower case; commas inside brackets do not separate.

    Returns:
        ``()`` for nothing, ``None`` for a value that holds no texts.
    """
    given = value if isinstance(value, list) and not isinstance(value, _Object) else [value]
    texts = [_text(one) for one in given]
    if None in texts:
        return None
    parts = [
        part
        for text in texts
        for part in ([text] if isinstance(value, list) else _split_at_commas(text or ""))
    ]
    cleaned = (" ".join((part or "").split()).lower() for part in parts)
    return tuple(dict.fromkeys(part for part in cleaned if part and part not in _NOTHING))


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a name given twice is not lost."""


def _parse(path: Path, text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        try:
            return json.loads(text, object_pairs_hook=_Object)
        except json.JSONDecodeError:
            cleaned = _TRAILING_COMMA.sub(lambda match: match[1] or "", text)
            tree = json.loads(cleaned, object_pairs_hook=_Object)
            logger.warning("%s has trailing commas; they were ignored", path.name)
            return tree
    except (ValueError, RecursionError) as error:
        # A decoding error's own text names the place; its document is not quoted.
        where = error if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RequestError(f"{path} is not JSON: {where}") from error


def _split_at_commas(text: str) -> list[str]:
    return re.split(r"[,;](?![^()]*\))", text)


def _text(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """A field's text, ``""`` for nothing (also the NaN that pandas writes), else ``None``."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return "" if value.strip().lower() in _NOTHING else value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _entry(name: str, value: Any, split: Split) -> Entry:  # noqa: ANN401 - any JSON value
    path = name.replace("\\", "/")
    if not isinstance(value, _Object):
        return Entry(path, split, None, "")
    fields = {re.sub(r"[\s_-]+", "-", key.strip().lower()): item for key, item in value}
    given: dict[str, Any] = {
        field: next((fields[one] for one in spellings if one in fields), None)
        for field, spellings in _FIELDS.items()
    }
    lines = given["description"]
    several = isinstance(lines, list) and not isinstance(lines, _Object)
    texts = [_text(line) for line in (lines if several else [lines])]
    keywords = split_keywords(given["keywords"])
    if None in texts:
        return Entry(path, split, None, "")
    return Entry(path, split, keywords, " ".join(text for text in texts if text))
